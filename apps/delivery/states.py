"""The states of a delivery, and the only moves between them (api.md, "Status of an outbound recipient")."""

from django.db import models


class DeliveryStatus(models.TextChoices):
    """Where one recipient of one outbound message stands."""

    SCHEDULED = "scheduled"
    HELD = "held"
    QUEUED = "queued"
    SENDING = "sending"
    DEFERRED = "deferred"
    SENT = "sent", "sent (a relay took it)"
    DELIVERED = "delivered"
    BOUNCED = "bounced"
    COMPLAINED = "complained"
    FAILED = "failed"
    CANCELED = "canceled"
    SUPPRESSED = "suppressed"
    BLOCKED = "blocked"


_S = DeliveryStatus

MOVES: dict[DeliveryStatus, frozenset[DeliveryStatus]] = {
    _S.SCHEDULED: frozenset({_S.QUEUED, _S.HELD, _S.CANCELED}),
    _S.HELD: frozenset({_S.QUEUED, _S.CANCELED}),
    _S.QUEUED: frozenset({_S.SENDING, _S.HELD, _S.CANCELED, _S.FAILED}),
    # Held and canceled only while it is claimed but not yet on the wire.
    _S.SENDING: frozenset({_S.QUEUED, _S.DEFERRED, _S.SENT, _S.DELIVERED, _S.BOUNCED, _S.FAILED, _S.HELD, _S.CANCELED}),
    _S.DEFERRED: frozenset({_S.QUEUED, _S.SENDING, _S.HELD, _S.CANCELED, _S.FAILED}),
    _S.SENT: frozenset({_S.BOUNCED, _S.COMPLAINED}),
    _S.DELIVERED: frozenset({_S.BOUNCED, _S.COMPLAINED}),
    _S.BOUNCED: frozenset(),
    _S.COMPLAINED: frozenset(),
    _S.FAILED: frozenset(),
    _S.CANCELED: frozenset(),
    _S.SUPPRESSED: frozenset(),
    _S.BLOCKED: frozenset(),
}

WAITING = (DeliveryStatus.QUEUED, DeliveryStatus.DEFERRED)
"""The states that the delivery loop takes work from; the partial index of the queue names the same two."""

_SHOWN_FIRST = (
    _S.SENDING, _S.QUEUED, _S.DEFERRED, _S.HELD, _S.SCHEDULED, _S.BOUNCED, _S.FAILED, _S.COMPLAINED, _S.SENT,
    _S.DELIVERED, _S.CANCELED, _S.SUPPRESSED, _S.BLOCKED,
)  # fmt: skip
_RANK = {status.value: rank for rank, status in enumerate(_SHOWN_FIRST)}


def sources_of(target: DeliveryStatus) -> list[str]:
    """The states from which a delivery may move to `target`: the WHERE clause of every change of state."""
    return [source.value for source, targets in MOVES.items() if target in targets]


def shown_before(status: str) -> list[str]:
    """The states that a message shows rather than this one, when any of its recipients has one of them."""
    return [other.value for other in _SHOWN_FIRST[: _RANK[status]]]


def message_status(statuses: list[str]) -> str:
    """The one status that a message shows for all of its recipients."""
    return min(statuses, key=_RANK.__getitem__) if statuses else DeliveryStatus.QUEUED.value
