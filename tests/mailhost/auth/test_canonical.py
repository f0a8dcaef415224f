"""Canonical bodies: dkimpy as the judge, pieces cut anywhere, and octets made to be slow."""

from __future__ import annotations

import asyncio
import hashlib
import time
from typing import Literal

import pytest
from dkim.canonicalization import Relaxed, Simple
from hypothesis import given, settings
from hypothesis import strategies as st

from mailhost.auth.canonical import hash_body, relax_body, simplify_body

BODIES = st.lists(st.sampled_from([b" ", b"\t", b"\r\n", b"\r\n\r\n", b"a", b".", b"\n", b"\r", "ü".encode()])).map(
    b"".join
)


@given(BODIES)
def test_bodies_are_canonicalized_as_dkimpy_does(body: bytes) -> None:
    body += b"\r\n"
    assert relax_body(body) == Relaxed.canonicalize_body(body)
    assert simplify_body(body) == Simple.canonicalize_body(body)


def test_the_empty_body_has_the_forms_that_the_rfc_says() -> None:
    assert relax_body(b"") == relax_body(b"\r\n\r\n") == relax_body(b" \t\r\n") == b""
    assert simplify_body(b"") == simplify_body(b"\r\n\r\n") == b"\r\n"
    assert simplify_body(b"no end") == relax_body(b"no \t end ") == b"no end\r\n"


@settings(max_examples=60)
@given(BODIES, st.integers(1, 9))
def test_a_body_cut_anywhere_has_the_hash_of_the_whole(body: bytes, step: int) -> None:
    for form, whole in (("relaxed", relax_body(body)), ("simple", simplify_body(body))):
        found = asyncio.run(hash_body(b"header" + body, 6, form, step=step))
        assert found == (hashlib.sha256(whole).digest(), len(whole))


@pytest.mark.parametrize("form", ["relaxed", "simple"])
@pytest.mark.parametrize("unit", [b" ", b"\t ", b"\r\n", b" \r\n", b"\r", b"\n", b" \r", b"x  ", b"word and more\r\n"])
def test_no_body_takes_long_or_keeps_others_waiting(form: Literal["relaxed", "simple"], unit: bytes) -> None:
    async def measure() -> tuple[float, int]:
        turns = 0

        async def count_turns() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        counting = asyncio.create_task(count_turns())
        started = time.perf_counter()
        for body in (unit * (2_000_000 // len(unit)), unit * (2_000_000 // len(unit)) + b"x\r\n"):
            await hash_body(body, 0, form)
        counting.cancel()
        return time.perf_counter() - started, turns

    seconds, turns = asyncio.run(measure())
    assert seconds < 1
    assert turns > 50
