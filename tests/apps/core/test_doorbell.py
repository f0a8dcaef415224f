"""The doorbell wakes workers, and nobody ever waits for it: Redis may be away, hang or come back."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from django.db import transaction

from apps.core import doorbell as module
from apps.core.doorbell import Doorbell, doorbell, ring_on_commit

PROJECT = Path(__file__).resolve().parents[3]
TASK = "apps.delivery.tasks.deliver"
QUEUE = "mailhost"
NO_DELAY = 0.005


def read_queue(url: str) -> list[str]:
    """The names of the tasks that wait for a worker."""
    with redis.Redis.from_url(url) as client:
        return [json.loads(item)["headers"]["task"] for item in client.lrange(QUEUE, 0, -1)]


def wait_until(condition: Callable[[], bool], seconds: float = 5) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


@pytest.fixture
def silent_redis(settings: Any) -> Iterator[str]:
    """A server that takes connections and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(100)
        settings.REDIS_URL = f"redis://127.0.0.1:{listener.getsockname()[1]}/0"
        yield settings.REDIS_URL


@pytest.fixture
def absent_redis(settings: Any) -> str:
    """A port at which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        settings.REDIS_URL = f"redis://127.0.0.1:{probe.getsockname()[1]}/0"
    return settings.REDIS_URL


def time_of(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def typical_ring_time(bell: Doorbell, rings: int = 200) -> float:
    """The median, since another process may take the processor away at any moment."""
    times = sorted(time_of(lambda: bell.ring(TASK)) for _ in range(rings))
    return times[rings // 2]


def test_a_ring_puts_one_task_into_the_workers_queue(redis_url: str) -> None:
    Doorbell().ring(TASK)

    assert wait_until(lambda: read_queue(redis_url) == [TASK])


def test_a_thousand_rings_are_few_tasks(redis_url: str) -> None:
    bell = Doorbell()
    for _ in range(1000):
        bell.ring(TASK)

    assert wait_until(lambda: len(read_queue(redis_url)) >= 1)
    time.sleep(0.3)
    assert len(read_queue(redis_url)) <= 2


def test_rings_from_many_processes_are_one_task_too(redis_url: str) -> None:
    for _ in range(20):
        Doorbell().ring(TASK)

    assert wait_until(lambda: len(read_queue(redis_url)) >= 1)
    time.sleep(0.3)
    assert len(read_queue(redis_url)) <= 2


def test_different_tasks_do_not_silence_each_other(redis_url: str) -> None:
    bell = Doorbell()
    bell.ring("one")
    bell.ring("two")

    assert wait_until(lambda: sorted(read_queue(redis_url)) == ["one", "two"])


def test_a_ring_after_clear_is_a_new_ring(redis_url: str) -> None:
    bell = Doorbell()
    bell.ring(TASK)
    assert wait_until(lambda: len(read_queue(redis_url)) == 1)

    bell.clear(TASK)
    bell.ring(TASK)

    assert wait_until(lambda: len(read_queue(redis_url)) == 2)


def test_a_flag_that_nobody_clears_expires(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_RUNG_FOR_MS", 50)
    bell = Doorbell()
    bell.ring(TASK)
    assert wait_until(lambda: len(read_queue(redis_url)) == 1)
    time.sleep(0.1)
    bell.ring(TASK)

    assert wait_until(lambda: len(read_queue(redis_url)) == 2)


@pytest.mark.django_db(transaction=True)
def test_a_ring_on_commit_waits_for_the_commit(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        doorbell.clear(TASK)
        with transaction.atomic():
            ring_on_commit(TASK)
            time.sleep(0.1)
            assert client.llen(QUEUE) == 0

    assert wait_until(lambda: read_queue(redis_url) == [TASK])


@pytest.mark.django_db(transaction=True)
def test_a_rolled_back_transaction_rings_nobody(redis_url: str) -> None:
    with pytest.raises(RuntimeError), transaction.atomic():
        ring_on_commit(TASK)
        raise RuntimeError

    time.sleep(0.2)
    assert read_queue(redis_url) == []


def test_ringing_an_absent_redis_neither_waits_nor_raises(absent_redis: str) -> None:
    bell = Doorbell()

    assert typical_ring_time(bell) < NO_DELAY
    time.sleep(0.3)
    assert typical_ring_time(bell) < NO_DELAY


def test_ringing_a_redis_that_hangs_does_not_wait_for_it(silent_redis: str) -> None:
    bell = Doorbell()
    slowest = 0.0
    for _ in range(5):  # also while the bell's own thread is stuck in the sending
        slowest = max(slowest, typical_ring_time(bell, 20))
        time.sleep(0.05)

    assert slowest < NO_DELAY


@pytest.mark.parametrize("away", ["absent_redis", "silent_redis"])
def test_clearing_without_redis_costs_a_tenth_of_a_second_once(away: str, request: pytest.FixtureRequest) -> None:
    request.getfixturevalue(away)
    bell = Doorbell()

    assert time_of(lambda: bell.clear(TASK)) < 0.3
    assert time_of(lambda: bell.clear(TASK)) < NO_DELAY


def test_after_a_failure_redis_is_left_alone_for_a_while(silent_redis: str) -> None:
    bell = Doorbell()
    bell.ring(TASK)
    assert wait_until(lambda: bell._quiet_until > time.monotonic(), 2), "a hanging Redis is given up on within moments"
    connections_before = threading.active_count()
    for _ in range(100):
        bell.ring(TASK)
    assert threading.active_count() == connections_before


def test_the_bell_rings_again_once_redis_is_back(
    redis_url: str, absent_redis: str, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_REST_AFTER_FAILURE", 0.2)
    settings.REDIS_URL = absent_redis
    bell = Doorbell()
    bell.ring(TASK)
    assert wait_until(lambda: bell._quiet_until > 0)
    bell._client = None  # a Redis that comes back has the same address; here the address changes
    settings.REDIS_URL = redis_url
    time.sleep(0.3)

    bell.ring(TASK)

    assert wait_until(lambda: read_queue(redis_url) == [TASK])


def run_script(code: str) -> None:
    """Run a process as web and smtp are: Django is set up, and the roof's Celery app is not loaded."""
    setup = "import os, sys, time, django; django.setup(); from apps.core.doorbell import doorbell\n"
    check = "\nassert 'config.celery' not in sys.modules"
    environ = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"}
    subprocess.run([sys.executable, "-c", setup + code + check], cwd=PROJECT, env=environ, check=True, timeout=60)


def test_processes_that_do_not_load_celery_reach_the_same_queue(redis_url: str) -> None:
    run_script(f"doorbell.ring({TASK!r}); time.sleep(1)")

    assert read_queue(redis_url) == [TASK]


def test_the_bell_works_on_both_sides_of_a_fork(redis_url: str) -> None:
    run_script("""
doorbell.ring("parent"); time.sleep(0.5)
pid = os.fork()
doorbell.ring("after in child" if pid == 0 else "after in parent"); time.sleep(0.5)
if pid == 0:
    os._exit(0)
os.waitpid(pid, 0)""")

    assert sorted(read_queue(redis_url)) == ["after in child", "after in parent", "parent"]


def test_the_worker_listens_where_the_bell_rings() -> None:
    from config.celery import app

    assert app.conf.task_default_queue == QUEUE == module.QUEUE
