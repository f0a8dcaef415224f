"""Recording facts, in the transaction in which they become true, together with the calls that tell webhooks of them."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connection

from apps.core.doorbell import ring_on_commit
from apps.core.ids import new_id
from apps.core.news import announce_on_commit
from apps.events.models import EventType

CALL_TASK = "apps.events.tasks.call_webhooks"


@dataclass(frozen=True, slots=True)
class NewEvent:
    """A fact to record; `data` is what api.md shows as the event's data."""

    type: EventType
    organization_id: UUID
    mailbox_id: UUID | None = None
    data: dict[str, Any] = field(default_factory=dict)


# A function of the database, from migration 0002: it also writes the outbox, and its plan is kept.
_RECORD = """
SELECT events_record(%(ids)s::uuid[], %(organizations)s::uuid[], %(mailboxes)s::uuid[], %(types)s::text[],
                     %(data)s::text[], %(now)s)
"""


def record_events(*, events: Iterable[NewEvent], now: datetime) -> None:
    """Insert facts, and a call for each webhook that is to be told; one statement, whoever listens.

    Call it inside the transaction that makes them true. The doorbell rings only if a webhook is to be
    told; agents that wait and streams hear of it by news.
    """
    facts = list(events)
    if not facts:
        return
    values: dict[str, Any] = {
        "now": now,
        "ids": [new_id() for _ in facts],
        "organizations": [fact.organization_id for fact in facts],
        "mailboxes": [fact.mailbox_id for fact in facts],
        "types": [fact.type.value for fact in facts],
        "data": [json.dumps(fact.data) for fact in facts],
    }
    with connection.cursor() as cursor:
        cursor.execute(_RECORD, values)
        row = cursor.fetchone()
    if row is not None and row[0]:
        ring_on_commit(CALL_TASK)
    received = {fact.mailbox_id for fact in facts if fact.type == EventType.MESSAGE_RECEIVED and fact.mailbox_id}
    announce_on_commit(organization_ids={fact.organization_id for fact in facts}, mailbox_ids=received)
