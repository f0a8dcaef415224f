"""The parts of waiting without HTTP: places, expressions, news, loading together."""

import asyncio
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import pytest
import redis
from django.db import connection, transaction
from django.utils import timezone

from apps.accounts.models import Organization
from apps.api.errors import InvalidCursor
from apps.api.live.loaders import BATCH, Loader
from apps.api.live.regexes import RegexBench, compile_pattern
from apps.api.live.search import MAX_NOTED, Mark, Search, Wanted
from apps.core.ids import new_id
from apps.core.loops import Database
from apps.core.news import CHANNEL, Announcer, announce_on_commit, read_news
from apps.events.models import EventType
from apps.events.selectors import Place, read_late, read_received, settled_position
from apps.events.services import NewEvent, record_events
from apps.mail.selectors import Incoming

NOBODY = UUID(int=0)


def test_a_mark_survives_its_cursor() -> None:
    mark = Mark(new_id(), 2**40, frozenset(new_id().bytes[-6:] for _ in range(MAX_NOTED)))
    assert Mark.unpack(mark.pack()) == mark
    for payload in (b"", mark.pack()[:10], mark.pack()[:-1]):
        with pytest.raises(InvalidCursor):
            Mark.unpack(payload)


def test_a_search_tells_what_it_has_looked_at_above_what_has_settled() -> None:
    old, first, second, third = (new_id() for _ in range(4))
    search = Search(Mark(old, 10))
    search.note(second, 12)
    search.note(first, 15)
    assert [search.is_new(one) for one in (first, second, third)] == [False, False, True]
    mark = search.mark()
    assert (mark.newest, mark.position) == (second, 10)
    assert mark.has_noted(first)
    assert mark.has_noted(second)
    again = Search(mark)
    assert not again.is_new(first)
    assert again.is_new(third)
    assert again.is_new(old) is True
    again.settle(13)
    again.note(third, 14)
    assert again.mark() == Mark(third, 13, frozenset({third.bytes[-6:]}))


def test_filters_ignore_case_and_look_at_name_and_address() -> None:
    mail = Incoming(new_id(), NOBODY, "no-reply@Acme.example", "Acme Ünited", "Your CODE", "generated")
    accepts = [
        Wanted(NOBODY, NOBODY, sender=sender, subject=subject).accepts(mail)
        for sender, subject in (("", ""), ("acme", "code"), ("ÜNITED <no", ""), ("else", ""), ("", "link"))
    ]
    assert accepts == [True, True, True, False, False]
    vacation = Incoming(new_id(), NOBODY, "", "", "", "replied")
    assert not Wanted(NOBODY, NOBODY).accepts(vacation)
    assert Wanted(NOBODY, NOBODY, include_automatic=True).accepts(vacation)


def test_an_organization_with_many_costly_expressions_stands_behind_the_others() -> None:
    async def main() -> list[str]:
        bench, order = RegexBench(), []

        async def search(name: str, organization: UUID, expression: str, text: str) -> None:
            await bench.search(organization, compile_pattern(expression), [text])
            order.append(name)

        costly = [search("costly", UUID(int=1), "((a{0,30}){0,30})b", "a" * 8_000) for _ in range(8)]
        await asyncio.gather(*costly, search("cheap", UUID(int=2), "b", "abc"))
        return order

    assert asyncio.run(main()).index("cheap") < 2


def test_the_worst_expression_takes_a_bounded_time_and_leaves_the_interpreter_to_others() -> None:
    pattern = compile_pattern("((a{0,30}){0,30})b")
    ticks = 0

    async def main() -> None:
        nonlocal ticks

        async def tick() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0.001)

        ticking = asyncio.create_task(tick())
        assert not await RegexBench().search(NOBODY, pattern, ["a" * 10_000_000])
        ticking.cancel()

    asyncio.run(main())
    assert pattern.spent < 3
    assert ticks > 20


