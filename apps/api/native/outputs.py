"""What the native API answers: plain dictionaries, made from rows that were read with as few queries as possible."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from apps.accounts.models import ApiKey, Organization
from apps.core.ids import encode_id
from apps.delivery.models import Attempt, Delivery, Suppression
from apps.delivery.services import SentMessage
from apps.delivery.states import message_status
from apps.domains.models import DkimKey, Domain
from apps.domains.selectors import DnsRecord, dns_records
from apps.events.models import Event
from apps.mail.models import Attachment, Message, MessageBody
from apps.mailboxes.models import DEFAULT_DAILY_SEND_LIMIT, Mailbox
from apps.mailboxes.services import next_midnight

Json = dict[str, Any]

_EVENT_IDS = {"message_id": "msg", "thread_id": "thread", "delivery_id": "dlv", "inbox_id": "inbox", "domain_id": "dom"}


def show_time(moment: datetime) -> str:
    """RFC 3339 in UTC to the millisecond."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _time_or_none(moment: datetime | None) -> str | None:
    return None if moment is None else show_time(moment)


def _id_or_none(prefix: str, value: UUID | None) -> str | None:
    return None if value is None else encode_id(prefix, value)


def show_inbox(mailbox: Mailbox, now: datetime) -> Json:
    """An inbox; the mailbox comes with its domain and usage."""
    usage = mailbox.usage
    today = now.astimezone(UTC).date()
    sends_today = usage.sends_on(today)
    limit = mailbox.limit_on(today)
    return {
        "id": encode_id("inbox", mailbox.id),
        "address": mailbox.address,
        "username": mailbox.username,
        "domain": mailbox.domain.name,
        "display_name": mailbox.display_name,
        "pod_id": encode_id("pod", mailbox.pod_id),
        "status": mailbox.status,
        "suspended_reason": mailbox.suspended_reason or None,
        "daily_send_limit": mailbox.daily_send_limit,
        "sends_today": sends_today,
        "sends_remaining": None if limit is None else max(0, limit - sends_today),
        "limit_resets_at": show_time(next_midnight(now)),
        "total_sent": usage.total_sent,
        "bounce_count": usage.bounce_count,
        "complaint_count": usage.complaint_count,
        "client_id": mailbox.client_id,
        "metadata": mailbox.metadata,
        "webhook_url": mailbox.webhook_url,
        "created_at": show_time(mailbox.created_at),
        "updated_at": show_time(mailbox.updated_at),
    }


def show_messages(messages: Sequence[Message]) -> list[Json]:
    """Messages as lists show them: two more queries at most, however many they are."""
    outbound = [message.id for message in messages if message.direction == Message.Direction.OUTBOUND]
    recipients: dict[UUID, list[Json]] = {message_id: [] for message_id in outbound}
    if outbound:
        rows = Delivery.objects.filter(message_id__in=outbound).order_by("id")
        for message_id, address, status, reason in rows.values_list("message_id", "address", "status", "reason"):
            recipients[message_id].append(_show_recipient(address, status, reason))
    with_files = [message.id for message in messages if message.has_attachments]
    files: dict[UUID, list[Json]] = {message_id: [] for message_id in with_files}
    if with_files:
        for attachment in Attachment.objects.filter(message_id__in=with_files).order_by("message_id", "position"):
            files[attachment.message_id].append(show_attachment(attachment))
    return [_show_message(message, recipients.get(message.id, []), files.get(message.id, [])) for message in messages]


def show_whole_message(message: Message) -> Json:
    """One message with its text and headers."""
    return show_whole_messages([message])[0]


def show_whole_messages(messages: Sequence[Message]) -> list[Json]:
    """Messages with their texts and headers, which are read by one query unless they came with the messages."""
    missing = [message.id for message in messages if not Message.body.is_cached(message)]
    bodies = MessageBody.objects.in_bulk(missing) if missing else {}
    shown = show_messages(messages)
    for message, row in zip(messages, shown, strict=True):
        body = bodies.get(message.id) if message.id in missing else getattr(message, "body", None)
        body = body or MessageBody()
        row["text"] = body.text or None
        row["html"] = body.html or None
        row["extracted_text"] = body.extracted_text or None
        row["headers"] = [{"name": name, "value": value} for name, value in body.headers]
    return shown


def _show_message(message: Message, recipients: list[Json], attachments: list[Json]) -> Json:
    is_outbound = message.direction == Message.Direction.OUTBOUND
    return {
        "id": encode_id("msg", message.id),
        "inbox_id": encode_id("inbox", message.mailbox_id),
        "thread_id": encode_id("thread", message.thread_id),
        "direction": message.direction,
        "message_id": message.rfc_message_id or None,
        "in_reply_to": message.in_reply_to or None,
        "references": message.references,
        "from": {"address": message.from_address, "name": message.from_name},
        "to": message.to,
        "cc": message.cc,
        "bcc": message.bcc,
        "reply_to": message.reply_to,
        "subject": message.subject,
        "preview": message.preview,
        "labels": message.labels,
        "unread": message.unread,
        "status": message_status([row["status"] for row in recipients]) if is_outbound else "received",
        "recipients": recipients,
        "attachments": attachments,
        "authentication": message.authentication,
        "auto_submitted": message.auto_submitted,
        "size": message.size,
        "created_at": show_time(message.created_at),
        "sent_at": _time_or_none(message.sent_at),
        "send_at": None,
    }


