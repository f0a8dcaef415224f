"""SPF beyond the suite: identities, addresses that are not ASCII, void lookups, and octets of strangers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailhost.auth.spf import SpfResult, check_helo, check_mail_from
from mailhost.auth.spf_record import MAX_RECORD, SpfSyntaxError, is_spf, parse_record
from mailhost.dns.resolver import Resolver
from tests.fakes.dns import FakeDns, Record, Trouble

HOSTS = [f"mx{number}.hosts.example" for number in range(5)]
ZONE: dict[str, list[Record] | Trouble] = {
    "sender.example": [("TXT", "unrelated"), ("TXT", "v=spf1 ip4:192.0.2.0/24 ip6:2001:db8::/32 -all")],
    "xn--bcher-kva.example": [("TXT", "v=spf1 ip4:192.0.2.0/24 -all")],
    "mail.sender.example": [("TXT", "v=spf1 a -all"), ("A", "192.0.2.1")],
    "local.example": [("TXT", "v=spf1 exists:%{l}.users.example -all exp=why.example")],
    "bob.users.example": [("A", "127.0.0.1")],
    "why.example": [("TXT", "%{l} is no user of ours")],
    "hosts.example": [("TXT", "v=spf1 mx -all"), *[("MX", f"10 {host}") for host in HOSTS]],
    **{host: [("A", "192.0.2.9")] for host in HOSTS},
    "voids.example": [("TXT", "v=spf1 a:no1.example a:no2.example ip4:192.0.2.1 a:no3.example -all")],
    "trouble.example": [("TXT", "v=spf1 a:broken.example -all")],
    "broken.example": Trouble.SERVFAIL,
    "long.example": [("TXT", "v=spf1 " + "ip4:192.0.2.1 " * 600)],
    "wide.example": [("TXT", "v=spf1 " + "ip4:203.0.113.1 " * 200 + "ip4:192.0.2.1 -all")],
    "macros.example": [("TXT", "v=spf1 exists:" + "%{s}" * 1000 + ".x.example -all")],
    "deep.example": [("TXT", "v=spf1 include:deep.example -all")],
    "ptr.example": [("TXT", "v=spf1 ptr -all")],
    "7.2.0.192.in-addr.arpa": [("PTR", "x.ptr.example"), ("PTR", "liar.ptr.example")],
    "x.ptr.example": [("A", "192.0.2.7")],
    "8.2.0.192.in-addr.arpa": [("PTR", "liar.ptr.example")],
    "liar.ptr.example": [("A", "203.0.113.8")],
    "ugly.example": [("TXT", "v=spf1 -all exp=uglywhy.example")],
    "uglywhy.example": [("TXT", "%{c} %{r} %{t}%_" + "x" * 900)],
    "hidden.example": [("TXT", "v=spf1 -all exp=hiddenwhy.example")],
    "hiddenwhy.example": [("TXT", "bell \x07 and ü")],
    "_spf.under_score.example": [("TXT", "v=spf1 ip4:192.0.2.1 -all")],
}


@pytest.fixture(scope="module")
def server() -> Iterator[FakeDns]:
    with FakeDns(ZONE) as dns:
        yield dns


@pytest.fixture(scope="module")
def resolver(server: FakeDns) -> Resolver:
    return Resolver([server.address], timeout=2)


def check(
    resolver: Resolver, mail_from: str, *, client_ip: str = "192.0.2.1", helo: str = "mail.sender.example"
) -> SpfResult:
    return asyncio.run(
        check_mail_from(
            client_ip=client_ip, helo=helo, mail_from=mail_from, resolver=resolver, receiver="mx.here", now=1e9
        )
    )


@pytest.mark.parametrize(
    ("client_ip", "expected"),
    [
        ("192.0.2.77", "pass"),
        ("2001:db8::1", "pass"),
        ("::ffff:192.0.2.5", "pass"),  # an IPv4 client on an IPv6 socket
        ("192.0.3.1", "fail"),
        ("::ffff:192.0.3.5", "fail"),
        ("2001:db9::1", "fail"),
        ("", "none"),
        ("not an address", "none"),
    ],
)
def test_the_client_is_compared_in_its_own_family(resolver: Resolver, client_ip: str, expected: str) -> None:
    assert check(resolver, "bob@sender.example", client_ip=client_ip).result == expected


def test_the_deciding_term_is_told(resolver: Resolver) -> None:
    assert check(resolver, "bob@sender.example") == SpfResult("pass", "sender.example", "mailfrom", "ip4:192.0.2.0/24")


def test_an_empty_mail_from_is_judged_by_helo(resolver: Resolver) -> None:
    assert check(resolver, "") == SpfResult("pass", "mail.sender.example", "helo", "a")
    assert check(resolver, "", helo="[192.0.2.1]") == SpfResult("none", identity="helo")


@pytest.mark.parametrize("helo", ["", "localhost", "[192.0.2.1]", "192.0.2.1", "a b", "x" * 300, "ü", "\ud800.example"])
def test_a_helo_that_names_nothing_has_no_result(resolver: Resolver, helo: str) -> None:
    found = asyncio.run(check_helo(client_ip="192.0.2.1", helo=helo, resolver=resolver))
    assert found == SpfResult("none", identity="helo")


@pytest.mark.parametrize(
    ("mail_from", "expected"),
    [
        ("bob@Sender.EXAMPLE", "pass"),
        ("bob@sender.example.", "pass"),
        ("bob@bücher.example", "pass"),
        ("jürgen@bücher.example", "pass"),
        ("bob@_spf.under_score.example", "pass"),
        ('"a@b"@sender.example', "pass"),
        ("@sender.example", "pass"),
        ("sender.example", "pass"),
        ("bob@[192.0.2.1]", "none"),
        ("bob@localhost", "none"),
        ("bob@", "none"),
        ("bob@a..b.example", "none"),
        ("bob@nothing.example", "none"),
        ("bob@\ud800.example", "none"),
    ],
)
def test_the_domain_of_mail_from_may_be_written_in_many_ways(resolver: Resolver, mail_from: str, expected: str) -> None:
    assert check(resolver, mail_from).result == expected


def test_a_local_part_that_is_not_ascii_matches_no_macro(resolver: Resolver) -> None:
    """RFC 8616 section 4."""
    assert check(resolver, "bob@local.example").result == "pass"
    assert check(resolver, "eve@local.example").explanation == "eve is no user of ours"
    found = check(resolver, "jürgen@local.example")
    assert (found.result, found.explanation) == ("fail", "")


@pytest.mark.parametrize("local", ["a\\b", '"a b"', "a;b", "%{l}", "a" * 300, "x.y" * 90, "a\x00b", "..", '"\\""'])
def test_local_parts_with_odd_octets_only_fail(resolver: Resolver, local: str) -> None:
    assert check(resolver, f"{local}@local.example").result == "fail"


def test_many_hosts_without_an_address_of_the_clients_kind_are_one_void_lookup(resolver: Resolver) -> None:
    """Or every IPv6 client of a domain whose mail servers have only IPv4 addresses would be a permerror."""
    assert check(resolver, "bob@hosts.example", client_ip="2001:db8::1").result == "fail"
    assert check(resolver, "bob@hosts.example", client_ip="192.0.2.9").result == "pass"


def test_the_third_void_lookup_ends_it(resolver: Resolver) -> None:
    assert check(resolver, "bob@voids.example").result == "pass"
    assert check(resolver, "bob@voids.example", client_ip="192.0.2.2") == SpfResult(
        "permerror", "voids.example", reason="more than 2 terms ask the DNS for nothing"
    )


def test_trouble_with_the_dns_is_temporary(resolver: Resolver) -> None:
    assert check(resolver, "bob@trouble.example").reason == "the DNS did not answer for a:broken.example"
    assert check(resolver, "bob@broken.example").result == "temperror"


def test_long_records_are_bounded(resolver: Resolver) -> None:
    assert check(resolver, "bob@long.example").reason == "the record is too long"
    assert check(resolver, "bob@wide.example").result == "pass"
    started = time.perf_counter()
    assert check(resolver, f"{'b' * 60}@macros.example").result == "fail"
    assert check(resolver, "bob@deep.example").reason == "more than 10 terms ask the DNS"
    assert time.perf_counter() - started < 0.5


def test_only_names_that_lead_back_count(resolver: Resolver) -> None:
    assert check(resolver, "bob@ptr.example", client_ip="192.0.2.7").result == "pass"
    assert check(resolver, "bob@ptr.example", client_ip="192.0.2.8").result == "fail"
    assert check(resolver, "bob@ptr.example", client_ip="192.0.2.9").result == "fail"


def test_explanations_are_short_and_printable(resolver: Resolver) -> None:
    found = check(resolver, "bob@ugly.example").explanation
    assert found.startswith("192.0.2.1 mx.here 1000000000 xxx")
    assert len(found) == 400
    assert check(resolver, "bob@hidden.example").explanation == ""


@settings(max_examples=60)
@given(st.text(max_size=40), st.text(max_size=40), st.text(max_size=40), st.booleans())
def test_no_strings_of_strangers_raise(resolver: Resolver, mail_from: str, helo: str, ip: str, known: bool) -> None:
    domain = "@local.example" if known else ""
    assert check(resolver, mail_from + domain, helo=helo).result in ("none", "fail", "permerror", "temperror")
    assert check(resolver, mail_from, helo=helo, client_ip=ip).result == "none"


WORDS = "all -all a mx ptr ip4: ip6: 192.0.2.1 ::1 /24 //64 include: exists: exp= redirect= x= .example ü : / ="
MACROS = "%{ %{d} %{ir} %{l1r-} } % %%"
TERMS = st.sampled_from([*WORDS.split(), *MACROS.split(), " ", "  ", "\t"])


@given(st.lists(TERMS, max_size=12).map("".join) | st.text(max_size=60))
def test_reading_any_record_ends_in_a_record_or_a_syntax_error(text: str) -> None:
    try:
        parse_record("v=spf1 " + text)
    except SpfSyntaxError as error:
        assert str(error).isascii()


@pytest.mark.parametrize("unit", ["%{d}", "a", "%", "a.", "-", "%{d", ":", "/", "a-", "%%"])
def test_reading_the_longest_record_is_quick(unit: str) -> None:
    started = time.perf_counter()
    for start in ("exists:", "a:", "ip4:", "x=", "redirect=", ""):
        with pytest.raises(SpfSyntaxError):
            parse_record("v=spf1 " + start + (unit * MAX_RECORD)[: MAX_RECORD - 30] + "% 0")
    assert time.perf_counter() - started < 0.3


def test_records_are_told_by_their_version() -> None:
    assert is_spf("v=spf1")
    assert is_spf("V=SPF1 -all")
    assert not is_spf("v=spf10 -all")
    assert not is_spf("v=spf1\t-all")
    assert not is_spf(" v=spf1 -all")
