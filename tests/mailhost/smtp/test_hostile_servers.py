"""The SMTP client and servers that misbehave: every wait ends, every size is bounded, no mail is failed for it."""

from __future__ import annotations

import asyncio
import ssl
import time

import pytest

from mailhost.envelope import Envelope
from mailhost.smtp.client import Credentials, SendResult, SessionFailed, SmtpSession, Timeouts, TlsMode
from mailhost.smtp.replies import Outcome, Stage
from tests.fakes.smtp import Handler, LoopbackServer

MAIL = Envelope("a@example.org", "b@example.com", b"Subject: x\r\n\r\nHello\r\n")
SHORT = Timeouts(
    connect=1,
    greeting=0.1,
    helo=0.1,
    starttls=0.1,
    auth=0.1,
    mail=0.1,
    rcpt=0.1,
    data=0.1,
    block=0.1,
    final=0.1,
    quit=0.1,
)
HELLO = b"250-hostile\r\n250-PIPELINING\r\n250-SIZE 0\r\n"


async def talk(port: int, mail: Envelope, **more) -> SendResult:
    session = await SmtpSession.open("127.0.0.1", port, helo_name="c.example.org", timeouts=SHORT, **more)
    result = await session.send(mail)
    await session.quit()
    return result


def send_to(handler: Handler, mail: Envelope = MAIL, *, limit: int = 2**26, **more) -> SendResult:
    with LoopbackServer(handler, limit=limit) as server:
        started = time.monotonic()
        try:
            return asyncio.run(talk(server.port, mail, **more))
        finally:
            assert time.monotonic() - started < 2


def fail_at(handler: Handler, **more) -> SessionFailed:
    with pytest.raises(SessionFailed) as caught:
        send_to(handler, **more)
    assert caught.value.is_local
    return caught.value


async def repeat(writer: asyncio.StreamWriter, data: bytes) -> None:
    for _ in range(10_000):
        writer.write(data)
        await writer.drain()


def speak(*answers: bytes, then: bytes | None = None) -> Handler:
    """Give one answer per line that comes, then repeat `then` without end, or fall silent."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for index, answer in enumerate(answers):
            if index:
                await reader.readline()
            writer.write(answer)
        if then is not None:
            await repeat(writer, then)
        await asyncio.sleep(5)

    return handler


@pytest.mark.parametrize("flood", [b"220-hello\r\n", b"x" * 1000, b"220 " + b"y" * 1000, b"\0" * 1000, b"\r\n"])
def test_an_endless_greeting_is_cut_off(flood: bytes) -> None:
    failure = fail_at(speak(b"", then=flood))
    assert (failure.stage, failure.reply.code, failure.reply.enhanced) == (Stage.GREETING, 451, "4.5.0")


@pytest.mark.parametrize("flood", [b"250-FEATURE\r\n", b"250-" + b"X" * 4000 + b"\r\n", b"250-X"])
def test_an_endless_ehlo_answer_is_cut_off(flood: bytes) -> None:
    failure = fail_at(speak(b"220 hi\r\n", b"", then=flood))
    assert (failure.stage, failure.reply.enhanced) == (Stage.HELO, "4.5.0")


@pytest.mark.parametrize(
    "garbage",
    [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x15\x03\x01\x00\x02\x02\n", b"SSH-2.0-OpenSSH_9.2\r\n", b"+OK POP3\r\n"],
)
def test_another_protocol_is_not_taken_for_smtp(garbage: bytes) -> None:
    assert fail_at(speak(garbage)).reply.enhanced == "4.5.0"


def test_a_greeting_that_drips_ends_in_time() -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(100):
            writer.write(b"2")
            await asyncio.sleep(0.05)

    failure = fail_at(drip)
    assert (failure.stage, failure.reply.enhanced) == (Stage.GREETING, "4.4.2")


@pytest.mark.parametrize(
    ("answers", "stage"),
    [
        ((), Stage.GREETING),
        ((b"220 hi\r\n",), Stage.HELO),
        ((b"220 hi\r\n", b"250-x\r\n250 STARTTLS\r\n"), Stage.STARTTLS),
        ((b"220 hi\r\n", b"250-x\r\n250 STARTTLS\r\n", b"220 go\r\n"), Stage.STARTTLS),
    ],
)
def test_a_stall_before_the_mail_ends_in_time(answers: tuple[bytes, ...], stage: Stage) -> None:
    failure = fail_at(speak(*answers), tls=TlsMode.VERIFIED)
    assert failure.stage is stage
    assert failure.reply.code == 451


@pytest.mark.parametrize("answers", [(b"250-x\r\n250 AUTH PLAIN\r\n",), (b"250-x\r\n250 AUTH LOGIN\r\n", b"334 ?\r\n")])
def test_a_stall_at_the_password_ends_in_time(answers: tuple[bytes, ...]) -> None:
    failure = fail_at(speak(b"220 hi\r\n", *answers), credentials=Credentials("u", "p"))
    assert failure.stage is Stage.AUTH


def test_a_password_prompt_without_end_is_a_failure() -> None:
    async def prompt(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 hi\r\n")
        while line := await reader.readline():
            writer.write(b"250-x\r\n250 AUTH LOGIN\r\n" if line.startswith(b"EHLO") else b"334 more\r\n")

    with pytest.raises(SessionFailed) as caught:
        send_to(prompt, credentials=Credentials("u", "p"))
    assert caught.value.reply.code == 334


@pytest.mark.parametrize("mode", [TlsMode.OPPORTUNISTIC, TlsMode.VERIFIED])
@pytest.mark.parametrize("extra", [b"250-injected\r\n250 AUTH PLAIN\r\n", b"x", b"\r\n"])
def test_plaintext_behind_the_answer_to_starttls_is_refused(mode: TlsMode, extra: bytes) -> None:
    """CVE-2011-0411 and its kin: what a third party put there must not pass for the encrypted server's words."""
    failure = fail_at(speak(b"220 hi\r\n", b"250-x\r\n250 STARTTLS\r\n", b"220 go\r\n" + extra), tls=mode)
    assert (failure.stage, failure.reply.enhanced) == (Stage.STARTTLS, "4.5.0")


