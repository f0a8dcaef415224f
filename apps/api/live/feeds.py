"""Following the event log: one reader for all streams of a process, in commit order, without gap or repeat.

A stream first reads by itself up to where the reader stands, then takes what the reader hands on. Only settled events
are handed on; while one that is not yet settled is in sight, the reader looks again in a moment, because no news
tells when the transaction that holds it back ends.
"""

import asyncio
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from uuid import UUID

import structlog

from apps.core.errors import DomainError
from apps.core.loops import Database
from apps.events.models import Event
from apps.events.selectors import Place, place_of, read_feeds

log = structlog.get_logger(__name__)

POLL_SECONDS = 2.0
RETRY_SECONDS = 1.0
PAGE = 200
"""Events of one organization that one query reads."""
MAX_QUEUED = 2_000
"""Events that may wait for a slow reader."""
_SETTLE_SECONDS = (0.01, 0.02, 0.05, 0.1, 0.25, 0.5)
_NO_ID = UUID(int=0)


@dataclass(slots=True)
class LiveEvent:
    """An event on its way to streams; `frame` is how it is written, made once for all of them."""

    event: Event
    place: Place
    frame: bytes = b""


class Stream:
    """One stream's end of the reader."""

    def __init__(self, organization_id: UUID) -> None:
        self.organization_id = organization_id
        self.queue: deque[LiveEvent] = deque()
        self.has_overflowed = False
        self.is_over = False
        self.error: DomainError | None = None
        self._changed = asyncio.Event()

    def offer(self, events: Iterable[LiveEvent]) -> None:
        """There are events; what does not fit is dropped, with all that waits, and the stream told so."""
        self.queue.extend(events)
        if len(self.queue) > MAX_QUEUED:
            self.has_overflowed = True
            self.queue.clear()
        self._changed.set()

    def end(self, error: DomainError | None = None) -> None:
        """The stream is over, for this reason, or because the process stops."""
        self.is_over = True
        self.error = self.error or error
        self._changed.set()

    async def wait(self, seconds: float) -> bool:
        """Until something has changed; False when nothing has for so long."""
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            return False
        self._changed.clear()
        return True


@dataclass(slots=True)
class _Feed:
    """An organization that somebody follows; `place` is None until its first stream has caught up."""

    place: Place | None = None
    streams: set[Stream] = field(default_factory=set)
    impatience: int = 0
    """How often it was looked at in vain for an event in sight to settle."""


class EventFeeds:
    """The reader of a process. Used on the event loop only; queries run on a database thread."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._feeds: dict[UUID, _Feed] = {}
        self._rung: set[UUID] = set()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def is_busy(self) -> bool:
        """Somebody follows."""
        return bool(self._feeds)

    def streams(self) -> list[Stream]:
        """All that follow now."""
        return [stream for feed in self._feeds.values() for stream in feed.streams]

    def join(self, stream: Stream) -> Place | None:
        """Offer the stream all settled events behind the place returned; None: behind where it will have caught up."""
        feed = self._feeds.setdefault(stream.organization_id, _Feed())
        feed.streams.add(stream)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())
        return feed.place

    def begin(self, stream: Stream, place: Place) -> Place:
        """The stream has caught up to `place`: the reader goes on from there, unless it reads already. Where it is."""
        feed = self._feeds[stream.organization_id]
        if feed.place is None:
            feed.place = place
            self.ring({stream.organization_id})
        return feed.place

    def leave(self, stream: Stream) -> None:
        """Offer it nothing more."""
        feed = self._feeds.get(stream.organization_id)
        if feed is not None:
            feed.streams.discard(stream)
            if not feed.streams:
                del self._feeds[stream.organization_id]
        if not self._feeds:
            self._wake.set()

    def ring(self, organization_ids: set[UUID]) -> None:
        """Look at those of these organizations that somebody follows."""
        known = organization_ids & self._feeds.keys()
        if known:
            self._rung |= known
            self._wake.set()

    def ring_all(self) -> None:
        """Look at all of them."""
        self.ring(set(self._feeds))

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        poll_at = loop.time() + POLL_SECONDS
        while self._feeds:
            try:
                async with asyncio.timeout_at(poll_at):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            if loop.time() >= poll_at:
                self.ring_all()
                poll_at = loop.time() + POLL_SECONDS
            rung, self._rung = self._rung, set()
            try:
                await self._look(rung)
            except Exception as error:  # whatever it is, those that follow are looked after again in a second
                log.warning("events.unread", error=str(error), organizations=len(self._feeds))
                self._rung |= rung
                await asyncio.sleep(RETRY_SECONDS)
                self._wake.set()

    async def _look(self, organization_ids: set[UUID]) -> None:
        feeds = {one: feed for one in organization_ids if (feed := self._feeds.get(one)) is not None}
        marks = {one: feed.place for one, feed in feeds.items() if feed.place is not None}
        if not marks:
            return
        settled, events = await self._database.call(read_feeds, marks=marks, limit=PAGE)
        found: dict[UUID, list[LiveEvent]] = {organization_id: [] for organization_id in marks}
        for event in events:
            found[event.organization_id].append(LiveEvent(event, place_of(event)))
        for organization_id, live_events in found.items():
            self._hand_on(organization_id, feeds[organization_id], settled, live_events)

    def _hand_on(self, organization_id: UUID, feed: _Feed, settled: int, events: list[LiveEvent]) -> None:
        ready = [event for event in events if event.place.position < settled]
        if ready:
            for stream in feed.streams:
                stream.offer(ready)
        if len(ready) == PAGE:
            feed.place = ready[-1].place
            self.ring({organization_id})
            return
        feed.place = Place(settled, _NO_ID)
        if len(ready) == len(events):
            feed.impatience = 0
            return
        pause = _SETTLE_SECONDS[min(feed.impatience, len(_SETTLE_SECONDS) - 1)]
        feed.impatience = 0 if ready else feed.impatience + 1
        asyncio.get_running_loop().call_later(pause, self.ring, {organization_id})
