"""Writing down what became of deliveries: state, attempt, event and counter, in one transaction per batch."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import structlog
from django.db import connection, transaction

from apps.core.ids import new_id
from apps.delivery.lanes import make_lanes_due
from apps.delivery.models import Attempt, Lane, Suppression
from apps.delivery.services.claim import ClaimedDelivery
from apps.delivery.services.suppress import NewSuppression, suppress_addresses
from apps.delivery.states import DeliveryStatus
from apps.events.models import EventType
from apps.events.services import NewEvent, record_events
from apps.mailboxes.services import Usage, add_usage, count_outcome
from mailhost.dsn.classify import Classification, classify_refusal
from mailhost.retry import MAX_QUEUE_AGE, retry_delay
from mailhost.smtp.replies import Outcome

log = structlog.get_logger(__name__)
_jitter = random.SystemRandom()
_TEXT_LIMIT = 2000


@dataclass(frozen=True, slots=True)
class DeliveryResult:
    """How one try at a delivery ended.

    `by_relay`: a smarthost took it, so the recipient's own server has not answered yet. `is_local`: the words are
    ours, not a remote server's (no such domain, no usable key, connection refused). `about_sender`: the reply was to
    MAIL FROM, so it means us, whatever its words.
    """

    delivery: ClaimedDelivery
    outcome: Outcome
    at: datetime
    code: int | None = None
    enhanced_code: str = ""
    text: str = ""
    host: str = ""
    ip: str | None = None
    tls: str = ""
    by_relay: bool = False
    is_local: bool = False
    about_sender: bool = False


@dataclass(frozen=True, slots=True)
class _Move:
    """The new state of a delivery and the event that tells it."""

    status: DeliveryStatus
    event: EventType
    reason: str = ""
    next_attempt_at: datetime | None = None
    refusal: Classification | None = None

    @property
    def is_hard_bounce(self) -> bool:
        """Refused for good, and because of the recipient."""
        return self.refusal is not None and self.refusal.kind == "hard"


def record_results(*, results: Sequence[DeliveryResult], now: datetime, usage: Usage | None = None) -> int:
    """Record a batch; how many counted. A result whose lease was lost overwrites nothing and is only logged.

    `usage` are counters that the same transaction has still to add: all are locked at once, in order.
    """
    if not results:
        return 0
    moves = {result.delivery.id: _decide(result, now) for result in results}
    with transaction.atomic():
        held = _write_states(results, moves, now)
        counted = [result for result in results if result.delivery.id in held]
        Attempt.objects.bulk_create(_make_attempt(result) for result in counted)
        record_events(events=[_make_event(result, moves[result.delivery.id]) for result in counted], now=now)
        suppress_addresses(entries=_find_suppressions(counted, moves), now=now)
        if lanes := _find_due_lanes(counted, moves):
            make_lanes_due(due=lanes)
        usage = {} if usage is None else usage
        for result in counted:
            move = moves[result.delivery.id]
            if move.status == DeliveryStatus.BOUNCED:
                count_outcome(usage, result.delivery.mailbox_id, "bounce_count")
            if move.is_hard_bounce:
                count_outcome(usage, result.delivery.mailbox_id, "hard_bounces")
        add_usage(deltas=usage, now=now)
    if len(counted) < len(results):
        log.warning("delivery.lease_lost", results=len(results) - len(counted))
    return len(counted)


def _decide(result: DeliveryResult, now: datetime) -> _Move:
    """The state that a result leads to: what is not known to be final is tried again until it is too old."""
    match result.outcome:
        case Outcome.DELIVERED if result.by_relay:
            return _Move(DeliveryStatus.SENT, EventType.MESSAGE_SENT)
        case Outcome.DELIVERED:
            return _Move(DeliveryStatus.DELIVERED, EventType.MESSAGE_DELIVERED)
        case Outcome.PERMANENT if result.is_local:
            return _Move(DeliveryStatus.FAILED, EventType.MESSAGE_FAILED, "undeliverable")
        case Outcome.PERMANENT:
            return _Move(DeliveryStatus.BOUNCED, EventType.MESSAGE_BOUNCED, "refused", refusal=_classify(result))
    if now - result.delivery.created_at >= MAX_QUEUE_AGE:
        return _Move(DeliveryStatus.FAILED, EventType.MESSAGE_FAILED, "expired")
    again = now + retry_delay(result.delivery.attempt_count + 1, _jitter)
    return _Move(DeliveryStatus.DEFERRED, EventType.MESSAGE_DEFERRED, next_attempt_at=again)


def _classify(result: DeliveryResult) -> Classification:
    refusal = classify_refusal(result.code or 0, result.enhanced_code, result.text)
    return Classification("soft", refusal.reason) if result.about_sender else refusal


def _find_suppressions(
    results: Sequence[DeliveryResult], moves: dict[UUID, _Move]
) -> Iterator[tuple[UUID, NewSuppression]]:
    """The recipients that are not there, each for its sender's organization.

    Not those of our own: an address without a mailbox here may have one tomorrow, and we will know.
    """
    for result in results:
        delivery = result.delivery
        if moves[delivery.id].is_hard_bounce and delivery.destination != Lane.LOCAL:
            words = " ".join(filter(None, (str(result.code or ""), result.enhanced_code, result.text)))
            source = f"{result.host}: {words}" if result.host else words
            yield (
                delivery.organization_id,
                NewSuppression(delivery.address, Suppression.Reason.HARD_BOUNCE, source),
            )


def _find_due_lanes(results: Sequence[DeliveryResult], moves: dict[UUID, _Move]) -> dict[int, datetime]:
    """The lanes of what is tried again, each with its earliest time."""
    lanes: dict[int, datetime] = {}
    for result in results:
        again, lane = moves[result.delivery.id].next_attempt_at, result.delivery.lane_id
        if again is not None:
            lanes[lane] = min(lanes.get(lane, again), again)
    return lanes


def _write_states(results: Sequence[DeliveryResult], moves: dict[UUID, _Move], now: datetime) -> set[UUID]:
    """Change the deliveries that are still under their lease; their ids."""
    rows: list[list[Any]] = []
    for result in sorted(results, key=lambda result: result.delivery.id):
        move = moves[result.delivery.id]
        finished = None if move.next_attempt_at is not None else now
        words = result.text[:_TEXT_LIMIT]
        state = [move.status.value, move.reason, move.next_attempt_at, finished]
        answer = [result.code, result.enhanced_code[:12], words]
        rows.append([result.delivery.id, result.delivery.lease_token, *state, *answer])
    columns = [list(column) for column in zip(*rows, strict=True)]
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE delivery_delivery AS delivery SET status = result.status, reason = result.reason,"
            " attempt_count = delivery.attempt_count + 1, next_attempt_at = result.next_at,"
            " finished_at = result.finished_at, last_code = result.code, last_enhanced_code = result.enhanced,"
            " last_text = result.text, lease_token = NULL, lease_expires_at = NULL, on_wire_at = NULL"
            " FROM (SELECT result.* FROM delivery_delivery AS held JOIN"
            " unnest(%s::uuid[], %s::uuid[], %s::text[], %s::text[], %s::timestamptz[], %s::timestamptz[],"
            " %s::smallint[], %s::text[], %s::text[])"
            " AS result(id, token, status, reason, next_at, finished_at, code, enhanced, text)"
            " ON held.id = result.id AND held.lease_token = result.token"
            " WHERE held.status = 'sending' ORDER BY held.id FOR NO KEY UPDATE OF held) AS result"
            " WHERE delivery.id = result.id RETURNING delivery.id",
            columns,
        )
        return {row[0] for row in cursor.fetchall()}


def _make_attempt(result: DeliveryResult) -> Attempt:
    return Attempt(
        id=new_id(),
        delivery_id=result.delivery.id,
        at=result.at,
        host=result.host[:255],
        ip=result.ip or None,
        tls=result.tls[:100],
        code=result.code,
        enhanced_code=result.enhanced_code[:12],
        text=result.text[:_TEXT_LIMIT],
        outcome=result.outcome.value,
    )


def _make_event(result: DeliveryResult, move: _Move) -> NewEvent:
    delivery = result.delivery
    data: dict[str, Any] = {
        "message_id": str(delivery.message_id),
        "thread_id": str(delivery.thread_id),
        "recipient": delivery.address,
        "status": move.status.value,
        "code": result.code,
        "enhanced_code": result.enhanced_code,
        "text": result.text[:500],
    }
    if move.reason:
        data["reason"] = move.reason
    if move.refusal is not None:
        data |= {"bounce": move.refusal.kind, "bounce_reason": move.refusal.reason.value}
    return NewEvent(move.event, delivery.organization_id, delivery.mailbox_id, data)
