"""A client of AgentSend's, and what its document says of answers."""

import json
import re
from typing import Any
from uuid import UUID

from django.test import Client

BASE = "/dialects/agentsend"
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
NUMBERS = ("dailySendLimit", "sendsToday", "totalSent", "bounceCount", "complaintCount")
INBOX_FIELDS = {
    "id", "accountId", "domainId", "address", "displayName", "dailySendLimit", "isVerified", "sendsToday",
    "bounceCount", "complaintCount", "totalSent", "status", "deletedAt", "createdAt", "updatedAt",
}  # fmt: skip
MESSAGE_FIELDS = {
    "id", "inboxId", "accountId", "threadId", "direction", "fromAddress", "toAddresses", "ccAddresses",
    "bccAddresses", "subject", "bodyText", "bodyHtml", "attachments", "status", "sesMessageId", "errorMessage",
    "retryCount", "messageIdHeader", "inReplyTo", "referencesHeaders", "rawHeaders", "sentAt", "createdAt",
}  # fmt: skip


class AgentSend:
    """Asks as the document's examples do: the key in `x-api-key`, a JSON content type on every request."""

    def __init__(self, secret: str) -> None:
        self.secret = secret

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        extra = headers or {"HTTP_X_API_KEY": self.secret}
        return Client(enforce_csrf_checks=True).generic(method, BASE + path, data, "application/json", **extra)

    def get(self, path: str) -> Any:
        return self.ask("GET", path)

    def create(self, **body: Any) -> dict[str, Any]:
        answer = self.ask("POST", "/inboxes", body)
        assert answer.status_code == 201, answer.content
        return check_inbox(answer.json())

    def inbox(self, inbox_id: Any) -> dict[str, Any]:
        answer = self.get(f"/inboxes/{inbox_id}")
        assert answer.status_code == 200, answer.content
        return check_inbox(answer.json())

    def send(self, inbox_id: Any, **body: Any) -> Any:
        body = {"to": ["bob@example.com"], "subject": "Hello", "bodyText": "hi"} | body
        return self.ask("POST", f"/inboxes/{inbox_id}/messages", body)


def check_inbox(inbox: dict[str, Any]) -> dict[str, Any]:
    """Every property of the document, and its type."""
    assert set(inbox) == INBOX_FIELDS
    assert str(UUID(inbox["id"])) == inbox["id"]
    assert str(UUID(inbox["accountId"])) == inbox["accountId"]
    assert re.fullmatch(r"[^@\s]+@[^@\s]+", inbox["address"])
    assert inbox["displayName"] is None or isinstance(inbox["displayName"], str)
    assert inbox["domainId"] is None or UUID(inbox["domainId"])
    assert inbox["status"] in ("active", "suspended", "deleted")
    assert all(type(inbox[name]) is int for name in NUMBERS)
    assert type(inbox["isVerified"]) is bool
    assert TIME.fullmatch(inbox["createdAt"]) and TIME.fullmatch(inbox["updatedAt"])
    return inbox


def check_message(message: dict[str, Any]) -> dict[str, Any]:
    """The shape of a message."""
    assert set(message) == MESSAGE_FIELDS
    assert TIME.fullmatch(message["createdAt"])
    assert message["status"] in (
        "queued", "sending", "sent", "delivered", "failed", "bounced", "complained", "received"
    )  # fmt: skip
    return message


def check_error(answer: Any, status: int, code: str, details: dict[str, list[str]] | None = None) -> str:
    """The vendor's envelope; the message."""
    assert answer.status_code == status, answer.content
    error = answer.json()["error"]
    assert set(answer.json()) == {"error"}
    assert (error["code"], error["status"]) == (code, status)
    if details is not None:
        assert error["details"] == details
    return str(error["message"])
