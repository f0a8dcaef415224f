"""Reading the event log in commit order; finding webhooks and their calls."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db import connection
from django.db.models import Q, QuerySet

from apps.accounts.models import ApiKey
from apps.core.errors import NotFound
from apps.core.ids import id_floor, id_moment
from apps.events.models import Event, SigningKey, Webhook, WebhookAttempt, WebhookCall


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


def get_webhook(*, organization_id: UUID, webhook_id: UUID) -> Webhook:
    """A webhook of the organization's; raises NotFound, also for a stranger's."""
    webhook = Webhook.objects.filter(id=webhook_id, organization_id=organization_id).first()
    if webhook is None:
        raise NotFound("There is no such webhook in your organization.")
    return webhook


def visible_webhooks(*, key: ApiKey, dialect: str) -> QuerySet[Webhook]:
    """The webhooks of a dialect that a key may see and change, without those of mailboxes: one that is narrowed to
    mailboxes those that tell of nothing else; one that is narrowed to domains none, as they tell of all."""
    if key.organization_id is None or key.allowed_domains is not None:
        return Webhook.objects.none()
    webhooks = Webhook.objects.filter(organization_id=key.organization_id, dialect=dialect, for_mailbox__isnull=True)
    if key.inbox_ids is not None:
        webhooks = webhooks.filter(mailbox_ids__contained_by=key.inbox_ids)
    return webhooks


def get_mailbox_webhook(*, organization_id: UUID, mailbox_id: UUID) -> Webhook | None:
    """The webhook behind a mailbox's `webhook_url`."""
    return Webhook.objects.filter(for_mailbox=mailbox_id, organization_id=organization_id).first()


def list_webhooks(
    *, organization_id: UUID, limit: int, after: UUID | None = None, ascending: bool = False
) -> list[Webhook]:
    """The organization's webhooks without those of its mailboxes, newest first, from the one `after` on."""
    webhooks = Webhook.objects.filter(organization_id=organization_id, for_mailbox__isnull=True)
    if after is not None:
        webhooks = webhooks.filter(id__gt=after) if ascending else webhooks.filter(id__lt=after)
    return list(webhooks.order_by("id" if ascending else "-id")[:limit])


def get_call(*, webhook: Webhook, call_id: UUID) -> WebhookCall:
    """One call of a webhook; raises NotFound."""
    call = WebhookCall.objects.filter(id=call_id, webhook_id=webhook.id).first()
    if call is None:
        raise NotFound("There is no such delivery of this webhook, or it is too old to be kept.")
    return call


def list_calls(
    *,
    webhook: Webhook,
    limit: int,
    after: UUID | None = None,
    ascending: bool = False,
    status: str | None = None,
) -> list[WebhookCall]:
    """A webhook's calls, newest first, from the one `after` on."""
    calls = WebhookCall.objects.filter(webhook_id=webhook.id)
    if status is not None:
        calls = calls.filter(status=status)
    if after is not None:
        calls = calls.filter(id__gt=after) if ascending else calls.filter(id__lt=after)
    return list(calls.order_by("id" if ascending else "-id")[:limit])


def list_attempts(*, call_ids: Sequence[UUID]) -> dict[UUID, list[WebhookAttempt]]:
    """The requests made for each call, oldest first, by one query."""
    attempts: dict[UUID, list[WebhookAttempt]] = {call_id: [] for call_id in call_ids}
    for attempt in WebhookAttempt.objects.filter(call_id__in=attempts).order_by("id"):
        attempts[attempt.call_id].append(attempt)
    return attempts


def find_signing_keys(*, organization_ids: Iterable[UUID], dialect: str) -> dict[UUID, SigningKey]:
    """The organizations' signing keys of a dialect, of those that have one."""
    keys = SigningKey.objects.filter(organization_id__in=set(organization_ids), dialect=dialect)
    return {key.organization_id: key for key in keys}


@dataclass(frozen=True, slots=True)
class Received:
    """A `message.received` of the log."""

    mailbox_id: UUID
    message_id: UUID
    place: Place


