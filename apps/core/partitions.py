"""Monthly range partitions, by UUIDv7 key, of the insert-only tables.

A month's partition is made ahead of time; a DEFAULT partition takes what falls outside, so that a late beat never
stops mail. Old months are dropped whole, which costs the same at any size.
"""

import time
from datetime import UTC, datetime

import structlog
from django.db import OperationalError, connection, transaction
from psycopg.errors import LockNotAvailable

from apps.core.ids import id_floor
from apps.core.locks import wait_lock

log = structlog.get_logger(__name__)

PARTITIONED_TABLES = ("events_event", "events_webhookattempt", "mail_blobchunk", "delivery_attempt")
"""Every table partitioned by month; migrations of the apps create them with a DEFAULT partition."""

MONTHS_AHEAD = 3
_LOCK_TIMEOUT = "500ms"
_TRIES = 4
_PAUSE_SECONDS = 0.25


def _month_after(year: int, month: int, steps: int) -> tuple[int, int]:
    index = year * 12 + month - 1 + steps
    return index // 12, index % 12 + 1


def create_month_partitions(*, now: datetime) -> list[str]:
    """Make the partitions of this month and the next three; returns the names made. Safe to run any number of times.

    A table that is too busy is left as it is, for the next run. Call it outside of a transaction: each partition is
    a transaction of its own, so that no two tables are locked at a time.
    """
    months = [_month_after(now.year, now.month, step) for step in range(MONTHS_AHEAD + 1)]
    made: list[str] = []
    for table in PARTITIONED_TABLES:
        for month in months:
            try:
                if _create_partition(table, month):
                    made.append(_name_partition(table, month))
            except _TableBusy:
                log.warning("partitions.table_busy", table=table)
                break
    return made


class _TableBusy(Exception):
    """Readers or writers of the table did not make room in time."""


def _name_partition(table: str, month: tuple[int, int]) -> str:
    return f"{table}_{month[0]}_{month[1]:02d}"


def _create_partition(table: str, month: tuple[int, int]) -> bool:
    """Make one month of one table; False when it is there already."""
    for _ in range(_TRIES):
        try:
            with transaction.atomic():
                wait_lock("partitions")
                return _attach_month(table, month)
        except OperationalError as error:
            if not isinstance(error.__cause__, LockNotAvailable):
                raise
        time.sleep(_PAUSE_SECONDS)
    raise _TableBusy


def _attach_month(table: str, month: tuple[int, int]) -> bool:
    """Attach an empty month; rows of that month that already lie in the DEFAULT partition are moved into it.

    Writers are kept out meanwhile, at the parent: a row that one of them put into the DEFAULT partition after the
    move would make ATTACH fail, and one that waits at the DEFAULT partition would itself be refused. Whoever comes
    after this lock request waits behind it, so it is given up before PostgreSQL would look for deadlocks (1 s).
    """
    name = _name_partition(table, month)
    low, high = (
        id_floor(datetime(year, number, 1, tzinfo=UTC)) for year, number in (month, _month_after(month[0], month[1], 1))
    )
    key = "blob_id" if table == "mail_blobchunk" else "id"
    with connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass(%s)", [name])
        row = cursor.fetchone()
        if row is not None and row[0] is not None:
            return False
        cursor.execute(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'")
        cursor.execute(f"LOCK TABLE ONLY {table} IN EXCLUSIVE MODE")
        cursor.execute(f"CREATE TABLE {name} (LIKE {table} INCLUDING ALL)")
        cursor.execute(
            f"WITH moved AS (DELETE FROM {table}_default WHERE {key} >= %s AND {key} < %s RETURNING *)"
            f" INSERT INTO {name} SELECT * FROM moved",
            [low, high],
        )
        cursor.execute(f"ALTER TABLE {table} ATTACH PARTITION {name} FOR VALUES FROM ('{low}') TO ('{high}')")
    return True
