"""DMARC: whose mail it is, what its owner asks for, and what of SPF and DKIM counts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailhost.auth.dkim_verify import DkimResult
from mailhost.auth.dmarc import (
    Author,
    DmarcPolicy,
    DmarcResult,
    evaluate_dmarc,
    find_policies,
    is_aligned,
    parse_policy,
    read_author,
)
from mailhost.auth.header import read_header
from mailhost.auth.names import dns_name
from mailhost.auth.spf import SpfResult
from mailhost.dns.resolver import DnsTemporary, Resolver
from mailhost.message.parse import parse_message
from tests.fakes.dns import FakeDns, Trouble

TWO_FROM = "there is more than one From"


@pytest.fixture(scope="module")
def server() -> Iterator[FakeDns]:
    zone = {
        "_dmarc.strict.example": [("TXT", "v=DMARC1; p=reject; adkim=s; aspf=s")],
        "_dmarc.sender.example": [("TXT", "other"), ("TXT", "v=DMARC1; p=reject; sp=quarantine; pct=50; rua=mailto:x")],
        "_dmarc.own.sender.example": [("TXT", "v=DMARC1; p=none")],
        "_dmarc.two.sender.example": [("TXT", "v=DMARC1; p=none"), ("TXT", "v=DMARC1; p=reject")],
        "_dmarc.bad.sender.example": [("TXT", "v=DMARC1; p=what")],
        "_dmarc.plain.co.uk": [("TXT", "v=DMARC1;p=quarantine")],
        "_dmarc.co.uk": [("TXT", "v=DMARC1; p=reject")],
        "_dmarc.broken.example": Trouble.SERVFAIL,
    }
    with FakeDns(zone) as dns:
        yield dns


def evaluate(
    server: FakeDns,
    *domains: str,
    spf: tuple[str, str] = ("none", ""),
    dkim: tuple[tuple[str, str], ...] = (),
    problem: str = "",
) -> DmarcResult:
    policies = asyncio.run(find_policies(domains, Resolver([server.address], timeout=1)))
    signatures = [DkimResult(result, domain=domain) for result, domain in dkim]
    return evaluate_dmarc(Author(domains, problem), policies, SpfResult(*spf), signatures)


@pytest.mark.parametrize(
    ("value", "domains"),
    [
        (b"bob@sender.example", ("sender.example",)),
        (b"Bob <bob@Sender.EXAMPLE>", ("sender.example",)),
        (b'"bank@bank.example" <eve@evil.example>', ("evil.example",)),
        (b"bank@bank.example <eve@evil.example>", ("evil.example",)),
        (b"=?utf-8?q?bank=40bank.example_=3Cx=3E?= <eve@evil.example>", ("evil.example",)),
        (b"a@x.example, b@x.example", ("x.example",)),
        (b"a@x.example, b@y.example", ("x.example", "y.example")),
        (b"group: a@x.example;", ("x.example",)),
        ("bob@bücher.example".encode(), ("xn--bcher-kva.example",)),
        (b"bob@sender.example.", ("sender.example",)),
        (b"(comment) bob@sender.example (comment)", ("sender.example",)),
    ],
)
def test_the_author_is_the_domain_that_people_see(value: bytes, domains: tuple[str, ...]) -> None:
    raw = b"From: " + value + b"\r\n\r\n"
    assert read_author(read_header(raw)) == Author(domains)
    assert {dns_name(one.address.rpartition("@")[2]) for one in parse_message(raw).from_} == set(domains)


@pytest.mark.parametrize(
    ("header", "author"),
    [
        (b"To: x@y.example\r\n", Author((), "there is no From")),
        (b"", Author((), "there is no From")),
        (
            b"From: a@x.example\r\nFROM : b@y.example\r\n",
            Author(("x.example", "y.example"), TWO_FROM),
        ),
        (b"From: nobody\r\n", Author((), "From holds what is no address of a domain")),
        (b"From:\r\n", Author((), "From holds what is no address of a domain")),
        (b"From: undisclosed:;\r\n", Author((), "From holds what is no address of a domain")),
        (b"From: root@localhost\r\n", Author((), "From holds what is no address of a domain")),
        (b"From: a@[192.0.2.1]\r\n", Author((), "From holds what is no address of a domain")),
        (b"From: a@x.example, root@localhost\r\n", Author(("x.example",), "From holds what is no address of a domain")),
        (b"From: a@b\xfccher.example\r\n", Author((), "From holds what is no address of a domain")),
        (
            b"From: " + b", ".join(b"a@d%d.example" % number for number in range(6)) + b"\r\n",
            Author(tuple(f"d{number}.example" for number in range(5)), "From holds too many domains"),
        ),
        (b"From: (" + b"x" * 20_000 + b") a@x.example\r\n", Author((), "From is too long")),
        (b"X: y\r\n" * 999 + b"From: a@x.example\r\nTo: b\r\n", Author(("x.example",), "the header is too large")),
    ],
)
def test_an_uncertain_author_is_a_problem_but_its_domains_are_known(header: bytes, author: Author) -> None:
    assert read_author(read_header(header + b"\r\n")) == author


@given(st.binary(max_size=80))
def test_reading_any_author_never_raises(value: bytes) -> None:
    read_author(read_header(b"From: " + value))


@pytest.mark.parametrize("unit", [b'"<', b"(", b"a@b.example,", b"<", b"\\", b"=?utf-8?q?", b",", b":;"])
def test_reading_the_author_is_quick(unit: bytes) -> None:
    started = time.perf_counter()
    read_author(read_header(b"From: " + unit * (200_000 // len(unit)) + b"\r\n\r\n"))
    assert time.perf_counter() - started < 0.3


@pytest.mark.parametrize(
    ("domain", "policy_domain", "asked"),
    [
        ("sender.example", "sender.example", "reject"),
        ("a.b.sender.example", "sender.example", "quarantine"),
        ("own.sender.example", "own.sender.example", "none"),
        ("a.plain.co.uk", "plain.co.uk", "quarantine"),
        ("strict.example", "strict.example", "reject"),
    ],
)
def test_the_policy_is_the_domains_own_or_of_its_organization(
    server: FakeDns, domain: str, policy_domain: str, asked: str
) -> None:
    found = evaluate(server, domain)
    assert found.policy is not None
    assert (found.result, found.policy.domain, found.asked, found.disposition) == ("fail", policy_domain, asked, asked)


@pytest.mark.parametrize("domain", ["two.sender.example", "bad.sender.example"])
def test_a_record_that_says_nothing_ends_the_search(server: FakeDns, domain: str) -> None:
    """RFC 7489 section 6.6.3: the organization is asked only where there is no record at all."""
    assert evaluate(server, domain) == DmarcResult("none", domain)


def test_a_public_suffix_gives_no_policy_to_those_below(server: FakeDns) -> None:
    assert evaluate(server, "other.co.uk") == DmarcResult("none", "other.co.uk")


def test_without_a_policy_alignment_is_known_all_the_same(server: FakeDns) -> None:
    found = evaluate(server, "nopolicy.example", dkim=(("pass", "mail.nopolicy.example"),))
    assert found == DmarcResult("none", "nopolicy.example", aligned_by=("dkim",))


@pytest.mark.parametrize(
    ("spf", "dkim", "result", "aligned_by"),
    [
        (("pass", "sender.example"), (), "pass", ("spf",)),
        (("pass", "bounces.sender.example"), (), "pass", ("spf",)),
        (("softfail", "sender.example"), (), "fail", ()),
        (("pass", "evil.example"), (), "fail", ()),
        (("none", ""), (("pass", "mail.sender.example"),), "pass", ("dkim",)),
        (("none", ""), (("fail", "sender.example"), ("pass", "sender.example")), "pass", ("dkim",)),
        (("pass", "sender.example"), (("pass", "sender.example"),), "pass", ("spf", "dkim")),
        (("pass", "evil.example"), (("pass", "evil.example"), ("fail", "sender.example")), "fail", ()),
        (("none", ""), (("policy", "sender.example"),), "fail", ()),
        (("temperror", "sender.example"), (), "temperror", ()),
        (("temperror", "evil.example"), (), "fail", ()),
        (("fail", "sender.example"), (("temperror", "sender.example"),), "temperror", ()),
        (("fail", "sender.example"), (("temperror", "evil.example"),), "fail", ()),
        (("pass", "sender.example"), (("temperror", "sender.example"),), "pass", ("spf",)),
    ],
)
def test_what_passes_counts_when_it_is_of_the_authors_organization(
    server: FakeDns, spf: tuple[str, str], dkim: tuple[tuple[str, str], ...], result: str, aligned_by: tuple[str, ...]
) -> None:
    found = evaluate(server, "sender.example", spf=spf, dkim=dkim)
    assert (found.result, found.aligned_by) == (result, aligned_by)
    assert found.disposition == ("reject" if result == "fail" else "none")


def test_strict_alignment_wants_the_same_domain(server: FakeDns) -> None:
    below = (("pass", "mail.strict.example"),)
    assert evaluate(server, "strict.example", spf=("pass", "mail.strict.example"), dkim=below).result == "fail"
    assert evaluate(server, "strict.example", dkim=(("pass", "strict.example"),)).result == "pass"
    assert is_aligned("a.x.example", "b.x.example", strict=False)
    assert not is_aligned("x.example", "a.x.example", strict=True)
    assert not is_aligned("anne.github.io", "bob.github.io", strict=False)


def test_trouble_with_the_policy_is_temporary(server: FakeDns) -> None:
    found = evaluate(server, "broken.example", spf=("pass", "broken.example"))
    assert (found.result, found.aligned_by, found.disposition) == ("temperror", ("spf",), "none")


def test_several_authors_must_all_pass_and_the_strictest_fail_counts(server: FakeDns) -> None:
    spf = ("pass", "sender.example")
    both = evaluate(server, "sender.example", "strict.example", spf=spf)
    assert (both.result, both.from_domain, both.disposition, both.aligned_by) == (
        "fail",
        "strict.example",
        "reject",
        (),
    )
    other = evaluate(server, "sender.example", "nopolicy.example", spf=spf)
    assert (other.result, other.from_domain, other.aligned_by) == ("none", "nopolicy.example", ())
    weak = evaluate(server, "own.sender.example", "plain.co.uk")
    assert (weak.from_domain, weak.disposition) == ("plain.co.uk", "quarantine")
    good = evaluate(server, "sender.example", "strict.example", spf=spf, dkim=(("pass", "strict.example"),))
    assert (good.result, good.aligned_by != ()) == ("pass", True)


def test_an_uncertain_author_is_never_aligned_and_still_fails(server: FakeDns) -> None:
    """A second From, or an address of no domain beside it, must not get around the policy."""
    found = evaluate(server, "sender.example", problem=TWO_FROM)
    assert (found.result, found.disposition, found.aligned_by) == ("fail", "reject", ())
    found = evaluate(server, "sender.example", spf=("pass", "sender.example"), problem=TWO_FROM)
    assert (found.result, found.aligned_by) == ("permerror", ())
    assert found.reason == TWO_FROM
    found = evaluate(server, "nopolicy.example", spf=("pass", "nopolicy.example"), problem=TWO_FROM)
    assert (found.result, found.aligned_by) == ("none", ())
    assert evaluate(server, problem="there is no From") == DmarcResult("permerror", reason="there is no From")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("v=DMARC1; p=none", DmarcPolicy("x", "none", "none", False, False, 100)),
        ("v=DMARC1; P=x; p=REJECT; adkim=S", DmarcPolicy("x", "reject", "reject", True, False, 100)),
        ("v=DMARC1;p=quarantine;sp=none;aspf=s;pct=0;;", DmarcPolicy("x", "quarantine", "none", False, True, 0)),
        ("v=DMARC1; p=reject; pct=999", DmarcPolicy("x", "reject", "reject", False, False, 100)),
        ("v=DMARC1; p=reject; pct=-1", DmarcPolicy("x", "reject", "reject", False, False, 100)),
        ("v=DMARC1; p=what; rua=mailto:a@b.example", DmarcPolicy("x", "none", "none", False, False, 100)),
        ("v=DMARC1; p=reject; sp=what; rua=mailto:a@b.example", DmarcPolicy("x", "none", "none", False, False, 100)),
        ("v=DMARC1; p=what", None),
        ("v=DMARC1", None),
        ("v=DMARC1; p=reject; p=none", None),
        ("v=DMARC1; nonsense", None),
    ],
)
def test_records_are_read(text: str, expected: DmarcPolicy | None) -> None:
    assert parse_policy(text, "x") == expected


@given(st.text(max_size=80))
def test_reading_any_record_never_raises(text: str) -> None:
    parse_policy(text, "x")
    parse_policy("v=DMARC1;" + text, "x")


def test_a_lookup_that_was_not_done_is_a_temperror() -> None:
    found = evaluate_dmarc(Author(("a.example",)), {"a.example": DnsTemporary()}, SpfResult("none"), [])
    assert found.result == "temperror"
