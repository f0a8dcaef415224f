"""Recording facts, in the transaction in which they become true."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from apps.events.models import Event, EventType


@dataclass(frozen=True, slots=True)
class NewEvent:
    """A fact to record; `data` is what api.md shows as the event's data."""

    type: EventType
    organization_id: UUID
    mailbox_id: UUID | None = None
    data: dict[str, Any] = field(default_factory=dict)


def record_events(*, events: Iterable[NewEvent], now: datetime) -> None:
    """Insert facts; call it inside the transaction that makes them true."""
    Event.objects.bulk_create(
        Event(
            organization_id=event.organization_id,
            mailbox_id=event.mailbox_id,
            type=event.type,
            data=event.data,
            created_at=now,
        )
        for event in events
    )
