"""Bounces and complaints that arrive as mail, after the other server had taken ours."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from apps.delivery.models import Delivery
from apps.delivery.states import DeliveryStatus, sources_of
from apps.events.models import EventType
from apps.events.services import NewEvent, record_events
from apps.mail.models import Message
from apps.mail.services import hash_message_id
from apps.mailboxes.services import Usage
from mailhost.address import parse_address
from mailhost.dsn.parse import DeliveryReport, FeedbackReport, RecipientStatus
from mailhost.errors import InvalidAddress

_ANSWER_LIMIT = 2000


@dataclass(frozen=True, slots=True)
class ArrivedReport:
    """A report, and the mailbox that it came to: it can only be about mail of that mailbox."""

    mailbox_id: UUID
    report: DeliveryReport | FeedbackReport


def record_reports(*, reports: Sequence[ArrivedReport], now: datetime) -> Usage:
    """Move the deliveries that the reports are about to bounced or complained; the counters to add.

    A stranger can write a report, so it counts only for mail that the mailbox really sent: its Message-ID, to that
    recipient, taken by the recipient's server, and only once. Call it inside the transaction that stores the report,
    and add the counters last (apps.mailboxes.services.add_usage).
    """
    usage: Usage = {}
    for arrived in reports:
        message = _find_message(arrived)
        if message is None:
            continue
        if isinstance(arrived.report, FeedbackReport):
            _record_complaint(message, arrived.report, usage, now)
        else:
            for recipient in arrived.report.recipients:
                if recipient.is_permanent_failure:
                    _record_bounce(message, recipient, usage, now)
    return usage


def _find_message(arrived: ArrivedReport) -> Message | None:
    key = hash_message_id(arrived.report.message_id)
    if key is None:
        return None
    return Message.objects.filter(
        mailbox_id=arrived.mailbox_id, rfc_message_id_hash=key, direction=Message.Direction.OUTBOUND
    ).first()


def _lock_deliveries(message: Message, target: DeliveryStatus) -> list[Delivery]:
    """The message's deliveries that may still make this move, locked."""
    deliveries = Delivery.objects.filter(message=message, status__in=sources_of(target)).exclude(
        status=DeliveryStatus.SENDING
    )
    return list(deliveries.order_by("id").select_for_update(of=("self",)))


def _compare_key(address: str) -> str:
    try:
        return parse_address(address).key
    except InvalidAddress:
        return address.lower()


def _record_bounce(message: Message, recipient: RecipientStatus, usage: Usage, now: datetime) -> None:
    key = _compare_key(recipient.address)
    for delivery in _lock_deliveries(message, DeliveryStatus.BOUNCED):
        if _compare_key(delivery.address) != key:
            continue
        delivery.last_code = recipient.code
        delivery.last_enhanced_code = recipient.status[:12]
        delivery.last_text = recipient.diagnostic[:_ANSWER_LIMIT]
        data = {"code": recipient.code, "enhanced_code": recipient.status, "text": recipient.diagnostic[:500]}
        _finish(delivery, message, DeliveryStatus.BOUNCED, EventType.MESSAGE_BOUNCED, data, now)
        _count(usage, message.mailbox_id, "bounce_count")


def _record_complaint(message: Message, report: FeedbackReport, usage: Usage, now: datetime) -> None:
    """About the named recipients, or about the only one there is; with several and no name, about nobody known."""
    deliveries = _lock_deliveries(message, DeliveryStatus.COMPLAINED)
    keys = {_compare_key(address) for address in report.recipients}
    meant = [delivery for delivery in deliveries if _compare_key(delivery.address) in keys]
    if not keys and len(deliveries) == 1:
        meant = deliveries
    for delivery in meant:
        data = {"feedback_type": report.feedback_type}
        _finish(delivery, message, DeliveryStatus.COMPLAINED, EventType.MESSAGE_COMPLAINED, data, now)
        _count(usage, message.mailbox_id, "complaint_count")


def _finish(
    delivery: Delivery,
    message: Message,
    status: DeliveryStatus,
    event: EventType,
    data: dict[str, Any],
    now: datetime,
) -> None:
    delivery.status = status
    delivery.reason = "reported"
    delivery.finished_at = now
    delivery.save(update_fields=["status", "reason", "finished_at", "last_code", "last_enhanced_code", "last_text"])
    facts = {
        "message_id": str(message.id),
        "thread_id": str(message.thread_id),
        "recipient": delivery.address,
        "status": status.value,
        **data,
    }
    record_events(events=[NewEvent(event, message.organization_id, message.mailbox_id, facts)], now=now)


def _count(usage: Usage, mailbox_id: UUID, counter: str) -> None:
    counters = usage.setdefault(mailbox_id, {})
    counters[counter] = counters.get(counter, 0) + 1
