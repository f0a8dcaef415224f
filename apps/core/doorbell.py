"""The doorbell: wakes a worker's task by name, and never matters.

PostgreSQL holds the work; every loop also looks by itself every two seconds. So a ring is sent by a thread of its
own, within 100 ms or not at all, and after a failure not again for a while (circuit breaker). Rings that come while
one is being sent are one ring: a thousand sends ring once.
"""

import threading
import time
from functools import partial

import redis
import structlog
from celery import current_app
from django.conf import settings
from django.db import transaction

log = structlog.get_logger(__name__)

_TIMEOUT = 0.1
_REST_AFTER_FAILURE = 5.0
_RUNG_FOR_MS = 1000


def _flag(task: str) -> str:
    return f"mailhost:rung:{task}"


class Doorbell:
    """Rings tasks from a background thread that is started at the first ring, after any fork."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._wanted: set[str] = set()
        self._thread: threading.Thread | None = None
        self._client: redis.Redis | None = None
        self._quiet_until = 0.0

    def ring(self, task: str) -> None:
        """Ask for `task` to be woken soon; returns at once."""
        with self._condition:
            self._wanted.add(task)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="doorbell", daemon=True)
                self._thread.start()
            self._condition.notify()

    def _run(self) -> None:
        while True:
            with self._condition:
                while not self._wanted:
                    self._condition.wait()
                tasks, self._wanted = self._wanted, set()
            if time.monotonic() < self._quiet_until:
                continue
            try:
                for task in tasks:
                    self._send(task)
            except Exception as error:  # whatever is wrong with Redis, mail goes on without the doorbell
                self._quiet_until = time.monotonic() + _REST_AFTER_FAILURE
                log.warning("doorbell.silent", error=str(error), seconds=_REST_AFTER_FAILURE)

    def _send(self, task: str) -> None:
        if self._client is None:
            self._client = redis.Redis.from_url(
                settings.REDIS_URL, socket_timeout=_TIMEOUT, socket_connect_timeout=_TIMEOUT
            )
        if not self._client.set(_flag(task), "1", nx=True, px=_RUNG_FOR_MS):
            return
        with current_app.connection_for_write(
            transport_options={"socket_timeout": _TIMEOUT, "socket_connect_timeout": _TIMEOUT}
        ) as connection:
            current_app.send_task(task, connection=connection, retry=False, ignore_result=True, expires=60)

    def clear(self, task: str) -> None:
        """Forget that the task was rung, before it looks for work: a ring after that is a new ring."""
        if time.monotonic() < self._quiet_until:
            return
        try:
            if self._client is None:
                self._client = redis.Redis.from_url(
                    settings.REDIS_URL, socket_timeout=_TIMEOUT, socket_connect_timeout=_TIMEOUT
                )
            self._client.delete(_flag(task))
        except redis.RedisError:
            self._quiet_until = time.monotonic() + _REST_AFTER_FAILURE


doorbell = Doorbell()
"""The process's doorbell."""


def ring_on_commit(task: str) -> None:
    """Ring after the surrounding transaction has committed; at once when there is none."""
    transaction.on_commit(partial(doorbell.ring, task))
