"""Counters: a day's limits to the last recipient, on every level, and totals that no batch loses.

Locked in the order organization, domain, mailbox, as the last statements before COMMIT; a level without a limit is
not touched. Within a level rows are locked in the order of their ids.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connection
from django.utils import timezone

from apps.core.warmup import limit_sql
from apps.events.models import EventType
from apps.mailboxes.errors import DailyLimitReached, InboxDeleted
from apps.mailboxes.models import Mailbox, MailboxUsage
from apps.mailboxes.services.health import Tally, suspend_unhealthy
from apps.mailboxes.services.status import record_change


@dataclass(frozen=True, slots=True)
class _Level:
    """A level above the mailbox: where its limit stands, and where its counter."""

    name: str
    column: str
    owner_table: str
    limit: str

    @property
    def usage_table(self) -> str:
        return f"mailboxes_{self.name}usage"


_ORGANIZATION = _Level("organization", "organization_id", "accounts_organization", "owner.daily_send_limit")
_DOMAIN = _Level("domain", "domain_id", "domains_domain", limit_sql("owner"))
_LEVELS = (_ORGANIZATION, _DOMAIN)
MAILBOX_LEVEL = "inbox"

# At midnight clocks differ, and requests that began before it still come: they count in the day that has begun, since
# a day that is written over would begin again from nothing.
_USED = "CASE WHEN usage.day IN (%(day)s, %(next)s) THEN usage.sends_today ELSE 0 END"
_DAY = "CASE WHEN usage.day = %(next)s THEN usage.day ELSE %(day)s END"
# Whole windows since the counters were last halved: shifting them keeps the rates, and lets what is old fade.
_HALVINGS = "LEAST(GREATEST((%(day)s - usage.judged_since) / %(window)s, 0), 62)"


@cache
def _count_sends_sql(is_ramped: bool, is_fading: bool) -> str:
    """The statement that counts and compares, without the parts that this mailbox has no use for: they would cost
    every send a tenth of a millisecond."""
    limit = limit_sql("owner") if is_ramped else "owner.daily_send_limit"
    judged = "judged_sent = usage.judged_sent + %(count)s"
    if is_fading:
        judged = (
            f"judged_since = usage.judged_since + {_HALVINGS} * %(window)s,"
            f" judged_sent = (usage.judged_sent >> {_HALVINGS}) + %(count)s,"
            f" judged_bounces = usage.judged_bounces >> {_HALVINGS},"
            f" judged_complaints = usage.judged_complaints >> {_HALVINGS}"
        )
    return (
        f"UPDATE mailboxes_mailboxusage AS usage SET sends_today = {_USED} + %(count)s, day = {_DAY},"
        f" total_sent = usage.total_sent + %(count)s, message_count = usage.message_count + 1, {judged}"
        " FROM mailboxes_mailbox AS owner WHERE usage.mailbox_id = %(mailbox)s AND owner.id = usage.mailbox_id"
        f" AND NOT usage.closed AND ({limit} IS NULL OR {_USED} + %(count)s <= {limit})"
        f" RETURNING usage.sends_today, {limit}"
    )


# A row of yesterday begins the new day with nothing. An older one, or none, means that the level had no limit then.
_COUNT_LEVEL = """
UPDATE {table} AS usage SET sends_today = {used} + %(count)s, day = {day}
  FROM (SELECT owner.id, {limit} AS most FROM {owner_table} AS owner WHERE owner.id = %(owner)s) AS owner
 WHERE usage.{column} = owner.id AND usage.day BETWEEN %(day)s - 1 AND %(next)s
   AND (owner.most IS NULL OR {used} + %(count)s <= owner.most)
RETURNING usage.sends_today, owner.most
"""
# So it begins with what its mailboxes have sent today: a limit that is set at noon holds for the whole day.
_BEGIN_LEVEL = """
INSERT INTO {table} AS usage ({column}, day, sends_today)
SELECT %(owner)s, %(day)s, coalesce(sum(sent.sends_today), 0)
  FROM mailboxes_mailbox AS mailbox JOIN mailboxes_mailboxusage AS sent ON sent.mailbox_id = mailbox.id
 WHERE mailbox.{column} = %(owner)s AND sent.day = %(day)s
    ON CONFLICT ({column}) DO UPDATE SET day = excluded.day, sends_today = excluded.sends_today
 WHERE usage.day NOT BETWEEN excluded.day - 1 AND excluded.day + 1
