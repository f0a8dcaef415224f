"""Encoded words (RFC 2047 section 8) and parameters (RFC 2045 section 5.1, RFC 2231)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailhost.message.words import decode_header, decode_words, parse_parameters


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("(=?ISO-8859-1?Q?a?=)", "(a)"),
        ("(=?ISO-8859-1?Q?a?= b)", "(a b)"),
        ("(=?ISO-8859-1?Q?a?= =?ISO-8859-1?Q?b?=)", "(ab)"),
        ("(=?ISO-8859-1?Q?a?=  \t =?ISO-8859-1?Q?b?=)", "(ab)"),
        ("(=?ISO-8859-1?Q?a_b?=)", "(a b)"),
        ("(=?ISO-8859-1?Q?a?= =?ISO-8859-2?Q?_b?=)", "(a b)"),
        ("=?utf-8*en?q?a?=", "a"),
        ("=?utf-8?q?=C3?= =?utf-8?q?=A4?=", "ä"),
        ("=?utf-8?B?w6Q?=", "ä"),
        ("=?utf-8?q??=", ""),
        ("in=?utf-8?q?si?=de", "inside"),
        ("=?utf-8?q?why?really?=", "why?really"),
        ("=?utf-8?q?with space?=", "with space"),
        ("=?utf-8?x?a?=", "=?utf-8?x?a?="),
        ("=?utf-8?q?open", "=?utf-8?q?open"),
        ("=?no-such?q?=E4?=", "ä"),
        ("=?zlib?b?eJw=?=", "xœ"),
        ("100 =? 5", "100 =? 5"),
    ],
)
def test_encoded_words_are_decoded(text: str, expected: str) -> None:
    assert decode_words(text) == expected


def test_header_values_are_unfolded_and_eight_bit_text_is_taken_as_it_comes() -> None:
    assert decode_header(b" a\r\n\tb ") == "a\tb"
    assert decode_header("Grüße".encode()) == "Grüße"
    assert decode_header("Grüße".encode("latin-1")) == "Grüße"
    assert decode_header("привет".encode("koi8-r"), "koi8-r") == "привет"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("text/plain; charset=us-ascii (Plain text)", {"charset": "us-ascii"}),
        ('x; a="q\\"uo\\\\te; b=c"; d=e', {"a": 'q"uo\\te; b=c', "d": "e"}),
        ("x; A = b ;C=d", {"a": "b", "c": "d"}),
        ("x; a=1; a=2", {"a": "1"}),
        ("x; name*=iso-8859-1'de'%e4.txt", {"name": "ä.txt"}),
        ("x; name*=utf-8%20broken", {"name": "utf-8 broken"}),
        ("x; name*0=one; name*1=two", {"name": "onetwo"}),
        ("x; name*1=two; name*0=one", {"name": "onetwo"}),
        ("x; name*0*=utf-8''%C3; name*1*=%A4; name*2=.txt", {"name": "ä.txt"}),
        ("x; name=plain; name*=utf-8''better", {"name": "better"}),
        ("x; name==?utf-8?q?=C3=A4?=", {"name": "ä"}),
        ('x; boundary="=?q?"', {"boundary": "=?q?"}),
        ('x; a="never closed; b=c', {"a": "never closed", "b": "c"}),
        ("x; =y; ;; z", {}),
        ("x; name*999=z; name*1000=y", {"name": "z"}),
    ],
)
def test_parameters_are_read(text: str, expected: dict[str, str]) -> None:
    assert parse_parameters(text) == expected


def test_parameters_are_bounded() -> None:
    assert len(parse_parameters("".join(f"; a{number}=b" for number in range(1000)))) == 200


@given(st.text(st.sampled_from("=?utf8qbQB'*;%\"\\ 0a"), max_size=60))
def test_any_text_is_read_without_raising(text: str) -> None:
    decode_words(text)
    parse_parameters(text)


@pytest.mark.parametrize("piece", ["=?a?q?", "=?a?q?x?x?", ';a="', "=?", "=?utf-8?q?a?= ", ";a*0=", "; ", '; a = "\\'])
def test_hostile_values_are_read_in_one_pass(piece: str) -> None:
    text = piece * (64 * 1024 // len(piece))
    decode_words(text)
    parse_parameters(text)
