"""Authentication-Results: written so that nobody can slip anything in, read as RFC 8601 means it, forgeries removed."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailhost.auth.results import MethodResult, ParsedResults, compose_results, parse_results, remove_results
from mailhost.message.parse import parse_message

ME = "mx.here.example"
TEXT = st.text(max_size=300)


def test_a_field_is_written_on_short_lines() -> None:
    field = compose_results(
        ME,
        [
            MethodResult("spf", "pass", {"smtp.mailfrom": "bob@sender.example"}),
            MethodResult("dkim", "fail", {"header.d": "sender.example", "header.b": "a/b+c="}, "the body was changed"),
            MethodResult("dmarc", "none", {"header.from": "sender.example", "policy.dmarc": ""}),
        ],
    )
    assert field == (
        "Authentication-Results: mx.here.example;\r\n"
        "\tspf=pass smtp.mailfrom=bob@sender.example;\r\n"
        '\tdkim=fail reason="the body was changed" header.d=sender.example\r\n'
        '\t header.b="a/b+c=";\r\n'
        "\tdmarc=none header.from=sender.example\r\n"
    )
    assert compose_results(ME, []) == "Authentication-Results: mx.here.example;\r\n none\r\n"


@given(st.lists(TEXT, max_size=4), TEXT)
def test_whatever_the_values_it_stays_one_field_of_ascii(values: list[str], reason: str) -> None:
    method = MethodResult("spf", "pass", {f"smtp.v{place}": value for place, value in enumerate(values)}, reason)
    field = compose_results(ME, [method, MethodResult("dmarc", "fail")])
    assert field.isascii()
    assert max(map(len, field.split("\r\n"))) <= 998
    message = parse_message(field.encode() + b"\r\nbody")
    assert [name for name, _ in message.headers] == ["Authentication-Results"]
    read = parse_results(field.partition(":")[2].encode())
    assert (read.authserv_id, [one.method for one in read.methods]) == (ME, ["spf", "dmarc"])
    assert [one.result for one in read.methods] == ["pass", "fail"]


PRINTABLE = st.text(st.characters(min_codepoint=32, max_codepoint=126, exclude_characters='"\\'), min_size=1)


@given(st.lists(PRINTABLE, max_size=5))
def test_what_is_written_is_read_again(values: list[str]) -> None:
    properties = {f"smtp.v{place}": value for place, value in enumerate(values)}
    field = compose_results(ME, [MethodResult("spf", "pass", properties, "why")])
    assert parse_results(field.partition(":")[2].encode()) == ParsedResults(
        ME, (MethodResult("spf", "pass", properties, "why"),)
    )


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b" Example.com; none", ParsedResults("example.com")),
        (b" example.com 1; spf=pass", ParsedResults("example.com", (MethodResult("spf", "pass"),))),
        (
            b" example.com (a (nested) comment) 1;\r\n\tspf/1=PASS (good; dmarc=pass)\r\n\t smtp.mailfrom=a@b.example",
            ParsedResults("example.com", (MethodResult("spf", "pass", {"smtp.mailfrom": "a@b.example"}),)),
        ),
        (
            b'"example.com"; dkim=fail reason="bad; dkim=pass" header.d=x.example header . i = @x.example',
            ParsedResults(
                "example.com",
                (MethodResult("dkim", "fail", {"header.d": "x.example", "header.i": "@x.example"}, "bad; dkim=pass"),),
            ),
        ),
        (b"", ParsedResults("")),
        (b";;;", ParsedResults("")),
        (b"(never closed; spf=pass", ParsedResults("")),
        (b'a"never closed; spf=pass', ParsedResults("a")),
    ],
)
def test_fields_of_others_are_read(value: bytes, expected: ParsedResults) -> None:
    assert parse_results(value) == expected


FORGED = [
    b"Authentication-Results: mx.here.example; spf=pass",
    b"authentication-results : MX.HERE.EXAMPLE; spf=pass",
    b"Authentication-Results:\r\n\tmx.here.example 1;\r\n\tspf=pass",
    b'Authentication-Results: "mx.here.example"; spf=pass',
    b'Authentication-Results: "mx.h\\ere.example"; spf=pass',
    b"Authentication-Results: (c(d)) mx.here.example (c); spf=pass",
    b"Authentication-Results: mx.here.example.; spf=pass",
    b"Authentication-Results: mx.here.example",
    b"Authentication-Results: ; mx.here.example; spf=pass",
    b"Authentication-Results: (; mx.here.example; spf=pass",
]
HONEST = [
    b"Authentication-Results: other.example; spf=pass (mx.here.example)",
    b"Authentication-Results: x.mx.here.example; spf=pass",
    b"X-Authentication-Results: mx.here.example; spf=pass",
    b"ARC-Authentication-Results: i=1; mx.here.example; spf=pass",
    b"Subject: Authentication-Results: mx.here.example",
]


@pytest.mark.parametrize("field", FORGED)
def test_results_in_our_name_are_removed(field: bytes) -> None:
    before, after = b"Received: x\r\nFrom: a@b.example\r\n", b"To: c@d.example\r\n\r\n" + field + b"\r\nbody\r\n"
    assert remove_results(before + field + b"\r\n" + field + b"\r\n" + after, ME) == before + after


@pytest.mark.parametrize("field", HONEST)
def test_what_does_not_claim_to_be_ours_stays(field: bytes) -> None:
    raw = b"From: a@b.example\r\n" + field + b"\r\n\r\nbody\r\n"
    assert remove_results(raw, ME) is raw


def test_a_forgery_behind_very_many_fields_is_found() -> None:
    raw = b"X: y\r\n" * 50_000 + FORGED[0] + b"\r\n\r\nbody"
    assert remove_results(raw, ME) == b"X: y\r\n" * 50_000 + b"\r\nbody"


@given(st.lists(st.sampled_from([*FORGED, *HONEST, b" folded", b"", b"x", b"\xff"]), max_size=8))
def test_after_removing_there_is_nothing_left_to_remove(lines: list[bytes]) -> None:
    cleaned = remove_results(b"\r\n".join(lines), ME)
    assert remove_results(cleaned, ME) == cleaned


@pytest.mark.parametrize("unit", [b"(", b'"', b"\\", b";", b" a.b=c", b"()", b'"\\', b"=", b"\t", b"(\\"])
def test_reading_is_quick_whatever_the_octets(unit: bytes) -> None:
    value = b"mx.here.example; spf=pass" + unit * (100_000 // len(unit))
    started = time.perf_counter()
    parse_results(value)
    parse_results(unit * (100_000 // len(unit)))
    remove_results(b"Authentication-Results: " + value + b"\r\n\r\n", ME)
    assert time.perf_counter() - started < 0.5


@given(st.binary(max_size=200))
def test_reading_any_octets_never_raises(value: bytes) -> None:
    parse_results(value)
    remove_results(value, ME)
    remove_results(b"Authentication-Results:" + value, ME)
