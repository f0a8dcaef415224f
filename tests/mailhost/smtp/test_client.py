"""The SMTP client and an honest server: what is sent, and how answers become outcomes."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest
import trustme

from mailhost.envelope import Envelope
from mailhost.errors import InvalidAddress
from mailhost.smtp.client import (
    Credentials,
    SendResult,
    SessionFailed,
    SmtpSession,
    Timeouts,
    TlsMode,
    UnsafeMessage,
    encode_body,
)
from mailhost.smtp.replies import Outcome, Stage
from tests.fakes.smtp import SmtpSink

RAW = b"From: a@example.org\r\nTo: b@example.com\r\nSubject: x\r\n\r\nHello\r\n"
QUICK = Timeouts(connect=2, greeting=2, helo=2, starttls=2, auth=2, mail=2, rcpt=2, data=2, block=2, final=2, quit=1)


def to(recipient: str, raw: bytes = RAW, **more) -> Envelope:
    return Envelope("a@example.org", recipient, raw, **more)


async def open_session(sink: SmtpSink, **more) -> SmtpSession:
    return await SmtpSession.open(
        sink.host, sink.port, **{"helo_name": "client.example.org", "timeouts": QUICK, **more}
    )


def send_all(sink: SmtpSink, *envelopes: Envelope, **more) -> list[SendResult]:
    async def talk() -> list[SendResult]:
        session = await open_session(sink, **more)
        results = [await session.send(envelope) for envelope in envelopes]
        await session.quit()
        return results

    return asyncio.run(talk())


# --- sending


def test_a_mail_arrives_byte_for_byte() -> None:
    raw = RAW + b".\r\n..\r\n.hidden\r\n\r\n.\r\nlast without end"
    with SmtpSink() as sink:
        [result] = send_all(sink, to("b@example.com", raw))
    [mail] = sink.mails
    assert mail.raw == raw + b"\r\n"
    assert (mail.mail_from, mail.rcpt_to, mail.helo) == (
        "a@example.org",
        ["b@example.com"],
        "client.example.org",
    )
    assert (result.outcome, result.reply.code, result.stage) == (Outcome.DELIVERED, 250, Stage.FINAL)
    assert (result.remote_ip, result.tls, result.is_local) == ("127.0.0.1", None, False)


def test_the_null_return_path_is_sent_as_empty_brackets() -> None:
    with SmtpSink() as sink:
        send_all(sink, Envelope("", "b@example.com", RAW))
    assert any(command.startswith("MAIL FROM:<>") for command in sink.commands)


def test_one_connection_carries_many_mails() -> None:
    with SmtpSink() as sink:
        results = send_all(sink, *[to(f"b{number}@example.com") for number in range(50)])
    assert {result.outcome for result in results} == {Outcome.DELIVERED}
    assert [mail.rcpt_to for mail in sink.mails] == [[f"b{number}@example.com"] for number in range(50)]
    assert sink.connections == 1
    assert "RSET" not in sink.commands


def test_a_large_mail_arrives_whole() -> None:
    raw = RAW + b"0123456789abcdef" * 64 * 2048 + b"\r\n"
    with SmtpSink() as sink:
        [result] = send_all(sink, to("b@example.com", raw))
    assert result.outcome is Outcome.DELIVERED
    assert sink.mails[0].raw == raw


@pytest.mark.parametrize("pipelining", [True, False])
def test_parameters_follow_what_the_server_announces(pipelining: bool) -> None:
    features = ("8BITMIME", "SMTPUTF8", "SIZE 0") + (("PIPELINING",) if pipelining else ())
    eight_bit = RAW + "grüß\r\n".encode()
    with SmtpSink(features=features) as sink:
        send_all(sink, to("b@example.com"), to("grüß@example.com", eight_bit, smtputf8=True))
    plain, international = (mail.mail_parameters for mail in sink.mails)
    assert plain == f"SIZE={len(RAW) + 3}"
    assert international == f"SIZE={len(eight_bit) + 3} SMTPUTF8 BODY=8BITMIME"
    assert sink.mails[1].rcpt_to == ["grüß@example.com"]


def test_nothing_is_announced_that_the_server_does_not_know() -> None:
    with SmtpSink(features=()) as sink:
        send_all(sink, to("b@example.com"))
    assert sink.mails[0].mail_parameters == ""


def test_a_server_without_ehlo_is_greeted_with_helo() -> None:
    with SmtpSink(ehlo=False) as sink:
        [result] = send_all(sink, to("b@example.com"))
    assert result.outcome is Outcome.DELIVERED
    assert sink.commands[:2] == ["EHLO client.example.org", "HELO client.example.org"]


@pytest.mark.parametrize(
    ("features", "envelope", "enhanced"),
    [
        (("8BITMIME",), to("b@example.com", smtputf8=True), "5.6.7"),
        ((), to("b@example.com", RAW + b"\xfc\r\n"), "5.6.3"),
        (("SIZE 50",), to("b@example.com"), "5.3.4"),
    ],
)
def test_what_the_server_cannot_take_fails_before_it_is_sent(features, envelope, enhanced) -> None:
    with SmtpSink(features=features) as sink:
        [result, after] = send_all(sink, envelope, to("b@example.com", b"x: y\r\n\r\n"))
    assert (result.outcome, result.reply.enhanced, result.is_local) == (Outcome.PERMANENT, enhanced, True)
    assert after.outcome is Outcome.DELIVERED


@pytest.mark.parametrize("strange", ["SIZE 99999999999999999999999", "SIZE ²", "SIZE x", "SIZE", "=", ""])
def test_a_strange_size_is_no_limit(strange: str) -> None:
    with SmtpSink(features=(strange,)) as sink:
        [result] = send_all(sink, to("b@example.com"))
    assert result.outcome is Outcome.DELIVERED


# --- answers


@pytest.mark.parametrize("pipelining", [True, False])
@pytest.mark.parametrize(
    ("stage", "reply", "outcome"),
    [
        ("mail", "550 5.7.1 not you", Outcome.PERMANENT),
        ("mail", "451 4.3.0 later", Outcome.TEMPORARY),
        ("rcpt", "550 5.1.1 no such user", Outcome.PERMANENT),
        ("rcpt", "450 4.7.1 greylisted", Outcome.TEMPORARY),
        ("data", "554 5.7.0 no", Outcome.PERMANENT),
        ("final", "550 5.7.1 spam", Outcome.PERMANENT),
        ("final", "452 4.3.1 disk full", Outcome.TEMPORARY),
    ],
)
def test_a_refusal_costs_one_mail_and_the_next_one_passes(pipelining, stage, reply, outcome) -> None:
    features = ("PIPELINING",) if pipelining else ()
    with SmtpSink(features=features) as sink:
        sink.refuse(stage, reply, times=1)
        bad, good = send_all(sink, to("bad@example.com"), to("good@example.com"))
    assert (bad.outcome, str(bad.reply), bad.stage, bad.is_local) == (outcome, reply, Stage(stage), False)
    assert good.outcome is Outcome.DELIVERED
    assert [mail.rcpt_to for mail in sink.mails] == [["good@example.com"]]
    assert sink.connections == 1


def test_a_failed_transaction_is_reset_before_the_next() -> None:
    with SmtpSink() as sink:
        sink.refuse("rcpt", "550 5.1.1 no", match="bad@")
        send_all(sink, to("bad@example.com"), to("good@example.com"))
    assert sink.commands.count("RSET") == 1


@pytest.mark.parametrize("reply", ["250 2.1.5 ok", "354 go ahead"])
def test_data_accepted_without_recipient_is_ended_at_once(reply: str) -> None:
    """RFC 2920 3.1: pipelined DATA may be accepted although the recipient was not."""
    with SmtpSink() as sink:
        sink.refuse("rcpt", "550 5.1.1 no", match="bad@")
        sink.refuse("data", reply, times=1)
        bad, _ = send_all(sink, to("bad@example.com"), to("good@example.com"))
    assert bad.outcome is Outcome.PERMANENT
    assert bad.stage is Stage.RCPT


def test_a_server_that_cannot_reset_does_not_fail_the_next_mail() -> None:
    with SmtpSink() as sink:
        sink.refuse("rcpt", "550 5.1.1 no", match="bad@")
        sink.refuse("rset", "502 5.5.1 what is RSET?")
        _, after = send_all(sink, to("bad@example.com"), to("good@example.com"))
    assert after.outcome is Outcome.TEMPORARY


@pytest.mark.parametrize("stage", ["mail", "rcpt", "data", "final"])
def test_421_ends_the_connection_and_is_temporary(stage: str) -> None:
    async def talk(sink: SmtpSink) -> tuple[SendResult, bool]:
        session = await open_session(sink)
        result = await session.send(to("b@example.com"))
        is_open = session.is_open
        await session.quit()
        return result, is_open

    with SmtpSink() as sink:
        sink.disconnect(stage, reply="421 4.3.2 going down")
        result, is_open = asyncio.run(talk(sink))
    assert (result.outcome, result.reply.code, result.is_local) == (Outcome.TEMPORARY, 421, False)
    assert not is_open


def test_a_server_that_says_goodbye_between_mails_is_noticed() -> None:
    async def talk(sink: SmtpSink) -> bool:
        session = await open_session(sink)
        await session.send(to("b@example.com"))
        sink.hang_up()
        await asyncio.sleep(0.05)
        is_open = session.is_open
        result = await session.send(to("b@example.com"))
        assert (result.outcome, result.is_stale, result.after_data) == (Outcome.TEMPORARY, True, False)
        await session.quit()
        return is_open

    with SmtpSink() as sink:
        assert not asyncio.run(talk(sink))


# --- a connection that breaks


@pytest.mark.parametrize(
    ("stage", "after_data"),
    [("mail", False), ("rcpt", False), ("data", False), ("body", True), ("final", True)],
)
def test_a_lost_connection_is_temporary_and_tells_whether_the_mail_was_out(stage: str, after_data: bool) -> None:
    with SmtpSink() as sink:
        sink.disconnect(stage)
        [result] = send_all(sink, to("b@example.com"))
    assert (result.outcome, result.is_local, result.is_stale) == (Outcome.TEMPORARY, True, False)
    assert result.after_data is after_data
    assert result.reply.enhanced == "4.4.2"


def test_a_large_mail_cut_in_the_middle_was_not_out() -> None:
    with SmtpSink() as sink:
        sink.disconnect("body")
        [result] = send_all(sink, to("b@example.com", RAW + b"x" * 20_000_000 + b"\r\n"))
    assert (result.outcome, result.after_data) == (Outcome.TEMPORARY, False)


@pytest.mark.parametrize("size", [100, 20_000_000])
def test_a_refusal_in_the_middle_of_the_body_is_the_answer(size: int) -> None:
    with SmtpSink() as sink:
        sink.disconnect("body", reply="552 5.3.4 too big")
        [result] = send_all(sink, to("b@example.com", RAW + b"x" * size + b"\r\n"))
    assert result.outcome in (Outcome.PERMANENT, Outcome.TEMPORARY)
    if not result.is_local:  # a reset may overtake the reply: then nothing was heard
        assert (result.outcome, result.reply.enhanced) == (Outcome.PERMANENT, "5.3.4")


@pytest.mark.parametrize(("stage", "after_data"), [("mail", False), ("rcpt", False), ("data", False), ("final", True)])
def test_a_stall_ends_in_time(stage: str, after_data: bool) -> None:
    timeouts = Timeouts(mail=0.1, rcpt=0.1, data=0.1, final=0.1, quit=0.1)
    with SmtpSink() as sink:
        sink.delay(stage, 5)
        [result] = send_all(sink, to("b@example.com"), timeouts=timeouts)
    assert (result.outcome, result.after_data) == (Outcome.TEMPORARY, after_data)
    assert "in time" in result.reply.text


def test_a_whole_mail_has_a_time_limit_too() -> None:
    with SmtpSink() as sink:
        for stage in ("mail", "rcpt", "data", "final"):
            sink.delay(stage, 0.2)
        [result] = send_all(sink, to("b@example.com"), timeouts=Timeouts(whole=0.3, quit=0.1))
    assert (result.outcome, result.is_local) == (Outcome.TEMPORARY, True)


def test_a_cancelled_send_leaves_no_usable_connection() -> None:
    async def talk(sink: SmtpSink) -> None:
        session = await open_session(sink)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(session.send(to("b@example.com")), 0.1)
        assert not session.is_open

    with SmtpSink() as sink:
        sink.delay("rcpt", 5)
        asyncio.run(talk(sink))


@pytest.mark.parametrize(
    ("stage", "reply"),
    [
        ("connect", "554 5.7.1 no service"),
        ("connect", "421 busy"),
        ("helo", "550 bad name"),
        ("helo", "450 later"),
    ],
)
def test_a_server_that_will_not_talk_fails_no_mail(stage: str, reply: str) -> None:
    with SmtpSink() as sink, pytest.raises(SessionFailed) as caught:
        sink.refuse(stage, reply)
        asyncio.run(open_session(sink))
    assert str(caught.value.reply) == reply
    assert not caught.value.is_local
    assert caught.value.stage == ("greeting" if stage == "connect" else "helo")


def test_nobody_listening_is_a_connect_failure() -> None:
    with SmtpSink() as sink:
        port = sink.port
    with pytest.raises(SessionFailed) as caught:
        asyncio.run(SmtpSession.open("127.0.0.1", port, helo_name="x.example", timeouts=QUICK))
    assert (caught.value.stage, caught.value.reply.enhanced) == (Stage.CONNECT, "4.4.1")


def test_the_source_address_is_used() -> None:
    with SmtpSink() as sink:
        [result] = send_all(sink, to("b@example.com"), source_address="127.0.0.5")
    assert result.outcome is Outcome.DELIVERED


# --- nothing can be injected


@pytest.mark.parametrize(
    "text", ["b@example.com\r\nRCPT TO:<c@example.com>", "b@example.com> SIZE=1", "b\0@example.com"]
)
def test_an_address_cannot_carry_a_command(text: str) -> None:
    with pytest.raises(InvalidAddress):
        to(text)


@pytest.mark.parametrize("name", ["x\r\nMAIL FROM:<>", "x y", "", "x\n", "ü.example"])
def test_a_helo_name_cannot_carry_a_command(name: str) -> None:
    with SmtpSink() as sink, pytest.raises(ValueError, match="helo_name"):
        asyncio.run(open_session(sink, helo_name=name))
    assert sink.connections == 0


@pytest.mark.parametrize(
    "text", [b"\n.\n", b"\n.\r\n", b"\r.\r\n", b"\r.\r", b"\r\n.\r", b"\r\n.\n", b"a\rb", b"\r\r\n"]
)
def test_a_message_cannot_end_early_anywhere(text: bytes) -> None:
    """No server, however it reads line ends, may find an end of data inside (SMTP smuggling)."""
    with pytest.raises(UnsafeMessage):
        encode_body(RAW + text + b"MAIL FROM:<x@example.org>\r\n")


@pytest.mark.parametrize(
    ("raw", "body"),
    [
        (b"", b".\r\n"),
        (b"x", b"x\r\n.\r\n"),
        (b"x\r\n", b"x\r\n.\r\n"),
        (b".", b"..\r\n.\r\n"),
        (b".\r\n", b"..\r\n.\r\n"),
        (b"a\r\n.\r\n.b\r\n", b"a\r\n..\r\n..b\r\n.\r\n"),
        (b"a.b\r\n", b"a.b\r\n.\r\n"),
    ],
)
def test_dots_are_doubled_and_the_end_is_marked(raw: bytes, body: bytes) -> None:
    assert encode_body(raw) == body


# --- encryption and passwords


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def ca_file(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return path


@pytest.fixture(scope="module")
def context(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("mx.example.com").configure_cert(context)
    return context


def test_starttls_is_used_when_offered_and_need_not_verify(context: ssl.SSLContext) -> None:
    with SmtpSink(starttls=context) as sink:
        [result] = send_all(sink, to("b@example.com"))
    assert sink.mails[0].tls
    assert result.tls is not None
    assert (result.tls.version, result.tls.verified) == ("TLSv1.3", False)
    assert [command[:4] for command in sink.commands[:3]] == ["EHLO", "STAR", "EHLO"]


def test_starttls_is_not_used_when_off(context: ssl.SSLContext) -> None:
    with SmtpSink(starttls=context) as sink:
        send_all(sink, to("b@example.com"), tls=TlsMode.OFF)
    assert not sink.mails[0].tls


@pytest.mark.parametrize("mode", [TlsMode.VERIFIED, TlsMode.IMPLICIT])
def test_a_verified_session_sends_to_the_right_server_only(context, ca_file, mode) -> None:
    how = {"tls": context} if mode is TlsMode.IMPLICIT else {"starttls": context}
    with SmtpSink(**how) as sink:
        [result] = send_all(sink, to("b@example.com"), tls=mode, server_name="mx.example.com", ca_file=ca_file)
        assert result.tls is not None
        assert result.tls.verified
        for wrong in (
            {"server_name": "other.example.com", "ca_file": ca_file},
            {"server_name": "mx.example.com"},
        ):
            with pytest.raises(SessionFailed):
                send_all(sink, to("b@example.com"), tls=mode, **wrong)
    assert len(sink.mails) == 1


def test_a_verified_session_needs_starttls() -> None:
    with SmtpSink() as sink, pytest.raises(SessionFailed) as caught:
        send_all(sink, to("b@example.com"), tls=TlsMode.VERIFIED)
    assert (caught.value.stage, caught.value.reply.enhanced) == (Stage.STARTTLS, "4.7.4")


@pytest.mark.parametrize("reply", ["454 4.7.0 not now", "502 5.5.1 no"])
def test_a_refused_starttls_leaves_the_opportunist_in_the_clear(context, reply) -> None:
    with SmtpSink(starttls=context) as sink:
        sink.refuse("starttls", reply)
        [result] = send_all(sink, to("b@example.com"))
        assert (result.outcome, result.tls) == (Outcome.DELIVERED, None)
        with pytest.raises(SessionFailed):
            send_all(sink, to("b@example.com"), tls=TlsMode.VERIFIED)


def test_a_broken_handshake_is_tried_again_in_the_clear() -> None:
    unusable = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)  # has no certificate
    with SmtpSink(starttls=unusable) as sink:
        [result] = send_all(sink, to("b@example.com"))
        assert (result.outcome, result.tls, sink.connections) == (Outcome.DELIVERED, None, 2)
        with pytest.raises(SessionFailed) as caught:
            send_all(sink, to("b@example.com"), tls=TlsMode.VERIFIED)
    assert caught.value.stage is Stage.STARTTLS


@pytest.mark.parametrize("mechanisms", ["PLAIN LOGIN", "LOGIN", "CRAM-MD5 PLAIN"])
def test_a_smarthost_gets_name_and_password(context, ca_file, mechanisms) -> None:
    how = {"tls": TlsMode.VERIFIED, "server_name": "mx.example.com", "ca_file": ca_file}
    with SmtpSink(starttls=context, users={"müller": "s3cret ü"}, mechanisms=mechanisms) as sink:
        send_all(sink, to("b@example.com"), credentials=Credentials("müller", "s3cret ü"), **how)
        with pytest.raises(SessionFailed) as caught:
            send_all(sink, to("b@example.com"), credentials=Credentials("müller", "wrong"), **how)
    assert [mail.user for mail in sink.mails] == ["müller"]
    assert (caught.value.stage, caught.value.reply.code) == (Stage.AUTH, 535)


def test_a_smarthost_without_a_known_mechanism_is_a_clear_failure() -> None:
    with (
        SmtpSink(users={"u": "p"}, mechanisms="GSSAPI") as sink,
        pytest.raises(SessionFailed, match="neither"),
    ):
        send_all(sink, to("b@example.com"), credentials=Credentials("u", "p"))


def test_a_password_is_not_shown() -> None:
    assert "s3cret" not in repr(Credentials("u", "s3cret"))
