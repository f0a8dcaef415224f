"""News: for which organizations and mailboxes something was just committed, told by Redis to processes where somebody
waits for it.

A hint, never the truth: whoever waits asks PostgreSQL, when news comes and every two seconds anyhow. So news is sent
by a thread of its own, within 100 ms or not at all, and a few milliseconds' worth of it in one message: a busy
process pays for at most two hundred messages a second, whatever it commits.
"""

import threading
import time
from collections.abc import Iterable
from functools import partial
from uuid import UUID

import redis
import structlog
from django.db import transaction

from apps.core.doorbell import connect_redis

log = structlog.get_logger(__name__)

CHANNEL = "mailhost:news"
"""The one channel; each reader picks what concerns it. A message is a row of entries: a letter, and a UUID's octets."""

_ORGANIZATION, _MAILBOX = b"o", b"m"
_ENTRY = 17
_PAUSE = 0.005
_REST_AFTER_FAILURE = 5.0


class Announcer:
    """Sends news from a background thread that is started with the first of it, after any fork."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._entries: set[bytes] = set()
        self._thread: threading.Thread | None = None
        self._client: redis.Redis | None = None

    def announce(self, entries: Iterable[bytes]) -> None:
        """Tell of these soon; returns at once."""
        with self._condition:
            self._entries.update(entries)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="news", daemon=True)
                self._thread.start()
            self._condition.notify()

    def _run(self) -> None:
        while True:
            with self._condition:
                while not self._entries:
                    self._condition.wait()
                entries, self._entries = self._entries, set()
            pause = _PAUSE
            try:
                if self._client is None:
                    self._client = connect_redis()
                self._client.publish(CHANNEL, b"".join(entries))
            except Exception as error:  # whatever is wrong with Redis, mail goes on without news
                pause = _REST_AFTER_FAILURE
                log.warning("news.silent", error=str(error), seconds=pause)
            time.sleep(pause)


announcer = Announcer()
"""The process's announcer."""


def announce_on_commit(*, organization_ids: Iterable[UUID], mailbox_ids: Iterable[UUID]) -> None:
    """After the surrounding transaction: these organizations have events, these mailboxes have received mail."""
    entries = {_ORGANIZATION + organization_id.bytes for organization_id in organization_ids}
    entries.update(_MAILBOX + mailbox_id.bytes for mailbox_id in mailbox_ids)
    transaction.on_commit(partial(announcer.announce, entries))


def read_news(payload: bytes) -> tuple[set[UUID], set[UUID]]:
    """The organizations and the mailboxes that a message tells of; what is no entry of ours is passed over."""
    found: dict[bytes, set[UUID]] = {_ORGANIZATION: set(), _MAILBOX: set()}
    for start in range(0, len(payload) - _ENTRY + 1, _ENTRY):
        kind = payload[start : start + 1]
        if kind in found:
            found[kind].add(UUID(bytes=payload[start + 1 : start + _ENTRY]))
    return found[_ORGANIZATION], found[_MAILBOX]
