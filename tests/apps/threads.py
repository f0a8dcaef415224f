"""Running a service many times at once, each in a thread with a database connection of its own."""

import threading
from collections.abc import Callable
from typing import TypeVar

from django.db import connections

T = TypeVar("T")


def run_together(call: Callable[[int], T], count: int, *, timeout: float = 60) -> list[T | Exception]:
    """`call(0)` to `call(count - 1)`, begun at the same moment; what each returned or raised, in order."""
    barrier = threading.Barrier(count)
    results: list[T | Exception] = [RuntimeError("did not end")] * count

    def run(number: int) -> None:
        try:
            connections["default"].ensure_connection()
            barrier.wait(timeout)
            results[number] = call(number)
        except Exception as error:
            results[number] = error
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=(number,), daemon=True) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout)
    return results
