"""Monthly partitions: made ahead, any number of times, and no row is lost on its way out of the default one."""

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from django.db import connection, transaction

from apps.core.ids import id_floor, new_id
from apps.core.partitions import PARTITIONED_TABLES, create_month_partitions
from apps.events.models import Event, EventType
from apps.events.services import NewEvent, record_events
from apps.mail.blobs import read_blob, store_blobs
from tests.apps.threads import run_together

NOW = datetime(2031, 11, 15, tzinfo=UTC)
MONTHS = ("2031_11", "2031_12", "2032_01", "2032_02")
ALL = {f"{table}_{month}" for table in PARTITIONED_TABLES for month in MONTHS}


def list_partitions(table: str) -> set[str]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = %s::regclass", [table])
        return {name for (name,) in cursor.fetchall()}


def count_rows(table: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM {table}")
        return cursor.fetchone()[0]


def id_at(moment: datetime) -> UUID:
    """A UUIDv7 as it would have been made at that moment."""
    return UUID(int=id_floor(moment).int | new_id().int & ((1 << 80) - 1))


def add_event(moment: datetime) -> UUID:
    event = Event(id=id_at(moment), organization_id=new_id(), type=EventType.INBOX_CREATED, created_at=moment)
    event.save(force_insert=True)
    return event.id


@pytest.fixture
def committed(transactional_db: None) -> Iterator[None]:
    """For tests that commit: their partitions are dropped afterwards, and TRUNCATE sees to the rows."""
    yield
    with connection.cursor() as cursor:
        for table in PARTITIONED_TABLES:
            for name in list_partitions(table) - {f"{table}_default"}:
                cursor.execute(f"DROP TABLE {name}")


@pytest.mark.django_db
class TestMonths:
    def test_this_month_and_the_next_three_are_made_for_every_table(self) -> None:
        made = create_month_partitions(now=NOW)

        assert set(made) == ALL
        for table in PARTITIONED_TABLES:
            assert list_partitions(table) == {f"{table}_default"} | {f"{table}_{month}" for month in MONTHS}

    def test_a_second_run_makes_nothing_and_a_later_one_what_is_missing(self) -> None:
        create_month_partitions(now=NOW)

        assert create_month_partitions(now=NOW + timedelta(days=1)) == []
        later = create_month_partitions(now=NOW + timedelta(days=40))
        assert {name.rpartition("_")[2] for name in later} == {"03"}

    def test_a_run_after_years_of_silence_fills_the_present(self) -> None:
        create_month_partitions(now=NOW)

        made = create_month_partitions(now=datetime(2035, 1, 31, 23, 59, tzinfo=UTC))

        assert f"{PARTITIONED_TABLES[0]}_2035_04" in made

    def test_every_moment_of_a_month_lies_in_its_partition_and_none_besides(self) -> None:
        create_month_partitions(now=NOW)
        tick = timedelta(milliseconds=1)
        start, end = datetime(2031, 12, 1, tzinfo=UTC), datetime(2032, 1, 1, tzinfo=UTC)
        for moment in (start - tick, start, end - tick, end):
            add_event(moment)

        assert count_rows("events_event_2031_11") == 1
        assert count_rows("events_event_2031_12") == 2
        assert count_rows("events_event_2032_01") == 1
        assert count_rows("events_event_default") == 0

    def test_rows_outside_of_every_month_are_kept_in_the_default(self) -> None:
        create_month_partitions(now=NOW)
        add_event(NOW - timedelta(days=400))
        add_event(NOW + timedelta(days=400))

        assert count_rows("events_event_default") == 2


@pytest.mark.django_db
class TestRowsOnTheMove:
    def test_rows_of_the_month_are_moved_whole_and_the_others_stay(self) -> None:
        inside = [add_event(NOW), add_event(NOW + timedelta(days=20))]
        outside = add_event(NOW - timedelta(days=60))
        before = {event.id: (event.position, event.created_at) for event in Event.objects.all()}

        create_month_partitions(now=NOW)

        assert count_rows("events_event_default") == 1
        assert count_rows("events_event_2031_11") == 1
        assert count_rows("events_event_2031_12") == 1
        assert set(before) == {*inside, outside}
        assert {event.id: (event.position, event.created_at) for event in Event.objects.all()} == before

    def test_raw_mail_is_readable_after_the_move(self) -> None:
        raw = bytes(range(256)) * 10_000
        blob_id = store_blobs([raw])[0]
        assert count_rows("mail_blobchunk_default") == 3

        create_month_partitions(now=datetime.now(UTC))

        assert count_rows("mail_blobchunk_default") == 0
        assert read_blob(blob_id) == raw

    def test_new_rows_get_their_defaults_in_a_partition_too(self) -> None:
        create_month_partitions(now=datetime.now(UTC))

        record_events(events=[NewEvent(EventType.INBOX_CREATED, new_id())], now=datetime.now(UTC))

        assert count_rows("events_event_default") == 0
        assert Event.objects.get().position > 0

    def test_a_partition_stores_as_its_table_does(self) -> None:
        create_month_partitions(now=NOW)
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT attstorage FROM pg_attribute WHERE attrelid = 'mail_blobchunk_2031_11'::regclass"
                " AND attname = 'data'"
            )
            assert cursor.fetchone() == ("e",)
            cursor.execute(
                "SELECT count(*) FILTER (WHERE tablename = 'events_event_2031_11'),"
                " count(*) FILTER (WHERE tablename = 'events_event_default') FROM pg_indexes"
            )
            month, default = cursor.fetchone()
            assert month == default > 1


