"""The SMTP listener over real sockets: the dialogue, what it refuses, and what a client may cost."""

from __future__ import annotations

import asyncio
import logging
import re
import socket
import ssl
from collections.abc import Awaitable, Callable, Coroutine
from datetime import UTC, datetime
from email import message_from_bytes
from email.utils import parsedate_to_datetime
from typing import Any

import pytest
import trustme
import uvloop

from mailhost.smtp.listener import Limits, Listener, ReceivedMail, SessionInfo, received_header
from mailhost.smtp.replies import Reply
from mailhost.smtp.tls import TlsInfo

BODY = b"Subject: x\r\n\r\nhello\r\n"
ENVELOPE = (b"MAIL FROM:<a@example.org>", b"RCPT TO:<b@example.com>")


def run_loop(coroutine: Coroutine[Any, Any, None]) -> None:
    """On the event loop that the daemon uses; the client's tests run on the other."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(coroutine)


class Recorder:
    """A receiver that keeps what it gets."""

    def __init__(self) -> None:
        self.mails: list[ReceivedMail] = []
        self.sessions: list[SessionInfo] = []
        self.delay = 0.0

    async def check_sender(self, session: SessionInfo, address: str) -> Reply | None:
        return Reply(550, "5.7.1", "Not you") if address.startswith("bad@") else None

    async def check_recipient(self, session: SessionInfo, address: str) -> Reply | None:
        if address.startswith("fault@"):
            raise RuntimeError("a fault in the receiver")
        return Reply(550, "5.1.1", "No such user") if address.startswith("gone@") else None

    async def receive(self, session: SessionInfo, mail: ReceivedMail) -> Reply:
        await asyncio.sleep(self.delay)
        if b"fault" in mail.raw:
            raise RuntimeError("a fault in the receiver")
        self.mails.append(mail)
        self.sessions.append(session)
        return Reply(250, "2.0.0", "Stored")


class Client:
    """A client that says whatever the test wants."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self) -> str:
        """One whole reply, its lines joined by |; empty when the connection is closed."""
        lines = []
        while True:
            line = (await asyncio.wait_for(self.reader.readline(), 5)).decode()
            if not line:
                return ""
            assert line.endswith("\r\n")
            lines.append(line.rstrip())
            if line[3:4] != "-":
                return "|".join(lines)

    async def say(self, *lines: bytes) -> str:
        """Send lines, one at a time; the answer to the last."""
        answer = ""
        for line in lines:
            await self.send(line + b"\r\n")
            answer = await self.answer()
        return answer

    async def deliver(self, body: bytes = BODY) -> str:
        answer = await self.say(*ENVELOPE, b"DATA")
        assert answer.startswith("354"), answer
        await self.send(body + b".\r\n")
        return await self.answer()


Test = Callable[[Client, Recorder], Awaitable[None]]


def talk(
    test: Test, *, greet: bool = True, limits: Limits | None = None, tls: ssl.SSLContext | None = None
) -> Recorder:
    """Run `test` with a client connected to a listener."""
    recorder = Recorder()

    async def run() -> None:
        listener = Listener(recorder, hostname="mx.example.com", limits=limits, tls=tls)
        await listener.start("127.0.0.1", 0)
        client = await connect(listener)
        try:
            assert (await client.answer()) == "220 mx.example.com ESMTP"
            if greet:
                assert (await client.say(b"EHLO client.example.org")).startswith("250")
            await test(client, recorder)
        finally:
            client.writer.transport.abort()
            await listener.stop(1)

    run_loop(run())
    return recorder


async def connect(listener: Listener) -> Client:
    return Client(*await asyncio.open_connection("127.0.0.1", listener.port, limit=2**20))


# --- the dialogue


