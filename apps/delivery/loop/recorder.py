"""Results are written as they come: while one batch is being written, the next one gathers. No timer, no barrier."""

import asyncio
from collections.abc import Callable
from uuid import UUID

import structlog
from django.db import DatabaseError
from django.utils import timezone

from apps.core.loops import DATABASE_AWAY, Database
from apps.delivery.services import DeliveryResult, record_results

log = structlog.get_logger(__name__)
_MAX_BATCH = 200
_PAUSE_WHEN_AWAY = 1.0


class Recorder:
    """Takes results from all channels and writes them in batches; `on_recorded` learns which are done."""

    def __init__(self, database: Database, on_recorded: Callable[[UUID], None]) -> None:
        self._database = database
        self._on_recorded = on_recorded
        self._waiting: list[DeliveryResult] = []
        self._news = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    def add(self, result: DeliveryResult) -> None:
        """Have a result written soon."""
        self._waiting.append(result)
        self._idle.clear()
        self._news.set()

    async def run(self) -> None:
        """Write until cancelled. A database that is away is waited for: the results stay in memory."""
        while True:
            await self._news.wait()
            batch, self._waiting = self._waiting[:_MAX_BATCH], self._waiting[_MAX_BATCH:]
            if not batch:
                self._news.clear()
                self._idle.set()
                continue
            await self._write(batch)

    async def flush(self) -> None:
        """Until everything handed in so far is written."""
        await self._idle.wait()

    async def _write(self, batch: list[DeliveryResult]) -> None:
        try:
            await self._database.call(record_results, results=batch, now=timezone.now())
        except DATABASE_AWAY as error:
            log.warning("delivery.record_waits", results=len(batch), error=str(error))
            self._waiting = batch + self._waiting
            await asyncio.sleep(_PAUSE_WHEN_AWAY)
            return
        except (DatabaseError, ValueError):
            if len(batch) > 1:
                log.exception("delivery.record_batch_failed", results=len(batch))
                for result in batch:
                    await self._write([result])
                return
            # Nothing of this result can be stored. Its lease runs out, and it is tried again.
            log.exception("delivery.record_failed", delivery=str(batch[0].delivery.id))
        for result in batch:
            self._on_recorded(result.delivery.id)
