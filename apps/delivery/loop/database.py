"""Calling services from the loop: in threads, each with a database connection of its own."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from django.db import DEFAULT_DB_ALIAS, InterfaceError, OperationalError, connection, connections
from django.db.backends.base.base import BaseDatabaseWrapper

T = TypeVar("T")
DATABASE_AWAY = (OperationalError, InterfaceError)
"""What a call raises when the database is away, or gave up on a transaction (a deadlock): call again later."""

_THREADS = 4


class Database:
    """A few threads that call services. A broken connection is closed, so that the next call makes a new one."""

    def __init__(self) -> None:
        self._connections: list[BaseDatabaseWrapper] = []
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="delivery-db", initializer=self._remember)

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
