"""SMTP replies: read leniently, bounded strictly, judged in favour of the mail."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailhost.smtp.replies import (
    MAX_LINE,
    MAX_LINES,
    MAX_TEXT,
    MAX_WAITING,
    BadReply,
    Outcome,
    Reply,
    ReplyParser,
    Stage,
    classify_reply,
    parse_reply,
)


@pytest.mark.parametrize(
    ("wire", "expected"),
    [
        (b"250 ok\r\n", Reply(250, None, "ok")),
        (b"250\r\n", Reply(250, None, "")),
        (b"250 \r\n", Reply(250, None, "")),
        (b"250 ok\n", Reply(250, None, "ok")),
        (b"250 2.1.5 ok\r\n", Reply(250, "2.1.5", "ok")),
        (b"250 2.1.5\r\n", Reply(250, "2.1.5", "")),
        (b"550 5.1.1 no such user\r\n", Reply(550, "5.1.1", "no such user")),
        (b"550-5.1.1 no such\r\n550 5.1.1 user\r\n", Reply(550, "5.1.1", "no such\nuser")),
        (b"550-no such\r\n550 5.1.1 user\r\n", Reply(550, "5.1.1", "no such\nuser")),
        # RFC 2034 4: the class must agree with the reply's first digit, otherwise it is only text.
        (b"450 5.1.1 later\r\n", Reply(450, None, "5.1.1 later")),
        (b"550 5.1.1.1 version\r\n", Reply(550, None, "5.1.1.1 version")),
        # The last line's code is the server's last word.
        (b"250-ok\r\n550 no\r\n", Reply(550, None, "ok\nno")),
        ("250 grüß\r\n".encode(), Reply(250, None, "grüß")),
        (b"250 gr\xfc\r\n", Reply(250, None, "gr\ufffd")),
        (b"250 a\0b\x1b[31m\r\n", Reply(250, None, "a?b?[31m")),
    ],
)
def test_a_reply_is_read(wire: bytes, expected: Reply) -> None:
    assert parse_reply(wire) == expected


@pytest.mark.parametrize(
    "wire",
    [
        b"hello\r\n",
        b"\r\n",
        b"25 ok\r\n",
        b"2500 ok\r\n",
        b"150 ok\r\n",
        b"650 ok\r\n",
        b"250_ok\r\n",
        b" 250 ok\r\n",
        b"HTTP/1.1 400 Bad Request\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"250 ok\r\n250 more\r\n",
        b"250-never ending\r\n",
    ],
)
def test_what_is_not_one_reply_is_refused(wire: bytes) -> None:
    with pytest.raises(BadReply):
        parse_reply(wire)


def test_pipelined_replies_come_one_by_one_however_the_bytes_are_cut() -> None:
    wire = b"250-a\r\n250 2.0.0 b\r\n354 go\r\n550 5.7.1 no\r\n"
    for cut in range(1, len(wire)):
        parser = ReplyParser()
        replies = []
        for start in range(0, len(wire), cut):
            parser.feed(wire[start : start + cut])
            while (reply := parser.next_reply()) is not None:
                replies.append(reply)
        assert [reply.code for reply in replies] == [250, 354, 550]
        assert not parser.has_leftover


@pytest.mark.parametrize(
    "flood",
    [
        b"250 " + b"x" * (MAX_LINE + 1),
        b"250-x\r\n" * (MAX_LINES + 1),
        b"250-" + b"x" * 4000 + b"\r\n",
    ],
)
def test_a_reply_that_does_not_end_is_cut_off(flood: bytes) -> None:
    parser = ReplyParser()
    with pytest.raises(BadReply):
        for _ in range(100):
            parser.feed(flood)
            while parser.next_reply() is not None:
                pass


def test_a_server_that_talks_while_nobody_listens_is_cut_off() -> None:
    parser = ReplyParser()
    with pytest.raises(BadReply):
        for _ in range(MAX_WAITING // 1000 + 2):
            parser.feed(b"2" * 1000)


def test_stored_text_is_bounded() -> None:
    assert len(parse_reply(b"550-" + b"x" * 1500 + b"\r\n550 " + b"y" * 1500 + b"\r\n").text) == MAX_TEXT


def test_every_line_that_we_write_carries_the_enhanced_code() -> None:
    assert Reply(550, "5.1.1", "no\nsuch user").encode() == b"550-5.1.1 no\r\n550 5.1.1 such user\r\n"
    assert Reply(220, None, "hi").encode() == b"220 hi\r\n"


def test_what_we_write_cannot_become_two_replies() -> None:
    assert Reply(550, None, "a\rb\x00c\x85d\u2028e").encode() == b"550 a b c d e\r\n"


@given(st.integers(200, 599), st.text(max_size=300))
def test_what_we_write_we_read_as_one_reply(code: int, text: str) -> None:
    assert parse_reply(Reply(code, None, text).encode()).code == code


@given(st.binary(max_size=400))
def test_any_bytes_are_a_reply_or_a_bad_reply(data: bytes) -> None:
    parser = ReplyParser()
    try:
        parser.feed(data)
        while (reply := parser.next_reply()) is not None:
            assert "\0" not in reply.text
    except BadReply:
        pass


@pytest.mark.parametrize(
    ("wire", "stage", "outcome"),
    [
        (b"250 ok\r\n", Stage.FINAL, Outcome.DELIVERED),
        (b"200 ok\r\n", Stage.FINAL, Outcome.DELIVERED),
        (b"451 later\r\n", Stage.FINAL, Outcome.TEMPORARY),
        (b"554 no\r\n", Stage.FINAL, Outcome.PERMANENT),
        (b"550 5.1.1 no such user\r\n", Stage.RCPT, Outcome.PERMANENT),
        (b"450 4.2.0 greylisted\r\n", Stage.RCPT, Outcome.TEMPORARY),
        (b"421 bye\r\n", Stage.RCPT, Outcome.TEMPORARY),
        (b"553 5.1.8 sender\r\n", Stage.MAIL, Outcome.PERMANENT),
        # RFC 5321 4.5.3.1.10
        (b"552 too many recipients\r\n", Stage.RCPT, Outcome.TEMPORARY),
        (b"552 5.5.3 too many recipients\r\n", Stage.RCPT, Outcome.TEMPORARY),
        (b"552 5.2.2 mailbox full\r\n", Stage.RCPT, Outcome.PERMANENT),
        (b"552 5.3.4 too big\r\n", Stage.MAIL, Outcome.PERMANENT),
        # What is not about the mail never fails the mail.
        (b"554 no SMTP service here\r\n", Stage.GREETING, Outcome.TEMPORARY),
        (b"550 go away\r\n", Stage.HELO, Outcome.TEMPORARY),
        (b"535 5.7.8 wrong password\r\n", Stage.AUTH, Outcome.TEMPORARY),
        # What is not understood is temporary.
        (b"250 ok\r\n", Stage.DATA, Outcome.TEMPORARY),
        (b"354 go\r\n", Stage.FINAL, Outcome.TEMPORARY),
        (b"399 ?\r\n", Stage.RCPT, Outcome.TEMPORARY),
    ],
)
def test_a_reply_is_judged(wire: bytes, stage: Stage, outcome: Outcome) -> None:
    assert classify_reply(parse_reply(wire), stage) is outcome
