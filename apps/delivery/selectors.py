"""What became of a message's recipients, and whom not to write to."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from django.db import connection
from django.db.models import Exists, OuterRef, Q, QuerySet

from apps.core.ids import id_floor
from apps.delivery.models import Attempt, Delivery, Suppression
from apps.delivery.states import shown_before
from apps.mail.models import Message

MAX_ATTEMPTS = 2000
_CLOCKS_APART = timedelta(days=1)


@dataclass(slots=True)
class Recipient:
    """A delivery and its attempts, oldest first."""

    delivery: Delivery
    attempts: list[Attempt] = field(default_factory=list)


def list_recipients(*, deliveries: Sequence[Delivery]) -> list[Recipient]:
    """The attempts of each delivery, in order, by one query that leaves out the months before the oldest delivery."""
    recipients = {delivery.id: Recipient(delivery) for delivery in deliveries}
    if recipients:
        oldest = min(delivery.created_at for delivery in deliveries) - _CLOCKS_APART
        attempts = Attempt.objects.filter(delivery_id__in=list(recipients), id__gte=id_floor(oldest)).order_by("id")
        for attempt in attempts[:MAX_ATTEMPTS]:
            recipients[attempt.delivery_id].attempts.append(attempt)
    return list(recipients.values())


RECEIVED = "received"
"""What an inbound message shows as its status."""


def messages_with_status(messages: QuerySet[Message], statuses: Iterable[str]) -> QuerySet[Message]:
    """Those that show one of these statuses: what `message_status` says of one, as a condition on many."""
    condition = Q(pk__in=[])
    for status in statuses:
        if status == RECEIVED:
            condition |= Q(direction=Message.Direction.INBOUND)
            continue
        recipients = Delivery.objects.filter(message_id=OuterRef("pk"))
        shown = Q(Exists(recipients.filter(status=status)))
        if earlier := shown_before(status):
            shown &= ~Q(Exists(recipients.filter(status__in=earlier)))
        condition |= shown
    return messages.filter(condition)


def find_suppressed(*, organization_id: UUID, keys: Iterable[str], now: datetime) -> dict[str, str]:
    """Of these address keys the ones that the organization must not write to, and why; one query.

    Written out: every send asks it, and Django would take longer over the words than PostgreSQL over the answer.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT address_key, reason FROM delivery_suppression WHERE organization_id = %s"
            " AND address_key = ANY(%s) AND (expires_at IS NULL OR expires_at > %s)",
            [organization_id, list(keys), now],
        )
        return dict(cursor.fetchall())


def live_suppressions(*, organization_id: UUID, now: datetime) -> QuerySet[Suppression]:
    """The organization's entries that are not over."""
    forever, later = Q(expires_at__isnull=True), Q(expires_at__gt=now)
    return Suppression.objects.filter(forever | later, organization_id=organization_id)
