"""Messages in DATA: one end, one reading of it, and nothing hidden behind it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailhost.smtp.body import MAX_LINE, BodyReader
from mailhost.smtp.client import encode_body
from mailhost.smtp.commands import CommandRefused


def read(wire: bytes, *, step: int = 65536, max_size: int = 10_000_000) -> bytes:
    reader = BodyReader(max_size)
    ends = [reader.feed(wire[start : start + step]) for start in range(0, len(wire), step)]
    assert ends == [False] * (len(ends) - 1) + [True]
    assert reader.rest == b""
    return reader.finish()


@pytest.mark.parametrize(
    ("wire", "raw"),
    [
        (b".\r\n", b""),
        (b"\r\n.\r\n", b"\r\n"),
        (b"a\r\n.\r\n", b"a\r\n"),
        (b"..\r\n.\r\n", b".\r\n"),
        (b"...\r\n..a\r\n.b\r\n.\r\n", b"..\r\n.a\r\nb\r\n"),
        (b"a.\r\n.\r\n", b"a.\r\n"),
        (b"\0\xff\r\n.\r\n", b"\0\xff\r\n"),
    ],
)
def test_dots_are_undone(wire: bytes, raw: bytes) -> None:
    for step in (1, 2, 3, 65536):
        assert read(wire, step=step) == raw


SMUGGLED = [
    b"\n.\n",
    b"\n.\r\n",
    b"\r\n.\n",
    b"\r.\r",
    b"\r.\r\n",
    b"\r\n.\r",
    b"\r\n\x00.\n",
    b"\n.\r",
    b"\r.\n",
    b"\r\r\n.\r\r\n",
    b"\n\r\n.\n\r\n",
    b"\r\n.\r\r\n",
    b"\r\n.\n\r\n",
    b"a\nb",
    b"a\rb",
    b"\r",
    b"\n",
]


@pytest.mark.parametrize("sequence", SMUGGLED)
def test_nothing_but_crlf_dot_crlf_ends_a_mail_and_bare_line_ends_refuse_it(sequence: bytes) -> None:
    """SMTP smuggling: what follows the false end must stay inside the mail, and the mail is refused."""
    wire = b"Subject: x\r\n\r\nhello" + sequence + b"MAIL FROM:<admin@example.com>\r\nRCPT TO:<x@y.org>\r\n.\r\n"
    for step in (1, 7, 65536):
        reader = BodyReader(10_000)
        results = [reader.feed(wire[start : start + step]) for start in range(0, len(wire), step)]
        assert results[-1]
        assert not any(results[:-1])
        assert reader.rest == b""
        with pytest.raises(CommandRefused) as caught:
            reader.finish()
        assert (caught.value.reply.code, caught.value.reply.enhanced) == (550, "5.6.11")


def test_what_follows_the_end_belongs_to_the_next_command() -> None:
    reader = BodyReader(100)
    assert reader.feed(b"a\r\n.\r\nMAIL FROM:<>\r\n")
    assert reader.rest == b"MAIL FROM:<>\r\n"
    assert reader.finish() == b"a\r\n"


@pytest.mark.parametrize("step", [1, 3, 50, 65536])
def test_a_message_may_be_as_large_as_the_limit_and_no_larger(step: int) -> None:
    line = b"x" * 8 + b"\r\n"
    assert len(read(line * 10 + b".\r\n", step=step, max_size=100)) == 100
    for surplus in (b"\r\n", line * 50):
        with pytest.raises(CommandRefused) as caught:
            read(line * 10 + surplus + b".\r\n", step=step, max_size=100)
        assert (caught.value.reply.code, caught.value.reply.enhanced) == (552, "5.3.4")


def test_a_message_that_is_too_large_is_not_kept() -> None:
    reader = BodyReader(1000)
    for _ in range(100):
        reader.feed(b"x" * 998 + b"\r\n")
    assert reader.octets == 100_000
    assert len(reader._buffer) < 10


@pytest.mark.parametrize("before", [0, 1, 100, MAX_LINE - 1, MAX_LINE, 3 * MAX_LINE])
def test_a_line_has_a_limit_wherever_it_stands(before: int) -> None:
    head = (b"x" * 98 + b"\r\n") * (before // 100 + 1)
    head = head[-before - 2 :] if before % 100 >= 2 else head
    fitting = b"y" * (MAX_LINE - 2) + b"\r\n"
    assert read(head + fitting + b".\r\n").endswith(fitting)
    with pytest.raises(CommandRefused) as caught:
        read(head + b"y" * (2 * MAX_LINE) + b"\r\nz\r\n.\r\n")
    assert (caught.value.reply.code, caught.value.reply.enhanced) == (554, "5.6.0")


@given(
    st.lists(st.binary(max_size=20).map(lambda line: line.replace(b"\r", b"").replace(b"\n", b""))),
    st.integers(1, 30),
)
def test_what_the_client_encodes_the_server_reads_back(lines: list[bytes], step: int) -> None:
    raw = b"".join(line + b"\r\n" for line in lines)
    assert read(encode_body(raw), step=step) == raw


@given(st.lists(st.sampled_from([b"\r", b"\n", b".", b"a"])).map(b"".join), st.integers(1, 5))
def test_the_end_is_found_the_same_however_the_bytes_are_cut(data: bytes, step: int) -> None:
    whole = BodyReader(1000)
    is_whole_over = whole.feed(data)
    cut = BodyReader(1000)
    is_over, used = False, 0
    while not is_over and used < len(data):
        is_over = cut.feed(data[used : used + step])
        used += step
    assert is_over == is_whole_over
    if is_over:
        assert cut.rest + data[used:] == whole.rest
