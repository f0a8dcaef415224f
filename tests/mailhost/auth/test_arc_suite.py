"""ValiMail's ARC test suite: each of its 170 cases of validation, over a DNS on a real socket."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from mailhost.auth.arc import ArcResult, validate_chain
from mailhost.auth.signatures import SignedMail
from mailhost.dns.resolver import Resolver
from tests.fakes.dns import FakeDns
from tests.mailhost.auth.suites import load_suite

SUITE = load_suite("arc/arc-draft-validation-tests.yml")
# The suite is older than RFC 8301, which forbids verifying with SHA-1.
FORBIDDEN_SINCE = {"ams_fields_a_sha1", "as_fields_a_sha1"}


@pytest.mark.parametrize("scenario", SUITE, ids=[one["description"].replace(" ", "-") for one in SUITE])
def test_every_chain_has_the_state_that_the_suite_says(scenario: dict[str, Any]) -> None:
    async def check_all() -> dict[str, ArcResult]:
        resolver = Resolver([server.address])
        return {
            name: await validate_chain(SignedMail(case["message"].replace("\n", "\r\n").encode()), resolver)
            for name, case in scenario["tests"].items()
        }

    zone = {name: [("TXT", text.replace("\n", ""))] for name, text in scenario["txt-records"].items()}
    with FakeDns(zone) as server:
        found = asyncio.run(check_all())
    wrong = {}
    for name, case in scenario["tests"].items():
        expected = "fail" if name in FORBIDDEN_SINCE else (case["cv"] or "Fail").lower()
        if found[name].result != expected:
            wrong[name] = (expected, found[name])
    assert wrong == {}


def test_the_suite_is_whole() -> None:
    assert sum(len(scenario["tests"]) for scenario in SUITE) == 170
