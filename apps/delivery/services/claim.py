"""Taking work from the queue: due lanes, fair between organizations, and a lease on each delivery.

Leases run on the database's clock. Whoever holds one renews it; whoever lost it changes nothing any more, since
every later write names the lease's token.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from django.db import connection, transaction

from apps.core.ids import new_id
from apps.delivery.lanes import make_lanes_due, settle_lanes
from apps.delivery.models import Attempt

LEASE_SECONDS = 60
RENEW_SECONDS = 15
_ORGANIZATIONS_A_CLAIM = 32
_LANES_AN_ORGANIZATION = 8
_RECLAIM_BATCH = 500
FIRST_ORGANIZATION = UUID(int=0)
MAILBOX_SUSPENDED = "inbox_suspended"
"""Why a delivery is held whose mailbox was suspended while it waited."""


@dataclass(frozen=True, slots=True)
class ClaimedDelivery:
    """A delivery under lease, with all that sending it needs except its octets."""

    id: UUID
    lease_token: UUID
    organization_id: UUID
    mailbox_id: UUID
    message_id: UUID
    thread_id: UUID
    lane_id: int
    destination: str
    address: str
    attempt_count: int
    created_at: datetime
    blob_id: UUID
    size: int
    sender: str
    domain_id: UUID


@dataclass(frozen=True, slots=True)
class Claim:
    """What one claim took. `lanes_seen` tells an empty queue from a busy one; `rotation` goes into the next claim."""

    deliveries: list[ClaimedDelivery]
    lanes_seen: int
    rotation: UUID


# A walk over the organizations that have waiting lanes, one index probe each, from where the last claim ended.
_DUE_LANES = """
WITH RECURSIVE turn AS (
    (SELECT lane.organization_id FROM delivery_lane AS lane
      WHERE lane.next_due_at IS NOT NULL AND lane.organization_id > %(after)s
      ORDER BY lane.organization_id LIMIT 1)
    UNION ALL
    SELECT following.organization_id FROM turn CROSS JOIN LATERAL
      (SELECT lane.organization_id FROM delivery_lane AS lane
        WHERE lane.next_due_at IS NOT NULL AND lane.organization_id > turn.organization_id
        ORDER BY lane.organization_id LIMIT 1) AS following
), chosen AS (SELECT organization_id FROM turn LIMIT %(organizations)s)
SELECT chosen.organization_id, due.id
  FROM chosen
  LEFT JOIN accounts_organization AS organization
         ON organization.id = chosen.organization_id AND organization.suspended_at IS NULL
  LEFT JOIN LATERAL (
    SELECT lane.id FROM delivery_lane AS lane
     WHERE lane.organization_id = organization.id AND lane.next_due_at <= now()
       AND lane.destination <> ALL(%(busy)s::text[])
     ORDER BY lane.next_due_at LIMIT %(lanes)s FOR UPDATE SKIP LOCKED
  ) AS due ON true
"""

# What a suspended mailbox has waiting is held instead, until the mailbox is reinstated.
_TAKE = """
WITH picked AS (
    SELECT waiting.id FROM unnest(%(lanes)s::bigint[]) AS lane CROSS JOIN LATERAL (
        SELECT delivery.id FROM delivery_delivery AS delivery
         WHERE delivery.lane_id = lane AND delivery.status IN ('queued', 'deferred')
           AND delivery.next_attempt_at <= now()
         ORDER BY delivery.next_attempt_at LIMIT %(quota)s FOR UPDATE SKIP LOCKED
    ) AS waiting
)
UPDATE delivery_delivery AS delivery
   SET status = CASE WHEN mailbox.status = 'suspended' THEN 'held' ELSE 'sending' END,
       reason = CASE WHEN mailbox.status = 'suspended' THEN %(suspended)s ELSE delivery.reason END,
       next_attempt_at = CASE WHEN mailbox.status = 'suspended' THEN NULL ELSE delivery.next_attempt_at END,
       lease_token = CASE WHEN mailbox.status = 'suspended' THEN NULL ELSE %(token)s END, on_wire_at = NULL,
       lease_expires_at = CASE WHEN mailbox.status = 'suspended' THEN NULL
                               ELSE now() + make_interval(secs => %(lease)s) END
  FROM picked, mail_message AS message, mailboxes_mailbox AS mailbox, delivery_lane AS lane
 WHERE delivery.id = picked.id AND message.id = delivery.message_id AND mailbox.id = delivery.mailbox_id
   AND lane.id = delivery.lane_id
RETURNING delivery.id, delivery.lease_token, delivery.organization_id, delivery.mailbox_id, delivery.message_id,
          message.thread_id, delivery.lane_id, lane.destination, delivery.address, delivery.attempt_count,
          delivery.created_at, message.blob_id, message.size, mailbox.address, mailbox.domain_id
