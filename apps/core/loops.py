"""What every loop of a worker process stands on: a thread with an event loop of its own, and the database from it.

Services are synchronous; a loop calls them in a few threads, each with a database connection of its own.
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Protocol, TypeVar

import structlog
import uvloop
from django.db import DEFAULT_DB_ALIAS, InterfaceError, OperationalError, connection, connections
from django.db.backends.base.base import BaseDatabaseWrapper

log = structlog.get_logger(__name__)

T = TypeVar("T")
DATABASE_AWAY = (OperationalError, InterfaceError)
"""What a call raises when the database is away, or gave up on a transaction (a deadlock): call again later."""

_STOP_SECONDS = 9.0


class Database:
    """A few threads that call services. A broken connection is closed, so that the next call makes a new one."""

    def __init__(self, name: str, *, threads: int) -> None:
        self._connections: list[BaseDatabaseWrapper] = []
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=f"{name}-db", initializer=self._remember)

    def _remember(self) -> None:
        """Keep each thread's connection, to be closed when the threads are gone."""
        mine = connections[DEFAULT_DB_ALIAS]
        mine.inc_thread_sharing()
        self._connections.append(mine)

    async def call(self, service: Callable[..., T], **arguments: Any) -> T:
        """The service's result; raises what it raises."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, partial(_call, service, arguments))

    async def close(self) -> None:
        """End the threads and their connections."""
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._pool.shutdown(wait=True)
        for mine in self._connections:
            mine.close()


def _call(service: Callable[..., T], arguments: dict[str, Any]) -> T:
    try:
        return service(**arguments)
    except DATABASE_AWAY:
        connection.close()
        raise


class Loop(Protocol):
    """What a LoopThread runs; made inside the thread's event loop."""

    async def run(self) -> None:
        """Work until stop() was called."""
        ...

    def wake(self) -> None:
        """There may be work."""
        ...

    def stop(self) -> None:
        """End soon."""
        ...


class LoopThread:
    """Runs one Loop in a thread with an event loop of its own."""

    def __init__(self, name: str, make_loop: Callable[[], Loop]) -> None:
        self.name = name
        self._make_loop = make_loop
        self._events: asyncio.AbstractEventLoop | None = None
        self._loop: Loop | None = None
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"{name}-loop", daemon=True)

    def start(self) -> None:
        """Begin to work; returns when the loop runs."""
        self._thread.start()
        self._ready.wait()
        _running.add(self)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._main())

    async def _main(self) -> None:
        self._events = asyncio.get_running_loop()
        try:
            self._loop = self._make_loop()
        finally:
            self._ready.set()
        log.info(f"{self.name}.started")
        await self._loop.run()
        log.info(f"{self.name}.stopped")

    def wake(self) -> None:
        """Have the loop look for work now; from any thread."""
        if self._events is not None and self._loop is not None and self._thread.is_alive():
            self._events.call_soon_threadsafe(self._loop.wake)

    def stop(self) -> None:
        """End within nine seconds: what has begun may finish, the rest goes back into the queue."""
        _running.discard(self)
        if self._events is not None and self._loop is not None and self._thread.is_alive():
            self._events.call_soon_threadsafe(self._loop.stop)
            self._thread.join(_STOP_SECONDS)


_running: set[LoopThread] = set()


def wake_loops(name: str) -> None:
    """Wake the loops of this name in this process."""
    for thread in list(_running):
        if thread.name == name:
            thread.wake()
