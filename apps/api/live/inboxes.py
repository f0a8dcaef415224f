"""Watching inboxes: every waiting request of a process learns of its mail by one query per wake-up.

News says which mailboxes to look at; every two seconds all of them are looked at, so that lost news costs no more
than that. What is read is the event log behind each mailbox's mark. Below the mark everything is settled and was
handed on; what stands above it is handed on as well, at once, and read again until it settles, because mail of a
slower transaction may still come to stand before it.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

import structlog
from django.utils import timezone

from apps.core.errors import DomainError
from apps.core.ids import id_floor
from apps.core.loops import Database
from apps.events.selectors import Place, read_received
from apps.mail.selectors import Incoming, get_incoming

log = structlog.get_logger(__name__)

POLL_SECONDS = 2.0
RETRY_SECONDS = 1.0
_SETTLE_SECONDS = 0.05
PAGE = 200
"""Mails of one mailbox that one query reads."""
_NO_ID = UUID(int=0)
_RECENT = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Batch:
    """Mail that came, in id order with each one's position, and below which position no more can come."""

    mails: tuple[tuple[Incoming, int], ...]
    boundary: int


class Waiter:
    """One waiting request's end of the watch."""

    def __init__(self, mailbox_id: UUID) -> None:
        self.mailbox_id = mailbox_id
        self._batches: list[Batch] = []
        self._changed = asyncio.Event()
        self._error: DomainError | None = None

    def offer(self, batch: Batch) -> None:
        """There is mail."""
        self._batches.append(batch)
        self._changed.set()

    def end(self, error: DomainError) -> None:
        """Waiting is over, for this reason."""
        self._error = error
        self._changed.set()

    async def next_batch(self) -> Batch:
        """The next mail; raises what `end` was called with."""
        while True:
            if self._error is not None:
                raise self._error
            if self._batches:
                return self._batches.pop(0)
            self._changed.clear()
            await self._changed.wait()


@dataclass(slots=True)
class _Box:
    """A mailbox that somebody waits for."""

    mark: Place
    waiters: set[Waiter] = field(default_factory=set)
    seen: set[UUID] = field(default_factory=set)
    """Mail above the mark that was handed on already."""
    joins: int = 0
    """Tells a query that somebody joined while it ran, who has not seen what stands in `seen`."""


@dataclass(frozen=True, slots=True)
class _Looked:
    """What one query found: the settled position, each mailbox's mail by its place, and those that are new."""

    settled: int
    rows: dict[UUID, list[tuple[UUID, Place]]]
    mails: dict[UUID, Incoming]


class InboxWatch:
    """All waiters of a process. Used on the event loop only; queries run on a database thread."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._boxes: dict[UUID, _Box] = {}
        self._rung: set[UUID] = set()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.looks = 0
        """How many queries were made, for tests and benchmarks."""

    @property
    def is_busy(self) -> bool:
        """Somebody waits."""
        return bool(self._boxes)

    def waiters(self) -> list[Waiter]:
        """All that wait now."""
        return [waiter for box in self._boxes.values() for waiter in box.waiters]

    def join(self, waiter: Waiter, position: int) -> None:
        """Offer the waiter all mail from `position` on; some of it perhaps twice."""
        mark = Place(position, _NO_ID)
        box = self._boxes.setdefault(waiter.mailbox_id, _Box(mark))
        box.mark = min(box.mark, mark)
        box.seen = set()
        box.joins += 1
        box.waiters.add(waiter)
        self.ring({waiter.mailbox_id})
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())

    def leave(self, waiter: Waiter) -> None:
        """Offer it nothing more."""
        box = self._boxes.get(waiter.mailbox_id)
        if box is not None:
            box.waiters.discard(waiter)
            if not box.waiters:
                del self._boxes[waiter.mailbox_id]
        if not self._boxes:
            self._wake.set()

    def ring(self, mailbox_ids: set[UUID]) -> None:
        """Look at those of these mailboxes that somebody waits for."""
        known = mailbox_ids & self._boxes.keys()
        if known:
            self._rung |= known
            self._wake.set()

    def ring_all(self) -> None:
        """Look at all of them."""
        self.ring(set(self._boxes))

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        poll_at = loop.time() + POLL_SECONDS
        while self._boxes:
            try:
                async with asyncio.timeout_at(poll_at):
                    await self._wake.wait()
            except TimeoutError:
                self.ring_all()
            self._wake.clear()
            if loop.time() >= poll_at:
                self.ring_all()
                poll_at = loop.time() + POLL_SECONDS
            rung, self._rung = self._rung & self._boxes.keys(), set()
            if not rung:
                continue
            try:
                await self._look(rung)
            except Exception as error:  # whatever it is, those that wait are looked after again in a second
                log.warning("inboxes.unread", error=str(error), waiting=len(self._boxes))
                self._rung |= rung
                await asyncio.sleep(RETRY_SECONDS)
                self._wake.set()

    async def _look(self, mailbox_ids: set[UUID]) -> None:
        boxes = {mailbox_id: self._boxes[mailbox_id] for mailbox_id in mailbox_ids}
        before = {mailbox_id: (set(box.waiters), box.joins) for mailbox_id, box in boxes.items()}
        self.looks += 1
        looked = await self._database.call(
            _look,
            marks={mailbox_id: box.mark for mailbox_id, box in boxes.items()},
            seen={mailbox_id: box.seen for mailbox_id, box in boxes.items()},
            now=timezone.now(),
        )
        for mailbox_id, box in boxes.items():
            waiters, joins = before[mailbox_id]
            self._hand_on(mailbox_id, box, looked, waiters & box.waiters, is_current=joins == box.joins)

    def _hand_on(self, mailbox_id: UUID, box: _Box, looked: _Looked, waiters: set[Waiter], *, is_current: bool) -> None:
        """Give those that were there before the query what it found; who joined meanwhile has rung for another."""
        rows = looked.rows.get(mailbox_id, [])
        boundary = Place(looked.settled, _NO_ID)
        if len(rows) == PAGE:
            # Cut off: what lies behind the last row was not read. When none of it has settled, that takes a moment.
            boundary = min(boundary, rows[-1][1])
            asyncio.get_running_loop().call_later(
                0 if boundary > box.mark else _SETTLE_SECONDS, self.ring, {mailbox_id}
            )
        found = [(looked.mails[message_id], place.position) for message_id, place in rows if message_id in looked.mails]
        if found:
            batch = Batch(tuple(sorted(found, key=lambda mail: mail[0].id)), boundary.position)
            for waiter in waiters:
                waiter.offer(batch)
        if is_current:
            box.mark = max(box.mark, boundary)
            box.seen = {message_id for message_id, place in rows if place > box.mark}


def _look(*, marks: Mapping[UUID, Place], seen: Mapping[UUID, set[UUID]], now: datetime) -> _Looked:
    settled, received = read_received(marks=marks, floor=id_floor(now - _RECENT), limit=PAGE)
    rows: dict[UUID, list[tuple[UUID, Place]]] = {}
    for one in received:
        rows.setdefault(one.mailbox_id, []).append((one.message_id, one.place))
    fresh = [one.message_id for one in received if one.message_id not in seen[one.mailbox_id]]
    return _Looked(settled, rows, get_incoming(fresh))
