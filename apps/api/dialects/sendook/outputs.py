"""What this dialect answers: our objects under Sendook's names."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from apps.api.public_ids import encode_ulid
from apps.delivery.models import Delivery
from apps.delivery.states import message_status
from apps.mail.models import Attachment, Message, MessageBody
from apps.mailboxes.models import Mailbox

Json = dict[str, Any]

INBOX, MESSAGE, THREAD = "ibox", "msg", "thread"
"""Prefixes of ids."""

MESSAGE_STATUS = {
    "received": "received",
    "scheduled": "queued",
    "held": "queued",
    "queued": "queued",
    "sending": "queued",
    "deferred": "queued",
    "sent": "sent",
    "delivered": "delivered",
    "bounced": "bounced",
    "complained": "complained",
    "failed": "rejected",
    "canceled": "rejected",
    "suppressed": "rejected",
    "blocked": "rejected",
}
"""Our status of a message -> Sendook's; `queued` and `received` are ours, it shows no status before `sent`."""


def show_time(moment: datetime) -> str:
    """ISO 8601 in UTC to the second."""
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def show_inbox(mailbox: Mailbox) -> Json:
    """An inbox. One that was made without a name shows its local part."""
    return {
        "id": encode_ulid(INBOX, mailbox.id),
        "name": mailbox.display_name or mailbox.username,
        "email": mailbox.address,
        "createdAt": show_time(mailbox.created_at),
    }


def show_messages(messages: Sequence[Message]) -> list[Json]:
    """Messages, each with its body loaded: two more queries at most, however many they are."""
    outbound = [message.id for message in messages if message.direction == Message.Direction.OUTBOUND]
    statuses: dict[UUID, list[str]] = {message_id: [] for message_id in outbound}
    if outbound:
        rows = Delivery.objects.filter(message_id__in=outbound).values_list("message_id", "status")
        for message_id, status in rows:
            statuses[message_id].append(status)
    with_files = [message.id for message in messages if message.has_attachments]
    files: dict[UUID, list[Attachment]] = {message_id: [] for message_id in with_files}
    if with_files:
        for attachment in Attachment.objects.filter(message_id__in=with_files).order_by("message_id", "position"):
            files[attachment.message_id].append(attachment)
    return [_show_message(message, statuses.get(message.id, []), files.get(message.id, [])) for message in messages]


def show_message(message: Message) -> Json:
    """One message with its body loaded."""
    return show_messages([message])[0]


def _show_message(message: Message, statuses: list[str], files: Sequence[Attachment]) -> Json:
    inbound = message.direction == Message.Direction.INBOUND
    body: MessageBody = message.body
    return {
        "id": encode_ulid(MESSAGE, message.id),
        "inboxId": encode_ulid(INBOX, message.mailbox_id),
        "threadId": encode_ulid(THREAD, message.thread_id),
        "from": message.from_address,
        "to": _addresses(message.to),
        "cc": _addresses(message.cc),
        "bcc": _addresses(message.bcc),
        "labels": list(message.labels),
        "subject": message.subject,
        "text": body.text,
        "html": body.html,
        "attachments": [{"name": file.filename, "contentType": file.content_type, "size": file.size} for file in files],
        "status": MESSAGE_STATUS["received" if inbound else message_status(statuses)],
        "createdAt": show_time(message.created_at),
    }


def _addresses(people: Sequence[Json]) -> list[str]:
    return [person["address"] for person in people]
