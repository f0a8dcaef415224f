"""Answers that the web front gives by itself, before or instead of Django, in the shape of the API's errors."""

import json
import secrets
from dataclasses import dataclass

from config.web.protocol import RawHeaders, Send


@dataclass(frozen=True, slots=True)
class FrontError:
    """One refusal of the web front: HTTP status and the fields of the API's error object."""

    status: int
    code: str
    message: str
    fix: str
    retry_after: int | None = None
    """Seconds."""


BODY_TOO_LARGE = FrontError(
    413,
    "message_too_large",
    "The request body is larger than 40 MiB.",
    "Send fewer or smaller attachments; one HTTP body may hold 40 MiB.",
)
BODY_BROKEN = FrontError(
    400, "malformed_json", "The request body broke off.", "Send the whole body, as long as it was announced."
)
BODY_TOO_SLOW = FrontError(
    503, "unavailable", "The request body did not arrive in time.", "Send the request again.", retry_after=1
)
NO_ROOM_FOR_BODY = FrontError(
    503, "unavailable", "The server has no room for this request body now.", "Try again later.", retry_after=5
)
TOO_BUSY = FrontError(
    503,
    "unavailable",
    "The server has more requests than it can answer now.",
    "Try again later.",
    retry_after=1,
)
INTERNAL_ERROR = FrontError(
    500, "internal_error", "The server failed to answer.", "Try again; report the request_id if it stays so."
)


async def send_error(send: Send, error: FrontError, *, is_head: bool = False) -> None:
    """Answer a request with ``error``; the connection is closed, because a body may still be on its way."""
    request_id = f"req_{secrets.token_hex(16)}"
    fields = {
        "code": error.code,
        "message": error.message,
        "fix": error.fix,
        "details": [],
        "request_id": request_id,
    }
    body = json.dumps({"error": fields}).encode()
    headers: RawHeaders = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"x-request-id", request_id.encode()),
        (b"connection", b"close"),
    ]
    if error.retry_after is not None:
        headers.append((b"retry-after", b"%d" % error.retry_after))
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if is_head else body})
