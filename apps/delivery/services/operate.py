"""What operators do to the queue: hold, release, retry now, cancel; and ending a mailbox with all that waits."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

from django.db import transaction
from django.db.models import Q, QuerySet

from apps.core.doorbell import ring_on_commit
from apps.delivery.lanes import make_lanes_due
from apps.delivery.models import Delivery
from apps.delivery.services.claim import MAILBOX_SUSPENDED
from apps.delivery.services.send import DELIVER_TASK
from apps.delivery.states import DeliveryStatus, sources_of
from apps.events.services import forget_mailbox
from apps.mail.services import erase_mailbox_mail
from apps.mailboxes.models import Mailbox
from apps.mailboxes.services import RESERVED_AFTER_PURGE, close_mailbox, give_back_sends, reinstate_mailbox

_BATCH = 1000


def release_held(*, deliveries: QuerySet[Delivery], now: datetime) -> int:
    """Send what is held; how many."""
    return _make_due(deliveries.filter(status=DeliveryStatus.HELD), now)


def retry_now(*, deliveries: QuerySet[Delivery], now: datetime) -> int:
    """Try what is deferred at once instead of at its time; how many."""
    return _make_due(deliveries.filter(status=DeliveryStatus.DEFERRED), now)


def _make_due(deliveries: QuerySet[Delivery], now: datetime) -> int:
    """In batches, each its own transaction, so that a large queue is not locked as a whole."""
    total = 0
    while True:
        with transaction.atomic():
            rows = _lock_batch(deliveries)
            if not rows:
                return total
            Delivery.objects.filter(id__in=[row.id for row in rows]).update(
                status=DeliveryStatus.QUEUED, reason="", next_attempt_at=now
            )
            make_lanes_due(due={row.lane_id: now for row in rows})
            ring_on_commit(DELIVER_TASK)
        total += len(rows)


def hold_waiting(*, deliveries: QuerySet[Delivery]) -> int:
    """Keep what waits from leaving until it is released; how many."""
    return _stop(deliveries, DeliveryStatus.HELD, None)


def cancel_waiting(*, deliveries: QuerySet[Delivery], now: datetime) -> int:
    """End what is not yet on the wire; how many. What was never tried is given back to the limits of its day."""
    return _stop(deliveries, DeliveryStatus.CANCELED, now)


def _stop(deliveries: QuerySet[Delivery], target: DeliveryStatus, finished_at: datetime | None) -> int:
    total = 0
    # What a worker has claimed is stopped too, until the worker stamps it: it then finds its lease gone.
    claimed = Q(status=DeliveryStatus.SENDING, on_wire_at__isnull=True)
    waiting = deliveries.filter(claimed | Q(status__in=set(sources_of(target)) - {DeliveryStatus.SENDING.value}))
    while True:
        with transaction.atomic():
            rows = _lock_batch(waiting)
            if not rows:
                return total
            Delivery.objects.filter(id__in=[row.id for row in rows]).update(
                status=target,
                reason="operator",
                next_attempt_at=None,
                finished_at=finished_at,
                lease_token=None,
                lease_expires_at=None,
            )
            if target == DeliveryStatus.CANCELED:
                give_back_sends(canceled=_never_tried(rows))
        total += len(rows)


def _lock_batch(deliveries: QuerySet[Delivery]) -> list[Delivery]:
    rows = deliveries.select_related(None).only("id", "lane_id", "mailbox_id", "attempt_count", "created_at")
    return list(rows.order_by("id").select_for_update(of=("self",))[:_BATCH])


def _never_tried(deliveries: Sequence[Delivery]) -> Counter[tuple[UUID, date]]:
    """How many recipients each mailbox gets back, by the day on which they were accepted."""
    return Counter(
        (delivery.mailbox_id, delivery.created_at.astimezone(UTC).date())
        for delivery in deliveries
        if delivery.attempt_count == 0
    )


def reinstate_sending(*, mailbox: Mailbox, now: datetime) -> bool:
    """Let a suspended mailbox work again, and send what was held because of it; False when it was not suspended."""
    reinstated = reinstate_mailbox(mailbox=mailbox, now=now)
    if reinstated:
        waiting = Delivery.objects.filter(mailbox_id=mailbox.id, reason=MAILBOX_SUSPENDED)
        release_held(deliveries=waiting, now=now)
    return reinstated


def delete_mailbox(*, mailbox: Mailbox, purge: bool, kept_for: timedelta = RESERVED_AFTER_PURGE, now: datetime) -> None:
    """End a mailbox: no more sending or receiving at once, and what is not yet on the wire is canceled.

    `purge` erases its mail, removes its webhooks and frees the address, which is kept for the organization for 30
    days, or as `kept_for` says; otherwise the mail can still be read and the address stays reserved. Safe to repeat
    after an interruption.
    """
    with transaction.atomic():
        if purge:
            forget_mailbox(organization_id=mailbox.organization_id, mailbox_id=mailbox.id)
        close_mailbox(mailbox=mailbox, release_address=purge, kept_for=kept_for, now=now)
    cancel_waiting(deliveries=Delivery.objects.filter(mailbox_id=mailbox.id), now=now)
    if purge:
        erase_mailbox_mail(mailbox_id=mailbox.id)
