"""Group commit: what arrives while the database is busy goes to it together, next time.

There is no timer. A batch starts as soon as the one before has ended, so a single caller never waits for company,
and under load the batches grow by themselves.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

import structlog
from django.db import close_old_connections, connections

log = structlog.get_logger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")


class BatchFailed(Exception):
    """The batch this item was in could not be done; the reason is in the log."""


class Coalescer(Generic[Item, Result]):
    """Callers `submit` one item each; `work` gets them in batches, in one thread with a database connection.

    A batch holds at most `max_items`, and at most `max_size` by `size_of` (a larger item goes alone). `work` returns
    one result per item, in order; if it raises, every caller of that batch gets BatchFailed and the next batch
    begins on a fresh connection. Lives in one event loop.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[Sequence[Item]], Sequence[Result]],
        *,
        max_items: int,
        max_size: int = 0,
        size_of: Callable[[Item], int] = lambda item: 0,
    ) -> None:
        self.name = name
        self._work = work
        self._max_items = max_items
        self._max_size = max_size
        self._size_of = size_of
        self._waiting: deque[tuple[Item, asyncio.Future[Result]]] = deque()
        self._runner: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)

    async def submit(self, item: Item) -> Result:
        """The result for `item`, however long it takes; a caller may give up by cancelling. Raises BatchFailed."""
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._runner is None:
            self._runner = asyncio.create_task(self._run(), name=self.name)
        return await future

    def close(self) -> None:
        """Take nothing more; a batch under way runs to its end, though nobody may be there to hear of it."""
        self._thread.submit(connections.close_all)  # they are the thread's own
        self._thread.shutdown(wait=False)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                batch = self._take_batch()
                if not batch:
                    break
                try:
                    results = await loop.run_in_executor(self._thread, self._do, [item for item, _ in batch])
                except Exception as error:  # whatever it was: these callers must hear of it, and the loop go on
                    log.exception("smtp.batch_failed", batch=self.name, items=len(batch))
                    _fail(batch, error)
                else:
                    for (_, future), result in zip(batch, results, strict=True):
                        if not future.done():  # its client may have gone
                            future.set_result(result)
        finally:
            self._runner = None

    def _take_batch(self) -> list[tuple[Item, asyncio.Future[Result]]]:
        batch: list[tuple[Item, asyncio.Future[Result]]] = []
        size = 0
        while self._waiting and len(batch) < self._max_items:
            item, future = self._waiting[0]
            size += self._size_of(item)
            if batch and size > self._max_size:
                break
            self._waiting.popleft()
            if not future.done():  # else its caller has given up: nothing was promised
                batch.append((item, future))
        return batch

    def _do(self, items: list[Item]) -> list[Result]:
        # Also notices a connection that died since the last batch, and one that the batch before broke.
        close_old_connections()
        results = list(self._work(items))
        if len(results) != len(items):
            raise RuntimeError(f"{self.name}: {len(items)} items, {len(results)} results")
        return results


def _fail(batch: Sequence[tuple[object, asyncio.Future[Result]]], error: Exception) -> None:
    for _, future in batch:
        if not future.done():
            failure = BatchFailed()
            failure.__cause__ = error
            future.set_exception(failure)
