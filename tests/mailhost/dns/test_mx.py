"""Where mail for a domain goes: RFC 5321 section 5.1 and RFC 7505."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator

import pytest

from mailhost.dns.mx import MailHost, NoMailHosts, NoSuchDomain, NullMx, UnroutableDomain, find_mail_hosts
from mailhost.dns.resolver import DnsTemporary, Resolver
from tests.fakes.dns import FakeDns, Trouble

ZONE = {
    "example.org": [("MX", "20 backup.example.org"), ("MX", "10 a.example.org"), ("MX", "10 b.example.org")],
    "a.example.org": [("A", "192.0.2.1"), ("AAAA", "2001:db8::1")],
    "b.example.org": [("A", "192.0.2.2")],
    "backup.example.org": [("A", "192.0.2.3")],
    "implicit.example": [("A", "192.0.2.4")],
    "null.example": [("MX", "0 .")],
    "null-and-more.example": [("MX", "0 ."), ("MX", "10 a.example.org")],
    "empty.example": [("TXT", "neither MX nor address")],
    "dangling.example": [("MX", "10 gone.example.org")],
    "half.example": [("MX", "10 gone.example.org"), ("MX", "10 broken.example.org"), ("MX", "20 a.example.org")],
    "broken-host.example": [("MX", "10 broken.example.org"), ("MX", "10 gone.example.org")],
    "broken.example": Trouble.SERVFAIL,
    "broken.example.org": Trouble.SERVFAIL,
    "alias.example": [("CNAME", "example.org")],
    "twice.example": [("MX", "10 a.example.org"), ("MX", "20 a.example.org")],
    "underscore.example": [("MX", "10 mx_1.example.org")],
    "mx_1.example.org": [("A", "192.0.2.5")],
    "many.example": [("MX", f"{number} h{number}.example.org") for number in range(30)],
    **{f"h{number}.example.org": [("A", f"192.0.2.{number}")] for number in range(30)},
    "wide.example": [("A", f"192.0.2.{number}") for number in range(1, 40)],
    "xn--bcher-kva.example": [("MX", "10 a.example.org")],
}


@pytest.fixture(scope="module")
def server() -> Iterator[FakeDns]:
    with FakeDns(ZONE) as running:
        yield running


def find(server: FakeDns, domain: str, seed: int = 1) -> list[MailHost]:
    resolver = Resolver([server.address], timeout=2)
    return asyncio.run(find_mail_hosts(domain, resolver, rng=random.Random(seed)))


def test_the_lowest_preference_comes_first_and_equals_in_random_order(server: FakeDns) -> None:
    orders = {tuple(host.name for host in find(server, "example.org", seed)) for seed in range(12)}
    assert orders == {
        ("a.example.org", "b.example.org", "backup.example.org"),
        ("b.example.org", "a.example.org", "backup.example.org"),
    }


def test_each_host_has_its_addresses(server: FakeDns) -> None:
    by_name = {host.name: host for host in find(server, "EXAMPLE.org")}
    assert by_name["a.example.org"] == MailHost("a.example.org", 10, ("192.0.2.1", "2001:db8::1"))


def test_a_domain_without_mx_is_its_own_host(server: FakeDns) -> None:
    assert find(server, "implicit.example") == [MailHost("implicit.example", 0, ("192.0.2.4",))]


def test_a_null_mx_means_that_no_mail_is_taken(server: FakeDns) -> None:
    with pytest.raises(NullMx) as caught:
        find(server, "null.example")
    assert caught.value.enhanced == "5.1.10"
    assert [host.name for host in find(server, "null-and-more.example")] == ["a.example.org"]


@pytest.mark.parametrize(
    ("domain", "error"),
    [
        ("nowhere.test", NoSuchDomain),
        ("not a domain", NoSuchDomain),
        ("", NoSuchDomain),
        ("empty.example", NoMailHosts),
        ("dangling.example", NoMailHosts),
        ("[nonsense]", NoSuchDomain),
    ],
)
def test_what_can_never_be_delivered_is_permanent(server: FakeDns, domain: str, error: type[UnroutableDomain]) -> None:
    with pytest.raises(error) as caught:
        find(server, domain)
    assert isinstance(caught.value, UnroutableDomain)
    assert caught.value.enhanced.startswith("5.")


@pytest.mark.parametrize("domain", ["broken.example", "broken-host.example"])
def test_trouble_with_the_dns_is_temporary(server: FakeDns, domain: str) -> None:
    with pytest.raises(DnsTemporary):
        find(server, domain)


def test_hosts_that_cannot_be_found_are_left_out_while_another_is_there(server: FakeDns) -> None:
    assert [host.name for host in find(server, "half.example")] == ["a.example.org"]


def test_an_alias_has_the_mail_hosts_of_its_target(server: FakeDns) -> None:
    assert {host.name for host in find(server, "alias.example")} == {
        "a.example.org",
        "b.example.org",
        "backup.example.org",
    }


def test_a_host_named_twice_is_tried_once_at_its_better_place(server: FakeDns) -> None:
    assert [(host.name, host.preference) for host in find(server, "twice.example")] == [("a.example.org", 10)]


def test_hosts_and_addresses_are_bounded(server: FakeDns) -> None:
    assert [host.preference for host in find(server, "many.example")] == list(range(10))
    assert len(find(server, "wide.example")[0].addresses) == 10


def test_names_that_only_the_dns_allows_are_used_all_the_same(server: FakeDns) -> None:
    assert find(server, "underscore.example")[0].addresses == ("192.0.2.5",)


def test_an_international_domain_is_looked_up_as_a_label(server: FakeDns) -> None:
    assert find(server, "Bücher.example")[0].name == "a.example.org"


@pytest.mark.parametrize(("literal", "address"), [("[192.0.2.7]", "192.0.2.7"), ("[IPv6:2001:DB8::7]", "2001:db8::7")])
def test_an_address_literal_is_its_own_host(server: FakeDns, literal: str, address: str) -> None:
    assert find(server, literal) == [MailHost(literal, 0, (address,))]
