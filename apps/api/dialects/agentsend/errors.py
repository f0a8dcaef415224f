"""AgentSend's errors: `{"error": {"code", "message", "status", "details"?}}`, details as field -> list of sentences."""

from collections.abc import Mapping

from django.http import HttpRequest, HttpResponse

from apps.api.answers import answer_json
from apps.core.errors import DomainError, ValidationFailed

INVALID = "Request validation failed"

SHOWN_AS: dict[str, tuple[int, str]] = {
    "validation_failed": (400, "VALIDATION_ERROR"),
    "invalid_cursor": (400, "VALIDATION_ERROR"),
    "malformed_json": (400, "VALIDATION_ERROR"),
    "domain_not_verified": (400, "DOMAIN_NOT_VERIFIED"),
    "unauthorized": (401, "UNAUTHORIZED"),
    "key_expired": (401, "UNAUTHORIZED"),
    "key_revoked": (401, "UNAUTHORIZED"),
    "payment_required": (402, "PAYMENT_REQUIRED"),
    "scope_denied": (403, "FORBIDDEN"),
    "organization_suspended": (403, "ACCOUNT_SUSPENDED"),
    "inbox_suspended": (403, "INBOX_SUSPENDED"),
    "inbox_paused": (403, "INBOX_SUSPENDED"),
    "recipient_suppressed": (403, "RECIPIENT_SUPPRESSED"),
    "recipient_blocked": (403, "RECIPIENT_BLOCKED"),
    "not_found": (404, "NOT_FOUND"),
    "method_not_allowed": (404, "NOT_FOUND"),
    "inbox_deleted": (404, "NOT_FOUND"),
    "address_taken": (409, "INBOX_EXISTS"),
    "quota_exhausted": (409, "INBOX_LIMIT_REACHED"),
    "idempotency_conflict": (409, "IDEMPOTENCY_CONFLICT"),
    "conflict": (409, "CONFLICT"),
    "message_too_large": (413, "PAYLOAD_TOO_LARGE"),
    "range_not_satisfiable": (416, "RANGE_NOT_SATISFIABLE"),
    "daily_limit_reached": (429, "RATE_LIMIT_EXCEEDED"),
    "rate_limited": (429, "RATE_LIMIT_EXCEEDED"),
    "internal_error": (500, "INTERNAL_ERROR"),
    "not_supported": (501, "NOT_SUPPORTED"),
    "unavailable": (503, "SERVICE_UNAVAILABLE"),
    "storage_exceeded": (507, "STORAGE_EXCEEDED"),
}
"""Our code -> AgentSend's status and code. Those that it has no word for (FORBIDDEN, ACCOUNT_SUSPENDED, INBOX_EXISTS,
INBOX_LIMIT_REACHED, CONFLICT and from PAYLOAD_TOO_LARGE on) are ours, in its manner."""

_MESSAGES = {
    "unauthorized": "Invalid or missing API key",
    "validation_failed": INVALID,
    "internal_error": "An unexpected error occurred",
}
_FIELDS = {
    "display_name": "displayName",
    "domain": "domainId",
    "text": "bodyText",
    "html": "bodyHtml",
    "thread_id": "threadId",
    "headers": "subject",
}
"""What our services call a value -> what a caller of this API has sent it as."""

_RETRY_AFTER = 2


class FieldsInvalid(ValidationFailed):
    """Values in the request are not allowed."""

    def __init__(self, problems: Mapping[str, list[str]]) -> None:
        super().__init__("", INVALID)
        self.data["details"] = [
            {"field": field, "message": message} for field, messages in problems.items() for message in messages
        ]


class RefusedValue(ValidationFailed):
    """A value that AgentSend has an error code of its own for, told in a sentence without details."""

    def __init__(self, vendor_code: str, message: str) -> None:
        super().__init__("", message)
        self.vendor_code = vendor_code


def show_error(request: HttpRequest, error: DomainError) -> HttpResponse:
    """The vendor's answer to one of our errors."""
    status, code = SHOWN_AS[error.code]
    shown: dict[str, object] = {"code": code, "message": _MESSAGES.get(error.code, error.message), "status": status}
    if isinstance(error, RefusedValue):
        shown.update(code=error.vendor_code, message=error.message)
    elif error.data.get("details", ()) and _name_problem(error) == "username":
        shown.update(code="INVALID_INBOX_LOCAL_PART", message=error.message)
    elif code == "VALIDATION_ERROR":
        shown["details"] = _group_details(error)
    return answer_json({"error": shown}, status=status, headers=_headers(error, status))


def show_missing_route(request: HttpRequest, address: str) -> HttpResponse:
    """The answer to an address or a method that the vendor does not know; it never says 405."""
    message = f"Route {request.method}:/{address} not found"
    return answer_json({"message": message, "error": "Not Found", "statusCode": 404}, status=404)


def _name_problem(error: DomainError) -> str:
    return str(error.data["details"][0]["field"])


def _group_details(error: DomainError) -> dict[str, list[str]]:
    grouped: dict[str, list[str]] = {}
    for problem in error.data.get("details", ()):
        if problem["field"]:
            grouped.setdefault(_FIELDS.get(problem["field"], problem["field"]), []).append(problem["message"])
    return grouped


def _headers(error: DomainError, status: int) -> dict[str, str]:
    headers = {}
    if status in (429, 503):
        headers["Retry-After"] = str(int(error.data.get("retry_after", _RETRY_AFTER)))
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    headers.update(error.data.get("headers", {}))
    return headers