def _show_recipient(address: str, status: str, reason: str) -> Json:
    shown: Json = {"address": address, "status": status}
    if reason:
        shown["reason"] = reason
    return shown


def show_attachment(attachment: Attachment) -> Json:
    """An attachment of a stored message."""
    return {
        "id": encode_id("att", attachment.id),
        "filename": attachment.filename,
        "content_type": attachment.content_type,
        "size": attachment.size,
        "content_id": attachment.content_id,
        "disposition": attachment.disposition,
    }


def show_sent(sent: SentMessage) -> Json:
    """The answer to a send: each recipient judged by itself."""
    recipients = [_show_recipient(row.address, row.status, row.reason) for row in sent.deliveries]
    return {
        "id": encode_id("msg", sent.message.id),
        "status": message_status([row["status"] for row in recipients]),
        "thread_id": encode_id("thread", sent.message.thread_id),
        "message_id": sent.message.rfc_message_id,
        "recipients": recipients,
    }


def show_deliveries(deliveries: Sequence[Delivery]) -> list[Json]:
    """Every recipient with every attempt, by one more query."""
    attempts: dict[UUID, list[Json]] = {delivery.id: [] for delivery in deliveries}
    for attempt in Attempt.objects.filter(delivery_id__in=attempts.keys()).order_by("id"):
        attempts[attempt.delivery_id].append(_show_attempt(attempt))
    return [
        {
            "id": encode_id("dlv", delivery.id),
            **_show_recipient(delivery.address, delivery.status, delivery.reason),
            "attempts": attempts[delivery.id],
            "next_attempt_at": _time_or_none(delivery.next_attempt_at),
        }
        for delivery in deliveries
    ]


def _show_attempt(attempt: Attempt) -> Json:
    return {
        "at": show_time(attempt.at),
        "host": attempt.host or None,
        "ip": attempt.ip,
        "tls": attempt.tls or None,
        "code": attempt.code,
        "enhanced_code": attempt.enhanced_code or None,
        "text": attempt.text,
        "outcome": attempt.outcome,
    }


def show_domain(domain: Domain, keys: Iterable[DkimKey]) -> Json:
    """A domain with the records to publish for it."""
    return {
        "id": encode_id("dom", domain.id),
        "domain": domain.name,
        "status": domain.status,
        "sending_status": domain.sending_status,
        "receiving_status": domain.receiving_status,
        "records": [_show_record(record) for record in dns_records(domain, keys)],
        "shared": domain.is_shared,
        "last_checked_at": _time_or_none(domain.last_checked_at),
        "created_at": show_time(domain.created_at),
        "updated_at": show_time(domain.updated_at),
    }


def _show_record(record: DnsRecord) -> Json:
    shown: Json = {"type": record.type, "name": record.name, "value": record.value}
    if record.priority is not None:
        shown["priority"] = record.priority
    return {
        **shown,
        "purpose": record.purpose,
        "status": record.status,
        "found": record.found or None,
        "fix": record.fix or None,
    }


def show_event(event: Event) -> Json:
    """A fact of the log; ids inside its data are shown as the API shows them."""
    return {
        "id": encode_id("evt", event.id),
        "type": event.type,
        "created_at": show_time(event.created_at),
        "inbox_id": _id_or_none("inbox", event.mailbox_id),
        "data": {name: _show_event_value(name, value) for name, value in event.data.items()},
    }


def _show_event_value(name: str, value: Any) -> Any:
    prefix = _EVENT_IDS.get(name)
    if prefix is None or not isinstance(value, str):
        return value
    try:
        return encode_id(prefix, UUID(value))
    except ValueError:
        return value


def show_suppression(entry: Suppression) -> Json:
    """An address that must not be written to."""
    return {
        "id": encode_id("sup", entry.id),
        "address": entry.address,
        "reason": entry.reason,
        "source": entry.source or None,
        "expires_at": _time_or_none(entry.expires_at),
        "created_at": show_time(entry.created_at),
    }


def show_key(key: ApiKey, secret: str | None = None) -> Json:
    """An API key; its secret only in the answer that makes it."""
    shown: Json = {"id": encode_id("key", key.id), "name": key.name, "prefix": key.prefix}
    if secret is not None:
        shown["key"] = secret
    return {
        **shown,
        "scopes": key.scopes,
        "allowed_domains": key.allowed_domains,
        "inbox_ids": None if key.inbox_ids is None else [encode_id("inbox", inbox_id) for inbox_id in key.inbox_ids],
        "max_inboxes": key.max_inboxes,
        "used_count": key.used_count,
        "expires_at": _time_or_none(key.expires_at),
        "revoked_at": _time_or_none(key.revoked_at),
        "last_used_at": _time_or_none(key.last_used_at),
        "created_at": show_time(key.created_at),
    }


def show_me(key: ApiKey, organization: Organization | None, limits: Json) -> Json:
    """Who asks, and what it may do."""
    shown = None
    if organization is not None:
        shown = {
            "id": encode_id("org", organization.id),
            "name": organization.name,
            "status": "suspended" if organization.is_suspended else "active",
            "suspended_reason": organization.suspended_reason or None,
        }
    return {
        "key": show_key(key),
        "scopes": key.scopes,
        "organization": shown,
        "limits": {**limits, "default_daily_send_limit": DEFAULT_DAILY_SEND_LIMIT},
    }