def test_a_mail_is_received_with_its_envelope() -> None:
    async def test(client: Client, recorder: Recorder) -> None:
        assert await client.deliver() == "250 2.0.0 Stored"
        assert await client.say(b"QUIT") == "221 2.0.0 Bye"
        assert await client.answer() == ""

    recorder = talk(test)
    [mail], [session] = recorder.mails, recorder.sessions
    assert (mail.mail_from, mail.recipients, mail.raw) == ("a@example.org", ["b@example.com"], BODY)
    assert abs((datetime.now(UTC) - mail.received_at).total_seconds()) < 5
    assert (session.client_ip, session.helo, session.is_esmtp, session.tls) == (
        "127.0.0.1",
        "client.example.org",
        True,
        None,
    )


def test_ehlo_announces_what_is_true() -> None:
    async def test(client: Client, recorder: Recorder) -> None:
        assert await client.say(b"EHLO x") == (
            "250-mx.example.com|250-PIPELINING|250-SIZE 37748736|250-8BITMIME|250-SMTPUTF8|250 ENHANCEDSTATUSCODES"
        )
        assert await client.say(b"HELO x") == "250 mx.example.com"

    talk(test, greet=False)


def test_every_answer_but_the_greetings_carries_an_enhanced_code() -> None:
    lines = [b"NOOP", b"RSET", b"VRFY x", b"HELP", b"EXPN x", b"WHAT", b"MAIL", b"MAIL FROM:<>", b"MAIL FROM:<>"]
    lines += [
        b"RCPT",
        b"RCPT TO:<gone@x.org>",
        b"DATA",
        b"RCPT TO:<b@x.org>",
        b"STARTTLS",
        b"AUTH PLAIN",
        b"BDAT 5",
        b"",
    ]

    async def test(client: Client, recorder: Recorder) -> None:
        for line in lines:
            answer = await client.say(line)
            assert re.match(r"([245])\d\d \1\.\d\.\d+ \S", answer), (line, answer)

    talk(test)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ((b"MAIL FROM:<a@example.org>",), "503 5.5.1"),
        ((b"EHLO x", b"RCPT TO:<b@example.com>"), "503 5.5.1"),
        ((b"EHLO x", b"DATA"), "503 5.5.1"),
        ((b"EHLO x", b"MAIL FROM:<>", b"DATA"), "503 5.5.1"),
        ((b"EHLO x", b"MAIL FROM:<>", b"MAIL FROM:<>"), "503 5.5.1"),
        ((b"EHLO x", *ENVELOPE, b"RSET", b"DATA"), "503 5.5.1"),
        ((b"EHLO x", *ENVELOPE, b"EHLO y", b"DATA"), "503 5.5.1"),
        ((b"EHLO x", *ENVELOPE, b"DATA x"), "501 5.5.4"),
        ((b"EHLO x", b"MAIL FROM:<bad@example.org>"), "550 5.7.1"),
        ((b"EHLO x", b"MAIL FROM:<bad@example.org>", b"RCPT TO:<b@example.com>"), "503 5.5.1"),
        ((b"EHLO x", b"MAIL FROM:<>", b"RCPT TO:<gone@example.com>"), "550 5.1.1"),
        ((b"EHLO x", b"MAIL FROM:<>", b"RCPT TO:<gone@example.com>", b"DATA"), "503 5.5.1"),
        ((b"EHLO x", b"MAIL FROM:<> SIZE=37748737"), "552 5.3.4"),
        ((b"HELO x", b"MAIL FROM:<> SIZE=1"), "555 5.5.4"),
        ((b"EHLO",), "501 5.5.4"),
        ((b"STARTTLS",), "503 5.5.1"),
        ((b"EHLO x\n",), "500 5.5.2"),
    ],
)
def test_commands_out_of_order_are_refused(lines: tuple[bytes, ...], expected: str) -> None:
    async def test(client: Client, recorder: Recorder) -> None:
        assert (await client.say(*lines)).startswith(expected)

    talk(test, greet=False)


