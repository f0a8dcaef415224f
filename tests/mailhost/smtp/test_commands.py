"""Command lines of clients: read strictly, and every refusal is a reply."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailhost.smtp.commands import CommandRefused, MailCommand, parse_command, parse_helo, parse_mail, parse_rcpt


def mail(argument: str, *, is_esmtp: bool = True) -> MailCommand:
    return parse_mail(argument, max_size=1000, is_esmtp=is_esmtp)


def rcpt(argument: str, *, smtputf8: bool = False) -> str:
    return parse_rcpt(argument, hostname="mx.example.com", is_esmtp=True, smtputf8=smtputf8)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"QUIT\r\n", ("QUIT", "")),
        (b"quit \r\n", ("QUIT", "")),
        (b"EHLO  a.example \r\n", ("EHLO", "a.example")),
        (b"mail from:<a@b.org>\r\n", ("MAIL", "from:<a@b.org>")),
        ("RCPT TO:<ü@b.org>\r\n".encode(), ("RCPT", "TO:<ü@b.org>")),
    ],
)
def test_a_command_is_verb_and_argument(line: bytes, expected: tuple[str, str]) -> None:
    assert parse_command(line) == expected


@pytest.mark.parametrize(
    "line",
    [
        b"QUIT\n",
        b"NOOP x\rQUIT\r\n",
        b"NOOP\r\r\n",
        b"NOOP \0\r\n",
        b"\r\n",
        b" QUIT\r\n",
        b"MAIL\xff FROM:<>\r\n",
        b"RCPT TO:<\xff@b.org>\r\n",
        b"A-B\r\n",
        b"\x16\x03\x01\r\n",
        b"ABCDEFGHIJKLMNOPQ\r\n",
    ],
)
def test_a_line_that_is_no_command_is_refused(line: bytes) -> None:
    with pytest.raises(CommandRefused) as caught:
        parse_command(line)
    assert (caught.value.reply.code, caught.value.reply.enhanced) == (500, "5.5.2")


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("FROM:<a@b.org>", MailCommand("a@b.org", 0, False)),
        ("from: <a@b.org>", MailCommand("a@b.org", 0, False)),
        ("FROM:<>", MailCommand("", 0, False)),
        ("FROM:<> SIZE=500", MailCommand("", 500, False)),
        ("FROM:<a@b.org> SIZE=1000 BODY=8BITMIME", MailCommand("a@b.org", 1000, False)),
        ("FROM:<a@b.org> body=7bit", MailCommand("a@b.org", 0, False)),
        ("FROM:<ü@b.org> SMTPUTF8", MailCommand("ü@b.org", 0, True)),
        ('FROM:<"a>b"@b.org>', MailCommand('"a>b"@b.org', 0, False)),
        ("FROM:<@x.org,@y.org:a@b.org>", MailCommand("a@b.org", 0, False)),
        # Real senders that the grammar forbids.
        ("FROM:<a..b@docomo.example>", MailCommand("a..b@docomo.example", 0, False)),
        ("FROM:<a.@docomo.example>", MailCommand("a.@docomo.example", 0, False)),
    ],
)
def test_a_sender_is_read(argument: str, expected: MailCommand) -> None:
    assert mail(argument) == expected


@pytest.mark.parametrize(
    ("argument", "code", "enhanced"),
    [
        ("", 501, "5.5.4"),
        ("a@b.org", 501, "5.5.4"),
        ("FROM:", 501, "5.5.4"),
        ("FROM:a@b.org", 501, "5.5.4"),
        ("FROM:<a@b.org", 501, "5.5.4"),
        ("FROM:<a@b.org>x", 501, "5.5.4"),
        ("FROM:<a@b.org><c@d.org>", 501, "5.5.4"),
        ("TO:<a@b.org>", 501, "5.5.4"),
        ("FROM:<a@b.org> SIZE", 501, "5.5.4"),
        ("FROM:<a@b.org> SIZE=", 501, "5.5.4"),
        ("FROM:<a@b.org> SIZE=-1", 501, "5.5.4"),
        ("FROM:<a@b.org> SIZE=1 SIZE=2", 501, "5.5.4"),
        ("FROM:<a@b.org> SIZE=" + "9" * 50, 501, "5.5.4"),
        ("FROM:<a@b.org> BODY=BINARYMIME", 501, "5.5.4"),
        ("FROM:<a@b.org> SMTPUTF8=1", 501, "5.5.4"),
        ("FROM:<a@b.org> SIZE=1001", 552, "5.3.4"),
        ("FROM:<a@b.org> RET=FULL", 555, "5.5.4"),
        ("FROM:<ü@b.org>", 553, "5.6.7"),
        ("FROM:<a>", 501, "5.1.7"),
        ("FROM:<a@>", 501, "5.1.7"),
        ("FROM:<@b.org>", 501, "5.1.7"),
        ("FROM:<a b@b.org>", 501, "5.1.7"),
        ("FROM:<a@b@c.org>", 501, "5.1.7"),
        ("FROM:<a@-b.org>", 501, "5.1.7"),
        ("FROM:<" + "a" * 65 + "@b.org>", 501, "5.1.7"),
    ],
)
def test_a_bad_sender_is_refused(argument: str, code: int, enhanced: str) -> None:
    with pytest.raises(CommandRefused) as caught:
        mail(argument)
    assert (caught.value.reply.code, caught.value.reply.enhanced) == (code, enhanced)


def test_parameters_need_ehlo() -> None:
    assert mail("FROM:<a@b.org>", is_esmtp=False).address == "a@b.org"
    with pytest.raises(CommandRefused):
        mail("FROM:<a@b.org> SIZE=1", is_esmtp=False)


@pytest.mark.parametrize(
    ("argument", "smtputf8", "expected"),
    [
        ("TO:<a+b@c.org>", False, "a+b@c.org"),
        ("to: <A@C.org>", False, "A@C.org"),
        ("TO:<postmaster>", False, "postmaster@mx.example.com"),
        ("TO:<PostMaster>", False, "PostMaster@mx.example.com"),
        ("TO:<@x.org:a@c.org>", False, "a@c.org"),
        ("TO:<ü@c.org>", True, "ü@c.org"),
        ("TO:<a@[192.0.2.1]>", False, "a@[192.0.2.1]"),
    ],
)
def test_a_recipient_is_read(argument: str, smtputf8: bool, expected: str) -> None:
    assert rcpt(argument, smtputf8=smtputf8) == expected


@pytest.mark.parametrize(
    ("argument", "code", "enhanced"),
    [
        ("TO:<>", 553, "5.1.3"),
        ("TO:<a>", 553, "5.1.3"),
        ("TO:<a..b@c.org>", 553, "5.1.3"),
        ("TO:<a@c.org> NOTIFY=NEVER", 555, "5.5.4"),
        ("TO:<ü@c.org>", 553, "5.6.7"),
        ("TO:a@c.org", 501, "5.5.4"),
    ],
)
def test_a_bad_recipient_is_refused(argument: str, code: int, enhanced: str) -> None:
    with pytest.raises(CommandRefused) as caught:
        rcpt(argument)
    assert (caught.value.reply.code, caught.value.reply.enhanced) == (code, enhanced)


@pytest.mark.parametrize("argument", ["a.example", "[192.0.2.1]", "[IPv6:2001:db8::1]", "WIN_PC", "a.example and more"])
def test_a_helo_name_is_anything_printable(argument: str) -> None:
    assert parse_helo(argument) == argument.split()[0]


@pytest.mark.parametrize("argument", ["", "ü.example", "a" * 256, "a\tb", "\x7f"])
def test_a_helo_name_is_bounded(argument: str) -> None:
    with pytest.raises(CommandRefused):
        parse_helo(argument)


@given(st.binary(max_size=300))
def test_any_line_is_a_command_or_a_refusal(data: bytes) -> None:
    try:
        verb, argument = parse_command(data + b"\r\n")
        parse = {"MAIL": mail, "RCPT": rcpt}.get(verb, parse_helo)
        parse(argument)
    except CommandRefused as refusal:
        assert 500 <= refusal.reply.code <= 559


@given(st.text(st.characters(exclude_categories=("Cs",)), max_size=80), st.text(max_size=40))
def test_any_path_is_an_address_or_a_refusal(path: str, rest: str) -> None:
    for parse, keyword in ((mail, "FROM"), (lambda text: rcpt(text, smtputf8=True), "TO")):
        try:
            parse(f"{keyword}:<{path}>{rest}")
        except CommandRefused as refusal:
            assert 500 <= refusal.reply.code <= 559