def test_a_server_that_breaks_every_handshake_is_called_twice_only() -> None:
    handler = speak(b"220 hi\r\n", b"250-x\r\n250 STARTTLS\r\n", b"220 go\r\n", b"not TLS at all\r\n")
    with LoopbackServer(handler) as server:
        result = asyncio.run(talk(server.port, MAIL))
        assert server.connections == 2
    assert (result.outcome, result.tls) == (Outcome.TEMPORARY, None)


def test_implicit_tls_with_a_plain_server_ends() -> None:
    failure = fail_at(speak(b"220 hi\r\n"), tls=TlsMode.IMPLICIT)
    assert failure.stage is Stage.CONNECT


@pytest.mark.parametrize("stage", ["mail", "rcpt", "data", "final"])
@pytest.mark.parametrize("flood", [b"250-x\r\n", b"y" * 1000, b"\xff\xfe\r\n"])
def test_a_flood_instead_of_an_answer_is_temporary(stage: str, flood: bytes) -> None:
    answers = [b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n"][: ["mail", "rcpt", "data", "final"].index(stage)]
    result = send_to(speak(b"220 hi\r\n", HELLO + b"250 X\r\n", *answers, b"", then=flood))
    assert (result.outcome, result.is_local, result.stage) == (Outcome.TEMPORARY, True, Stage(stage))


def test_a_server_that_floods_while_the_body_is_sent_is_cut_off() -> None:
    large = Envelope("a@example.org", "b@example.com", b"x" * 70 + b"\r\n" + b"y" * 30_000_000)
    result = send_to(
        speak(b"220 hi\r\n", HELLO + b"250 X\r\n", b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n", then=b"z" * 4000), large
    )
    assert (result.outcome, result.after_data) == (Outcome.TEMPORARY, False)


def test_a_server_that_never_reads_the_body_is_left() -> None:
    large = Envelope("a@example.org", "b@example.com", b"y" * 30_000_000)
    answers = (b"220 hi\r\n", HELLO + b"250 X\r\n", b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n")
    result = send_to(speak(*answers), large, limit=1000)
    assert (result.outcome, result.after_data, result.reply.enhanced) == (Outcome.TEMPORARY, False, "4.4.2")


def test_an_answer_nobody_asked_for_ends_the_connection_after_the_mail() -> None:
    async def run(port: int) -> bool:
        session = await SmtpSession.open("127.0.0.1", port, helo_name="c.example.org", timeouts=SHORT)
        result = await session.send(MAIL)
        assert result.outcome is Outcome.DELIVERED
        await asyncio.sleep(0.05)
        is_open = session.is_open
        await session.quit()
        return is_open

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 hi\r\n")
        await reader.readline()
        writer.write(HELLO + b"250 X\r\n")
        await reader.readuntil(b"DATA\r\n")
        writer.write(b"250 ok\r\n250 ok\r\n354 go\r\n")
        await reader.readuntil(b"\r\n.\r\n")
        writer.write(b"250 ok\r\n250 and the next one is fine too\r\n")
        await asyncio.sleep(5)

    with LoopbackServer(handler) as server:
        assert not asyncio.run(run(server.port))


def test_what_a_server_says_is_kept_storable_and_short() -> None:
    nasty = b"550 5.1.1 \0\x1b[2J" + b"n" * 4000 + b"\r\n"
    result = send_to(speak(b"220 hi\r\n", b"250 x\r\n", b"250 ok\r\n", nasty))
    assert result.outcome is Outcome.PERMANENT
    assert "\0" not in result.reply.text
    assert len(result.reply.text) <= 2000


def test_a_server_that_hangs_up_at_once_is_a_failed_session() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    assert fail_at(handler).stage in (Stage.CONNECT, Stage.GREETING)


def test_a_self_made_certificate_does_not_pass_for_verified(tmp_path) -> None:
    from mailhost.smtp.tls import self_signed, server_context

    context = server_context(self_signed(tmp_path, "mx.example.com"))
    assert isinstance(context, ssl.SSLContext)

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 hi\r\n")
        await reader.readline()
        writer.write(b"250-x\r\n250 STARTTLS\r\n")
        await reader.readline()
        writer.write(b"220 go\r\n")
        await writer.start_tls(context)

    failure = fail_at(handler, tls=TlsMode.VERIFIED, server_name="mx.example.com")
    assert (failure.stage, failure.reply.enhanced) == (Stage.STARTTLS, "4.7.5")