def test_what_is_asked_for_while_a_query_runs_is_one_query() -> None:
    calls: list[int] = []

    def read(*, ids: Sequence[UUID]) -> Mapping[UUID, str]:
        calls.append(len(ids))
        time.sleep(0.05)
        if UUID(int=999) in ids:
            raise ZeroDivisionError
        return {one: str(one.int) for one in ids if one.int}

    async def main() -> None:
        database = Database("test", threads=1)
        loader: Loader[Any] = Loader(database, read)
        first = asyncio.create_task(loader.load(UUID(int=1)))
        await asyncio.sleep(0.01)
        rest = await asyncio.gather(*(loader.load(UUID(int=number % BATCH)) for number in range(200)))
        assert await first == "1"
        assert rest[:3] == [None, "1", "2"]
        with pytest.raises(ZeroDivisionError):
            await loader.load(UUID(int=999))
        assert await loader.load(UUID(int=3)) == "3"
        await database.close()

    asyncio.run(main())
    assert calls == [1, BATCH, 1, 1]


def test_news_says_whose_mail_was_committed_and_nothing_before(
    transactional_db: None, redis_url: str, organization: Organization
) -> None:
    mailbox_id = new_id()
    with redis.Redis.from_url(redis_url) as client, client.pubsub(ignore_subscribe_messages=True) as channel:
        channel.subscribe(CHANNEL)
        channel.get_message(timeout=1)
        fact = NewEvent(EventType.MESSAGE_RECEIVED, organization.id, mailbox_id)
        with transaction.atomic():
            record_events(events=[fact, fact], now=timezone.now())
            time.sleep(0.1)
            assert channel.get_message(timeout=0) is None
        heard: tuple[set[UUID], set[UUID]] = (set(), set())
        end = time.monotonic() + 5
        while not heard[1] and time.monotonic() < end:
            message = channel.get_message(timeout=0.1)
            if message:
                heard = read_news(message["data"])
    assert heard == ({organization.id}, {mailbox_id})


def test_news_that_makes_no_sense_is_passed_over() -> None:
    one = new_id()
    assert read_news(b"") == (set(), set())
    assert read_news(b"x" * 40) == (set(), set())
    assert read_news(b"o" + one.bytes + b"m123") == ({one}, set())


def test_nobody_waits_for_news_to_be_sent(settings: Any) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    announcer = Announcer()
    began = time.monotonic()
    for _ in range(1_000):
        announcer.announce([b"o" + new_id().bytes])
    assert time.monotonic() - began < 0.5


@pytest.mark.django_db(transaction=True)
def test_a_rolled_back_transaction_is_no_news(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []
    monkeypatch.setattr("apps.core.news.announcer.announce", told.append)
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        announce_on_commit(organization_ids=[new_id()], mailbox_ids=[])
        raise ZeroDivisionError
    assert told == []


@pytest.mark.django_db(transaction=True)
def test_mail_behind_a_mark_is_read_with_what_has_not_settled(organization: Organization) -> None:
    mailbox_id, may_commit, is_written = new_id(), threading.Event(), threading.Event()

    def receive(message_id: UUID) -> None:
        data = {"message_id": str(message_id)}
        record_events(
            events=[NewEvent(EventType.MESSAGE_RECEIVED, organization.id, mailbox_id, data)], now=timezone.now()
        )

    def hold() -> None:
        with transaction.atomic():
            receive(slow)
            is_written.set()
            may_commit.wait(10)
        connection.close()

    slow, fast = new_id(), new_id()
    start = Place(settled_position(), NOBODY)
    holder = threading.Thread(target=hold)
    holder.start()
    assert is_written.wait(10)
    receive(fast)
    settled, found = read_received(marks={mailbox_id: start, new_id(): start}, floor=NOBODY, limit=10)
    assert [one.message_id for one in found] == [fast]
    assert found[0].place.position > settled
    may_commit.set()
    holder.join()
    settled, found = read_received(marks={mailbox_id: start}, floor=NOBODY, limit=10)
    assert [one.message_id for one in found] == [slow, fast]
    assert all(one.place.position < settled for one in found)
    late = read_late(mailbox_id=mailbox_id, position=start.position, newest=slow, limit=10)
    assert list(late) == [slow]
    assert read_received(marks={mailbox_id: found[-1].place}, floor=NOBODY, limit=10)[1] == []
