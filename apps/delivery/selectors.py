"""What became of a message's recipients."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from apps.core.ids import id_floor
from apps.delivery.models import Attempt, Delivery

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
