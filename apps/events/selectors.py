"""Reading the event log in commit order."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from django.db import connection
from django.db.models import Q, QuerySet

from apps.events.models import Event


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where a reader stands in the log: everything at or before it has been read."""

    position: int
    id: UUID


def settled_position() -> int:
    """The first position that may still gain rows: a reader stops below it.

    It is the oldest transaction still running (pg_snapshot_xmin); every older one has committed or is gone.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT events_settled_position()")
        row = cursor.fetchone()
    return int(row[0]) if row else 0


def read_events(
    *,
    organization_id: UUID,
    after: Place | None = None,
    limit: int = 100,
    types: Sequence[str] | None = None,
    mailbox_ids: Sequence[UUID] | None = None,
    newest_first: bool = False,
    before: Place | None = None,
) -> list[Event]:
    """Settled events of one organization, oldest first from `after` on, or newest first from `before` down.

    Without gap or repeat: what is not settled yet is not shown, and will stand behind the last place given out.
    """
    events: QuerySet[Event] = Event.objects.filter(organization_id=organization_id, position__lt=settled_position())
    if types is not None:
        events = events.filter(type__in=types)
    if mailbox_ids is not None:
        events = events.filter(mailbox_id__in=mailbox_ids)
    if after is not None:
        events = events.filter(
            Q(position__gt=after.position) | Q(position=after.position, id__gt=after.id),
            position__gte=after.position,
        )
    if before is not None:
        events = events.filter(
            Q(position__lt=before.position) | Q(position=before.position, id__lt=before.id),
            position__lte=before.position,
        )
    order = ("-position", "-id") if newest_first else ("position", "id")
    return list(events.order_by(*order)[:limit])


def place_of(event: Event) -> Place:
    """The place of an event that was read from the database."""
    return Place(event.position, event.id)
