"""Events are read in commit order: two writers that commit in the other order than they began leave no gap."""

import threading

import pytest
from django.db import connection, transaction
from django.utils import timezone

from apps.accounts.models import Organization
from apps.core.ids import new_id
from apps.events.models import Event, EventClock, EventType
from apps.events.selectors import place_of, read_events
from apps.events.services import NewEvent, record_events

pytestmark = pytest.mark.django_db(transaction=True)


def record(organization: Organization, name: str) -> None:
    event = NewEvent(EventType.MESSAGE_QUEUED, organization.id, data={"name": name})
    record_events(events=[event], now=timezone.now())


class SlowWriter:
    """A transaction in a thread of its own, begun now and committed when told."""

    def __init__(self, organization: Organization, name: str) -> None:
        self._written, self._commit = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, args=(organization, name))
        self._thread.start()
        assert self._written.wait(10)

    def _run(self, organization: Organization, name: str) -> None:
        try:
            with transaction.atomic():
                record(organization, name)
                self._written.set()
                assert self._commit.wait(10)
        finally:
            connection.close()

    def commit(self) -> None:
        self._commit.set()
        self._thread.join(10)


def names(events: list[Event]) -> list[str]:
    return [event.data["name"] for event in events]


def test_it_leaves_no_gap_when_the_first_writer_commits_last(organization: Organization) -> None:
    record(organization, "before")
    slow = SlowWriter(organization, "began first")
    record(organization, "began second")

    first_page = read_events(organization_id=organization.id)
    assert names(first_page) == ["before"]  # what is not settled yet is not shown at all

    slow.commit()
    second_page = read_events(organization_id=organization.id, after=place_of(first_page[-1]))
    assert names(second_page) == ["began first", "began second"]
    assert read_events(organization_id=organization.id, after=place_of(second_page[-1])) == []


def test_it_never_skips_or_repeats_for_a_reader_that_pages_while_writers_commit_late(
    organization: Organization,
) -> None:
    seen: list[str] = []
    place = None
    slow: list[SlowWriter] = []
    for step in range(12):
        slow.append(SlowWriter(organization, f"slow {step}"))
        record(organization, f"quick {step}")
        if step % 3 == 2:
            slow.pop(0).commit()
        page = read_events(organization_id=organization.id, after=place, limit=4)
        if page:
            seen += names(page)
            place = place_of(page[-1])
    for writer in reversed(slow):
        writer.commit()
    while page := read_events(organization_id=organization.id, after=place, limit=4):
        seen += names(page)
        place = place_of(page[-1])

    assert len(seen) == len(set(seen)) == 24


def test_a_rolled_back_writer_holds_nobody_up(organization: Organization) -> None:
    with pytest.raises(RuntimeError), transaction.atomic():
        record(organization, "never")
        raise RuntimeError
    record(organization, "after")
    assert names(read_events(organization_id=organization.id)) == ["after"]


def test_reading_newest_first_goes_back_from_a_place(organization: Organization) -> None:
    for number in range(5):
        record(organization, str(number))
    page = read_events(organization_id=organization.id, newest_first=True, limit=2)
    assert names(page) == ["4", "3"]
    rest = read_events(organization_id=organization.id, newest_first=True, before=place_of(page[-1]))
    assert names(rest) == ["2", "1", "0"]


def test_a_stranger_reads_none_of_it(organization: Organization, stranger: Organization) -> None:
    record(organization, "secret")
    assert read_events(organization_id=stranger.id) == []


def test_a_raised_clock_keeps_positions_growing(organization: Organization) -> None:
    """What a restore does: the new cluster's transaction ids begin low, the offset makes up for it."""
    record(organization, "old")
    EventClock.objects.create(position_offset=1_000_000)
    record(organization, "new")
    try:
        events = read_events(organization_id=organization.id)
        assert names(events) == ["old", "new"]
        assert events[1].position > events[0].position + 900_000
    finally:
        EventClock.objects.all().delete()


def test_types_and_mailboxes_narrow_the_log(organization: Organization) -> None:
    mailbox_id = new_id()
    record_events(
        events=[
            NewEvent(EventType.MESSAGE_RECEIVED, organization.id, mailbox_id, {"name": "mine"}),
            NewEvent(EventType.MESSAGE_QUEUED, organization.id, new_id(), {"name": "other"}),
        ],
        now=timezone.now(),
    )
    assert names(read_events(organization_id=organization.id, mailbox_ids=[mailbox_id])) == ["mine"]
    assert names(read_events(organization_id=organization.id, types=["message.queued"])) == ["other"]
