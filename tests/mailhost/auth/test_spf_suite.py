"""The SPF test suite of openspf.org for RFC 7208: each of its 203 cases, over a DNS on a real socket."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from mailhost.auth.spf import SpfResult, check_mail_from
from mailhost.dns.resolver import Resolver
from tests.mailhost.auth.suites import SuiteDns, load_suite

SUITE = load_suite("spf/rfc7208-tests.yml")


@pytest.fixture(scope="module")
def server() -> Iterator[SuiteDns]:
    with SuiteDns() as dns:
        yield dns


@pytest.mark.parametrize("scenario", SUITE, ids=[one["description"].replace(" ", "-") for one in SUITE])
def test_every_case_gives_a_result_that_the_suite_allows(server: SuiteDns, scenario: dict[str, Any]) -> None:
    async def check_all() -> dict[str, SpfResult]:
        resolver = Resolver([server.address], timeout=2)
        return {
            name: await check_mail_from(
                client_ip=case["host"], helo=case["helo"], mail_from=case["mailfrom"], resolver=resolver
            )
            for name, case in scenario["tests"].items()
        }

    server.load(scenario["zonedata"])
    wrong = {}
    for name, found in asyncio.run(check_all()).items():
        case = scenario["tests"][name]
        allowed = case["result"] if isinstance(case["result"], list) else [case["result"]]
        expected = case.get("explanation", "DEFAULT").replace("DEFAULT", "")
        # Case aside: the suite writes %{i} of an IPv6 address in capitals, RFC 7208 section 7.4 does not.
        if found.result not in allowed or found.explanation.lower() != expected.lower():
            wrong[name] = (allowed, expected, found)
    assert wrong == {}


def test_the_suite_is_whole() -> None:
    assert sum(len(scenario["tests"]) for scenario in SUITE) == 203
