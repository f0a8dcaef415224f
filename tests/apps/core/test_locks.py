"""Advisory locks: one transaction at a time, released by its end however it ends."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from django.db import connection, transaction

from apps.core.locks import try_lock, wait_lock
from tests.apps.threads import run_together

pytestmark = pytest.mark.django_db(transaction=True)


@contextmanager
def elsewhere_locked(name: str) -> Iterator[None]:
    """Another connection's transaction holds the lock meanwhile."""
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with transaction.atomic():
            assert try_lock(name)
            held.set()
            done.wait(10)
        connection.close()

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(10)
    try:
        yield
    finally:
        done.set()
        thread.join(10)


def test_a_lock_that_another_transaction_holds_is_not_given() -> None:
    with elsewhere_locked("reset_day"), transaction.atomic():
        assert not try_lock("reset_day")


def test_locks_of_other_names_do_not_meet() -> None:
    with elsewhere_locked("reset_day"), transaction.atomic():
        assert try_lock("partitions")


def test_the_end_of_the_transaction_gives_it_back() -> None:
    with elsewhere_locked("reset_day"):
        pass
    with transaction.atomic():
        assert try_lock("reset_day")


def test_so_does_a_rollback() -> None:
    with pytest.raises(RuntimeError), transaction.atomic():
        assert try_lock("reset_day")
        raise RuntimeError
    with elsewhere_locked("reset_day"):
        pass


def test_waiting_for_a_lock_lets_one_in_after_the_other() -> None:
    inside: list[int] = []
    most: list[int] = []

    def enter(_: int) -> None:
        with transaction.atomic():
            wait_lock("erase")
            inside.append(1)
            most.append(len(inside))
            inside.pop()

    run_together(enter, 8)

    assert most == [1] * 8
