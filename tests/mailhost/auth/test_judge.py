"""The verdict as a whole: over a DNS on a real socket, with everything a stranger can send."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailhost.auth.judge import SenderVerdict, judge_sender
from mailhost.auth.results import parse_results
from mailhost.dns.resolver import Resolver
from tests.fakes.dns import FakeDns, Trouble
from tests.mailhost.auth.making import add_arc_set, add_signature, make_key, publish

NOW = 1_772_368_000.0
ED, RSA = make_key(256), make_key(2048)
MAIL = (
    b"From: Bob <bob@sender.example>\r\n"
    b"To: ann@here.example\r\n"
    b"Subject: hello\r\n"
    b"Message-ID: <1@sender.example>\r\n"
    b"\r\n"
    b"Hi Ann\r\n"
)
SIGNED = add_signature(MAIL, RSA)


@pytest.fixture(scope="module")
def server() -> Iterator[FakeDns]:
    zone = {
        "sender.example": [("TXT", "v=spf1 ip4:192.0.2.0/24 -all")],
        "mail.sender.example": [("TXT", "v=spf1 a -all"), ("A", "192.0.2.1")],
        "_dmarc.sender.example": [("TXT", "v=DMARC1; p=reject")],
        "s._domainkey.sender.example": [("TXT", publish(RSA))],
        "s._domainkey.list.example": [("TXT", publish(ED))],
        "stall.example": Trouble.STALL,
        "_dmarc.stall.example": Trouble.STALL,
        "s._domainkey.stall.example": Trouble.STALL,
    }
    with FakeDns(zone) as dns:
        yield dns


async def judge(server: FakeDns, raw: bytes, **changes: Any) -> SenderVerdict:
    arguments: dict[str, Any] = {
        "client_ip": "192.0.2.1",
        "helo": "mail.sender.example",
        "mail_from": "bob@sender.example",
        "authserv_id": "mx.here.example",
        "now": NOW,
    }
    return await judge_sender(raw=raw, resolver=Resolver([server.address], timeout=3), **(arguments | changes))


def verdict(server: FakeDns, raw: bytes, **changes: Any) -> SenderVerdict:
    return asyncio.run(judge(server, raw, **changes))


def words(found: SenderVerdict) -> tuple[str, str, str, str, bool]:
    return found.spf.result, found.dkim_summary, found.dmarc.result, found.arc.result, found.from_aligned


def test_an_honest_mail_passes_everything(server: FakeDns) -> None:
    found = verdict(server, SIGNED)
    assert words(found) == ("pass", "pass", "pass", "none", True)
    assert found.spf_helo.result == "pass"
    assert found.header == (
        "Authentication-Results: mx.here.example;\r\n"
        "\tspf=pass smtp.mailfrom=bob@sender.example;\r\n"
        "\tspf=pass smtp.helo=mail.sender.example;\r\n"
        "\tdkim=pass header.d=sender.example header.s=s header.a=rsa-sha256\r\n"
        f"\t header.b={quoted(found.dkim[0].signature)};\r\n"
        "\tdmarc=pass header.from=sender.example policy.dmarc=none\r\n"
    )


def quoted(value: str) -> str:
    return f'"{value}"' if set(value) & set("/=") else value


def test_the_verdict_can_be_stored(server: FakeDns) -> None:
    found = verdict(server, SIGNED).as_dict()
    assert json.loads(json.dumps(found)) == found
    assert {name: found[name] for name in ("spf", "dkim", "dmarc", "arc", "from_aligned")} == {
        "spf": "pass", "dkim": "pass", "dmarc": "pass", "arc": "none", "from_aligned": True,
    }  # fmt: skip
    assert found["details"]["dkim"] == [
        {"result": "pass", "domain": "sender.example", "selector": "s", "algorithm": "rsa-sha256",
         "identity": "@sender.example", "key_bits": 2048}
    ]  # fmt: skip
    assert found["details"]["dmarc"] == {
        "result": "pass", "disposition": "none", "from_domain": "sender.example", "aligned_by": ["spf", "dkim"],
        "policy": "reject", "policy_domain": "sender.example", "percent": 100,
    }  # fmt: skip


def test_a_forged_author_fails_and_the_policy_is_told(server: FakeDns) -> None:
    found = verdict(server, MAIL, client_ip="203.0.113.5", mail_from="eve@evil.example", helo="evil.example")
    assert words(found) == ("none", "none", "fail", "none", False)
    assert found.dmarc.disposition == "reject"
    assert "dmarc=fail" in found.header
    assert "policy.dmarc=reject" in found.header


def test_a_forwarded_mail_lives_by_its_signature(server: FakeDns) -> None:
    found = verdict(server, SIGNED, client_ip="203.0.113.5", mail_from="fwd@other.example", helo="other.example")
    assert words(found) == ("none", "pass", "pass", "none", True)


def test_a_bounce_is_judged_by_helo(server: FakeDns) -> None:
    found = verdict(server, MAIL, mail_from="")
    assert found.spf is found.spf_helo
    assert found.spf.identity == "helo"
    assert words(found) == ("pass", "none", "pass", "none", True)  # mail.sender.example is of the same organization
    assert found.header.count("spf=") == 1


def test_a_list_that_changed_the_mail_is_believed_only_when_it_is_trusted(server: FakeDns) -> None:
    changed = add_arc_set(SIGNED.replace(b"Subject: ", b"Subject: [list] "), ED, 1)
    sender = {"client_ip": "203.0.113.5", "mail_from": "bounce@list.example", "helo": "list.example"}
    found = verdict(server, changed, **sender)
    assert words(found) == ("none", "fail", "fail", "pass", False)
    assert (found.dmarc.disposition, found.dmarc.override) == ("reject", "")
    trusted = verdict(server, changed, trusted_sealers=["List.Example"], **sender)
    assert words(trusted) == ("none", "fail", "fail", "pass", True)
    assert (trusted.dmarc.disposition, trusted.dmarc.override) == ("none", "list.example")
    assert 'reason="trusted sealer list.example"' in trusted.header
    second_author = changed.replace(b"From:", b"From: eve@evil.example\r\nFrom:", 1)
    assert not verdict(server, second_author, trusted_sealers=["list.example"], **sender).from_aligned


def test_what_is_not_known_in_time_is_a_temperror_and_what_is_known_counts(server: FakeDns) -> None:
    raw = add_signature(MAIL, RSA, domain="stall.example")
    started = time.perf_counter()
    found = verdict(server, raw, timeout=0.1)
    assert time.perf_counter() - started < 0.8
    assert words(found) == ("pass", "temperror", "pass", "none", True)
    assert found.dkim[0].reason == "there was no time left"
    stalled = raw.replace(b"bob@sender", b"bob@stall")
    found = verdict(server, stalled, timeout=0.1, mail_from="bob@stall.example", helo="stall.example")
    assert words(found) == ("temperror", "temperror", "temperror", "none", False)
    assert (found.spf.domain, found.dmarc.from_domain) == ("stall.example", "stall.example")
    chain = add_arc_set(MAIL, ED, 1, domain="stall.example")
    assert verdict(server, chain, timeout=0.1).arc.result == "temperror"


def test_giving_up_leaves_nothing_running(server: FakeDns) -> None:
    async def give_up() -> int:
        judging = asyncio.create_task(judge(server, add_signature(MAIL, RSA, domain="stall.example")))
        await asyncio.sleep(0.05)
        judging.cancel()
        await asyncio.gather(judging, return_exceptions=True)
        await asyncio.sleep(0)
        names = {task.get_coro().__qualname__ for task in asyncio.all_tasks()}  # type: ignore[union-attr]
        return len(names & {"DkimVerifier.run", "check_mail_from", "check_helo", "find_policies", "validate_chain"})

    assert asyncio.run(give_up()) == 0


def test_ten_slow_mails_take_no_longer_than_one(server: FakeDns) -> None:
    async def judge_ten() -> float:
        raw = add_signature(MAIL, RSA, domain="stall.example")
        started = time.perf_counter()
        await asyncio.gather(*(judge(server, raw, timeout=0.2) for _ in range(10)))
        return time.perf_counter() - started

    assert asyncio.run(judge_ten()) < 1


def test_a_large_mail_does_not_stop_the_others(server: FakeDns) -> None:
    async def measure() -> tuple[SenderVerdict, int]:
        turns = 0

        async def count_turns() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        counting = asyncio.create_task(count_turns())
        found = await judge(server, large)
        counting.cancel()
        return found, turns

    large = add_signature(MAIL + b"word and more words \r\n" * 200_000, RSA)
    found, turns = asyncio.run(measure())
    assert found.dkim[0].result == "pass"
    assert turns > len(large) / 128 / 1024


HEADS = [
    b"From: bob@sender.example", b"From: a@b.example, c@sender.example", b"From:", b"From: =?utf-8?q?x?= <",
    b"DKIM-Signature: v=1; a=rsa-sha256; d=sender.example; s=s; h=from; bh=AAAA; b=AAAA", b"DKIM-Signature:",
    b"DKIM-Signature: v=1; a=rsa-sha256; d=\xff\xfe; s=s; h=from; bh=AAAA; b=AAAA; i=\0",
    b"ARC-Seal: i=1; a=rsa-sha256; cv=none; d=list.example; s=s; b=AAAA", b"ARC-Seal: i=", b"ARC-Seal: i=51",
    b"ARC-Message-Signature: i=1; a=rsa-sha256; d=list.example; s=s; h=from; bh=AAAA; b=AAAA",
    b"ARC-Authentication-Results: i=1; x; dmarc=pass", b"ARC-Authentication-Results: i=1",
    b"Authentication-Results: mx.here.example; spf=pass", b" folded", b"\tx", b"", b"no field", b"\xff\0: x",
]  # fmt: skip
MAILS = st.binary(max_size=200) | st.lists(st.sampled_from(HEADS) | st.binary(max_size=9), max_size=10).map(
    b"\r\n".join
)


class Complaints(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.found.append(record.getMessage())


@pytest.fixture(scope="module")
def complaints() -> Iterator[list[str]]:
    handler = Complaints()
    logger = logging.getLogger("mailhost.auth.judge")
    logger.addHandler(handler)
    yield handler.found
    logger.removeHandler(handler)


@settings(max_examples=120)
@given(MAILS, st.text(max_size=20) | st.just("bob@sender.example"), st.text(max_size=20))
def test_no_mail_of_any_octets_raises(
    server: FakeDns, complaints: list[str], raw: bytes, mail_from: str, helo: str
) -> None:
    found = verdict(server, raw, mail_from=mail_from, helo=helo, trusted_sealers=["list.example"])
    assert json.dumps(found.as_dict()).isascii()
    assert "\\u0000" not in json.dumps(found.as_dict())
    assert found.header.isascii()
    assert parse_results(found.header.partition(":")[2].encode()).authserv_id == "mx.here.example"
    assert found.header.endswith("\r\n")
    assert found.header.count("\n") == found.header.count("\r\n\t") + 1
    assert not found.from_aligned or b"sender.example" in raw
    assert complaints == []


@settings(max_examples=60)
@given(st.integers(0, len(SIGNED) - 1), st.binary(max_size=3))
def test_no_change_of_a_signed_mail_raises(server: FakeDns, complaints: list[str], place: int, octets: bytes) -> None:
    found = verdict(server, SIGNED[:place] + octets + SIGNED[place + 1 :])
    assert found.spf.result == "pass"
    assert complaints == []
