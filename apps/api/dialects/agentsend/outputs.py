"""What this dialect answers: our objects under AgentSend's names."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from apps.delivery.models import Delivery
from apps.delivery.states import DeliveryStatus, message_status
from apps.events.models import Webhook
from apps.mail.models import Attachment, Message, MessageBody
from apps.mailboxes.models import Mailbox

Json = dict[str, Any]

NO_LIMIT = 2**31 - 1
"""`dailySendLimit` is a number there: what a mailbox without a limit shows."""

INBOX_STATUS = {"active": "active", "paused": "suspended", "suspended": "suspended", "deleted": "deleted"}
"""Our status of a mailbox -> AgentSend's: to it, what cannot send is suspended."""

MESSAGE_STATUS = {
    "received": "received",
    "scheduled": "queued",
    "held": "queued",
    "queued": "queued",
    "deferred": "queued",
    "sending": "sending",
    "sent": "sent",
    "delivered": "delivered",
    "bounced": "bounced",
    "complained": "complained",
    "failed": "failed",
    "canceled": "failed",
    "suppressed": "failed",
    "blocked": "failed",
}
"""Our status of a message -> AgentSend's."""

STATUSES = tuple(dict.fromkeys(MESSAGE_STATUS.values()))
_LEFT_US = (DeliveryStatus.SENT, DeliveryStatus.DELIVERED, DeliveryStatus.COMPLAINED)
_WENT_WRONG = (DeliveryStatus.BOUNCED, DeliveryStatus.FAILED, DeliveryStatus.DEFERRED)


def our_statuses(shown: str) -> list[str]:
    """The statuses of ours that are shown as this one."""
    return [ours for ours, theirs in MESSAGE_STATUS.items() if theirs == shown]


def show_time(moment: datetime) -> str:
    """ISO 8601 in UTC to the millisecond."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _time_or_none(moment: datetime | None) -> str | None:
    return None if moment is None else show_time(moment)


def show_inbox(mailbox: Mailbox, now: datetime) -> Json:
    """An inbox; the mailbox comes with its domain and usage."""
    usage = mailbox.usage
    return {
        "id": str(mailbox.id),
        "accountId": str(mailbox.organization_id),
        "domainId": None if mailbox.domain.is_shared else str(mailbox.domain_id),
        "address": mailbox.address,
        "displayName": mailbox.display_name or None,
        "dailySendLimit": NO_LIMIT if mailbox.daily_send_limit is None else mailbox.daily_send_limit,
        "isVerified": mailbox.domain.can_send,
        "sendsToday": usage.sends_on(now.astimezone(UTC).date()),
        "bounceCount": usage.bounce_count,
        "complaintCount": usage.complaint_count,
        "totalSent": usage.total_sent,
        "status": INBOX_STATUS[mailbox.status],
        "deletedAt": _time_or_none(mailbox.deleted_at),
        "createdAt": show_time(mailbox.created_at),
        "updatedAt": show_time(mailbox.updated_at),
    }


def show_messages(messages: Sequence[Message]) -> list[Json]:
    """Messages, each with its body loaded: two more queries at most, however many they are."""
    outbound = [message.id for message in messages if message.direction == Message.Direction.OUTBOUND]
    deliveries: dict[UUID, list[Delivery]] = {message_id: [] for message_id in outbound}
    if outbound:
        for delivery in Delivery.objects.filter(message_id__in=outbound).order_by("id"):
            deliveries[delivery.message_id].append(delivery)
    with_files = [message.id for message in messages if message.has_attachments]
    files: dict[UUID, list[Attachment]] = {message_id: [] for message_id in with_files}
    if with_files:
        for attachment in Attachment.objects.filter(message_id__in=with_files).order_by("message_id", "position"):
            files[attachment.message_id].append(attachment)
    return [show_message(message, deliveries.get(message.id, []), files.get(message.id, [])) for message in messages]


def show_message(message: Message, deliveries: Sequence[Delivery], files: Sequence[Attachment] = ()) -> Json:
    """A message, whichever way it went; it comes with its body."""
    inbound = message.direction == Message.Direction.INBOUND
    status = "received" if inbound else message_status([delivery.status for delivery in deliveries])
    body: MessageBody = message.body
    return {
        "id": str(message.id),
        "inboxId": str(message.mailbox_id),
        "accountId": str(message.organization_id),
        "threadId": str(message.thread_id),
        "direction": message.direction,
        "fromAddress": _show_sender(message),
        "toAddresses": _addresses(message.to),
        "ccAddresses": _addresses(message.cc),
        "bccAddresses": _addresses(message.bcc),
        "subject": message.subject,
        "bodyText": body.text or None,
        "bodyHtml": body.html or None,
        "attachments": [_show_attachment(message, attachment) for attachment in files],
        "status": MESSAGE_STATUS[status],
        "sesMessageId": None,
        "errorMessage": _show_problem(deliveries),
        "retryCount": max((delivery.attempt_count - 1 for delivery in deliveries if delivery.attempt_count), default=0),
        "messageIdHeader": message.rfc_message_id or None,
        "inReplyTo": message.in_reply_to or None,
        "referencesHeaders": list(message.references),
        "rawHeaders": _show_headers(body.headers) if inbound else None,
        "sentAt": _time_or_none(_left_at(deliveries)),
        "createdAt": show_time(message.created_at),
    }


def _show_sender(message: Message) -> str:
    if message.direction == Message.Direction.INBOUND or not message.from_name:
        return message.from_address
    return f"{message.from_name} <{message.from_address}>"


def _addresses(people: Sequence[Json]) -> list[str]:
    return [person["address"] for person in people]


def _show_attachment(message: Message, attachment: Attachment) -> Json:
    return {
        "key": f"{message.direction}/{message.mailbox_id}/{attachment.id}/{attachment.filename}",
        "size": attachment.size,
        "filename": attachment.filename,
        "contentType": attachment.content_type,
    }


def _show_problem(deliveries: Sequence[Delivery]) -> str | None:
    """The remote's words about the first recipient whom the message did not reach."""
    for delivery in deliveries:
        if delivery.status in _WENT_WRONG and (delivery.last_text or delivery.reason):
            return delivery.last_text or delivery.reason
    return None


def _show_headers(headers: Sequence[Sequence[str]]) -> dict[str, str]:
    """Header fields by name in small letters; the values of a repeated one on lines of their own."""
    shown: dict[str, str] = {}
    for name, value in headers:
        name = name.lower()
        shown[name] = f"{shown[name]}\n{value}" if name in shown else value
    return shown


def _left_at(deliveries: Sequence[Delivery]) -> datetime | None:
    """When the first recipient's server, or a relay, took the message."""
    moments = [row.finished_at for row in deliveries if row.status in _LEFT_US and row.finished_at is not None]
    return min(moments, default=None)


def show_webhook(webhook: Webhook, events: Sequence[str]) -> Json:
    """A webhook, without its secret; `events` are the vendor's names of what it is told."""
    return {"accountId": str(webhook.organization_id), **show_listed_webhook(webhook, events)}


def show_listed_webhook(webhook: Webhook, events: Sequence[str]) -> Json:
    """A webhook as the list shows it, without the account."""
    return {
        "id": str(webhook.id),
        "url": webhook.url,
        "events": list(events),
        "isActive": webhook.enabled,
        "createdAt": show_time(webhook.created_at),
        "updatedAt": show_time(webhook.updated_at),
    }
