"""GET /v1/events/stream over HTTP: every event once and in commit order, resumed without gap, and bounded."""

import json
import socket
import threading
import time
from typing import Any

import pytest
from django.db import connection, transaction
from django.utils import timezone

from apps.accounts.models import ApiKey, Organization
from apps.accounts.services import revoke_api_key
from apps.core import news
from apps.core.ids import encode_id, new_id
from apps.events.models import Event, EventType
from apps.events.selectors import settled_position
from apps.events.services import NewEvent, record_events
from apps.mailboxes.models import Mailbox
from tests.api.conftest import Api, MakeApi, MakeMailbox
from tests.api.live.conftest import StreamReader, Waiting, Web, deliver, inbox_id


def record(organization: Organization, number: int, mailbox: Mailbox | None = None, **fields: Any) -> None:
    """One fact in a transaction of its own."""
    kind = fields.pop("type", EventType.MESSAGE_QUEUED)
    fact = NewEvent(kind, organization.id, mailbox.id if mailbox else None, {"number": number, **fields})
    with transaction.atomic():
        record_events(events=[fact], now=timezone.now())


def numbers(events: list[Any]) -> list[int]:
    return [event["data"]["number"] for event in events]


def test_events_come_as_they_are_committed(web: Web, owner: Api, organization: Organization, mailbox: Mailbox) -> None:
    reader = StreamReader(web, owner.secret)
    assert reader.answer.status == 200
    assert reader.answer.headers["Content-Type"] == "text/event-stream; charset=utf-8"
    assert reader.answer.headers["Cache-Control"] == "no-store"
    time.sleep(0.5)
    began = time.monotonic()
    message = deliver(mailbox, subject="Hällo\u2028 there")
    event = reader.take(1)[0]
    assert time.monotonic() - began < 1.5
    assert event["type"] == "message.received"
    assert event["inbox_id"] == inbox_id(mailbox)
    assert event["data"]["message_id"] == encode_id("msg", message.id)
    listed = web.call("GET", "/v1/events?limit=1", owner.secret)[1]["data"][0]
    assert listed == event
    for number in range(3):
        record(organization, number)
    assert numbers(reader.take(3)) == [0, 1, 2]
    reader.close()


def test_a_stream_resumes_behind_the_last_event_it_has_read(web: Web, owner: Api, organization: Organization) -> None:
    for number in range(7):
        record(organization, number)
    ids = [encode_id("evt", event.id) for event in Event.objects.filter(type="message.queued").order_by("position")]
    reader = StreamReader(web, owner.secret, f"?after={ids[1]}")
    assert numbers(reader.take(5)) == [2, 3, 4, 5, 6]
    reader.close()
    reader = StreamReader(web, owner.secret, f"?after={ids[1]}", Last_Event_ID=ids[4])
    assert numbers(reader.take(2)) == [5, 6]
    record(organization, 7)
    assert numbers(reader.take(1)) == [7]
    reader.close()


def test_many_pages_behind_a_place_come_once_each(web: Web, owner: Api, organization: Organization) -> None:
    record(organization, -1)
    first = Event.objects.get(type="message.queued")
    facts = [NewEvent(EventType.MESSAGE_QUEUED, organization.id, None, {"number": number}) for number in range(1_500)]
    for start in range(0, 1_500, 500):
        with transaction.atomic():
            record_events(events=facts[start : start + 500], now=timezone.now())
    reader = StreamReader(web, owner.secret, f"?after={encode_id('evt', first.id)}")
    assert numbers(reader.take(1_500)) == list(range(1_500))
    reader.close()


