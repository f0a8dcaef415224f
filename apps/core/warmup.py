"""Warm-up: a limit that grows day by day, for a domain or a mailbox that other servers do not know yet.

The first day allows `start` recipients, each day after it `growth` percent more than the day before, and it never
grows beyond `ceiling`. The same formula stands here twice, for Python and for PostgreSQL: what counts is the second,
in the statement that counts a send.
"""

import math
from dataclasses import dataclass
from datetime import date

from django.db import models
from django.db.models import Q

from apps.core.errors import ValidationFailed

MAX_RECIPIENTS = 2**31 - 1
MAX_GROWTH = 1000
_MAX_EXPONENT = 40  # e to the 40th, times any start, is beyond every ceiling and far within a double


@dataclass(frozen=True, slots=True)
class Ramp:
    """`start` recipients on the first day, `growth` percent more each day, at most `ceiling`."""

    start: int
    growth: int
    ceiling: int

    def check(self) -> None:
        """Raise ValidationFailed for numbers that make no ramp."""
        if not 1 <= self.start <= MAX_RECIPIENTS:
            raise ValidationFailed("ramp_start", f"The first day allows 1 to {MAX_RECIPIENTS} recipients.")
        if not 0 <= self.growth <= MAX_GROWTH:
            raise ValidationFailed("ramp_growth", f"The growth is 0 to {MAX_GROWTH} percent a day.")
        if not self.start <= self.ceiling <= MAX_RECIPIENTS:
            raise ValidationFailed("ramp_ceiling", "The ceiling is not below the start.")


class WarmUp(models.Model):
    """What a model needs to be warmed up: all four are set, or none."""

    ramp_start = models.PositiveIntegerField(
        null=True, blank=True, help_text="Warm-up: recipients on the first day; empty: no warm-up."
    )
    ramp_growth = models.PositiveIntegerField(null=True, blank=True, help_text="Percent more each day.")
    ramp_ceiling = models.PositiveIntegerField(null=True, blank=True, help_text="It grows no further than this.")
    ramp_since = models.DateField(null=True, blank=True, editable=False, help_text="The first day.")

    class Meta:
        abstract = True

    @property
    def ramp(self) -> Ramp | None:
        """The ramp that is on."""
        if self.ramp_start is None or self.ramp_growth is None or self.ramp_ceiling is None:
            return None
        return Ramp(self.ramp_start, self.ramp_growth, self.ramp_ceiling)

    def set_ramp(self, ramp: Ramp | None, *, today: date) -> list[str]:
        """Begin a ramp, change one that is on, which keeps its first day, or end it; the fields to save."""
        if ramp is None:
            self.ramp_start = self.ramp_growth = self.ramp_ceiling = self.ramp_since = None
        else:
            ramp.check()
            self.ramp_start, self.ramp_growth, self.ramp_ceiling = ramp.start, ramp.growth, ramp.ceiling
            self.ramp_since = self.ramp_since or today
        return ["ramp_start", "ramp_growth", "ramp_ceiling", "ramp_since"]

    def narrow_limit(self, limit: int | None, day: date) -> int | None:
        """The limit of that day: `limit`, or less while the ramp says so."""
        ramp, since = self.ramp, self.ramp_since
        if ramp is None or since is None:
            return limit
        exponent = min(max((day - since).days, 0) * math.log1p(ramp.growth / 100), _MAX_EXPONENT)
        allowed = min(ramp.ceiling, round(ramp.start * math.exp(exponent)))
        return allowed if limit is None else min(limit, allowed)


def limit_sql(table: str) -> str:
    """`narrow_limit` of a row's daily_send_limit as an SQL expression, NULL without any; takes %(day)s."""
    return (
        f"LEAST({table}.daily_send_limit, CASE WHEN {table}.ramp_since IS NOT NULL THEN LEAST({table}.ramp_ceiling,"
        f" round({table}.ramp_start * exp(LEAST(GREATEST(%(day)s - {table}.ramp_since, 0)"
        f" * ln(1 + {table}.ramp_growth / 100.0::float8), {_MAX_EXPONENT}))))::bigint END)"
    )


def ramp_is_whole(name: str) -> models.CheckConstraint:
    """The constraint of a model that is warmed up."""
    fields = ("ramp_start", "ramp_growth", "ramp_ceiling", "ramp_since")
    on = Q(**{f"{field}__isnull": False for field in fields})
    off = Q(**{f"{field}__isnull": True for field in fields})
    return models.CheckConstraint(condition=on | off, name=name)
