"""Inkbox's errors: `{"detail": ...}`, a sentence, an object with `error` for what its SDK has an exception of its own
for, or the list of FastAPI for values that are not allowed."""

from collections.abc import Iterable, Mapping
from typing import Any

from django.http import HttpResponse

from apps.api.answers import answer_json
from apps.core.errors import DomainError

SHOWN_AS: dict[str, tuple[int, str]] = {
    "validation_failed": (422, ""),
    "invalid_cursor": (422, ""),
    "malformed_json": (400, ""),
    "unauthorized": (401, ""),
    "key_expired": (401, ""),
    "key_revoked": (401, ""),
    "payment_required": (402, ""),
    "scope_denied": (403, ""),
    "organization_suspended": (403, ""),
    "inbox_suspended": (403, ""),
    "inbox_paused": (403, ""),
    "domain_not_verified": (403, ""),
    "recipient_suppressed": (403, "recipient_blocked"),
    "recipient_blocked": (403, "recipient_blocked"),
    "not_found": (404, ""),
    "inbox_deleted": (404, ""),
    "method_not_allowed": (405, ""),
    "address_taken": (409, ""),
    "quota_exhausted": (409, ""),
    "conflict": (409, ""),
    "idempotency_conflict": (409, "idempotency_key_reused"),
    "message_too_large": (413, ""),
    "range_not_satisfiable": (416, ""),
    "daily_limit_reached": (429, ""),
    "rate_limited": (429, ""),
    "internal_error": (500, ""),
    "not_supported": (501, "not_supported"),
    "unavailable": (503, ""),
    "storage_exceeded": (402, "storage_limit_exceeded"),
}
"""Our code -> Inkbox's status, and the word in `detail.error` where it has one; else `detail` is the sentence.
`not_supported` is ours: the vendor has nothing that it does not offer."""

_VENDOR_FIELDS = {"username": "email_local_part"}
_RETRY_AFTER = 2


def show_error(error: DomainError) -> HttpResponse:
    """The vendor's answer to one of our errors."""
    status, word = SHOWN_AS[error.code]
    headers: dict[str, str] = {}
    if status == 401:
        headers["WWW-Authenticate"] = "ApiKey"
    if status in (429, 503):
        headers["Retry-After"] = str(int(error.data.get("retry_after", _RETRY_AFTER)))
    headers.update(error.data.get("headers", {}))
    detail: Any = error.message
    if word:
        # `reason` is where the SDK's exception for a blocked recipient looks for the sentence.
        detail = {"error": word, "message": error.message, "reason": error.message}
    elif status == 422:
        details = error.data.get("details") or [{"field": "", "message": error.message}]
        detail = _show_details(details)
    return answer_json({"detail": detail}, status=status, headers=headers)


def _show_details(details: Iterable[Mapping[str, str]]) -> list[dict[str, Any]]:
    """FastAPI's list: where in the request, what, and of which kind."""
    return [
        {
            "type": row.get("type", "value_error"),
            "loc": ["body", *(_VENDOR_FIELDS.get(part, part) for part in row["field"].split(".") if part)],
            "msg": row["message"],
        }
        for row in details
    ]
