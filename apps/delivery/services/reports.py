"""Bounces and complaints that arrive as mail, after the other server had taken ours."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from apps.delivery.models import Delivery, Suppression
from apps.delivery.services.suppress import NewSuppression, suppress_addresses
from apps.delivery.states import DeliveryStatus, sources_of
from apps.events.models import EventType
from apps.events.services import NewEvent, record_events
from apps.mail.models import Message
from apps.mail.services import hash_message_id
from apps.mailboxes.services import Usage, count_outcome
from mailhost.address import parse_address
from mailhost.dsn.classify import classify_refusal
from mailhost.dsn.parse import DeliveryReport, FeedbackReport, RecipientStatus
from mailhost.errors import InvalidAddress

_ANSWER_LIMIT = 2000


@dataclass(frozen=True, slots=True)
class ArrivedReport:
    """A report, and the mailbox that it came to: it can only be about mail of that mailbox."""

    mailbox_id: UUID
    report: DeliveryReport | FeedbackReport


@dataclass(slots=True)
class _Consequences:
    """What the reports of a batch lead to, written once for all of them."""

    usage: Usage = field(default_factory=dict)
    suppressions: list[tuple[UUID, NewSuppression]] = field(default_factory=list)

    def count(self, message: Message, counter: str) -> None:
        count_outcome(self.usage, message.mailbox_id, counter)

    def suppress(self, message: Message, address: str, reason: str, source: str) -> None:
        self.suppressions.append((message.organization_id, NewSuppression(address, reason, source)))


def record_reports(*, reports: Sequence[ArrivedReport], now: datetime) -> Usage:
    """Move the deliveries that the reports are about to bounced or complained, and suppress the recipients that are
    not there or have complained; the counters to add.

    A stranger can write a report, so it counts only for mail that the mailbox really sent: its Message-ID, to that
    recipient, taken by the recipient's server, and only once. Call it inside the transaction that stores the report,
    and add the counters last (apps.mailboxes.services.add_usage).
    """
    found = _Consequences()
    for arrived in reports:
        message = _find_message(arrived)
        if message is None:
            continue
        if isinstance(arrived.report, FeedbackReport):
            _record_complaint(message, arrived.report, found, now)
        else:
            for recipient in arrived.report.recipients:
                if recipient.is_permanent_failure:
                    _record_bounce(message, recipient, found, now)
    suppress_addresses(entries=found.suppressions, now=now)
    return found.usage


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


def _record_bounce(message: Message, recipient: RecipientStatus, found: _Consequences, now: datetime) -> None:
    key = _compare_key(recipient.address)
    refusal = classify_refusal(recipient.code or 0, recipient.status, recipient.diagnostic)
    for delivery in _lock_deliveries(message, DeliveryStatus.BOUNCED):
        if _compare_key(delivery.address) != key:
            continue
        delivery.last_code = recipient.code
        delivery.last_enhanced_code = recipient.status[:12]
        delivery.last_text = recipient.diagnostic[:_ANSWER_LIMIT]
        data = {"code": recipient.code, "enhanced_code": recipient.status, "text": recipient.diagnostic[:500]}
        data |= {"bounce": refusal.kind, "bounce_reason": refusal.reason.value}
        _finish(delivery, message, DeliveryStatus.BOUNCED, EventType.MESSAGE_BOUNCED, data, now)
        found.count(message, "bounce_count")
        if refusal.kind == "hard":
            found.count(message, "hard_bounces")
            source = f"report: {recipient.diagnostic or recipient.status}"
            found.suppress(message, delivery.address, Suppression.Reason.HARD_BOUNCE, source)


def _record_complaint(message: Message, report: FeedbackReport, found: _Consequences, now: datetime) -> None:
    """About the named recipients, or about the only one there is; with several and no name, about nobody known."""
    deliveries = _lock_deliveries(message, DeliveryStatus.COMPLAINED)
    keys = {_compare_key(address) for address in report.recipients}
    meant = [delivery for delivery in deliveries if _compare_key(delivery.address) in keys]
    if not keys and len(deliveries) == 1:
        meant = deliveries
    for delivery in meant:
        data = {"feedback_type": report.feedback_type}
        _finish(delivery, message, DeliveryStatus.COMPLAINED, EventType.MESSAGE_COMPLAINED, data, now)
        found.count(message, "complaint_count")
        source = f"report: {report.feedback_type}"
        found.suppress(message, delivery.address, Suppression.Reason.COMPLAINT, source)


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
