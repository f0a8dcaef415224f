"""Errors: 400 `{name, errors}`, else `{name, message}`; AgentMail adds `code` and `fix`, and `message` to both."""

from dataclasses import dataclass
from typing import Any

from django.http import HttpResponse

from apps.api.answers import answer_json
from apps.core.errors import DomainError

_BODY = "body"
"""The place of what is wrong with the body as a whole."""


@dataclass(frozen=True, slots=True)
class Shown:
    """The vendors' status and name of an error, and AgentMail's code for it."""

    status: int
    name: str
    code: str


_INVALID = Shown(400, "ValidationError", "validation_error")
_REJECTED = Shown(403, "MessageRejectedError", "message_rejected")
_INACTIVE = Shown(403, "ForbiddenError", "inbox_inactive")
_TOO_MANY = Shown(429, "RateLimitError", "rate_limit_exceeded")

SHOWN_AS: dict[str, Shown] = {
    "validation_failed": _INVALID,
    "invalid_cursor": _INVALID,
    "malformed_json": _INVALID,
    "unauthorized": Shown(401, "UnauthorizedError", "unknown_api_key"),
    "key_expired": Shown(401, "UnauthorizedError", "unauthorized"),
    "key_revoked": Shown(401, "UnauthorizedError", "unknown_api_key"),
    "payment_required": Shown(402, "PaymentRequiredError", "payment_required"),
    "scope_denied": Shown(403, "ForbiddenError", "missing_permission"),
    "organization_suspended": _REJECTED,
    "inbox_suspended": _INACTIVE,
    "inbox_paused": _INACTIVE,
    "domain_not_verified": Shown(403, "DomainNotVerifiedError", "domain_not_verified"),
    "recipient_suppressed": _REJECTED,
    "recipient_blocked": _REJECTED,
    "not_found": Shown(404, "NotFoundError", "not_found"),
    "inbox_deleted": Shown(404, "NotFoundError", "not_found"),
    "method_not_allowed": Shown(405, "MethodNotAllowedError", "method_not_allowed"),
    "address_taken": Shown(403, "IsTakenError", "resource_taken"),
    "idempotency_conflict": Shown(409, "ConflictError", "conflict"),
    "quota_exhausted": Shown(403, "LimitExceededError", "limit_exceeded"),
    "conflict": Shown(409, "ConflictError", "conflict"),
    "message_too_large": Shown(413, "MessageTooLargeError", "message_too_large"),
    "range_not_satisfiable": Shown(416, "RangeNotSatisfiableError", "range_not_satisfiable"),
    "daily_limit_reached": _TOO_MANY,
    "rate_limited": _TOO_MANY,
    "internal_error": Shown(500, "InternalServerError", "internal_error"),
    "not_supported": Shown(501, "NotSupportedError", "not_supported"),
    "unavailable": Shown(503, "ServiceUnavailableError", "service_unavailable"),
    "storage_exceeded": Shown(507, "LimitExceededError", "limit_exceeded"),
}
"""Our code -> the vendors'. Where AgentMail documents no code (402, 405, 413, 416, 501) the word is ours."""

_ONLY_400 = {"address_taken": "username", "domain_not_verified": "domain"}
"""Agentry's document knows one answer to a creation that cannot be: 400 with `errors`. Our code -> the field."""
_FIELDS = {"invalid_cursor": "page_token"}
_RETRY_AFTER = 2


def show_error(error: DomainError, *, is_agentmail: bool) -> HttpResponse:
    """The vendor's answer to one of our errors."""
    shown = SHOWN_AS[error.code]
    status = shown.status
    if not is_agentmail and error.code in _ONLY_400:
        status = 400
    body: dict[str, Any] = {"name": shown.name}
    if is_agentmail:
        body["code"] = error.data.get("vendor_code", shown.code)
    if is_agentmail or status != 400:
        body["message"] = error.message
    if status == 400:
        body["errors"] = _show_problems(error, as_list=is_agentmail)
    if is_agentmail and error.fix_text:
        body["fix"] = error.fix_text
    return answer_json(body, status=status, headers=_headers(status, error))


def _show_problems(error: DomainError, *, as_list: bool) -> Any:
    """What is wrong with which field: AgentMail lists it, Agentry's document says `object`."""
    field = _ONLY_400.get(error.code) or _FIELDS.get(error.code, _BODY)
    rows = error.data.get("details") or [{"field": field, "message": error.message}]
    problems = [(row["field"] or _BODY, row["message"]) for row in rows]
    if as_list:
        return [{"path": path, "message": message} for path, message in problems]
    return {path: [message for other, message in problems if other == path] for path, _ in problems}


def _headers(status: int, error: DomainError) -> dict[str, str]:
    headers: dict[str, str] = {}
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if status in (429, 503):
        headers["Retry-After"] = str(int(error.data.get("retry_after", _RETRY_AFTER)))
    headers.update(error.data.get("headers", {}))
    return headers
