"""Claims what is due and hands it to the channels; renews leases; reclaims what other processes left behind."""

import asyncio
from collections.abc import Awaitable, Callable
from uuid import UUID

import structlog
from django.utils import timezone

from apps.core.doorbell import doorbell
from apps.core.loops import DATABASE_AWAY, Database
from apps.delivery.loop.channel import Channel, LocalChannel, Workshop
from apps.delivery.loop.recorder import Recorder
from apps.delivery.loop.routes import make_router
from apps.delivery.models import Lane
from apps.delivery.services import (
    DELIVER_TASK,
    Claim,
    ClaimedDelivery,
    claim_deliveries,
    reclaim_expired,
    release_deliveries,
    renew_leases,
)
from apps.delivery.services.claim import FIRST_ORGANIZATION, RENEW_SECONDS

log = structlog.get_logger(__name__)

CAPACITY = 4000
"""Deliveries that one process holds under lease, waiting or on the wire."""
CLAIM_LIMIT = 200
BACKLOG = 100
"""Deliveries waiting for one destination beyond which no more are claimed for it: a stalled one holds only these."""
POLL_SECONDS = 2.0
RECLAIM_SECONDS = 5.0
_LOOK_AGAIN_SECONDS = 0.05
_CLOSE_SECONDS = 6.0


class Dispatcher:
    """The loop of one process. `run` ends after `stop`; `wake` says that there may be work."""

    def __init__(self) -> None:
        self._database = Database("delivery", threads=4)
        self._recorder = Recorder(self._database, self._forget)
        self._workshop = Workshop(self._database, self._recorder, make_router(), self._forget)
        self._channels: dict[str, Channel] = {}
        self._held: dict[UUID, ClaimedDelivery] = {}
        self._rotation = FIRST_ORGANIZATION
        self._work = asyncio.Event()
        self._room = asyncio.Event()
        self._stopping = asyncio.Event()

    def wake(self) -> None:
        """Look for work now instead of at the next poll."""
        self._work.set()

    def stop(self) -> None:
        """Claim nothing more, let what is on the wire finish, give the rest back, and end."""
        self._stopping.set()

    async def run(self) -> None:
        """Work until `stop`."""
        recorder = asyncio.create_task(self._recorder.run())
        loops = [
            asyncio.create_task(self._repeat(self._claim)),
            asyncio.create_task(self._repeat(self._renew)),
            asyncio.create_task(self._repeat(self._reclaim)),
        ]
        await self._stopping.wait()
        for loop in loops:
            loop.cancel()
        await asyncio.gather(*loops, return_exceptions=True)
        await self._close()
        recorder.cancel()
        await self._database.close()

    async def _repeat(self, step: Callable[[], Awaitable[None]]) -> None:
        """A step for ever; what goes wrong in it is logged, and never ends the loop."""
        while True:
            try:
                await step()
            except DATABASE_AWAY as error:
                log.warning("delivery.database_away", error=str(error))
                await asyncio.sleep(1)
            except Exception:  # a loop that ends would stop all mail
                log.exception("delivery.loop_failed", step=step.__name__)
                await asyncio.sleep(1)

    async def _claim(self) -> None:
        """One claim, and the pause that its result asks for."""
        if CAPACITY - len(self._held) < CLAIM_LIMIT:
            self._room.clear()
            await self._room.wait()
        self._work.clear()
        claim = await self._database.call(
            _claim_after_ring,
            limit=CLAIM_LIMIT,
            rotation=self._rotation,
            busy=[name for name, channel in self._channels.items() if channel.backlog >= BACKLOG],
        )
        self._rotation = claim.rotation
        self._hand_out(claim.deliveries)
        if claim.deliveries:
            return
        if claim.lanes_seen:
            await asyncio.sleep(_LOOK_AGAIN_SECONDS)
            return
        try:
            async with asyncio.timeout(POLL_SECONDS):
                await self._work.wait()
        except TimeoutError:
            return

    def _hand_out(self, deliveries: list[ClaimedDelivery]) -> None:
        groups: dict[str, list[ClaimedDelivery]] = {}
        for delivery in deliveries:
            self._held[delivery.id] = delivery
            groups.setdefault(self._channel_name(delivery.destination), []).append(delivery)
        for name, group in groups.items():
            channel = self._channels.get(name)
            if channel is None:
                kind = LocalChannel if name == Lane.LOCAL else Channel
                channel = self._channels[name] = kind(name, self._workshop)
            channel.add(group)

    def _channel_name(self, destination: str) -> str:
        return destination if destination == Lane.LOCAL else self._workshop.router.channel_of(destination)

    def _forget(self, delivery_id: UUID) -> None:
        self._held.pop(delivery_id, None)
        if CAPACITY - len(self._held) >= CLAIM_LIMIT:
            self._room.set()

    async def _renew(self) -> None:
        """Keep what is held; what another process has taken over since is left to it when its turn comes."""
        await asyncio.sleep(RENEW_SECONDS)
        if self._held:
            await self._database.call(renew_leases, deliveries=list(self._held.values()))
        for name in [name for name, channel in self._channels.items() if channel.is_idle]:
            del self._channels[name]

    async def _reclaim(self) -> None:
        count = await self._database.call(_reclaim_now)
        if count:
            log.info("delivery.reclaimed", deliveries=count)
            self.wake()
        await asyncio.sleep(RECLAIM_SECONDS)

    async def _close(self) -> None:
        """Finish what is on the wire, write every result, and give back what was not begun."""
        closing = [channel.close(_CLOSE_SECONDS) for channel in self._channels.values()]
        waiting = [delivery for part in await asyncio.gather(*closing) for delivery in part]
        for channel in self._channels.values():
            waiting.extend(channel.take_all())
        try:
            async with asyncio.timeout(2):
                await self._recorder.flush()
                await self._database.call(release_deliveries, deliveries=waiting, now=timezone.now())
        except (TimeoutError, *DATABASE_AWAY):
            log.warning("delivery.leases_left", deliveries=len(self._held))


def _claim_after_ring(*, limit: int, rotation: UUID, busy: list[str]) -> Claim:
    """The doorbell's flag is cleared before the look: a ring after that is a new ring."""
    doorbell.clear(DELIVER_TASK)
    return claim_deliveries(limit=limit, lane_limit=limit, now=timezone.now(), rotation=rotation, busy=busy)


def _reclaim_now() -> int:
    return reclaim_expired(now=timezone.now())
