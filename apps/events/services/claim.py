"""Taking calls from the outbox: webhooks in turn, as many as there is room for, and a lease on each call.

Leases run on the database's clock and outlast a request four times. There is nothing to reclaim: the lease is the
time at which the call is due again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from django.db import connection, transaction

from apps.events.models import WebhookCall
from apps.events.services.slots import Place, Slots

LEASE_SECONDS = 60
FIRST_WEBHOOK = UUID(int=0)
_WEBHOOKS_A_CLAIM = 500
_CANCELED_A_CLAIM = 500


@dataclass(frozen=True, slots=True)
class ClaimedCall:
    """A call under lease. `place` is what it takes room of."""

    place: Place
    id: UUID
    lease_token: UUID
    webhook_id: UUID
    event_id: UUID
    event_type: str
    attempt_count: int
    first_attempt_at: datetime | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Claim:
    """What one claim took. `blocked`: there is more that is due, for which there is no room. `rotation` goes into the
    next claim, and is FIRST_WEBHOOK after the last webhook."""

    calls: list[ClaimedCall]
    blocked: bool
    rotation: UUID


# A walk over the webhooks that have waiting calls, one index probe each, from where the last claim ended.
_WAITING = """
WITH RECURSIVE turn AS (
    (SELECT call.webhook_id, call.next_attempt_at FROM events_webhookcall AS call
      WHERE call.status = 'pending' AND call.webhook_id > %(after)s
      ORDER BY call.webhook_id, call.next_attempt_at LIMIT 1)
    UNION ALL
    SELECT following.webhook_id, following.next_attempt_at FROM turn CROSS JOIN LATERAL
      (SELECT call.webhook_id, call.next_attempt_at FROM events_webhookcall AS call
        WHERE call.status = 'pending' AND call.webhook_id > turn.webhook_id
        ORDER BY call.webhook_id, call.next_attempt_at LIMIT 1) AS following
), seen AS (SELECT webhook_id, next_attempt_at FROM turn LIMIT %(limit)s)
SELECT seen.webhook_id, seen.next_attempt_at <= now(), coalesce(webhook.enabled, false),
       webhook.organization_id, webhook.host, webhook.failing_since IS NOT NULL
  FROM seen LEFT JOIN events_webhook AS webhook ON webhook.id = seen.webhook_id
 ORDER BY seen.webhook_id
"""

_TAKE = """
WITH picked AS (
    SELECT waiting.id FROM unnest(%(webhooks)s::uuid[], %(quotas)s::int[]) AS share(webhook_id, quota)
     CROSS JOIN LATERAL (
        SELECT call.id FROM events_webhookcall AS call
         WHERE call.webhook_id = share.webhook_id AND call.status = 'pending' AND call.next_attempt_at <= now()
         ORDER BY call.next_attempt_at LIMIT share.quota FOR UPDATE SKIP LOCKED
    ) AS waiting
)
UPDATE events_webhookcall AS call
   SET lease_token = %(token)s, next_attempt_at = now() + make_interval(secs => %(lease)s)
  FROM picked WHERE call.id = picked.id
RETURNING call.id, call.lease_token, call.webhook_id, call.event_id, call.event_type, call.attempt_count,
          call.first_attempt_at, call.created_at
"""


def claim_calls(*, slots: Slots, now: datetime, rotation: UUID = FIRST_WEBHOOK) -> Claim:
    """Lease the due calls that there is room for, webhooks in turn. Calls of webhooks that were disabled or deleted
    are canceled. Several senders may claim at once; none waits for another.

    `slots` is filled with what is taken: give a copy.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_WAITING, {"after": rotation, "limit": _WEBHOOKS_A_CLAIM})
        rows = cursor.fetchall()
        due = [row for row in rows if row[1]]
        _cancel(cursor, [webhook_id for webhook_id, _, enabled, *_ in due if not enabled], now)
        places = [Place(row[0], row[3], row[4], row[5]) for row in due if row[2]]
        quotas, blocked = _share(places, slots)
        calls = _take(cursor, quotas)
    if blocked and quotas:
        following = max(place.webhook_id for place in quotas)
    else:
        following = rows[-1][0] if len(rows) == _WEBHOOKS_A_CLAIM else FIRST_WEBHOOK
    return Claim(calls, blocked, following)


def _share(places: Sequence[Place], slots: Slots) -> tuple[dict[Place, int], bool]:
    """How many calls each webhook may have, and whether one had to be passed over."""
    quotas: dict[Place, int] = {}
    blocked = False
    fair = max(1, slots.free // max(1, len(places)))
    for place in places:
        quota = min(fair, slots.room_for(place))
        if quota:
            quotas[place] = quota
            slots.take(place, quota)
        else:
            blocked = True
    return quotas, blocked


def _take(cursor: Any, quotas: dict[Place, int]) -> list[ClaimedCall]:
    if not quotas:
        return []
    values = {"webhooks": [place.webhook_id for place in quotas], "quotas": list(quotas.values())}
    cursor.execute(_TAKE, {**values, "token": uuid4(), "lease": LEASE_SECONDS})
    places = {place.webhook_id: place for place in quotas}
    return [ClaimedCall(places[row[2]], *row) for row in cursor.fetchall()]


def _cancel(cursor: Any, webhook_ids: Sequence[UUID], now: datetime) -> None:
    """End what waits for webhooks that take nothing any more; a few hundred at a time."""
    if not webhook_ids:
        return
    cursor.execute(
        "UPDATE events_webhookcall AS call SET status = 'canceled', finished_at = %s, next_attempt_at = NULL,"
        " lease_token = NULL FROM (SELECT id FROM events_webhookcall WHERE webhook_id = ANY(%s::uuid[])"
        " AND status = 'pending' AND next_attempt_at <= now() LIMIT %s FOR UPDATE SKIP LOCKED) AS waiting"
        " WHERE call.id = waiting.id",
        [now, list(webhook_ids), _CANCELED_A_CLAIM],
    )


def release_calls(*, calls: Sequence[ClaimedCall]) -> int:
    """Give back what was claimed and not finished, due at once; how many were still ours."""
    if not calls:
        return 0
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE events_webhookcall AS call SET next_attempt_at = now(), lease_token = NULL"
            " FROM (SELECT held.id FROM events_webhookcall AS held JOIN unnest(%s::uuid[], %s::uuid[])"
            " AS lease(id, token) ON held.id = lease.id AND held.lease_token = lease.token"
            " WHERE held.status = 'pending' ORDER BY held.id FOR NO KEY UPDATE OF held) AS locked"
            " WHERE call.id = locked.id",
            [[call.id for call in calls], [call.lease_token for call in calls]],
        )
        return int(cursor.rowcount)


def forget_calls(*, before: UUID, limit: int) -> int:
    """Delete up to `limit` finished calls with an id below `before`; how many."""
    old = WebhookCall.objects.filter(id__lt=before).exclude(status=WebhookCall.Status.PENDING)
    ids = list(old.order_by("id").values_list("id", flat=True)[:limit])
    return WebhookCall.objects.filter(id__in=ids).delete()[0] if ids else 0
