"""Locks of a state folder, which the kernel releases however the holder ends: one copy, and one run, at a time."""

import contextlib
import fcntl
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from config.embedded.errors import EmbeddedError

# A web process may finish its requests for eight seconds.
END_PATIENCE = 10.0
KILL_PATIENCE = 3.0


@contextmanager
def lock_state(state: Path) -> Iterator[None]:
    """Hold the state folder's lock. Raises EmbeddedError when another process holds it."""
    state.mkdir(parents=True, exist_ok=True)
    with (state / "lock").open("w") as file:
        if not _try_lock(file.fileno()):
            raise EmbeddedError(
                f"Another mailhost is running with the state folder {state}: stop it, or set MAILHOST_STATE."
            )
        yield


@contextmanager
def mark_processes(state: Path) -> Iterator[int]:
    """Wait until no process of an earlier run is left, and give the mark by which the next run finds ours.

    The mark is an open, locked file that every child inherits: as long as one of them lives, the lock
    is held, also when the supervisor was killed. Who does not end in time is killed. Raises EmbeddedError.
    """
    path = state / "processes"
    with path.open("w") as file:
        for number, patience in ((None, END_PATIENCE), (signal.SIGKILL, KILL_PATIENCE)):
            for pid in _find_holders(path) if number else []:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            deadline = time.monotonic() + patience
            while not (locked := _try_lock(file.fileno())) and time.monotonic() < deadline:
                time.sleep(0.05)
            if locked:
                break
        else:
            raise EmbeddedError(
                f"Processes of an earlier start with the state folder {state} are still there: end them."
            )
        yield file.fileno()


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _find_holders(path: Path) -> list[int]:
    """Other processes that have the file open (Linux)."""
    found = []
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            pid = int(link.parts[2])
            if pid != os.getpid() and link.samefile(path):
                found.append(pid)
    return found
