"""What the overview shows: what waits, what is wrong, what happened last. Every query is bounded by an index or a
limit, so that the page stays quick whatever the tables hold."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import Count, Min, QuerySet

from apps.delivery.models import Delivery
from apps.delivery.states import DeliveryStatus
from apps.domains.models import Domain
from apps.events.models import Event
from apps.events.selectors import read_events
from apps.mailboxes.models import Mailbox

MAX_COUNTED = 50_000
_LAST_EVENTS = 10
_SHOWN = 5

OrganizationIds = list[UUID] | None
"""The organizations to show; None: all."""


@dataclass(frozen=True, slots=True)
class QueueState:
    """How much is in one status, up to MAX_COUNTED, and how long the oldest of it has been there."""

    status: str
    count: int
    oldest_at: datetime | None

    @property
    def shown_count(self) -> str:
        """The count, or that there are more than were counted."""
        return f"{MAX_COUNTED:,}+" if self.count >= MAX_COUNTED else f"{self.count:,}"


def queue_states(organization_ids: OrganizationIds) -> list[QueueState]:
    """What is in the queue, by status, in the order in which a delivery passes through."""
    order = (DeliveryStatus.HELD, DeliveryStatus.QUEUED, DeliveryStatus.SENDING, DeliveryStatus.DEFERRED)
    return [_queue_state(status, organization_ids) for status in order]


def _queue_state(status: str, organization_ids: OrganizationIds) -> QueueState:
    # Each status has a partial index; sliced, so that a queue of millions costs what one of MAX_COUNTED does.
    rows = _within(Delivery.objects.filter(status=status), organization_ids)
    found = rows.order_by().values("created_at")[:MAX_COUNTED].aggregate(rows=Count("*"), oldest=Min("created_at"))
    return QueueState(status, found["rows"], found["oldest"])


def mailbox_counts(organization_ids: OrganizationIds) -> dict[str, int]:
    """Status -> how many mailboxes."""
    rows = _within(Mailbox.objects.all(), organization_ids).order_by().values_list("status")
    counted = dict(rows.annotate(rows=Count("id")))
    return {status: counted.get(status, 0) for status in Mailbox.Status.values}


def domains_to_look_at(organization_ids: OrganizationIds) -> list[Domain]:
    """The organizations' domains that are not verified, the newest first."""
    domains = Domain.objects.filter(organization__isnull=False).exclude(status=Domain.Status.VERIFIED)
    return list(_within(domains, organization_ids).select_related("organization").order_by("-id")[:_SHOWN])


def last_events(organization_ids: OrganizationIds) -> list[Event]:
    """The newest facts."""
    if organization_ids is None:
        return list(Event.objects.order_by("-id")[:_LAST_EVENTS])
    found: list[Event] = []
    for organization_id in organization_ids[:_SHOWN]:
        found += read_events(organization_id=organization_id, newest_first=True, limit=_LAST_EVENTS)
    return sorted(found, key=lambda event: event.id, reverse=True)[:_LAST_EVENTS]


def _within(queryset: QuerySet[Any], organization_ids: Sequence[UUID] | None) -> QuerySet[Any]:
    return queryset if organization_ids is None else queryset.filter(organization_id__in=organization_ids)
