"""What webhooks of several dialects tell of a message beyond its event: read once for a batch of calls."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from apps.events.models import Event, EventType
from apps.events.webhooks.formats import register_enricher
from apps.mail.models import Message

MESSAGE_EVENTS = tuple(kind for kind in EventType.values if kind.startswith("message."))


def load_messages(events: Sequence[Event]) -> Mapping[UUID, Mapping[str, Any]]:
    """`extra["message"]` of each event: its Message with the mailbox loaded; nothing when it was erased since."""
    wanted = {event.id: UUID(str(event.data["message_id"])) for event in events if "message_id" in event.data}
    messages = Message.objects.select_related("mailbox").in_bulk(set(wanted.values()))
    return {
        event_id: {"message": messages[message_id]} for event_id, message_id in wanted.items() if message_id in messages
    }


def register_message_enricher() -> None:
    """Have every event of a message come with it; called by each dialect whose format reads it."""
    for event_type in MESSAGE_EVENTS:
        register_enricher(event_type, load_messages)
