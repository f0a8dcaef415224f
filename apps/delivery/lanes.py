"""When a lane is due, exactly, although thousands of senders touch it at once.

The rule: a lane's `next_due_at` is never later than its earliest waiting delivery. Whoever makes a delivery wait
holds the lane's advisory lock *shared* until COMMIT and lowers `next_due_at` if it is later (no write at all while
the lane is already due, so senders do not queue up behind each other). A claim that has emptied a lane may raise
`next_due_at` only while it holds the lock *exclusive*: then no sender is between its check and its COMMIT, and a
statement begun after that sees every waiting row. A claim never waits for the lock: it leaves the lane due and
looks again.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from django.db import connection

from apps.delivery.models import Lane

_LOCK_SPACE = 0x4C << 48
LOOK_AGAIN = timedelta(milliseconds=50)


def find_lanes(*, organization_id: UUID, destinations: Iterable[str]) -> dict[str, int]:
    """The ids of the organization's lanes to these destinations, made where absent."""
    wanted = sorted(set(destinations))
    lanes = Lane.objects.filter(organization_id=organization_id, destination__in=wanted)
    known = dict(lanes.values_list("destination", "id"))
    missing = [name for name in wanted if name not in known]
    if missing:
        Lane.objects.bulk_create(
            [Lane(organization_id=organization_id, destination=name) for name in missing],
            ignore_conflicts=True,
        )
        known = dict(lanes.all().values_list("destination", "id"))
    return known


def make_lanes_due(*, due: Mapping[int, datetime]) -> None:
    """Lower lanes to the times at which their new waiting deliveries are due. Call it just before COMMIT, in the
    transaction that inserts or changes those deliveries, with every lane they are in."""
    lane_ids = sorted(due)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_advisory_xact_lock_shared(%s | lane) FROM unnest(%s::bigint[]) AS lane",
            [_LOCK_SPACE, lane_ids],
        )
        # Locked in id order before the update: an UPDATE alone locks in whatever order its plan visits rows.
        cursor.execute(
            "WITH later AS (SELECT lane.id, wanted.due FROM delivery_lane AS lane"
            " JOIN unnest(%s::bigint[], %s::timestamptz[]) AS wanted(id, due) ON wanted.id = lane.id"
            " WHERE lane.next_due_at IS NULL OR lane.next_due_at > wanted.due"
            " ORDER BY lane.id FOR NO KEY UPDATE OF lane)"
            " UPDATE delivery_lane AS lane SET next_due_at = later.due FROM later WHERE lane.id = later.id"
            " AND (lane.next_due_at IS NULL OR lane.next_due_at > later.due)",
            [lane_ids, [due[lane_id] for lane_id in lane_ids]],
        )


def settle_lanes(*, lane_ids: Sequence[int], now: datetime) -> None:
    """After a claim has taken all that was due in these lanes: raise `next_due_at` to what waits next.

    Lanes whose lock is held by a sender are looked at again shortly. Call it in the claim's transaction, which
    holds the lanes' rows.
    """
    if not lane_ids:
        return
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT lane FROM unnest(%s::bigint[]) AS lane WHERE pg_try_advisory_xact_lock(%s | lane)",
            [sorted(lane_ids), _LOCK_SPACE],
        )
        quiet = [row[0] for row in cursor.fetchall()]
        # A statement of its own, so that its snapshot is younger than the locks.
        cursor.execute(
            "UPDATE delivery_lane AS lane SET next_due_at = (SELECT min(waiting.next_attempt_at)"
            " FROM delivery_delivery AS waiting WHERE waiting.lane_id = lane.id"
            " AND waiting.status IN ('queued', 'deferred')) WHERE lane.id = ANY(%s::bigint[])",
            [quiet],
        )
        busy = sorted(set(lane_ids) - set(quiet))
        if busy:
            cursor.execute(
                "UPDATE delivery_lane SET next_due_at = %s WHERE id = ANY(%s::bigint[])",
                [now + LOOK_AGAIN, busy],
            )