def test_refused_recipients_do_not_stop_the_others() -> None:
    async def test(client: Client, recorder: Recorder) -> None:
        answers = [
            (await client.say(line))[:3]
            for line in (b"MAIL FROM:<>", b"RCPT TO:<one@x.org>", b"RCPT TO:<gone@x.org>", b"RCPT TO:<two@x.org>")
        ]
        assert answers == ["250", "250", "550", "250"]
        await client.say(b"DATA")
        await client.send(BODY + b".\r\n")
        assert (await client.answer()).startswith("250")

    assert talk(test).mails[0].recipients == ["one@x.org", "two@x.org"]


def test_many_mails_pass_one_connection() -> None:
    async def test(client: Client, recorder: Recorder) -> None:
        for _ in range(600):  # more than Limits.commands in all
            assert (await client.deliver()).startswith("250")

    assert len(talk(test).mails) == 600


def test_pipelined_commands_are_answered_in_order() -> None:
    async def test(client: Client, recorder: Recorder) -> None:
        recipients = b"".join(b"RCPT TO:<b%d@x.org>\r\n" % number for number in range(99))
        await client.send(b"MAIL FROM:<>\r\n" + recipients + b"RCPT TO:<gone@x.org>\r\nDATA\r\n")
        answers = [await client.answer() for _ in range(102)]
        assert [answer[:3] for answer in answers] == ["250"] * 100 + ["550", "354"]
        # RFC 2920 3.1: the end of one mail and the start of the next may travel together.
        await client.send(BODY + b".\r\nMAIL FROM:<c@x.org>\r\nRCPT TO:<d@x.org>\r\nDATA\r\n")
        assert [(await client.answer())[:3] for _ in range(4)] == ["250", "250", "250", "354"]
        await client.send(b".\r\nQUIT\r\n")
        assert [(await client.answer())[:3] for _ in range(2)] == ["250", "221"]

    recorder = talk(test)
    assert [len(mail.recipients) for mail in recorder.mails] == [99, 1]
    assert recorder.mails[1].raw == b""


def test_commands_may_come_in_any_pieces() -> None:
    async def test(client: Client, recorder: Recorder) -> None:
        for octet in b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.com>\r\nDATA\r\n":
            await client.send(bytes([octet]))
            await asyncio.sleep(0)
        assert [(await client.answer())[:3] for _ in range(3)] == ["250", "250", "354"]
        for octet in b"x\r\n..\r\n.\r\n":
            await client.send(bytes([octet]))
            await asyncio.sleep(0.001)
        assert (await client.answer()).startswith("250")

    assert talk(test).mails[0].raw == b"x\r\n.\r\n"


def test_a_client_that_closes_its_half_still_gets_its_answers() -> None:
    async def test(client: Client, recorder: Recorder) -> None:
        await client.say(*ENVELOPE, b"DATA")
        await client.send(BODY + b".\r\nQUIT\r\n")
        client.writer.write_eof()
        assert await client.answer() == "250 2.0.0 Stored"
        assert await client.answer() == "221 2.0.0 Bye"

    talk(test)


def test_bytes_are_kept_as_they_came() -> None:
    body = b"Subject: \xfc\r\n\r\n" + bytes(octet for octet in range(256) if octet not in b"\r\n") + b"\r\n"

    async def test(client: Client, recorder: Recorder) -> None:
        assert (await client.deliver(body)).startswith("250")

    assert talk(test).mails[0].raw == body


def test_smtputf8_lets_addresses_be_utf8() -> None:
    async def test(client: Client, recorder: Recorder) -> None:
        assert (await client.say("MAIL FROM:<ü@example.org> SMTPUTF8".encode())).startswith("250")
        assert (await client.say("RCPT TO:<ö@example.com>".encode(), b"DATA")).startswith("354")
        await client.send(BODY + b".\r\n")
        assert (await client.answer()).startswith("250")

    [mail] = talk(test).mails
    assert (mail.mail_from, mail.recipients, mail.smtputf8) == ("ü@example.org", ["ö@example.com"], True)


# --- smuggling and out of turn