"""
_LEASE_TOKEN, _LANE = 1, 6


def claim_deliveries(
    *, limit: int, lane_limit: int, now: datetime, rotation: UUID = FIRST_ORGANIZATION, busy: Collection[str] = ()
) -> Claim:
    """Lease up to `limit` due deliveries, at most `lane_limit` of one lane, organizations in turn.

    `busy` are destinations that get nothing now, `rotation` what the last claim returned. Several workers may claim
    at once; none waits for another.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        rows = _find_due_lanes(cursor, rotation, busy)
        if not rows and rotation != FIRST_ORGANIZATION:
            rows = _find_due_lanes(cursor, FIRST_ORGANIZATION, busy)
        organizations = sorted({row[0] for row in rows})
        following = organizations[-1] if len(organizations) == _ORGANIZATIONS_A_CLAIM else FIRST_ORGANIZATION
        lanes = [row[1] for row in rows if row[1] is not None]
        if not lanes:
            return Claim([], 0, following)
        quota = max(1, min(lane_limit, limit // len(lanes)))
        lanes = lanes[:limit]
        values: dict[str, Any] = {"lanes": lanes, "quota": quota, "token": uuid4(), "lease": LEASE_SECONDS}
        cursor.execute(_TAKE, values | {"suspended": MAILBOX_SUSPENDED})
        taken = cursor.fetchall()
        _settle_emptied(lanes, [row[_LANE] for row in taken], quota, now)
    return Claim([ClaimedDelivery(*row) for row in taken if row[_LEASE_TOKEN]], len(lanes), following)


def _find_due_lanes(cursor: Any, after: UUID, busy: Collection[str]) -> list[tuple[UUID, int | None]]:
    values = {
        "after": after,
        "busy": list(busy),
        "organizations": _ORGANIZATIONS_A_CLAIM,
        "lanes": _LANES_AN_ORGANIZATION,
    }
    cursor.execute(_DUE_LANES, values)
    rows: list[tuple[UUID, int | None]] = cursor.fetchall()
    return rows


def _settle_emptied(lanes: Sequence[int], taken: Sequence[int], quota: int, now: datetime) -> None:
    """A lane that gave less than its quota has nothing more that is due; `taken` are the lanes of what was."""
    counts = dict.fromkeys(lanes, 0)
    for lane in taken:
        counts[lane] += 1
    settle_lanes(lane_ids=[lane for lane, count in counts.items() if count < quota], now=now)


def renew_leases(*, deliveries: Sequence[ClaimedDelivery]) -> set[UUID]:
    """Extend the leases; the ids still held. What is missing belongs to somebody else by now."""
    return _update_held(deliveries, "lease_expires_at = now() + make_interval(secs => 60)")


def stamp_on_wire(*, deliveries: Sequence[ClaimedDelivery]) -> set[UUID]:
    """Note, just before DATA, that these may now reach the remote server; the ids still held: send no others."""
    return _update_held(
        deliveries, "on_wire_at = clock_timestamp(), lease_expires_at = now() + make_interval(secs => 60)"
    )


def clear_stamp(*, deliveries: Sequence[ClaimedDelivery]) -> set[UUID]:
    """Take the stamp off what did not go on the wire after all; the ids still held."""
    return _update_held(deliveries, "on_wire_at = NULL")


def _update_held(deliveries: Sequence[ClaimedDelivery], assignments: str) -> set[UUID]:
    with connection.cursor() as cursor:
        cursor.execute(
            f"UPDATE delivery_delivery AS delivery SET {assignments}"
            " FROM (SELECT held.id FROM delivery_delivery AS held"
            " JOIN unnest(%s::uuid[], %s::uuid[]) AS lease(id, token)"
            " ON held.id = lease.id AND held.lease_token = lease.token WHERE held.status = 'sending'"
            " ORDER BY held.id FOR NO KEY UPDATE OF held) AS locked"
            " WHERE delivery.id = locked.id RETURNING delivery.id",
            [[delivery.id for delivery in deliveries], [delivery.lease_token for delivery in deliveries]],
        )
        return {row[0] for row in cursor.fetchall()}


def release_deliveries(*, deliveries: Sequence[ClaimedDelivery], now: datetime) -> int:
    """Give back what was claimed and not sent, due at once; how many were still ours."""
    if not deliveries:
        return 0
    with transaction.atomic():
        held = _update_held(
            deliveries, "status = 'queued', lease_token = NULL, lease_expires_at = NULL, on_wire_at = NULL"
        )
        lanes = {delivery.lane_id: now for delivery in deliveries if delivery.id in held}
        if lanes:
            make_lanes_due(due=lanes)
    return len(held)


def reclaim_expired(*, now: datetime) -> int:
    """Put deliveries whose lease ran out back into the queue; how many.

    One that was on the wire may have arrived: its attempt is written down as uncertain, and it is tried again with
    the same Message-ID.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            "UPDATE delivery_delivery AS delivery SET status = 'queued', lease_token = NULL, lease_expires_at = NULL,"
            " next_attempt_at = now(),"
            " attempt_count = delivery.attempt_count + CASE WHEN delivery.on_wire_at IS NULL THEN 0 ELSE 1 END"
            " FROM (SELECT id FROM delivery_delivery WHERE status = 'sending' AND lease_expires_at < now()"
            " ORDER BY id LIMIT %s FOR UPDATE SKIP LOCKED) AS expired"
            " WHERE delivery.id = expired.id RETURNING delivery.id, delivery.lane_id, delivery.on_wire_at",
            [_RECLAIM_BATCH],
        )
        rows = cursor.fetchall()
        Attempt.objects.bulk_create(
            Attempt(
                id=new_id(),
                delivery_id=delivery_id,
                at=on_wire_at,
                outcome=Attempt.Outcome.UNCERTAIN,
                text="The sending process ended before it noted the server's answer.",
            )
            for delivery_id, _, on_wire_at in rows
            if on_wire_at is not None
        )
        if rows:
            make_lanes_due(due={lane_id: now for _, lane_id, _ in rows})
    return len(rows)