def test_interleaved_writers_leave_no_gap_and_no_repeat_even_across_resumptions(
    web: Web, owner: Api, organization: Organization
) -> None:
    """Two writers hold transactions open over each other's commits, while a reader comes and goes."""
    per_writer, done = 40, threading.Event()

    def write(offset: int, pause: float) -> None:
        for number in range(per_writer):
            fact = NewEvent(EventType.MESSAGE_QUEUED, organization.id, None, {"number": offset + number})
            with transaction.atomic():
                record_events(events=[fact], now=timezone.now())
                time.sleep(pause)
        connection.close()

    record(organization, -1)
    last = encode_id("evt", Event.objects.get(type="message.queued").id)
    writers = [Waiting(lambda: write(0, 0.05)), Waiting(lambda: write(1000, 0.013)), Waiting(lambda: write(2000, 0.11))]
    found: list[int] = []
    while len(found) < 3 * per_writer:
        reader = StreamReader(web, owner.secret, Last_Event_ID=last)
        for event in reader.take(min(17, 3 * per_writer - len(found))):
            found.append(event["data"]["number"])
            last = event["id"]
        reader.close()
    for writer in writers:
        writer.answer()
    done.set()
    assert len(found) == len(set(found)) == 3 * per_writer
    in_order = Event.objects.filter(type="message.queued").order_by("position", "id")
    assert found == [event.data["number"] for event in in_order][1:]
    for offset in (0, 1000, 2000):
        own = [number for number in found if offset <= number < offset + 1000]
        assert own == sorted(own)


