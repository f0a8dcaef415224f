"""Listening to news: which organizations and mailboxes something was just committed for (apps/core/news.py).

One connection to Redis per process, held only while somebody waits. Without Redis nothing is told, and the two
seconds after which every watch looks by itself are what a waiter waits longer.
"""

import asyncio
from collections.abc import Callable
from uuid import UUID

import redis.asyncio as redis
import structlog
from django.conf import settings
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from apps.core.news import CHANNEL, read_news

log = structlog.get_logger(__name__)

Listener = Callable[[set[UUID], set[UUID]], None]
"""Called with the organizations and the mailboxes of one message."""

CONNECT_SECONDS = 2.0
RETRY_SECONDS = 1.0
_LISTEN_SECONDS = 5.0


class NewsReader:
    """Calls its listeners with news while `is_wanted` says so; `on_join` when it begins to hear."""

    def __init__(self, *, is_wanted: Callable[[], bool], on_join: Callable[[], None]) -> None:
        self.listeners: list[Listener] = []
        self._is_wanted = is_wanted
        self._on_join = on_join
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Listen from now on, unless it does already."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())

    def stop(self) -> None:
        """End at once."""
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        while self._is_wanted():
            try:
                await self._listen()
            except (RedisError, OSError, TimeoutError) as error:
                log.info("news.deaf", error=str(error))
                await asyncio.sleep(RETRY_SECONDS)

    async def _listen(self) -> None:
        client = redis.Redis.from_url(
            settings.REDIS_URL,
            socket_connect_timeout=CONNECT_SECONDS,
            # Each of them is written only when news is read: a connection that died silently is noticed by it.
            health_check_interval=10,
            retry=Retry(NoBackoff(), 0),
        )
        async with client, client.pubsub() as channel:
            async with asyncio.timeout(CONNECT_SECONDS):
                await channel.subscribe(CHANNEL)
            # What was committed before this moment was announced to nobody here.
            self._on_join()
            while self._is_wanted():
                message = await channel.get_message(ignore_subscribe_messages=True, timeout=_LISTEN_SECONDS)
                if message is not None and isinstance(message["data"], bytes):
                    organizations, mailboxes = read_news(message["data"])
                    for listener in self.listeners:
                        listener(organizations, mailboxes)
