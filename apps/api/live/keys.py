"""Keys of requests that wait: one that ends or changes meanwhile ends them within about a second.

One query a second for all of a process, and none while nobody waits.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import structlog
from django.utils import timezone

from apps.accounts.errors import KeyExpired, KeyRevoked, Unauthorized
from apps.accounts.models import ApiKey
from apps.api.errors import Unavailable
from apps.core.errors import DomainError
from apps.core.loops import Database

log = structlog.get_logger(__name__)

CHECK_SECONDS = 1.0
_RIGHTS = ("organization_id", "scopes", "allowed_domains", "inbox_ids")
_FIELDS = ("revoked_at", "expires_at", *_RIGHTS)


@dataclass(frozen=True, slots=True, eq=False)
class Watched:
    """A key as it was when its request began, and what to call when that does not hold any more."""

    key_id: UUID
    rights: tuple[Any, ...]
    on_end: Callable[[DomainError], None]


class KeyWatch:
    """Watches keys while somebody waits with them."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._watched: set[Watched] = set()
        self._task: asyncio.Task[None] | None = None

    def add(self, key: ApiKey, on_end: Callable[[DomainError], None]) -> Watched:
        """Watch until `remove`; `on_end` is called on the event loop, perhaps more than once."""
        watched = Watched(key.id, tuple(getattr(key, name) for name in _RIGHTS), on_end)
        self._watched.add(watched)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())
        return watched

    def remove(self, watched: Watched) -> None:
        """Watch no longer."""
        self._watched.discard(watched)

    async def _run(self) -> None:
        while self._watched:
            await asyncio.sleep(CHECK_SECONDS)
            try:
                await self._check()
            except Exception as error:  # a key that cannot be looked up now is looked up in a second
                log.warning("keys.unchecked", error=str(error))

    async def _check(self) -> None:
        watched = list(self._watched)
        found = await self._database.call(_read_keys, ids=list({one.key_id for one in watched}))
        now = timezone.now()
        for one in watched:
            error = _judge(one, found.get(one.key_id), now)
            if error is not None:
                one.on_end(error)


def _read_keys(*, ids: Sequence[UUID]) -> dict[UUID, tuple[Any, ...]]:
    return {row[0]: row[1:] for row in ApiKey.objects.filter(id__in=ids).values_list("id", *_FIELDS)}


def _judge(watched: Watched, row: tuple[Any, ...] | None, now: datetime) -> DomainError | None:
    if row is None:
        return Unauthorized()
    revoked_at, expires_at, *rights = row
    if revoked_at is not None:
        return KeyRevoked()
    if expires_at is not None and expires_at <= now:
        return KeyExpired()
    if tuple(rights) != watched.rights:
        return Unavailable("The rights of this key were changed meanwhile.", retry_after=1)
    return None
