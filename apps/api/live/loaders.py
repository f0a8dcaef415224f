"""Loading rows that many wait for: what is asked for while one query runs is one query together."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Generic, TypeVar
from uuid import UUID

from apps.core.loops import Database

Loaded = TypeVar("Loaded")

BATCH = 50


class Loader(Generic[Loaded]):
    """`read` takes ids and returns what it found of them; it runs on a database thread."""

    def __init__(self, database: Database, read: Callable[..., Mapping[UUID, Loaded]]) -> None:
        self._database = database
        self._read = read
        self._wanted: dict[UUID, asyncio.Future[Loaded | None]] = {}
        self._task: asyncio.Task[None] | None = None

    async def load(self, row_id: UUID) -> Loaded | None:
        """What belongs to the id, None when there is nothing; raises what the query raised."""
        future = self._wanted.get(row_id)
        if future is None:
            future = self._wanted[row_id] = asyncio.get_running_loop().create_future()
            if self._task is None or self._task.done():
                self._task = asyncio.create_task(self._run())
        # Shielded: one that leaves must not take it from the others.
        return await asyncio.shield(future)

    async def _run(self) -> None:
        while self._wanted:
            ids: Sequence[UUID] = list(self._wanted)[:BATCH]
            batch = {row_id: self._wanted.pop(row_id) for row_id in ids}
            try:
                found = await self._database.call(self._read, ids=ids)
            except Exception as error:  # handed to those who asked, whatever it is
                for future in batch.values():
                    future.set_exception(error)
                    future.exception()
            else:
                for row_id, future in batch.items():
                    future.set_result(found.get(row_id))
