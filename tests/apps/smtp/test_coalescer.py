"""Group commit: who is together in a batch, what a failure costs, and that nobody waits for a timer."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence

import pytest

from apps.smtp.coalescer import BatchFailed, Coalescer


class Work:
    """Records its batches; can be held up, and fails on the item "poison"."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.threads: set[str] = set()
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, items: Sequence[str]) -> list[str]:
        self.batches.append(list(items))
        self.threads.add(threading.current_thread().name)
        assert self.gate.wait(5)
        if "poison" in items:
            raise RuntimeError("poisoned")
        return [item.upper() for item in items]


def run(test: Callable[[Coalescer, Work], object], **limits: object) -> Work:
    work = Work()

    async def main() -> None:
        coalescer = Coalescer("test-batch", work, **{"max_items": 100, **limits})
        try:
            await test(coalescer, work)
        finally:
            work.gate.set()
            coalescer.close()

    asyncio.run(main())
    return work


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)


def test_a_single_item_goes_at_once() -> None:
    async def test(coalescer: Coalescer, work: Work) -> None:
        started = time.monotonic()
        assert await coalescer.submit("a") == "A"
        assert time.monotonic() - started < 0.5

    assert run(test).batches == [["a"]]


def test_what_comes_while_a_batch_runs_is_the_next_batch() -> None:
    async def test(coalescer: Coalescer, work: Work) -> None:
        work.gate.clear()
        first = asyncio.create_task(coalescer.submit("first"))
        await until(lambda: bool(work.batches))
        others = [asyncio.create_task(coalescer.submit(str(number))) for number in range(50)]
        await asyncio.sleep(0.02)
        work.gate.set()
        assert await first == "FIRST"
        assert await asyncio.gather(*others) == [str(number) for number in range(50)]

    work = run(test)
    assert work.batches == [["first"], [str(number) for number in range(50)]]
    assert work.threads == {"test-batch_0"}


def test_a_batch_has_limits_of_number_and_size() -> None:
    async def test(coalescer: Coalescer, work: Work) -> None:
        items = ["a", "b", "c", "dddddddddd", "e" * 50, "f"]
        assert await asyncio.gather(*map(coalescer.submit, items)) == [item.upper() for item in items]

    work = run(test, max_items=2, max_size=10, size_of=len)
    assert work.batches == [["a", "b"], ["c"], ["dddddddddd"], ["e" * 50], ["f"]]


def test_a_failed_batch_fails_its_own_callers_only(caplog: pytest.LogCaptureFixture) -> None:
    async def test(coalescer: Coalescer, work: Work) -> None:
        results = await asyncio.gather(*map(coalescer.submit, ["poison", "b", "c"]), return_exceptions=True)
        assert [type(result) for result in results] == [BatchFailed, BatchFailed, str]
        assert await coalescer.submit("d") == "D"

    assert run(test, max_items=2).batches == [["poison", "b"], ["c"], ["d"]]


def test_a_caller_that_leaves_does_not_disturb_the_others() -> None:
    async def test(coalescer: Coalescer, work: Work) -> None:
        work.gate.clear()
        leaver, stayer = (asyncio.create_task(coalescer.submit(item)) for item in "ab")
        await until(lambda: bool(work.batches))
        leaver.cancel()
        await asyncio.sleep(0)
        work.gate.set()
        assert await stayer == "B"
        assert await coalescer.submit("c") == "C"

    run(test)


def test_what_nobody_waits_for_any_more_is_not_done() -> None:
    async def test(coalescer: Coalescer, work: Work) -> None:
        work.gate.clear()
        first = asyncio.create_task(coalescer.submit("first"))
        await until(lambda: bool(work.batches))
        late = [asyncio.create_task(coalescer.submit(item)) for item in "ab"]
        await asyncio.sleep(0.01)
        late[0].cancel()
        await asyncio.sleep(0)
        work.gate.set()
        assert await first == "FIRST"
        assert await late[1] == "B"

    assert run(test).batches == [["first"], ["b"]]


def test_results_that_do_not_match_the_items_are_a_failure() -> None:
    async def main() -> None:
        coalescer: Coalescer[str, str] = Coalescer("short", lambda items: ["only one"], max_items=10)
        results = await asyncio.gather(*map(coalescer.submit, "ab"), return_exceptions=True)
        assert [type(result) for result in results] == [BatchFailed, BatchFailed]
        coalescer.close()

    asyncio.run(main())
