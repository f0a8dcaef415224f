"""The header as signatures see it is the header as people see it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mailhost.auth.header import read_header
from mailhost.message.mime import DEFAULT_LIMITS, Defects, ParseLimits, parse_fields

PIECES = [
    b"From: a@b.example", b"From : x", b"Subject: y", b">From mbox line", b"From mbox line", b" folded", b"\tfolded",
    b"no field", b": no name", b"X:", b"", b"\r\n", b"\n", b"\r\n", b"\r\n", b"\r", b" ", b"\0", b"\xff",
]  # fmt: skip
MAILS = st.lists(st.sampled_from(PIECES), max_size=20).map(b"".join) | st.binary(max_size=100)


@given(MAILS)
def test_fields_and_body_are_where_the_parser_of_messages_sees_them(raw: bytes) -> None:
    header = read_header(raw)
    fields, body_start = parse_fields(raw, DEFAULT_LIMITS, Defects())
    assert [(one.name, one.value) for one in header.fields] == fields
    assert header.body_start == body_start
    assert header.complete


@given(MAILS, st.integers(0, 3), st.integers(0, 40))
def test_bounds_cut_at_the_same_place(raw: bytes, max_fields: int, max_octets: int) -> None:
    defects = Defects()
    limits = ParseLimits(header_fields=max_fields, header_octets=max_octets)
    fields, body_start = parse_fields(raw, limits, defects)
    header = read_header(raw, max_fields=max_fields, max_octets=max_octets)
    assert [(one.name, one.value) for one in header.fields] == fields
    assert header.body_start == body_start
    assert header.complete == ("header_too_large" not in defects.as_list())


@given(MAILS)
def test_each_field_can_be_cut_out_by_its_places(raw: bytes) -> None:
    header = read_header(raw)
    assert len(header.starts) == len(header.fields) + 1
    for index, one in enumerate(header.fields):
        octets = raw[header.starts[index] : header.starts[index + 1]]
        assert octets.removesuffix(b"\n") == one.label + b":" + one.value


def test_fields_are_found_by_name_whatever_the_case() -> None:
    header = read_header(b"from: a\r\nTo: b\r\nFROM : c\r\n d\r\n\r\nFrom: e\r\n")
    assert header.find(b"from") == [0, 2]
    assert header.relaxed(2) == b"from:c d"
    assert header.simple(2) == b"FROM : c\r\n d"
    assert header.find(b"cc") == []