"""


def count_sends(*, mailbox: Mailbox, count: int, now: datetime) -> None:
    """Count a message, and its recipients against the day of the mailbox and of what it belongs to; raises
    DailyLimitReached when they do not fit, InboxDeleted when the mailbox was deleted meanwhile: roll back.

    Exact under concurrency: each row is locked by the update that compares. Call it as the last statement before
    COMMIT, so that the locks are short. A limit used up to the last place is told by an event. `mailbox` comes with
    its organization, domain and usage loaded: they say what has to be looked at, never how much is left.
    """
    day = now.astimezone(UTC).date()
    values: dict[str, Any] = {"day": day, "next": day + timedelta(days=1), "count": count}
    reached: list[tuple[str, int]] = []
    with connection.cursor() as cursor:
        for level, owner_id, _ in _limited_levels(mailbox, day):
            row = _count_level(cursor, level, {**values, "owner": owner_id})
            if row is None:
                raise _limit_reached(mailbox, now, level.name)
            if row[0] == row[1]:
                reached.append((level.name, row[0]))
        window = settings.MAILHOST_SUSPEND_WINDOW_DAYS
        is_fading = day - mailbox.usage.judged_since >= timedelta(days=window)
        statement = _count_sends_sql(mailbox.ramp_since is not None, is_fading)
        cursor.execute(statement, {**values, "mailbox": mailbox.id, "window": window})
        row = cursor.fetchone()
    if row is None:
        if MailboxUsage.objects.filter(mailbox_id=mailbox.id, closed=True).exists():
            raise InboxDeleted
        raise _limit_reached(mailbox, now)
    if row[0] == row[1]:
        reached.append((MAILBOX_LEVEL, row[0]))
    for name, limit in reached:
        record_change(mailbox, EventType.INBOX_LIMIT_REACHED, now, level=name, daily_send_limit=limit)


def _limited_levels(mailbox: Mailbox, day: date) -> list[tuple[_Level, UUID, int]]:
    """The levels above the mailbox that have a limit, whose they are, and the limit, in the order of locking."""
    limits = (
        (_ORGANIZATION, mailbox.organization_id, mailbox.organization.daily_send_limit),
        (_DOMAIN, mailbox.domain_id, mailbox.domain.limit_on(day)),
    )
    return [(level, owner_id, limit) for level, owner_id, limit in limits if limit is not None]


def _count_level(cursor: Any, level: _Level, values: Mapping[str, Any]) -> tuple[int, int | None] | None:
    """What the level has used with these, and its limit; None when they do not fit."""
    parts = {
        "table": level.usage_table,
        "column": level.column,
        "owner_table": level.owner_table,
        "limit": level.limit,
        "used": _USED,
        "day": _DAY,
    }
    for may_begin in (True, False):
        cursor.execute(_COUNT_LEVEL.format(**parts), values)
        row: tuple[int, int | None] | None = cursor.fetchone()
        if row is not None or not may_begin:
            return row
        cursor.execute(_BEGIN_LEVEL.format(**parts), values)
    return None


def check_limits(*, mailbox: Mailbox, count: int, now: datetime) -> None:
    """A cheap look before the work of a send: raises DailyLimitReached for what would not fit now.

    What count_sends says counts. Costs nothing but for levels with a limit: one query for both.
    """
    day = now.astimezone(UTC).date()
    limit = mailbox.limit_on(day)
    if limit is not None and mailbox.usage.sends_on(day) + count > limit:
        raise _limit_reached(mailbox, now)
    levels = _limited_levels(mailbox, day)
    if not levels:
        return
    query = " UNION ALL ".join(
        f"SELECT %s, sends_today FROM {level.usage_table} WHERE {level.column} = %s AND day = %s"
        for level, _, _ in levels
    )
    with connection.cursor() as cursor:
        cursor.execute(query, [part for level, owner, _ in levels for part in (level.name, owner, day)])
        used = dict(cursor.fetchall())
    for level, _, most in levels:
        if used.get(level.name, 0) + count > most:
            raise _limit_reached(mailbox, now, level.name)


def _limit_reached(mailbox: Mailbox, now: datetime, level: str = MAILBOX_LEVEL) -> DailyLimitReached:
    """The error that says whose limit it is, and when the day ends."""
    day = now.astimezone(UTC).date()
    whose, limit = {
        MAILBOX_LEVEL: (mailbox.address, mailbox.limit_on(day)),
        _DOMAIN.name: (f"The domain {mailbox.domain.name}", mailbox.domain.limit_on(day)),
        _ORGANIZATION.name: ("The organization", mailbox.organization.daily_send_limit),
    }[level]
    wait = int((next_midnight(now) - now).total_seconds()) + 1
    return DailyLimitReached(f"{whose} may write to {limit} recipients a day (UTC).", retry_after=wait, level=level)


def next_midnight(now: datetime) -> datetime:
    """When the UTC day of `now` ends."""
    return datetime.combine(now.astimezone(UTC).date() + timedelta(days=1), time.min, UTC)


_GIVE_BACK = """
WITH back AS (
    SELECT mailbox.{owner} AS id, gone.day, sum(gone.count) AS count
      FROM unnest(%(mailboxes)s::uuid[], %(days)s::date[], %(counts)s::bigint[]) AS gone(mailbox_id, day, count)
      JOIN mailboxes_mailbox AS mailbox ON mailbox.id = gone.mailbox_id
     GROUP BY mailbox.{owner}, gone.day
), locked AS (
    SELECT back.id, back.count FROM {table} AS usage JOIN back ON usage.{column} = back.id AND usage.day = back.day
     ORDER BY usage.{column} FOR NO KEY UPDATE OF usage
)
UPDATE {table} AS usage SET sends_today = GREATEST(usage.sends_today - locked.count, 0){more}
  FROM locked WHERE usage.{column} = locked.id
