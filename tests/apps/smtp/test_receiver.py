"""The inbound door over real sockets, with services that tell what was asked of them."""

from __future__ import annotations

import asyncio
import smtplib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import pytest
from django.db import OperationalError

from apps.inbound.services import IncomingMail, RecipientVerdict
from apps.smtp.daemon import run_loop
from apps.smtp.receiver import InboundReceiver
from mailhost.smtp.listener import Listener
from mailhost.smtp.replies import Reply

BODY = b"From: a@example.org\r\nSubject: x\r\n\r\nhello\r\n"


class Services:
    """Stands for the inbound services: slow as a commit, and strict."""

    def __init__(self) -> None:
        self.batches: list[list[IncomingMail]] = []
        self.lookups: list[list[str]] = []
        self.commit_seconds = 0.05
        self.patience_seconds = 10.0
        self.is_database_away = False

    def resolve(self, addresses: Sequence[str], now: datetime) -> list[RecipientVerdict]:
        if self.is_database_away:
            raise OperationalError("the connection is closed")
        self.lookups.append(list(addresses))
        return [
            RecipientVerdict(None, Reply(550, "5.1.1", "No such mailbox here") if "gone" in address else None)
            for address in addresses
        ]

    def accept(self, mails: Sequence[IncomingMail], now: datetime) -> list[Reply]:
        if self.is_database_away:
            raise OperationalError("the connection is closed")
        self.batches.append(list(mails))
        time.sleep(self.commit_seconds)
        return [
            Reply(451, "4.3.0", "Not this one") if b"poison" in mail.raw else Reply(250, "2.0.0", "OK: stored")
            for mail in mails
        ]


class Server:
    """A listener with an inbound receiver, in a thread."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self.port = 0
        self._ready = threading.Event()
        self._thread = threading.Thread(target=run_loop, args=(self._serve(),), daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None

    def __enter__(self) -> Server:
        self._thread.start()
        assert self._ready.wait(5)
        return self

    def __exit__(self, *exc: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)
        assert not self._thread.is_alive()

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        services = self.services
        receiver = InboundReceiver(
            resolve=services.resolve, accept=services.accept, deposit_seconds=services.patience_seconds
        )
        listener = Listener(receiver, hostname="mx.example.com")
        await listener.start("127.0.0.1", 0)
        self.port = listener.port
        self._ready.set()
        await self._stop.wait()
        await listener.stop(1)
        receiver.close()


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(Services()) as server:
        yield server


def deliver(server: Server, number: int, *, body: bytes = BODY, to: str = "alice@example.com") -> int:
    """Send one mail over a connection of its own; the code of the answer to it."""
    with smtplib.SMTP("127.0.0.1", server.port, f"client{number}.example.org", timeout=10) as client:
        try:
            client.sendmail("a@example.org", [to], body)
        except smtplib.SMTPDataError as error:
            return error.smtp_code
        except smtplib.SMTPRecipientsRefused as error:
            return error.recipients[to][0]
    return 250


def together(call: Callable[[int], int], count: int) -> list[int]:
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(call, range(count)))


def test_mails_that_come_together_are_stored_together(server: Server) -> None:
    server.services.commit_seconds = 0.2
    assert together(lambda number: deliver(server, number), 50) == [250] * 50
    batches = [len(batch) for batch in server.services.batches]
    assert sum(batches) == 50
    assert len(batches) <= 15
    assert len(server.services.lookups) <= 50


def test_a_bad_mail_gets_its_own_answer_and_its_neighbours_theirs(server: Server) -> None:
    codes = together(lambda number: deliver(server, number, body=b"poison\r\n" if number == 7 else BODY), 20)
    assert codes == [451 if number == 7 else 250 for number in range(20)]


def test_an_unknown_recipient_is_refused_at_rcpt(server: Server) -> None:
    assert deliver(server, 1, to="gone@example.com") == 550
    assert server.services.batches == []


def test_what_is_stored_begins_with_our_trace_and_ends_with_their_bytes(server: Server) -> None:
    deliver(server, 1)
    [[mail]] = server.services.batches
    head, _, rest = mail.raw.partition(b"From: a@example.org")
    assert head.startswith(b"Received: from client1.example.org ([127.0.0.1])\r\n\tby mx.example.com with ESMTP id ")
    assert b"for <alice@example.com>" in head
    assert b"From: a@example.org" + rest == BODY
    assert (mail.mail_from, mail.recipients, mail.client_ip) == ("a@example.org", ["alice@example.com"], "127.0.0.1")
    assert (mail.helo, mail.tls, mail.smtputf8) == ("client1.example.org", False, False)


def test_a_database_that_is_away_is_a_reason_to_come_again(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    server.services.is_database_away = True
    assert deliver(server, 1) == 451
    server.services.is_database_away = False
    assert deliver(server, 2) == 250


def test_a_database_that_goes_away_before_the_commit_is_a_reason_to_come_again(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    with smtplib.SMTP("127.0.0.1", server.port, timeout=10) as client:
        client.ehlo("c.example.org")
        client.mail("a@example.org")
        assert client.rcpt("alice@example.com")[0] == 250
        server.services.is_database_away = True
        assert client.data(BODY)[0] == 451
        server.services.is_database_away = False
        assert client.sendmail("a@example.org", ["alice@example.com"], BODY) == {}


def test_a_database_that_hangs_is_a_reason_to_come_again() -> None:
    services = Services()
    services.commit_seconds, services.patience_seconds = 0.5, 0.1
    with Server(services) as server:
        assert deliver(server, 1) == 451
