"""ARC beyond the suite: several sealers, bounds, trouble, and whom to believe."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest

from mailhost.auth.arc import MAX_SETS, ArcResult, find_vouching_set, validate_chain
from mailhost.auth.signatures import SignedMail
from mailhost.dns.resolver import Resolver
from tests.fakes.dns import FakeDns, Trouble
from tests.mailhost.auth.making import add_arc_set, make_key, publish

ED, RSA = make_key(256), make_key(2048)
MAIL = b"From: Bob <bob@sender.example>\r\nSubject: [list] hello\r\n\r\nHi\r\n"


@pytest.fixture(scope="module")
def server() -> Iterator[FakeDns]:
    zone = {
        "s._domainkey.list.example": [("TXT", publish(ED))],
        "s._domainkey.school.example": [("TXT", publish(RSA))],
        "s._domainkey.evil.example": [("TXT", publish(ED))],
        "s._domainkey.trouble.example": Trouble.SERVFAIL,
    }
    with FakeDns(zone) as dns:
        yield dns


def validate(server: FakeDns, raw: bytes) -> ArcResult:
    return asyncio.run(validate_chain(SignedMail(raw), Resolver([server.address], timeout=2)))


def test_a_chain_of_two_sealers_passes(server: FakeDns) -> None:
    raw = add_arc_set(add_arc_set(MAIL, ED, 1), RSA, 2, domain="school.example", results="school.example; arc=pass")
    found = validate(server, raw)
    assert (found.result, found.reason) == ("pass", "")
    assert [(one.instance, one.domain) for one in found.sets] == [(1, "list.example"), (2, "school.example")]
    assert found.sets[0].results.authserv_id == "list.example"
    assert found.as_dict() == {"result": "pass", "sealers": ["list.example", "school.example"]}


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (b"Hi\r\n", b"Ho\r\n", "the body was changed"),
        (b"hello", b"Hello", "a signature of the chain does not match"),
        (b"dmarc=pass", b"dmarc=fail", "a signature of the chain does not match"),
        (b"cv=none", b"cv=fail", "the chain had failed already at instance 1"),
        (b"cv=none", b"cv=pass", "cv= is wrong at instance 1"),
        (b"ARC-Seal: i=1", b"ARC-Seal: i=3", "the sets are not complete"),
        (b"ARC-Seal: i=1", b"ARC-Seal: i=2", "instance 2 is there twice"),
        (b"ARC-Seal: i=1", b"ARC-Seal: i=x", "a set has no usable instance"),
        (b"ARC-Seal: i=1;", b"ARC-Seal: i=1; bh=AAAA;", "a seal has no h= or bh="),
        (b"ARC-Seal: i=1;", b"ARC-Seal:", "a set has no usable instance"),
        (b"ARC-Seal: i=1; a=ed25519-sha256", b"ARC-Seal: i=1; a=rsa-sha1", "unknown algorithm"),
        (b"From:", b"X-Many: 1\r\n" * 1000 + b"From:", "the header is too large"),
    ],
)
def test_a_chain_that_was_touched_fails(server: FakeDns, old: bytes, new: bytes, reason: str) -> None:
    raw = add_arc_set(add_arc_set(MAIL, ED, 1), RSA, 2, domain="school.example")
    assert old in raw
    assert validate(server, raw.replace(old, new)) == ArcResult("fail", reason)


def test_a_message_signature_must_not_cover_seals(server: FakeDns) -> None:
    raw = add_arc_set(add_arc_set(MAIL, ED, 1), ED, 2, names="from:arc-seal")
    assert validate(server, raw).reason == "a message signature does not cover seals"


def test_fifty_sets_are_taken_and_one_more_is_not(server: FakeDns) -> None:
    raw = MAIL
    for instance in range(1, MAX_SETS + 2):
        raw = add_arc_set(raw, ED, instance)
        if instance == MAX_SETS:
            started = time.perf_counter()
            assert validate(server, raw).result == "pass"
            assert time.perf_counter() - started < 0.5
    assert validate(server, raw) == ArcResult("fail", "there are too many sets")


def test_a_key_that_cannot_be_asked_for_is_a_temperror(server: FakeDns) -> None:
    raw = add_arc_set(add_arc_set(MAIL, ED, 1, domain="trouble.example"), ED, 2)
    assert validate(server, raw).result == "temperror"
    raw = add_arc_set(add_arc_set(MAIL, ED, 1, domain="nobody.example"), ED, 2)
    assert validate(server, raw) == ArcResult("fail", "no key in the DNS")


def test_no_chain_is_none(server: FakeDns) -> None:
    assert validate(server, MAIL) == ArcResult("none")
    assert validate(server, b"") == ArcResult("none")


def vouched(server: FakeDns, raw: bytes, *trusted: str, author: str = "sender.example") -> str | None:
    found = find_vouching_set(validate(server, raw), frozenset(trusted), author)
    return found.domain if found else None


def test_only_sealers_on_the_list_vouch_for_an_author(server: FakeDns) -> None:
    raw = add_arc_set(MAIL, ED, 1)
    assert vouched(server, raw, "list.example") == "list.example"
    assert vouched(server, raw, "other.example") is None
    assert vouched(server, raw) is None
    assert vouched(server, raw, "list.example", author="other.example") is None
    assert vouched(server, raw.replace(b"Hi", b"Ho"), "list.example") is None


def test_trust_ends_at_the_first_sealer_that_is_not_on_the_list(server: FakeDns) -> None:
    """A stranger can take a mail that a trusted list sealed, put another text in, and seal that."""
    relayed = add_arc_set(add_arc_set(MAIL, ED, 1), RSA, 2, domain="school.example", results="school.example; arc=pass")
    assert vouched(server, relayed, "list.example", "school.example") == "list.example"
    assert vouched(server, relayed, "list.example") is None
    assert vouched(server, relayed, "school.example") is None
    stolen = add_arc_set(add_arc_set(MAIL, ED, 1).replace(b"Hi", b"Pay"), ED, 2, domain="evil.example")
    assert validate(server, stolen).result == "pass"
    assert vouched(server, stolen, "list.example") is None


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        ("list.example; dmarc=pass", "list.example"),
        ("list.example; dmarc=pass (p=reject) header.from=bob@Sender.Example", "list.example"),
        ('list.example; spf=fail; dmarc=pass header.from="sender.example"', "list.example"),
        ("list.example; dmarc=pass header.from=evil.example", None),
        ("list.example; dmarc=fail header.from=sender.example", None),
        ("list.example; dkim=pass header.d=sender.example", None),
        ("list.example; none", None),
        ("list.example; (dmarc=pass) spf=pass", None),
        ('list.example; spf=fail reason="; dmarc=pass"', None),
    ],
)
def test_what_the_sealer_found_is_read_as_it_meant_it(server: FakeDns, results: str, expected: str | None) -> None:
    assert vouched(server, add_arc_set(MAIL, ED, 1, results=results), "list.example") == expected
