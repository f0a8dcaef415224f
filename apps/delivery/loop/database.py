"""Calling services from the loop: in threads, each with a database connection of its own."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from django.db import InterfaceError, OperationalError, connection

T = TypeVar("T")
DATABASE_AWAY = (OperationalError, InterfaceError)
"""What a call raises when the database is away, or gave up on a transaction (a deadlock): call again later."""

_THREADS = 4


class Database:
    """A few threads that call services. A broken connection is closed, so that the next call makes a new one."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="delivery-db")

    async def call(self, service: Callable[..., T], **arguments: Any) -> T:
        """The service's result; raises what it raises."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, partial(_call, service, arguments))

    def close(self) -> None:
        """End the threads and their connections."""
        for _ in range(_THREADS):
            self._pool.submit(connection.close)
        self._pool.shutdown(wait=True)


def _call(service: Callable[..., T], arguments: dict[str, Any]) -> T:
    try:
        return service(**arguments)
    except DATABASE_AWAY:
        connection.close()
        raise
