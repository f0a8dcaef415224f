"""How many calls one process makes at once, and how they are shared out so that a dead endpoint delays nobody else."""

from collections import Counter
from dataclasses import dataclass, field
from uuid import UUID

MAX_CALLS = 50
MAX_A_HOST = 5
# One less: a webhook that hangs leaves room to others at the same host, which may be another customer's.
MAX_A_WEBHOOK = 4
MAX_AN_ORGANIZATION = 15
# A webhook whose last call failed may hang for the whole timeout again: it gets one place to prove itself, and all of
# them together leave most places to those that answer.
MAX_FAILING = 15
MAX_FAILING_A_HOST = 2
MAX_A_FAILING_WEBHOOK = 1


@dataclass(frozen=True, slots=True)
class Place:
    """What a call takes room of."""

    webhook_id: UUID
    organization_id: UUID
    host: str
    failing: bool


@dataclass(slots=True)
class Slots:
    """The calls under way, counted by what is limited."""

    calls: int = 0
    failing: int = 0
    hosts: Counter[str] = field(default_factory=Counter)
    failing_hosts: Counter[str] = field(default_factory=Counter)
    organizations: Counter[UUID] = field(default_factory=Counter)
    webhooks: Counter[UUID] = field(default_factory=Counter)

    @property
    def free(self) -> int:
        """Calls that may be begun, if they are of the right kind."""
        return MAX_CALLS - self.calls

    def room_for(self, place: Place) -> int:
        """How many calls of this kind may be begun now."""
        room = min(
            self.free,
            MAX_A_HOST - self.hosts[place.host],
            MAX_A_WEBHOOK - self.webhooks[place.webhook_id],
            MAX_AN_ORGANIZATION - self.organizations[place.organization_id],
        )
        if place.failing:
            room = min(
                room,
                MAX_FAILING - self.failing,
                MAX_FAILING_A_HOST - self.failing_hosts[place.host],
                MAX_A_FAILING_WEBHOOK - self.webhooks[place.webhook_id],
            )
        return max(0, room)

    def take(self, place: Place, count: int = 1) -> None:
        """Begin `count` calls; a negative count ends them."""
        self.calls += count
        self._count(self.hosts, place.host, count)
        self._count(self.organizations, place.organization_id, count)
        self._count(self.webhooks, place.webhook_id, count)
        if place.failing:
            self.failing += count
            self._count(self.failing_hosts, place.host, count)

    @staticmethod
    def _count(counter: "Counter[str] | Counter[UUID]", key: "str | UUID", count: int) -> None:
        counter[key] += count  # type: ignore[index]
        if not counter[key]:  # type: ignore[index]
            del counter[key]

    def copy(self) -> "Slots":
        """The same counts, for another thread to plan with."""
        return Slots(
            self.calls,
            self.failing,
            self.hosts.copy(),
            self.failing_hosts.copy(),
            self.organizations.copy(),
            self.webhooks.copy(),
        )
