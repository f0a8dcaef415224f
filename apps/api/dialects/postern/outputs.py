"""Our objects in Postern's fields."""

from datetime import UTC, datetime
from typing import Any

from apps.core.ids import encode_id
from apps.delivery.services import SentMessage
from apps.delivery.states import DeliveryStatus
from apps.mailboxes.models import Mailbox

STATUS_OF_MAILBOX = {
    Mailbox.Status.ACTIVE: "live",
    Mailbox.Status.PAUSED: "paused",
    Mailbox.Status.SUSPENDED: "suspended",
    Mailbox.Status.DELETED: "deleted",
}
"""Ours -> theirs; Postern's documents name only `live`."""


def show_time(moment: datetime) -> str:
    """As Postern writes times: UTC, whole seconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def show_mailbox(mailbox: Mailbox) -> dict[str, Any]:
    """An inbox."""
    return {
        "id": encode_id("inbox", mailbox.id),
        "address": mailbox.address,
        "display_name": mailbox.display_name or None,
        "domain": mailbox.domain.name,
        "status": STATUS_OF_MAILBOX[Mailbox.Status(mailbox.status)],
        "created_at": show_time(mailbox.created_at),
    }


def show_created(mailbox: Mailbox, secret: str | None) -> dict[str, Any]:
    """A new inbox; `secret` verifies its webhook's signatures, and is shown this once."""
    shown = show_mailbox(mailbox)
    if secret is not None:
        shown["inbound_webhook_url"] = mailbox.webhook_url
        shown["inbound_webhook_secret"] = secret
    return shown


def show_deleted(mailbox: Mailbox) -> dict[str, Any]:
    """The answer to a delete."""
    return {"id": encode_id("inbox", mailbox.id), "deleted": True}


def show_sent(sent: SentMessage) -> dict[str, Any]:
    """The answer to a send: `held` when all of it waits for a release, else `queued`."""
    held = all(delivery.status == DeliveryStatus.HELD for delivery in sent.deliveries)
    return {
        "id": encode_id("msg", sent.message.id),
        "status": "held" if held else "queued",
        "thread_id": encode_id("thread", sent.message.thread_id),
    }