SMUGGLED = b"MAIL FROM:<admin@example.com>\r\nRCPT TO:<victim@example.com>\r\nDATA\r\nx\r\n"


@pytest.mark.parametrize(
    "sequence", [b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r.\r\n", b"\r\n.\r", b"\n.\r", b"\r\n\0.\r\n\n"]
)
def test_a_smuggled_mail_is_never_received(sequence: bytes) -> None:
    async def test(client: Client, recorder: Recorder) -> None:
        assert await client.deliver(BODY + sequence + SMUGGLED) == (
            "550 5.6.11 The message holds a bare CR or LF (RFC 5321 section 2.3.8)"
        )
        assert (await client.deliver()).startswith("250")

    assert [mail.raw for mail in talk(test).mails] == [BODY]


@pytest.mark.parametrize(
    "burst",
    [
        b"DATA\r\nSubject: x\r\n\r\nhi\r\n.\r\n",  # the message before 354
        b"EHLO x\r\nMAIL FROM:<>\r\n",
        b"HELO x\r\nMAIL FROM:<>\r\n",
    ],
)
def test_a_client_that_does_not_wait_its_turn_is_hung_up_on(burst: bytes) -> None:
    async def test(client: Client, recorder: Recorder) -> None:
        await client.say(*ENVELOPE)
        await client.send(burst)
        assert (await client.answer()).startswith("554 5.5.0")
        assert await client.answer() == ""

    assert talk(test).mails == []


def test_a_web_browser_is_hung_up_on() -> None:
    async def test(client: Client, recorder: Recorder) -> None:
        await client.send(b"POST / HTTP/1.1\r\nHost: mx\r\n\r\nEHLO x\r\nMAIL FROM:<>\r\n")
        assert (await client.answer()).startswith("554 5.5.0")
        assert await client.answer() == ""

    talk(test, greet=False)


# --- limits


def test_too_many_recipients_are_told_to_come_again() -> None:
    async def test(client: Client, recorder: Recorder) -> None:
        await client.say(b"MAIL FROM:<>")
        answers = [await client.say(b"RCPT TO:<b%d@x.org>" % number) for number in range(105)]
        assert [answer[:9] for answer in answers] == ["250 2.1.5"] * 100 + ["452 4.5.3"] * 5
        await client.say(b"DATA")
        await client.send(BODY + b".\r\n")
        assert (await client.answer()).startswith("250")

    assert len(talk(test).mails[0].recipients) == 100


def test_a_message_above_the_limit_is_refused_and_the_next_one_taken() -> None:
    async def test(client: Client, recorder: Recorder) -> None:
        assert (await client.deliver(b"x" * 98 + b"\r\n" + b"y" * 48 + b"\r\n")).startswith("552 5.3.4")
        assert (await client.deliver()).startswith("250")

    assert len(talk(test, limits=Limits(message=100)).mails) == 1


def test_a_message_without_end_is_cut_off() -> None:
    async def test(client: Client, recorder: Recorder) -> None:
        await client.say(*ENVELOPE, b"DATA")
        for _ in range(100):
            client.writer.write(b"x" * 98 + b"\r\n")
        assert (await client.answer()).startswith("552 5.3.4")
        assert await client.answer() == ""

    talk(test, limits=Limits(message=1000))


def test_more_mail_at_once_than_memory_is_put_off() -> None:
    async def test(client: Client, recorder: Recorder) -> None:
        await client.say(*ENVELOPE, b"DATA")
        await client.send(b"x" * 98 + b"\r\n")
        await asyncio.sleep(0.05)
        await client.send((b"x" * 98 + b"\r\n") * 20)
        await asyncio.sleep(0.05)
        await client.send(b"x\r\n.\r\n")
        assert (await client.answer()).startswith("452 4.3.1")
        assert (await client.deliver()).startswith("250")

    talk(test, limits=Limits(in_flight=1000))


def test_a_long_line_of_text_is_taken_and_an_absurd_one_refused() -> None:
    async def test(client: Client, recorder: Recorder) -> None:
        assert (await client.deliver(b"x" * 5000 + b"\r\n")).startswith("250")
        assert (await client.deliver(b"x" * 200_000 + b"\r\n")).startswith("554 5.6.0")
        assert (await client.deliver()).startswith("250")

    talk(test)


@pytest.mark.parametrize("size", [2049, 100_000, 3_000_000])
def test_a_long_command_is_refused_and_skipped(size: int) -> None:
    async def test(client: Client, recorder: Recorder) -> None:
        assert (await client.say(b"NOOP " + b"x" * size)).startswith("500 5.5.2")
        assert (await client.say(b"NOOP")).startswith("250")

    talk(test)


def test_nul_in_a_command_is_refused() -> None:
    async def test(client: Client, recorder: Recorder) -> None:
        assert (await client.say(b"MAIL FROM:<a\0@example.org>")).startswith("500 5.5.2")

    talk(test)


def test_errors_without_a_mail_end_the_session() -> None:
    async def test(client: Client, recorder: Recorder) -> None:
        for _ in range(4):
            await client.say(b"WHAT")
        await client.deliver()
        await client.say(b"MAIL FROM:<>")
        for _ in range(4):
            assert (await client.say(b"RCPT TO:<gone@x.org>")).startswith("550")
        await client.send(b"RCPT TO:<gone@x.org>\r\n")
        assert (await client.answer()).startswith("550")
        assert (await client.answer()).startswith("421 4.7.0")
        assert await client.answer() == ""

    talk(test, limits=Limits(errors=5))


def test_commands_without_a_mail_end_the_session() -> None:
    async def test(client: Client, recorder: Recorder) -> None:
        await client.send(b"NOOP\r\n" * 1000)
        answers = [await client.answer() for _ in range(50)]
        assert [answer[:9] for answer in answers] == ["250 2.0.0"] * 49 + ["421 4.7.0"]

    talk(test, limits=Limits(commands=50))


def test_a_silent_client_is_sent_away() -> None:
    async def test(client: Client, recorder: Recorder) -> None:
        assert (await client.answer()).startswith("421 4.4.2")
        assert await client.answer() == ""

    talk(test, limits=Limits(command_seconds=0.1))


def test_a_client_that_drips_a_command_is_sent_away() -> None:
    async def test(client: Client, recorder: Recorder) -> None:
        async def drip() -> None:
            for octet in b"NOOP " + b"x" * 200:
                client.writer.write(bytes([octet]))
                await asyncio.sleep(0.02)

        task = asyncio.create_task(drip())
        assert (await client.answer()).startswith("421 4.4.2")
        task.cancel()

    talk(test, limits=Limits(command_seconds=0.2))


@pytest.mark.parametrize("limits", [Limits(block_seconds=0.1), Limits(message_seconds=0.1)])
def test_a_slow_message_is_cut_off(limits: Limits) -> None:
    async def test(client: Client, recorder: Recorder) -> None:
        await client.say(*ENVELOPE, b"DATA")
        await client.send(b"Subject: x\r\n")
        assert (await client.answer()).startswith("421 4.4.2")

    assert talk(test, limits=limits).mails == []


def test_a_client_that_reads_no_answers_is_cut_off() -> None:
    async def run() -> None:
        limits = Limits(commands=10**9, command_seconds=0.2)
        listener = Listener(Recorder(), hostname="mx.example.com", limits=limits)
        await listener.start("127.0.0.1", 0)
        # Accepted sockets inherit it: there is less to fill.
        listener._server.sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
        client = await connect(listener)
        client.writer.transport.pause_reading()
        with pytest.raises(ConnectionError):
            for _ in range(2000):
                client.writer.write(b"VRFY\r\n" * 1000)
                await asyncio.wait_for(client.writer.drain(), 5)
        await listener.stop(1)

    run_loop(run())


def test_an_old_session_takes_no_new_mail() -> None:
    async def test(client: Client, recorder: Recorder) -> None:
        await client.deliver()
        await asyncio.sleep(0.2)
        await client.send(b"MAIL FROM:<>\r\n")
        await client.answer()
        answer = await client.say(b"RSET")
        assert answer.startswith(("250", "421 4.7.0"))
        assert (await client.answer()).startswith("421 4.7.0") or answer.startswith("421")

    talk(test, limits=Limits(session_seconds=0.1))


def test_connections_have_a_limit_and_free_their_place() -> None:
    async def run() -> None:
        listener = Listener(Recorder(), hostname="mx.example.com", limits=Limits(connections=2))
        await listener.start("127.0.0.1", 0)
        clients = [await connect(listener) for _ in range(3)]
        answers = [await client.answer() for client in clients]
        assert [answer[:9] for answer in answers] == ["220 mx.ex", "220 mx.ex", "421 4.3.2"]
        clients[0].writer.transport.abort()
        await asyncio.sleep(0.05)
        clients.append(await connect(listener))
        assert (await clients[3].answer()).startswith("220")
        for client in clients:
            client.writer.transport.abort()
        await listener.stop(1)

    run_loop(run())


# --- faults


def test_a_connection_lost_in_the_message_leaves_no_mail() -> None:
    async def test(client: Client, recorder: Recorder) -> None:
        await client.say(*ENVELOPE, b"DATA")
        await client.send(BODY + b"more\r\n")
        client.writer.transport.abort()
        await asyncio.sleep(0.05)

    assert talk(test).mails == []


def test_a_fault_of_the_receiver_is_temporary(caplog: pytest.LogCaptureFixture) -> None:
    async def test(client: Client, recorder: Recorder) -> None:
        await client.say(b"MAIL FROM:<>")
        assert (await client.say(b"RCPT TO:<fault@x.org>")).startswith("451 4.3.0")
        await client.say(b"RSET")
        assert (await client.deliver(b"fault\r\n")).startswith("451 4.3.0")
        assert (await client.deliver()).startswith("250")

    with caplog.at_level(logging.CRITICAL):
        talk(test)


def test_a_stop_lets_a_mail_finish_and_sends_the_others_away() -> None:
    async def run() -> None:
        recorder = Recorder()
        recorder.delay = 0.2
        listener = Listener(recorder, hostname="mx.example.com")
        await listener.start("127.0.0.1", 0)
        busy, idle, slow = [await connect(listener) for _ in range(3)]
        for client in (busy, idle, slow):
            await client.answer()
            await client.say(b"EHLO x")
        for client in (busy, slow):
            await client.say(*ENVELOPE, b"DATA")
        await busy.send(BODY + b".\r\n")
        await asyncio.sleep(0.05)
        stopping = asyncio.create_task(listener.stop(0.5))
        assert (await idle.answer()).startswith("421 4.3.2")
        assert (await busy.answer()).startswith("250")
        assert (await busy.answer()).startswith("421 4.3.2")
        assert (await slow.answer()).startswith("421 4.3.2")
        await stopping
        assert len(recorder.mails) == 1
        with pytest.raises(ConnectionRefusedError):
            await connect(listener)
        for client in (busy, idle, slow):
            client.writer.close()

    run_loop(run())


# --- TLS


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def server_tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("mx.example.com").configure_cert(context)
    return context


@pytest.fixture(scope="module")
def client_tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def test_starttls_encrypts_and_begins_anew(server_tls: ssl.SSLContext, client_tls: ssl.SSLContext) -> None:
    async def test(client: Client, recorder: Recorder) -> None:
        assert "STARTTLS" in await client.say(b"EHLO x")
        await client.say(b"MAIL FROM:<>")
        assert (await client.say(b"STARTTLS")).startswith("220 2.0.0")
        await client.writer.start_tls(client_tls, server_hostname="mx.example.com")
        assert (await client.say(b"MAIL FROM:<>")).startswith("503 5.5.1 Say EHLO")
        assert "STARTTLS" not in await client.say(b"EHLO x")
        assert (await client.say(b"STARTTLS")).startswith("503")
        assert (await client.deliver()).startswith("250")
        assert (await client.say(b"QUIT")).startswith("221")

    [session] = talk(test, tls=server_tls).sessions
    assert session.tls is not None
    assert session.tls.version == "TLSv1.3"


def test_commands_slipped_in_behind_starttls_are_refused(server_tls: ssl.SSLContext) -> None:
    async def test(client: Client, recorder: Recorder) -> None:
        await client.send(b"STARTTLS\r\nEHLO evil\r\nMAIL FROM:<evil@example.org>\r\n")
        assert (await client.answer()).startswith("554 5.5.0")
        assert await client.answer() == ""

    talk(test, tls=server_tls)


@pytest.mark.parametrize("noise", [b"EHLO in the clear\r\n", b"\x16\x03\x01\xff\xff" + b"x" * 100])
def test_a_failed_handshake_ends_the_session_only(server_tls: ssl.SSLContext, noise: bytes) -> None:
    async def test(client: Client, recorder: Recorder) -> None:
        await client.say(b"STARTTLS")
        await client.send(noise)
        await asyncio.wait_for(client.reader.read(), 5)

    talk(test, tls=server_tls)


def test_a_stalled_handshake_ends_in_time(server_tls: ssl.SSLContext) -> None:
    async def test(client: Client, recorder: Recorder) -> None:
        await client.say(b"STARTTLS")
        assert await asyncio.wait_for(client.reader.read(), 2) == b""

    talk(test, tls=server_tls, limits=Limits(command_seconds=0.2))


# --- the trace field

WHEN = datetime(2025, 11, 20, 8, 30, tzinfo=UTC)


def make_header(recipients: list[str], *, smtputf8: bool = False, **session) -> str:
    info = SessionInfo(**{"client_ip": "192.0.2.1", "client_port": 1, "hostname": "mx.example.com", **session})
    return received_header(info, ReceivedMail("", recipients, b"", smtputf8, WHEN), mail_id="abc123").decode()


def test_the_received_field_says_who_how_and_when() -> None:
    text = make_header(["b@example.com"], helo="client.example.org", is_esmtp=True)
    assert text == (
        "Received: from client.example.org ([192.0.2.1])\r\n"
        "\tby mx.example.com with ESMTP id abc123\r\n"
        "\tfor <b@example.com>;\r\n"
        "\tThu, 20 Nov 2025 08:30:00 +0000\r\n"
    )
    field = message_from_bytes(text.encode() + b"\r\n")["Received"]
    assert parsedate_to_datetime(field.rpartition(";")[2].strip()) == WHEN


@pytest.mark.parametrize(
    ("is_esmtp", "tls", "smtputf8", "expected"),
    [
        (False, False, False, "SMTP"),
        (True, False, False, "ESMTP"),
        (True, True, False, "ESMTPS"),
        (True, False, True, "UTF8SMTP"),
        (True, True, True, "UTF8SMTPS"),
    ],
)
def test_the_received_field_names_the_protocol(is_esmtp: bool, tls: bool, smtputf8: bool, expected: str) -> None:
    info = TlsInfo("TLSv1.3", "TLS_AES_256_GCM_SHA384", False) if tls else None
    text = make_header(["b@example.com"], smtputf8=smtputf8, is_esmtp=is_esmtp, tls=info)
    assert f" with {expected} id " in text
    assert ("TLSv1.3" in text) is tls


def test_the_received_field_names_no_blind_copies() -> None:
    assert "for <" not in make_header(["b@example.com", "c@example.com"])


def test_the_received_field_cannot_be_forged_by_a_helo_name() -> None:
    text = make_header(["b@example.com"], helo="x)(by\tevil;<script>", client_ip="2001:db8::1")
    assert text.startswith("Received: from x??by?evil??script? ([IPv6:2001:db8::1])\r\n")