_RECEIVED = """
SELECT settled.position, found.*
FROM (SELECT events_settled_position() AS position) settled
LEFT JOIN LATERAL (
    SELECT mark.mailbox_id, event.message_id, event.position, event.id
    FROM unnest(%(mailboxes)s::uuid[], %(positions)s::bigint[], %(ids)s::uuid[]) mark (mailbox_id, position, id)
    CROSS JOIN LATERAL (
        SELECT (log.data ->> 'message_id')::uuid AS message_id, log.position, log.id
        FROM events_event log
        WHERE log.mailbox_id = mark.mailbox_id AND log.type = 'message.received'
          AND (log.position, log.id) > (mark.position, mark.id) AND log.id >= %(floor)s
        ORDER BY log.position, log.id LIMIT %(limit)s
    ) event
) found ON true
"""


def read_received(*, marks: Mapping[UUID, Place], floor: UUID, limit: int) -> tuple[int, list[Received]]:
    """Mail received behind the mark of each mailbox, at most `limit` of one, settled or not; by one query.

    The number is the settled position of the same snapshot: every mail below it that is not cut off by the limit is
    in the answer, and what stands at or above it may be joined by mail with a lower place. `floor` leaves out events
    whose ids, and so whose months, are older.
    """
    values: dict[str, Any] = {
        "mailboxes": list(marks),
        "positions": [mark.position for mark in marks.values()],
        "ids": [mark.id for mark in marks.values()],
        "floor": floor,
        "limit": limit,
    }
    with connection.cursor() as cursor:
        cursor.execute(_RECEIVED, values)
        rows = cursor.fetchall()
    settled = int(rows[0][0])
    return settled, [Received(row[1], row[2], Place(row[3], row[4])) for row in rows if row[1] is not None]


_LATE = """
SELECT (data ->> 'message_id')::uuid, position FROM events_event
WHERE mailbox_id = %(mailbox)s AND type = 'message.received' AND position >= %(position)s
  AND id >= %(floor)s AND id < %(ceiling)s AND (data ->> 'message_id')::uuid <= %(newest)s
ORDER BY 1 LIMIT %(limit)s
"""
_LONGEST_TRANSACTION = timedelta(hours=1)


def read_late(*, mailbox_id: UUID, position: int, newest: UUID, limit: int) -> dict[UUID, int]:
    """Messages up to the id `newest` whose event stands at or above a position, with it: those that a reader who had
    settled everything below the position may not have seen when it looked at `newest`. In id order."""
    moment = id_moment(newest)
    values: dict[str, Any] = {
        "mailbox": mailbox_id,
        "position": position,
        "newest": newest,
        # The event's id is made in the message's own transaction; this only spares the months and mail around it.
        "floor": id_floor(moment - 24 * _LONGEST_TRANSACTION),
        "ceiling": id_floor(moment + _LONGEST_TRANSACTION),
        "limit": limit,
    }
    with connection.cursor() as cursor:
        cursor.execute(_LATE, values)
        return dict(cursor.fetchall())


_FEED = """
SELECT settled.position, found.*
FROM (SELECT events_settled_position() AS position) settled
LEFT JOIN LATERAL (
    SELECT event.*
    FROM unnest(%(organizations)s::uuid[], %(positions)s::bigint[], %(ids)s::uuid[]) mark (id, position, event_id)
    CROSS JOIN LATERAL (
        SELECT log.id, log.organization_id, log.mailbox_id, log.type, log.data, log.created_at, log.position
        FROM events_event log
        WHERE log.organization_id = mark.id AND (log.position, log.id) > (mark.position, mark.event_id)
        ORDER BY log.position, log.id LIMIT %(limit)s
    ) event
) found ON true
"""


def read_feeds(*, marks: Mapping[UUID, Place], limit: int) -> tuple[int, list[Event]]:
    """Events behind the mark of each organization in commit order, at most `limit` of one; by one query.

    The number is the settled position of the same snapshot. Only events below it may be handed on: those at or above
    it tell that there is more to come as soon as it settles.
    """
    values: dict[str, Any] = {
        "organizations": list(marks),
        "positions": [mark.position for mark in marks.values()],
        "ids": [mark.id for mark in marks.values()],
        "limit": limit,
    }
    with connection.cursor() as cursor:
        cursor.execute(_FEED, values)
        rows = cursor.fetchall()
    names = ("id", "organization_id", "mailbox_id", "type", "data", "created_at", "position")
    events = [Event(**dict(zip(names, row[1:], strict=True))) for row in rows if row[1] is not None]
    for event in events:
        if isinstance(event.data, str):
            event.data = json.loads(event.data)
    return int(rows[0][0]), events