@pytest.mark.usefixtures("committed")
class TestAtOnce:
    def test_two_at_once_make_each_partition_once(self) -> None:
        results = run_together(lambda _: create_month_partitions(now=NOW), 4)

        made = [name for result in results for name in result]
        assert sorted(made) == sorted(ALL)

    def test_mail_that_comes_meanwhile_neither_fails_nor_stops_the_move(self) -> None:
        stop = threading.Event()
        written: list[int] = []

        def write(number: int) -> int:
            """As a deposit does: a blob, an event, and the commit a moment later."""
            while not stop.is_set():
                with transaction.atomic():
                    store_blobs([b"mail"])
                    time.sleep(0.002)
                    record_events(events=[NewEvent(EventType.MESSAGE_RECEIVED, new_id())], now=datetime.now(UTC))
                    time.sleep(0.002)
                written.append(1)
            return 0

        def act(number: int) -> object:
            if number:
                return write(number)
            try:
                time.sleep(0.3)
                return create_month_partitions(now=datetime.now(UTC))
            finally:
                stop.set()

        results = run_together(act, 5)

        assert not [result for result in results if isinstance(result, Exception)]
        assert len(results[0]) == 4 * len(PARTITIONED_TABLES)
        assert Event.objects.count() == len(written)
        for table in PARTITIONED_TABLES:
            assert count_rows(f"{table}_default") == 0

    def test_a_long_reader_delays_the_work_but_never_the_mail_behind_it(self) -> None:
        """Attaching waits for readers, and writers wait behind it: so it gives up soon, and tries again next time."""
        reading, done = threading.Event(), threading.Event()

        def read() -> None:
            with transaction.atomic():
                Event.objects.count()
                reading.set()
                assert done.wait(30)

        def act(number: int) -> object:
            if number == 0:
                return read()
            assert reading.wait(10)
            try:
                if number == 1:
                    return create_month_partitions(now=datetime.now(UTC))
                time.sleep(0.3)
                start = time.monotonic()
                record_events(events=[NewEvent(EventType.MESSAGE_RECEIVED, new_id())], now=datetime.now(UTC))
                return time.monotonic() - start
            finally:
                if number == 1:
                    done.set()

        _, made, delay = run_together(act, 3)

        assert delay < 2
        assert {name.partition("_2")[0] for name in made} == set(PARTITIONED_TABLES) - {"events_event"}
        assert len(create_month_partitions(now=datetime.now(UTC))) == 4
