"""Inkbox's webhooks: the mailbox's `webhook_url` is told of its messages, signed with the organization's key."""

import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from apps.api.dialects.inkbox.outputs import show_time
from apps.api.webhook_messages import register_message_enricher
from apps.core.ids import encode_id
from apps.events.models import Event, EventType, SigningKey
from apps.events.selectors import find_signing_keys
from apps.events.webhooks.formats import EventView, HttpCall, Notice, register_enricher, register_format
from apps.mail.models import Message

DIALECT = "inkbox"
SHOWN_AS: dict[str, tuple[str, str]] = {
    EventType.MESSAGE_RECEIVED: ("message.received", "received"),
    EventType.MESSAGE_SENT: ("message.sent", "sent"),
    EventType.MESSAGE_DELIVERED: ("message.delivered", "delivered"),
    EventType.MESSAGE_BOUNCED: ("message.bounced", "bounced"),
    EventType.MESSAGE_COMPLAINED: ("message.bounced", "bounced"),
    EventType.MESSAGE_FAILED: ("message.failed", "failed"),
}
"""Our events -> Inkbox's, and the status that the message has in them; it tells of no others."""

EVENT_TYPES = [str(kind) for kind in SHOWN_AS]
_SECRET_PREFIX = "whsec_"  # noqa: S105 - a prefix


def load_signing_keys(events: Sequence[Event]) -> Mapping[UUID, Mapping[str, Any]]:
    """`extra["inkbox_key"]` of each event whose organization has made a signing key."""
    keys = find_signing_keys(organization_ids=[event.organization_id for event in events], dialect=DIALECT)
    return {event.id: {"inkbox_key": keys[event.organization_id]} for event in events if event.organization_id in keys}


def format_inkbox(notice: Notice) -> HttpCall | None:
    """The vendor's request; None for what it does not tell of, and for a message that was erased since.

    As at the vendor it is not signed before the organization has made a signing key.
    """
    event = notice.event
    message: Message | None = event.extra.get("message")
    if event.type not in SHOWN_AS or message is None:
        return None
    payload = {
        "id": encode_id("evt", event.id),
        "event_type": SHOWN_AS[event.type][0],
        "timestamp": show_time(event.created_at),
        # People and agents who are known: this server has no address book.
        "data": {"message": _show_message(message, event), "contacts": [], "agent_identities": []},
    }
    body = json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode()
    request_id, timestamp = str(notice.request_id), str(int(notice.now.timestamp()))
    headers = {"X-Inkbox-Request-ID": request_id, "X-Inkbox-Timestamp": timestamp}
    key: SigningKey | None = event.extra.get("inkbox_key")
    if key is not None:
        headers["X-Inkbox-Signature"] = sign_request(key.secret, request_id, timestamp, body)
    return HttpCall(headers, body)


def sign_request(secret: str, request_id: str, timestamp: str, body: bytes) -> str:
    """`sha256=` and the hexadecimal HMAC over request id, time and body; the key is the text after `whsec_`."""
    key = secret.removeprefix(_SECRET_PREFIX).encode()
    digest = hmac.digest(key, f"{request_id}.{timestamp}.".encode() + body, hashlib.sha256)
    return f"sha256={digest.hex()}"


def _show_message(message: Message, event: EventView) -> dict[str, Any]:
    return {
        "id": str(message.id),
        "mailbox_id": str(message.mailbox_id),
        "email_address": message.mailbox.address,
        "thread_id": str(message.thread_id),
        "message_id": message.rfc_message_id or None,
        "from_address": message.from_address,
        "to_addresses": _addresses(message.to),
        "cc_addresses": _addresses(message.cc) or None,
        "bcc_addresses": _addresses(message.bcc) or None,
        "subject": message.subject or None,
        "snippet": message.preview or None,
        "direction": message.direction,
        "status": SHOWN_AS[event.type][1],
        "has_attachments": message.has_attachments,
        "created_at": show_time(message.created_at),
    }


def _addresses(people: Sequence[Mapping[str, str]]) -> list[str]:
    return [person["address"] for person in people]


register_message_enricher()
for _event_type in SHOWN_AS:
    register_enricher(_event_type, load_signing_keys)
register_format(DIALECT, format_inkbox)
