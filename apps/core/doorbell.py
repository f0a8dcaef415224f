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
from celery import Celery
from django.conf import settings
from django.db import transaction
from redis.backoff import NoBackoff
from redis.retry import Retry

log = structlog.get_logger(__name__)

QUEUE = "mailhost"
"""The queue that workers take tasks from."""

_TIMEOUT = 0.1
_REST_AFTER_FAILURE = 5.0
_RUNG_FOR_MS = 1000


def _flag(task: str) -> str:
    return f"mailhost:rung:{task}"


def connect_redis() -> redis.Redis:
    """A client that gives up after 100 ms, and tries nothing twice."""
    # Redis-py would try a failed command again, three times and with growing pauses.
    retry = Retry(NoBackoff(), 0)
    return redis.Redis.from_url(
        settings.REDIS_URL, socket_timeout=_TIMEOUT, socket_connect_timeout=_TIMEOUT, retry=retry
    )


def _make_sender() -> Celery:
    """Celery's sending half, for processes that load no Celery app: the app belongs to the roof, which nothing here
    may import, and the default app that Celery falls back to would look for RabbitMQ. A task's name and the queue
    are all that sender and worker share."""
    sender = Celery("doorbell", broker=settings.REDIS_URL, set_as_current=False, fixups=[])
    timeouts = {"socket_timeout": _TIMEOUT, "socket_connect_timeout": _TIMEOUT, "max_retries": 0}
    sender.conf.update(
        task_default_queue=QUEUE, task_create_missing_queues=True, broker_transport_options=timeouts,
        result_backend=None, task_ignore_result=True,
    )  # fmt: skip
    return sender


class Doorbell:
    """Rings tasks from a background thread that is started at the first ring, after any fork."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._wanted: set[str] = set()
        self._thread: threading.Thread | None = None
        self._client: redis.Redis | None = None
        self._sender: Celery | None = None
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
            self._client = connect_redis()
        if not self._client.set(_flag(task), "1", nx=True, px=_RUNG_FOR_MS):
            return
        if self._sender is None:
            self._sender = _make_sender()
        with self._sender.connection_for_write() as connection:
            self._sender.send_task(task, connection=connection, retry=False, ignore_result=True, expires=60)

    def clear(self, task: str) -> None:
        """Forget that the task was rung, before it looks for work: a ring after that is a new ring."""
        if time.monotonic() < self._quiet_until:
            return
        try:
            if self._client is None:
                self._client = connect_redis()
            self._client.delete(_flag(task))
        except redis.RedisError:
            self._quiet_until = time.monotonic() + _REST_AFTER_FAILURE


doorbell = Doorbell()
"""The process's doorbell."""


def ring_on_commit(task: str) -> None:
    """Ring after the surrounding transaction has committed; at once when there is none."""
    transaction.on_commit(partial(doorbell.ring, task))
