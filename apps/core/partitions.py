"""Monthly range partitions, by UUIDv7 key, of the insert-only tables.

A month's partition is made ahead of time; a DEFAULT partition takes what falls outside, so that a late beat never
stops mail. Old months are dropped whole, which costs the same at any size.
"""

from datetime import UTC, datetime

from django.db import connection, transaction

from apps.core.ids import id_floor
from apps.core.locks import try_lock

PARTITIONED_TABLES = ("events_event", "mail_blobchunk", "delivery_attempt")
"""Every table partitioned by month; migrations of the apps create them with a DEFAULT partition."""

MONTHS_AHEAD = 3


def _month_after(year: int, month: int, steps: int) -> tuple[int, int]:
    index = year * 12 + month - 1 + steps
    return index // 12, index % 12 + 1


def create_month_partitions(*, now: datetime) -> list[str]:
    """Make the partitions of this month and the next three; returns the names made. Safe to run any number of times."""
    made: list[str] = []
    with transaction.atomic(), connection.cursor() as cursor:
        if not try_lock("partitions"):
            return made
        for table in PARTITIONED_TABLES:
            for step in range(MONTHS_AHEAD + 1):
                start, end = (
                    _month_after(now.year, now.month, step),
                    _month_after(now.year, now.month, step + 1),
                )
                name = f"{table}_{start[0]}_{start[1]:02d}"
                cursor.execute("SELECT to_regclass(%s)", [name])
                row = cursor.fetchone()
                if row is not None and row[0] is not None:
                    continue
                low, high = (id_floor(datetime(year, month, 1, tzinfo=UTC)) for year, month in (start, end))
                _make_partition(table, name, str(low), str(high))
                made.append(name)
    return made


def _make_partition(table: str, name: str, low: str, high: str) -> None:
    """Attach an empty month; rows of that month that already lie in the DEFAULT partition are moved into it."""
    key = "blob_id" if table == "mail_blobchunk" else "id"
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE TABLE {name} (LIKE {table} INCLUDING ALL)")
        cursor.execute(
            f"WITH moved AS (DELETE FROM {table}_default WHERE {key} >= %s AND {key} < %s RETURNING *)"
            f" INSERT INTO {name} SELECT * FROM moved",
            [low, high],
        )
        cursor.execute(f"ALTER TABLE {table} ATTACH PARTITION {name} FOR VALUES FROM ('{low}') TO ('{high}')")
