"""One copy per state folder: an advisory lock that the kernel releases however the holder ends."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from config.embedded.errors import EmbeddedError


@contextmanager
def lock_state(state: Path) -> Iterator[None]:
    """Hold the state folder's lock. Raises EmbeddedError when another process holds it."""
    state.mkdir(parents=True, exist_ok=True)
    with (state / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise EmbeddedError(
                f"Another mailhost is running with the state folder {state}: stop it, or set MAILHOST_STATE."
            ) from None
        yield