def test_what_an_open_transaction_holds_back_comes_as_soon_as_it_ends(
    web: Web, owner: Api, organization: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_commit, is_written = threading.Event(), threading.Event()

    def hold() -> None:
        with transaction.atomic():
            record_events(
                events=[NewEvent(EventType.MESSAGE_QUEUED, organization.id, None, {"number": 1})], now=timezone.now()
            )
            is_written.set()
            may_commit.wait(20)
        connection.close()

    reader = StreamReader(web, owner.secret)
    slow = Waiting(hold)
    assert is_written.wait(10)
    record(organization, 2)
    time.sleep(0.8)
    may_commit.set()
    began = time.monotonic()
    assert numbers(reader.take(2)) == [1, 2]
    assert time.monotonic() - began < 2
    slow.answer()
    reader.close()


def test_filters_and_narrowed_keys_see_their_part(
    web: Web, owner: Api, outsider: Api, organization: Organization, stranger: Organization, make_api: MakeApi,
    make_mailbox: MakeMailbox,
) -> None:  # fmt: skip
    mine, other = make_mailbox("mine"), make_mailbox("other")
    narrow = make_api(organization, ["events:read"], inbox_ids=[mine.id])
    by_domain = make_api(organization, ["events:read"], allowed_domains=["agents.localhost"])
    readers = {
        "all": StreamReader(web, owner.secret),
        "inbox": StreamReader(web, owner.secret, f"?inbox={mine.address}"),
        "type": StreamReader(web, owner.secret, "?type=message.sent,message.bounced"),
        "narrow": StreamReader(web, narrow.secret),
        "domain": StreamReader(web, by_domain.secret),
        "stranger": StreamReader(web, outsider.secret),
    }
    record(organization, 1, mine)
    record(organization, 2, other)
    record(organization, 3)
    record(organization, 4, other, type=EventType.MESSAGE_SENT)
    record(stranger, 5)
    record(organization, 6, mine, type=EventType.MESSAGE_BOUNCED)
    late = make_mailbox("late")
    record(organization, 7, late)
    expected = {"all": [1, 2, 3, 4, 6], "inbox": [1, 6], "type": [4, 6], "narrow": [1, 6], "domain": [1, 2, 4, 6]}
    for name, wanted in expected.items():
        assert numbers(readers[name].take(len(wanted))) == wanted, name
    assert numbers(readers["stranger"].take(1)) == [5]
    # A mailbox that was made meanwhile, on a domain that the key may see.
    assert [event["type"] for event in readers["domain"].take(2)] == ["inbox.created", "message.queued"]
    for reader in readers.values():
        reader.close()


def test_who_may_not_read_events_gets_no_stream(
    web: Web, owner: Api, outsider: Api, organization: Organization, make_api: MakeApi, mailbox: Mailbox
) -> None:
    record(organization, 1)
    event = encode_id("evt", Event.objects.get(type="message.queued").id)
    for secret, query, status, code in (
        (None, "", 401, "unauthorized"),
        (make_api(organization, ["messages:read"]).secret, "", 403, "scope_denied"),
        (make_api(None, ["events:read"]).secret, "", 403, "scope_denied"),
        (outsider.secret, f"?inbox={inbox_id(mailbox)}", 404, "not_found"),
        (outsider.secret, f"?after={event}", 400, "validation_failed"),
        (owner.secret, "?after=evt_1", 400, "validation_failed"),
        (owner.secret, "?type=nothing.happened", 400, "validation_failed"),
        (owner.secret, "?unknown=1", 400, "validation_failed"),
        (owner.secret, f"?after={encode_id('evt', new_id())}", 400, "validation_failed"),
    ):
        seen, answer = web.call("GET", f"/v1/events/stream{query}", secret)
        assert (seen, answer["error"]["code"]) == (status, code), query
    assert web.call("GET", "/v1/events/stream", owner.secret, Last_Event_ID="nonsense")[0] == 400
    assert web.call("POST", "/v1/events/stream", owner.secret)[0] == 405
    assert web.call("GET", "/v1/events/stream/more", owner.secret)[0] == 404


def test_lost_news_costs_two_seconds(
    web: Web, owner: Api, organization: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = StreamReader(web, owner.secret)
    time.sleep(0.5)
    monkeypatch.setattr(news.announcer, "announce", lambda entries: None)
    began = time.monotonic()
    record(organization, 1)
    assert numbers(reader.take(1)) == [1]
    assert time.monotonic() - began < 3
    reader.close()


def test_a_revoked_key_ends_its_stream_and_says_why(web: Web, owner: Api) -> None:
    reader = StreamReader(web, owner.secret)
    time.sleep(0.3)
    revoke_api_key(key=ApiKey.objects.get(name="test"), now=timezone.now())
    began = time.monotonic()
    (frame,) = list(reader.frames())
    assert time.monotonic() - began < 2.5
    assert frame["event"] == "error"
    assert json.loads(frame["data"])["error"]["code"] == "key_revoked"


def test_a_silent_stream_has_a_heartbeat(web: Web, owner: Api) -> None:
    reader = StreamReader(web, owner.secret)
    comments = (line for line in reader.lines() if line.startswith(":"))
    began = time.monotonic()
    assert [next(comments), next(comments)] == [": connected", ": still here"]
    assert 13 < time.monotonic() - began < 18
    reader.close()


def test_a_reader_that_does_not_read_is_disconnected_and_costs_others_nothing(
    web: Web, owner: Api, organization: Organization
) -> None:
    lazy = socket.socket()
    lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    lazy.connect(("127.0.0.1", web.port))
    lazy.sendall(f"GET /v1/events/stream HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {owner.secret}\r\n\r\n".encode())
    assert lazy.recv(12) == b"HTTP/1.1 200"
    reader = StreamReader(web, owner.secret)
    time.sleep(0.5)
    count, padding = 6_000, "x" * 4_000

    def write() -> None:
        for start in range(0, count, 400):
            facts = [
                NewEvent(EventType.MESSAGE_QUEUED, organization.id, None, {"number": number, "padding": padding})
                for number in range(start, start + 400)
            ]
            with transaction.atomic():
                record_events(events=facts, now=timezone.now())
        connection.close()

    writer = Waiting(write)
    assert numbers(reader.take(count)) == list(range(count))
    writer.answer()
    lazy.settimeout(40)
    received, tail = 0, b""
    while not tail.endswith(b"\r\n0\r\n\r\n"):
        chunk = lazy.recv(1 << 20)
        received += len(chunk)
        tail = (tail + chunk)[-200:]
    assert b": too slow" in tail
    assert received < count * len(padding)
    lazy.close()


def test_a_stopping_process_ends_its_streams(web: Web, owner: Api) -> None:
    readers = [StreamReader(web, owner.secret) for _ in range(3)]
    seen = [Waiting(lambda reader=reader: list(reader.lines())) for reader in readers]
    time.sleep(0.3)
    began = time.monotonic()
    assert web.stop() == 0
    assert time.monotonic() - began < 5
    assert ["restarting" in line for lines in seen for line in lines.answer()[-2:]] == [True, False] * 3


def test_without_redis_a_stream_works(transactional_db: None, owner: Api, organization: Organization) -> None:
    web = Web(REDIS_URL="redis://127.0.0.1:1/0")
    try:
        reader = StreamReader(web, owner.secret)
        time.sleep(0.3)
        record(organization, 1)
        began = time.monotonic()
        assert numbers(reader.take(1)) == [1]
        assert time.monotonic() - began < 3
        reader.close()
    finally:
        assert web.stop() == 0
    assert settled_position() > 0