"""
_JUDGED_BACK = ", judged_sent = GREATEST(usage.judged_sent - locked.count, 0)"


def give_back_sends(*, canceled: Mapping[tuple[UUID, date], int]) -> None:
    """Take back from the day's counters what was canceled before it was sent: (mailbox, day of acceptance) -> how many
    recipients. On another day there is nothing left to give back. Totals stay: they count what was accepted.

    Call it as the last statement before COMMIT.
    """
    if not canceled:
        return
    values: dict[str, Any] = {
        "mailboxes": [mailbox_id for mailbox_id, _ in canceled],
        "days": [day for _, day in canceled],
        "counts": list(canceled.values()),
    }
    with connection.cursor() as cursor:
        for level in _LEVELS:
            parts = {"owner": level.column, "column": level.column, "table": level.usage_table, "more": ""}
            cursor.execute(_GIVE_BACK.format(**parts), values)
        parts = {"owner": "id", "column": "mailbox_id", "table": "mailboxes_mailboxusage", "more": _JUDGED_BACK}
        cursor.execute(_GIVE_BACK.format(**parts), values)


Usage = dict[UUID, dict[str, int]]
"""What a transaction adds to the counters of mailboxes: mailbox id -> counter -> how much."""


def count_outcome(usage: Usage, mailbox_id: UUID, counter: str) -> None:
    """Note one more of `counter` for add_usage."""
    counters = usage.setdefault(mailbox_id, {})
    counters[counter] = counters.get(counter, 0) + 1


_COUNTERS = ("bounce_count", "hard_bounces", "complaint_count", "total_received", "stored_bytes", "message_count")
_ADD_USAGE = """
UPDATE mailboxes_mailboxusage AS usage
   SET bounce_count = usage.bounce_count + delta.bounces,
       judged_bounces = usage.judged_bounces + delta.hard_bounces,
       complaint_count = usage.complaint_count + delta.complaints,
       judged_complaints = usage.judged_complaints + delta.complaints,
       total_received = usage.total_received + delta.received,
       stored_bytes = usage.stored_bytes + delta.stored,
       message_count = usage.message_count + delta.messages
  FROM unnest(%s::uuid[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[])
       AS delta(mailbox_id, bounces, hard_bounces, complaints, received, stored, messages)
 WHERE usage.mailbox_id = delta.mailbox_id
RETURNING usage.closed AND delta.received > 0, delta.hard_bounces + delta.complaints > 0,
          usage.mailbox_id, usage.judged_sent, usage.judged_bounces, usage.judged_complaints
"""


def add_usage(*, deltas: Usage, now: datetime | None = None) -> None:
    """Add to counters (`bounce_count`, `hard_bounces`, `complaint_count`, `total_received`, `stored_bytes`,
    `message_count`), in id order so that two batches never wait for each other in a circle. Call it as the last
    statement before COMMIT. A mailbox whose hard bounces or complaints are now too many is suspended with it.

    Raises InboxDeleted when a mailbox that received was deleted meanwhile; what it received must not be committed.
    """
    rows = [[str(mailbox_id), *(delta.get(name, 0) for name in _COUNTERS)] for mailbox_id, delta in deltas.items()]
    if not rows:
        return
    rows.sort()
    lists = [list(values) for values in zip(*rows, strict=True)]
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT 1 FROM mailboxes_mailboxusage WHERE mailbox_id = ANY(%s::uuid[])"
            " ORDER BY mailbox_id FOR NO KEY UPDATE",
            [lists[0]],
        )
        cursor.execute(_ADD_USAGE, lists)
        found = cursor.fetchall()
    if any(received_in_vain for received_in_vain, *_ in found):
        raise InboxDeleted
    judged = [Tally(*row) for _, is_judged, *row in found if is_judged]
    suspend_unhealthy(tallies=judged, now=now or timezone.now())


def reset_daily_counters(*, now: datetime) -> int:
    """Write the new day into counters of earlier days; how many. Only tidiness: a counter carries its date."""
    today: date = now.astimezone(UTC).date()
    return MailboxUsage.objects.filter(day__lt=today, sends_today__gt=0).update(day=today, sends_today=0)
