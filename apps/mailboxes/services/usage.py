"""Counters: the day's limit to the last recipient, and totals that no batch loses."""

from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from uuid import UUID

from django.db import connection

from apps.events.models import EventType
from apps.mailboxes.errors import DailyLimitReached, InboxDeleted
from apps.mailboxes.models import Mailbox, MailboxUsage
from apps.mailboxes.services.status import record_change

_COUNT_SENDS = """
UPDATE mailboxes_mailboxusage AS usage
   SET sends_today = CASE WHEN usage.day IN (%(day)s, %(next)s) THEN usage.sends_today ELSE 0 END + %(count)s,
       day = CASE WHEN usage.day = %(next)s THEN usage.day ELSE %(day)s END,
       total_sent = usage.total_sent + %(count)s,
       message_count = usage.message_count + 1
  FROM mailboxes_mailbox AS mailbox
 WHERE usage.mailbox_id = %(mailbox)s AND mailbox.id = usage.mailbox_id AND NOT usage.closed
   AND (mailbox.daily_send_limit IS NULL
        OR CASE WHEN usage.day IN (%(day)s, %(next)s) THEN usage.sends_today ELSE 0 END + %(count)s
           <= mailbox.daily_send_limit)
RETURNING usage.sends_today, mailbox.daily_send_limit
"""


def count_sends(*, mailbox: Mailbox, count: int, now: datetime) -> None:
    """Count a message, and its recipients against the mailbox's day; raises DailyLimitReached when they do not fit,
    InboxDeleted when the mailbox was deleted meanwhile.

    Exact under concurrency: the row is locked by the update that compares. Call it as the last statement before
    COMMIT, so that the lock is short. A limit used up to the last place is told by an event.
    """
    # At midnight clocks differ, and requests that began before it still come: they count in the day that has begun,
    # since a day that is written over would begin again from nothing.
    day = now.astimezone(UTC).date()
    values: dict[str, Any] = {"day": day, "next": day + timedelta(days=1), "count": count, "mailbox": mailbox.id}
    with connection.cursor() as cursor:
        cursor.execute(_COUNT_SENDS, values)
        row = cursor.fetchone()
    if row is None:
        if MailboxUsage.objects.filter(mailbox_id=mailbox.id, closed=True).exists():
            raise InboxDeleted
        raise limit_reached(mailbox, now)
    sends_today, limit = row
    if limit is not None and sends_today == limit:
        record_change(mailbox, EventType.INBOX_LIMIT_REACHED, now, daily_send_limit=limit)


def limit_reached(mailbox: Mailbox, now: datetime) -> DailyLimitReached:
    """The error that says when the day ends."""
    wait = int((next_midnight(now) - now).total_seconds()) + 1
    return DailyLimitReached(
        f"{mailbox.address} may write to {mailbox.daily_send_limit} recipients a day (UTC).", retry_after=wait
    )


def next_midnight(now: datetime) -> datetime:
    """When the UTC day of `now` ends."""
    return datetime.combine(now.astimezone(UTC).date() + timedelta(days=1), time.min, UTC)


Usage = dict[UUID, dict[str, int]]
"""What a transaction adds to the counters of mailboxes: mailbox id -> counter -> how much."""


def add_usage(*, deltas: Usage) -> None:
    """Add to counters (`bounce_count`, `complaint_count`, `total_received`, `stored_bytes`, `message_count`), in id
    order so that two batches never wait for each other in a circle. Call it as the last statement before COMMIT.

    Raises InboxDeleted when a mailbox that received was deleted meanwhile; what it received must not be committed.
    """
    columns = ("bounce_count", "complaint_count", "total_received", "stored_bytes", "message_count")
    rows = [[str(mailbox_id), *(delta.get(column, 0) for column in columns)] for mailbox_id, delta in deltas.items()]
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
        cursor.execute(
            "UPDATE mailboxes_mailboxusage AS usage SET bounce_count = usage.bounce_count + delta.bounces,"
            " complaint_count = usage.complaint_count + delta.complaints,"
            " total_received = usage.total_received + delta.received,"
            " stored_bytes = usage.stored_bytes + delta.stored,"
            " message_count = usage.message_count + delta.messages"
            " FROM unnest(%s::uuid[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[])"
            " AS delta(mailbox_id, bounces, complaints, received, stored, messages)"
            " WHERE usage.mailbox_id = delta.mailbox_id RETURNING usage.closed AND delta.received > 0",
            lists,
        )
        received_in_vain = any(row[0] for row in cursor.fetchall())
    if received_in_vain:
        raise InboxDeleted


def reset_daily_counters(*, now: datetime) -> int:
    """Write the new day into counters of earlier days; how many. Only tidiness: a counter carries its date."""
    today: date = now.astimezone(UTC).date()
    return MailboxUsage.objects.filter(day__lt=today, sends_today__gt=0).update(day=today, sends_today=0)
