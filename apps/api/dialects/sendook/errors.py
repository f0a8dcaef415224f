"""Sendook's errors: `{"message", "code", "details"}` as its documents say, and `error` as its server sends."""

from typing import Any

from django.http import HttpRequest, HttpResponse

from apps.api.answers import answer_json
from apps.api.middleware import get_request_id
from apps.core.errors import DomainError

SHOWN_AS: dict[str, tuple[int, str]] = {
    "validation_failed": (400, "validation_failed"),
    "invalid_cursor": (400, "invalid_cursor"),
    "malformed_json": (400, "malformed_json"),
    "unauthorized": (401, "auth_invalid_token"),
    "key_expired": (401, "auth_invalid_token"),
    "key_revoked": (401, "auth_invalid_token"),
    "payment_required": (402, "payment_required"),
    "scope_denied": (403, "scope_denied"),
    "organization_suspended": (403, "organization_suspended"),
    "inbox_suspended": (403, "inbox_suspended"),
    "inbox_paused": (403, "inbox_paused"),
    "domain_not_verified": (403, "domain_not_verified"),
    "recipient_suppressed": (403, "recipient_suppressed"),
    "recipient_blocked": (403, "recipient_blocked"),
    "not_found": (404, "not_found"),
    "inbox_deleted": (404, "not_found"),
    "method_not_allowed": (405, "method_not_allowed"),
    "address_taken": (409, "email_taken"),
    "idempotency_conflict": (409, "idempotency_conflict"),
    "quota_exhausted": (409, "inbox_limit_reached"),
    "conflict": (409, "conflict"),
    "message_too_large": (413, "message_too_large"),
    "range_not_satisfiable": (416, "range_not_satisfiable"),
    "daily_limit_reached": (429, "message_limit_reached"),
    "rate_limited": (429, "rate_limited"),
    "internal_error": (500, "internal_error"),
    "not_supported": (501, "not_supported"),
    "unavailable": (503, "unavailable"),
    "storage_exceeded": (507, "storage_exceeded"),
}
"""Our code -> Sendook's status and code. It documents the form of a code and one of them, `auth_invalid_token`."""

_FIELDS = {"display_name": "name", "username": "email", "domain": "email"}
"""What our services call a value -> what a caller of this API has sent it as."""

_RETRY_AFTER = 2


def show_error(request: HttpRequest, error: DomainError) -> HttpResponse:
    """The vendor's answer to one of our errors."""
    status, code = SHOWN_AS[error.code]
    details: dict[str, Any] = {"requestId": get_request_id(request)}
    if error.fix_text:
        details["fix"] = error.fix_text
    fields = {
        _FIELDS.get(problem["field"], problem["field"]): problem["message"]
        for problem in error.data.get("details", ())
        if problem["field"]
    }
    if fields:
        details["fields"] = fields
    headers = {}
    if status in (429, 503):
        headers["Retry-After"] = str(int(error.data.get("retry_after", _RETRY_AFTER)))
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    headers.update(error.data.get("headers", {}))
    body = {"message": error.message, "code": code, "details": details, "error": error.message}
    return answer_json(body, status=status, headers=headers)
