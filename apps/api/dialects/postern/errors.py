"""Postern's errors: `{"error": {"code", "message", "details", "request_id"}}`, the id in X-Postern-Request-Id too."""

from django.http import HttpRequest, HttpResponse

from apps.api.answers import answer_json
from apps.api.middleware import get_request_id
from apps.core.errors import DomainError

SHOWN_AS: dict[str, tuple[int, str]] = {
    "validation_failed": (422, "validation_failed"),
    "invalid_cursor": (422, "validation_failed"),
    "malformed_json": (400, "bad_request"),
    "unauthorized": (401, "invalid_api_key"),
    "key_expired": (401, "invalid_api_key"),
    "key_revoked": (401, "invalid_api_key"),
    "payment_required": (402, "payment_required"),
    "scope_denied": (403, "scope_denied"),
    "organization_suspended": (403, "scope_denied"),
    "inbox_suspended": (403, "scope_denied"),
    "inbox_paused": (403, "scope_denied"),
    "domain_not_verified": (422, "validation_failed"),
    "recipient_suppressed": (422, "validation_failed"),
    "recipient_blocked": (422, "validation_failed"),
    "not_found": (404, "not_found"),
    "inbox_deleted": (404, "not_found"),
    "method_not_allowed": (405, "bad_request"),
    "address_taken": (409, "address_taken"),
    "idempotency_conflict": (409, "idempotency_conflict"),
    "quota_exhausted": (409, "enrollment_token_exhausted"),
    "conflict": (409, "conflict"),
    "message_too_large": (413, "bad_request"),
    "range_not_satisfiable": (416, "bad_request"),
    "daily_limit_reached": (429, "rate_limited"),
    "rate_limited": (429, "rate_limited"),
    "internal_error": (500, "internal_error"),
    "not_supported": (501, "not_supported"),
    "unavailable": (503, "internal_error"),
    "storage_exceeded": (507, "internal_error"),
}
"""Our code -> Postern's status and code. `address_taken`, `conflict` and `not_supported` are ours: Postern documents
no code for what they say."""


def show_error(request: HttpRequest, error: DomainError) -> HttpResponse:
    """The vendor's answer to one of our errors."""
    status, code = SHOWN_AS[error.code]
    details = {row["field"] or "body": row["message"] for row in error.data.get("details", ())}
    message = f"{error.message} {error.fix_text}".strip()
    request_id = get_request_id(request)
    headers = {"X-Postern-Request-Id": request_id}
    if status in (429, 503):
        headers["Retry-After"] = str(int(error.data.get("retry_after", 2)))
    headers.update(error.data.get("headers", {}))
    body = {"error": {"code": code, "message": message, "details": details, "request_id": request_id}}
    return answer_json(body, status=status, headers=headers)
