"""The loop of one process: claims calls, makes them all at once within the limits, and records what came of them.

No call waits for another: as soon as one ends, its place is given away. What is recorded gathers while the batch
before it is written.
"""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from datetime import datetime
from uuid import UUID

import structlog
from django.db import DatabaseError
from django.utils import timezone

from apps.core.doorbell import doorbell
from apps.core.loops import DATABASE_AWAY, Database
from apps.events.loop.post import Poster
from apps.events.services import (
    CALL_TASK,
    FIRST_WEBHOOK,
    CallResult,
    Claim,
    ClaimedCall,
    Preparation,
    PreparedCall,
    Slots,
    claim_calls,
    prepare_calls,
    record_calls,
    release_calls,
)

log = structlog.get_logger(__name__)

POLL_SECONDS = 2.0
_CLOSE_SECONDS = 5.0
_PAUSE_WHEN_AWAY = 1.0
_MAX_BATCH = 100


class WebhookSender:
    """`run` ends after `stop`; `wake` says that there may be work. `ssl_context` is for tests."""

    def __init__(self, ssl_context: ssl.SSLContext | None = None) -> None:
        self._database = Database("webhooks", threads=2)
        self._poster = Poster(ssl_context)
        self._slots = Slots()
        self._held: dict[UUID, ClaimedCall] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._taking: asyncio.Task[tuple[Claim, Preparation]] | None = None
        self._results: list[CallResult] = []
        self._rotation = FIRST_WEBHOOK
        self._round = _Round()
        self._work = asyncio.Event()
        self._ended = asyncio.Event()
        self._news = asyncio.Event()
        self._written = asyncio.Event()
        self._stopping = asyncio.Event()

    def wake(self) -> None:
        """Look for work now instead of at the next poll."""
        self._work.set()

    def stop(self) -> None:
        """Claim nothing more, let what is under way finish, give the rest back, and end."""
        self._stopping.set()

    async def run(self) -> None:
        """Work until `stop`."""
        claiming = asyncio.create_task(self._repeat(self._claim))
        recording = asyncio.create_task(self._repeat(self._record))
        await self._stopping.wait()
        claiming.cancel()
        await asyncio.gather(claiming, *([self._taking] if self._taking else []), return_exceptions=True)
        await self._finish_calls()
        await self._settle()
        recording.cancel()
        await asyncio.gather(recording, return_exceptions=True)
        await self._poster.close()
        await self._database.close()

    async def _repeat(self, step: Callable[[], Awaitable[None]]) -> None:
        """A step for ever; what goes wrong in it is logged, and never ends the loop."""
        while True:
            try:
                await step()
            except DATABASE_AWAY as error:
                log.warning("webhooks.database_away", error=str(error))
                await asyncio.sleep(_PAUSE_WHEN_AWAY)
            except Exception:  # a loop that ends would stop all webhooks
                log.exception("webhooks.loop_failed", step=step.__name__)
                await asyncio.sleep(_PAUSE_WHEN_AWAY)

    # --- claiming

    async def _claim(self) -> None:
        """One claim, and the pause that its result asks for."""
        self._ended.clear()
        if not self._slots.free:
            await self._ended.wait()
        self._work.clear()
        self._taking = asyncio.create_task(self._take())
        claim, preparation = await asyncio.shield(self._taking)
        self._rotation = claim.rotation
        self._round.add(claim)
        for prepared in preparation.calls:
            self._begin(prepared)
        for result in preparation.results:
            self._finish(result)
        if claim.rotation == FIRST_WEBHOOK:
            blocked, found = self._round.end()
            if not found:
                await self._wait(blocked)

    async def _take(self) -> tuple[Claim, Preparation]:
        """Claim and prepare. A stop does not interrupt it, for what is claimed must be known, to be given back."""
        claim = await self._database.call(_claim_after_ring, slots=self._slots.copy(), rotation=self._rotation)
        for call in claim.calls:
            self._held[call.id] = call
            self._slots.take(call.place)
        try:
            return claim, await self._database.call(prepare_calls, calls=claim.calls, now=timezone.now())
        except BaseException:
            # Not made: their leases run out.
            for call in claim.calls:
                self._forget(call)
            raise

    async def _wait(self, blocked: bool) -> None:
        """Until there may be work; when some was passed over, also until a place is free."""
        events = [self._work, self._ended] if blocked else [self._work]
        waiters = [asyncio.create_task(event.wait()) for event in events]
        try:
            await asyncio.wait(waiters, timeout=POLL_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for waiter in waiters:
                waiter.cancel()

    # --- calling

    def _begin(self, prepared: PreparedCall) -> None:
        task = asyncio.create_task(self._call(prepared), name=f"webhook {prepared.call.id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _call(self, prepared: PreparedCall) -> None:
        at = timezone.now()
        try:
            answer = await self._poster.post(prepared.url, prepared.http)
        except Exception:  # nothing that a receiver does may leave a call without a result
            log.exception("webhooks.call_failed", call=str(prepared.call.id))
            self._finish(CallResult(prepared.call, at, error="The request failed here."))
            return
        result = CallResult(
            prepared.call,
            at,
            request_id=prepared.request_id,
            url=prepared.url,
            request=prepared.http.body[:2048].decode("utf-8", "replace"),
            status_code=answer.status_code,
            response=answer.body,
            error=answer.error,
            duration_ms=answer.duration_ms,
            retry_after=answer.retry_after,
        )
        self._finish(result)

    def _finish(self, result: CallResult) -> None:
        """Have a result written, and give its place away."""
        self._results.append(result)
        self._written.clear()
        self._news.set()
        self._forget(result.call)

    def _forget(self, call: ClaimedCall) -> None:
        if self._held.pop(call.id, None) is not None:
            self._slots.take(call.place, -1)
            self._ended.set()

    # --- recording

    async def _record(self) -> None:
        """Write what has gathered. A database that is away is waited for: the results stay in memory."""
        await self._news.wait()
        batch = self._results[:_MAX_BATCH]
        if not batch:
            self._news.clear()
            self._written.set()
            return
        try:
            await self._database.call(record_calls, results=batch, now=timezone.now())
        except DATABASE_AWAY:
            raise
        except (DatabaseError, ValueError):
            log.exception("webhooks.record_failed", results=len(batch))
            await self._record_singly(batch)
        del self._results[: len(batch)]

    async def _record_singly(self, batch: list[CallResult]) -> None:
        """Only the culprit is left out: its lease runs out, and it is made again."""
        for result in batch:
            try:
                await self._database.call(record_calls, results=[result], now=timezone.now())
            except DATABASE_AWAY:
                log.warning("webhooks.record_lost", call=str(result.call.id))
            except (DatabaseError, ValueError):
                log.exception("webhooks.record_failed", call=str(result.call.id))

    # --- ending

    async def _finish_calls(self) -> None:
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=_CLOSE_SECONDS)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _settle(self) -> None:
        """Write every result, and give back what was not finished."""
        try:
            async with asyncio.timeout(2):
                self._news.set()
                await self._written.wait()
                await self._database.call(release_calls, calls=list(self._held.values()))
        except (TimeoutError, DatabaseError, *DATABASE_AWAY):
            log.warning("webhooks.leases_left", calls=len(self._held) + len(self._results))


class _Round:
    """What a round of claims over all webhooks has found."""

    def __init__(self) -> None:
        self._found = 0
        self._blocked = False

    def add(self, claim: Claim) -> None:
        self._found += len(claim.calls)
        self._blocked = self._blocked or claim.blocked

    def end(self) -> tuple[bool, int]:
        """Whether something was passed over, how many calls were taken; the next round begins."""
        result = self._blocked, self._found
        self._found, self._blocked = 0, False
        return result


def _claim_after_ring(*, slots: Slots, rotation: UUID) -> Claim:
    """The doorbell's flag is cleared before the look: a ring after that is a new ring."""
    doorbell.clear(CALL_TASK)
    now: datetime = timezone.now()
    return claim_calls(slots=slots, now=now, rotation=rotation)
