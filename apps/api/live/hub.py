"""Everything of one web process that serves requests that wait."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar
from uuid import UUID

from apps.api.errors import TooManyWaiting, Unavailable
from apps.api.live.feeds import EventFeeds
from apps.api.live.http import Scope
from apps.api.live.inboxes import InboxWatch
from apps.api.live.keys import KeyWatch
from apps.api.live.loaders import Loader
from apps.api.live.news import NewsReader
from apps.api.live.regexes import RegexBench
from apps.core.loops import DATABASE_AWAY, Database

T = TypeVar("T")

MAX_WAITING = 4_000
"""Requests that wait in one process; each costs a connection and a few kilobytes."""
MAX_WAITING_EACH = 1_000
"""Those of one organization."""
_DESK_THREADS = 2


class Live:
    """The watches of a process, the threads they ask the database on, and who is let in.

    Threads of their own, because those of the web's pool may all be busy with requests that take long.
    """

    def __init__(self, stopping: asyncio.Event) -> None:
        self.loop = asyncio.get_running_loop()
        self._desk = Database("live", threads=_DESK_THREADS)
        watch = Database("live-watch", threads=1)
        self.inboxes = InboxWatch(watch)
        self.feeds = EventFeeds(watch)
        self.keys = KeyWatch(watch)
        self.bench = RegexBench()
        self._loaders: dict[Callable[..., Any], Loader[Any]] = {}
        self._waiting: Counter[UUID] = Counter()
        self.news = NewsReader(is_wanted=lambda: self.inboxes.is_busy or self.feeds.is_busy, on_join=self._look_around)
        self.news.listeners.append(self._pass_on)
        self._stopping = stopping
        self._end = asyncio.create_task(self._end_with_process())

    async def call(self, function: Callable[..., T], **arguments: Any) -> T:
        """Run a function that reads the database, a second time when its connection turned out to be broken."""
        try:
            return await self._desk.call(function, **arguments)
        except DATABASE_AWAY:
            return await self._desk.call(function, **arguments)

    def loader(self, read: Callable[..., Any]) -> Loader[Any]:
        """The loader of everything that this function reads."""
        if read not in self._loaders:
            self._loaders[read] = Loader(self._desk, read)
        return self._loaders[read]

    @contextmanager
    def admit(self, organization_id: UUID) -> Iterator[None]:
        """A place for one that waits; raises TooManyWaiting, and Unavailable when the process stops."""
        if self._stopping.is_set():
            raise stopping_error()
        if self._waiting[organization_id] >= MAX_WAITING_EACH or self._waiting.total() >= MAX_WAITING:
            raise TooManyWaiting(retry_after=5)
        self._waiting[organization_id] += 1
        try:
            self.news.start()
            yield
        finally:
            self._waiting[organization_id] -= 1
            if not self._waiting[organization_id]:
                del self._waiting[organization_id]

    def _pass_on(self, organization_ids: set[UUID], mailbox_ids: set[UUID]) -> None:
        self.inboxes.ring(mailbox_ids)
        self.feeds.ring(organization_ids)

    def _look_around(self) -> None:
        self.inboxes.ring_all()
        self.feeds.ring_all()

    async def _end_with_process(self) -> None:
        await self._stopping.wait()
        for waiter in self.inboxes.waiters():
            waiter.end(stopping_error())
        for stream in self.feeds.streams():
            stream.end()
        self.news.stop()


def stopping_error() -> Unavailable:
    """What those that wait are told when the process stops."""
    return Unavailable("The server is restarting.", retry_after=1)


_current: Live | None = None


def current_live(scope: Scope) -> Live:
    """The process's, made with the first request that waits."""
    global _current
    if _current is None or _current.loop is not asyncio.get_running_loop():
        _current = Live(scope["state"]["stopping"])
    return _current
