"""From what went wrong to HTTP: one table, one envelope."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from django.core.exceptions import PermissionDenied
from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse
from rest_framework import exceptions as rest

from apps.api.answers import answer_json
from apps.api.middleware import get_request_id
from apps.core.errors import DomainError

logger = logging.getLogger(__name__)

STATUS_OF: dict[str, int] = {
    "validation_failed": 400,
    "invalid_cursor": 400,
    "malformed_json": 400,
    "unauthorized": 401,
    "key_expired": 401,
    "key_revoked": 401,
    "payment_required": 402,
    "scope_denied": 403,
    "organization_suspended": 403,
    "inbox_suspended": 403,
    "inbox_paused": 403,
    "domain_not_verified": 403,
    "recipient_suppressed": 403,
    "recipient_blocked": 403,
    "not_found": 404,
    "method_not_allowed": 405,
    "address_taken": 409,
    "idempotency_conflict": 409,
    "quota_exhausted": 409,
    "conflict": 409,
    "inbox_deleted": 410,
    "message_too_large": 413,
    "range_not_satisfiable": 416,
    "daily_limit_reached": 429,
    "rate_limited": 429,
    "internal_error": 500,
    "not_supported": 501,
    "unavailable": 503,
    "storage_exceeded": 507,
}
"""Every error code of the native API and its HTTP status."""

_RETRY_WHEN_UNAVAILABLE = 2
_MAX_SHOWN = 200


def answer_error(
    request: HttpRequest,
    *,
    code: str,
    message: str,
    fix: str = "",
    details: Sequence[Mapping[str, str]] = (),
    headers: Mapping[str, str] | None = None,
) -> HttpResponse:
    """The error envelope of the API, with the status of its code."""
    error = {
        "code": code,
        "message": message,
        "fix": fix,
        "details": list(details),
        "request_id": get_request_id(request),
    }
    return answer_json({"error": error}, status=STATUS_OF[code], headers=headers)


def answer_exception(request: HttpRequest, error: Exception) -> HttpResponse:
    """The answer to whatever a view raised; what nobody expected is logged and told as internal_error."""
    if isinstance(error, DomainError):
        return _answer_domain_error(request, error)
    if isinstance(error, rest.ValidationError):
        return answer_error(
            request,
            code="validation_failed",
            message="The request has values that are not allowed.",
            fix="Correct the fields named in details and send the request again.",
            details=flatten_details(error.detail),
        )
    if isinstance(error, rest.MethodNotAllowed):
        return answer_error(
            request,
            code="method_not_allowed",
            message=f"This address does not take {request.method}.",
            fix="See the Allow header, and /v1/openapi.json.",
        )
    if isinstance(error, Http404 | PermissionDenied | rest.NotFound):
        return answer_error(request, code="not_found", message="There is nothing here.", fix="See /v1/openapi.json.")
    if isinstance(error, OperationalError | InterfaceError):
        logger.warning("the database did not answer: %s", error)
        return _answer_unavailable(request)
    logger.exception("a request failed", exc_info=error)
    return answer_error(
        request,
        code="internal_error",
        message="The server failed to answer.",
        fix="Try again; if it stays so, report the request_id to the operator.",
    )


def _answer_domain_error(request: HttpRequest, error: DomainError) -> HttpResponse:
    headers = {}
    if "retry_after" in error.data:
        headers["Retry-After"] = str(int(error.data["retry_after"]))
    if STATUS_OF[error.code] == 401:
        headers["WWW-Authenticate"] = "Bearer"
    headers.update(error.data.get("headers", {}))
    return answer_error(
        request,
        code=error.code,
        message=error.message,
        fix=error.fix_text,
        details=error.data.get("details", ()),
        headers=headers,
    )


def _answer_unavailable(request: HttpRequest) -> HttpResponse:
    return answer_error(
        request,
        code="unavailable",
        message="The database does not answer at the moment.",
        fix="Try again after Retry-After seconds.",
        headers={"Retry-After": str(_RETRY_WHEN_UNAVAILABLE)},
    )


def flatten_details(detail: Any, path: str = "") -> list[dict[str, str]]:
    """REST framework's nested errors as a flat list, fields named like `attachments[0].content`."""
    if isinstance(detail, Mapping):
        found = []
        for name, inner in detail.items():
            if name == "non_field_errors":
                place = path
            elif str(name).isdigit():
                place = f"{path}[{name}]"
            else:
                place = f"{path}.{name}" if path else str(name)
            found += flatten_details(inner, place)
        return found
    if isinstance(detail, list):
        if any(isinstance(inner, Mapping | list) for inner in detail):
            return [row for index, inner in enumerate(detail) for row in flatten_details(inner, f"{path}[{index}]")]
        return [{"field": path[:_MAX_SHOWN], "message": str(inner)} for inner in detail]
    return [{"field": path[:_MAX_SHOWN], "message": str(detail)}]
