"""A bounded pool of threads for the requests that Django answers.

Unlike ``concurrent.futures``: the queue has an end, threads leave by closing what they hold, and no future with its
lock is made per request (a third of the hand-over's cost).
"""

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable
from typing import TypeVar

logger = logging.getLogger(__name__)

T = TypeVar("T")
Job = Callable[[], None]


class PoolFull(Exception):
    """All threads are busy and the queue is full."""


class ThreadPool:
    """``threads`` threads that take jobs from a queue of at most ``queue_limit``.

    Jobs are submitted from one event loop only. ``on_thread_exit`` runs in each thread as it ends, to close what
    the thread alone can close (database connections).
    """

    def __init__(self, *, threads: int, queue_limit: int, on_thread_exit: Callable[[], None] | None = None) -> None:
        self._limit = threads + queue_limit
        self._submitted = 0
        # One number per thread, which that thread alone writes: no lock, and nothing is lost.
        self._finished = [0] * threads
        self._on_thread_exit = on_thread_exit
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._threads = [
            # Daemons, so that a request that never ends cannot keep a stopped process alive.
            threading.Thread(target=self._work, args=(number,), name=f"web-{number}", daemon=True)
            for number in range(threads)
        ]

    def start(self) -> None:
        """Start all threads."""
        for thread in self._threads:
            thread.start()

    @property
    def is_crowded(self) -> bool:
        """More jobs wait than there are threads, so that a new one waits for long."""
        return self._jobs.qsize() > len(self._threads)

    def submit(self, job: Job) -> None:
        """Queue ``job``, which must not raise; raises PoolFull when all threads and all places in the queue are taken.

        Counted from end to end: jobs of a burst that idle threads have not taken yet are not a queue.
        """
        if self._submitted - sum(self._finished) >= self._limit:
            raise PoolFull
        self._submitted += 1
        self._jobs.put(job)

    async def run(self, function: Callable[[], T]) -> T:
        """Run ``function`` on a thread and return what it returns, or raise what it raises."""
        loop = asyncio.get_running_loop()
        result: asyncio.Future[T] = loop.create_future()

        def job() -> None:
            try:
                value = function()
            except BaseException as error:  # handed to the caller, whatever it is
                loop.call_soon_threadsafe(_set_error, result, error)
            else:
                loop.call_soon_threadsafe(_set_result, result, value)

        self.submit(job)
        return await result

    def stop(self, timeout: float) -> bool:
        """End every thread after the jobs already queued; False when some still work after ``timeout`` seconds."""
        for _ in self._threads:
            self._jobs.put(None)
        end = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _work(self, number: int) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                job()
            except Exception:  # a job handles its own errors; what is left is our bug, and must not cost a thread
                logger.exception("a job of the web pool failed")
            self._finished[number] += 1
        if self._on_thread_exit is not None:
            self._on_thread_exit()


def _set_result(future: "asyncio.Future[T]", value: T) -> None:
    if not future.done():
        future.set_result(value)


def _set_error(future: "asyncio.Future[T]", error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
