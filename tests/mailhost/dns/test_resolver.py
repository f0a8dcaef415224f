"""The resolver against a real DNS server on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from mailhost.dns.resolver import DnsNotFound, DnsTemporary, NoSuchName, Resolver, lookup_txt
from tests.fakes.dns import FakeDns, Trouble

LONG = "v=DKIM1; k=rsa; p=" + "A" * 700


@pytest.fixture(scope="module")
def shared() -> Iterator[FakeDns]:
    zone = {
        "example.org": [("MX", "20 b.example.org"), ("MX", "10 A.example.org"), ("TXT", "v=spf1 -all"), ("TXT", LONG)],
        "a.example.org": [("A", "192.0.2.1"), ("AAAA", "2001:db8::1")],
        "six.example.org": [("AAAA", "2001:db8::2")],
        "one.example.org": [("CNAME", "two.example.org")],
        "two.example.org": [("CNAME", "a.example.org")],
        "dangling.example.org": [("CNAME", "gone.example.org")],
        "null.example.org": [("MX", "0 .")],
        "many.example.org": [("TXT", f"{number:04}-" + "x" * 90) for number in range(40)],
        "fail.example.org": Trouble.SERVFAIL,
        "refused.example.org": Trouble.REFUSED,
        "garbage.example.org": Trouble.GARBAGE,
        "stall.example.org": Trouble.STALL,
        "odd.example.org": [("TXT", "nul \0 and ü")],
        "1.2.0.192.in-addr.arpa": [("PTR", "A.example.org"), ("PTR", "b.example.org")],
        "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa": [("PTR", "six.example.org")],
    }
    with FakeDns(zone) as server:
        yield server


def test_txt_strings_of_one_record_are_joined(shared: FakeDns) -> None:
    found = asyncio.run(Resolver([shared.address]).txt("example.org"))
    assert sorted(found) == sorted(["v=spf1 -all", LONG])


def test_txt_text_can_be_stored(shared: FakeDns) -> None:
    assert asyncio.run(Resolver([shared.address]).txt("odd.example.org")) == ["nul \ufffd and ü"]


def test_mx_hosts_come_sorted_and_lower_case(shared: FakeDns) -> None:
    found = asyncio.run(Resolver([shared.address]).mx("Example.ORG."))
    assert found == [(10, "a.example.org"), (20, "b.example.org")]
    assert asyncio.run(Resolver([shared.address]).mx("null.example.org")) == [(0, ".")]


def test_addresses_are_ipv4_before_ipv6(shared: FakeDns) -> None:
    assert asyncio.run(Resolver([shared.address]).addresses("a.example.org")) == ["192.0.2.1", "2001:db8::1"]
    assert asyncio.run(Resolver([shared.address]).addresses("six.example.org")) == ["2001:db8::2"]


def test_one_kind_of_address_can_be_asked_for(shared: FakeDns) -> None:
    assert asyncio.run(Resolver([shared.address]).addresses_of_kind("a.example.org", 4)) == ["192.0.2.1"]
    assert asyncio.run(Resolver([shared.address]).addresses_of_kind("a.example.org", 6)) == ["2001:db8::1"]
    with pytest.raises(DnsNotFound):
        asyncio.run(Resolver([shared.address]).addresses_of_kind("six.example.org", 4))


def test_an_address_has_names(shared: FakeDns) -> None:
    assert sorted(asyncio.run(Resolver([shared.address]).names("192.0.2.1"))) == ["a.example.org", "b.example.org"]
    assert asyncio.run(Resolver([shared.address]).names("2001:db8::1")) == ["six.example.org"]
    with pytest.raises(NoSuchName):
        asyncio.run(Resolver([shared.address]).names("192.0.2.2"))


def test_cname_chains_are_followed(shared: FakeDns) -> None:
    assert asyncio.run(Resolver([shared.address]).addresses("one.example.org")) == ["192.0.2.1", "2001:db8::1"]
    with pytest.raises(DnsNotFound):
        asyncio.run(Resolver([shared.address]).addresses("dangling.example.org"))


def test_a_truncated_answer_is_asked_for_by_tcp(shared: FakeDns) -> None:
    found = asyncio.run(Resolver([shared.address]).txt("many.example.org"))
    assert len(found) == 40
    assert ("many.example.org", "TXT", "tcp") in shared.queries


@pytest.mark.parametrize("name", ["nobody.example.org", "x" * 64 + ".org", "a..b", ".".join(["x" * 60] * 5)])
def test_what_does_not_exist_is_told_apart_from_what_is_not_known(shared: FakeDns, name: str) -> None:
    with pytest.raises(NoSuchName):
        asyncio.run(Resolver([shared.address]).mx(name))
    with pytest.raises(NoSuchName):
        lookup_txt(name, servers=[shared.address])


def test_a_name_without_that_record_is_not_found_but_exists(shared: FakeDns) -> None:
    with pytest.raises(DnsNotFound) as caught:
        asyncio.run(Resolver([shared.address]).mx("a.example.org"))
    assert not isinstance(caught.value, NoSuchName)


@pytest.mark.parametrize("name", ["fail", "refused", "garbage", "stall"])
def test_trouble_is_temporary_and_bounded_in_time(shared: FakeDns, name: str) -> None:
    async def ask() -> float:
        resolver = Resolver([shared.address], timeout=0.2)
        started = asyncio.get_running_loop().time()
        with pytest.raises(DnsTemporary):
            await resolver.txt(f"{name}.example.org")
        with pytest.raises(DnsTemporary):
            await resolver.addresses(f"{name}.example.org")
        return asyncio.get_running_loop().time() - started

    assert asyncio.run(ask()) < 2
    with pytest.raises(DnsTemporary):
        lookup_txt(f"{name}.example.org", servers=[shared.address], timeout=0.2)


def test_a_server_that_is_not_there_is_temporary(unused_address: str) -> None:
    with pytest.raises(DnsTemporary):
        asyncio.run(Resolver([unused_address], timeout=0.2).txt("example.org"))


@pytest.fixture
def unused_address() -> str:
    with FakeDns() as server:
        return server.address


@pytest.mark.parametrize("server", ["", "localhost:53", "127.0.0.1:x", "::1"])
def test_a_server_that_is_no_address_is_refused_at_once(server: str) -> None:
    if server == "::1":
        Resolver([server])  # a bare address gets port 53
        return
    with pytest.raises(ValueError, match=r".+"):
        Resolver([server])


def test_one_kind_of_address_is_enough_and_trouble_wins_over_nothing() -> None:
    async def ask(resolver: Resolver) -> list[str]:
        return await resolver.addresses("mail.example.org")

    class HalfBroken(FakeDns):
        def _answer(self, data: bytes, transport: str) -> bytes:
            self.zone["mail.example.org"] = Trouble.SERVFAIL if b"\x00\x1c" in data[12:] else self.good
            return super()._answer(data, transport)

    with HalfBroken() as server:
        server.good = [("A", "192.0.2.9")]
        assert asyncio.run(ask(Resolver([server.address], timeout=1))) == ["192.0.2.9"]
        server.good = []
        with pytest.raises(DnsTemporary):
            asyncio.run(ask(Resolver([server.address], timeout=1)))


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def count(server: FakeDns, kind: str) -> int:
    return sum(1 for _, asked, _ in server.queries if asked == kind)


def test_answers_are_kept_for_their_ttl_within_bounds() -> None:
    async def ask() -> None:
        clock = Clock()
        resolver = Resolver([server.address], clock=clock)
        for step, expected in [(0, 1), (99, 1), (2, 2)]:  # TTL 100
            clock.now += step
            await resolver.txt("hundred.test")
            assert count(server, "TXT") == expected
        await resolver.mx("zero.test")
        clock.now += 4  # at least 5 seconds
        await resolver.mx("zero.test")
        assert count(server, "MX") == 1
        clock.now += 2
        await resolver.mx("zero.test")
        assert count(server, "MX") == 2
        await resolver.addresses("week.test")
        clock.now += 3601  # at most an hour
        await resolver.addresses("week.test")
        assert count(server, "A") == 2

    zone = {
        "hundred.test": [("TXT", "x", 100)],
        "zero.test": [("MX", "1 mail.test", 0)],
        "week.test": [("A", "192.0.2.1", 604800), ("AAAA", "2001:db8::1", 604800)],
    }
    with FakeDns(zone) as server:
        asyncio.run(ask())


def test_that_a_name_is_missing_is_kept_too_but_trouble_is_not() -> None:
    async def ask() -> None:
        clock = Clock()
        resolver = Resolver([server.address], clock=clock)
        for _ in range(3):
            with pytest.raises(NoSuchName):
                await resolver.txt("missing.test")
        assert count(server, "TXT") == 1
        clock.now += 31
        server.zone["missing.test"] = [("TXT", "now there")]
        assert await resolver.txt("missing.test") == ["now there"]
        server.zone["fail.test"] = Trouble.SERVFAIL
        with pytest.raises(DnsTemporary):
            await resolver.mx("fail.test")
        server.zone["fail.test"] = [("MX", "1 mail.test")]
        assert await resolver.mx("fail.test") == [(1, "mail.test")]

    with FakeDns(negative_ttl=30) as server:
        asyncio.run(ask())


def test_equal_questions_at_one_moment_are_sent_once() -> None:
    async def ask() -> None:
        resolver = Resolver([server.address])
        answers = await asyncio.gather(*(resolver.txt("busy.test") for _ in range(50)))
        assert answers == [["x"]] * 50

    with FakeDns({"busy.test": [("TXT", "x")]}) as server:
        asyncio.run(ask())
        assert len(server.queries) == 1


def test_who_gives_up_waiting_does_not_take_the_answer_from_the_others() -> None:
    async def ask() -> None:
        resolver = Resolver([server.address])
        impatient = asyncio.create_task(resolver.txt("busy.test"))
        patient = asyncio.create_task(resolver.txt("busy.test"))
        await asyncio.sleep(0)
        impatient.cancel()
        assert await patient == ["x"]

    with FakeDns({"busy.test": [("TXT", "x")]}) as server:
        asyncio.run(ask())


def test_the_cache_is_bounded() -> None:
    async def ask() -> None:
        resolver = Resolver([server.address], max_entries=3)
        for number in [0, 1, 2, 3, 0]:
            await resolver.txt(f"{number}.test")
        assert len(server.queries) == 5
        await resolver.txt("3.test")
        assert len(server.queries) == 5

    with FakeDns({f"{number}.test": [("TXT", "x")] for number in range(4)}) as server:
        asyncio.run(ask())


def test_a_synchronous_lookup_asks_each_time(shared: FakeDns) -> None:
    assert sorted(lookup_txt("example.org", servers=[shared.address])) == sorted(["v=spf1 -all", LONG])
    with pytest.raises(DnsNotFound):
        lookup_txt("a.example.org", servers=[shared.address])
