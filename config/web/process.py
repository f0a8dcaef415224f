"""What one web process does around its requests: limits at the start, an orderly end.

Granian stops a worker by SIGTERM: it accepts no more, lets every request in flight finish, and only
then tells the application (lifespan.shutdown). A request that waits minutes for a mail would hold that
up, so ``StopSignal`` tells waiting code at once.
"""

import asyncio
import os
import resource
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

MAX_OPEN_FILES = 65_536
PARENT_CHECK_SECONDS = 1.0


class StopSignal:
    """Set as soon as this process is asked to stop. Waiting native applications end when they see it."""

    def __init__(self) -> None:
        self.event = asyncio.Event()

    def listen(self) -> None:
        """Take SIGTERM over from the server, and hand it on as the SIGINT that the server also heeds."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._stop)

    def _stop(self) -> None:
        self.event.set()
        os.kill(os.getpid(), signal.SIGINT)


@asynccontextmanager
async def serve_process(stop: StopSignal) -> AsyncIterator[None]:
    """Run for the life of a web worker process."""
    raise_file_limit()
    stop.listen()
    watcher = asyncio.create_task(_end_with_parent())
    try:
        yield
    finally:
        watcher.cancel()
        with suppress(asyncio.CancelledError):
            await watcher


def raise_file_limit() -> None:
    """Allow as many open files as the system lets us: a waiting request is an open socket."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def _end_with_parent() -> None:
    """Stop when the server's main process was killed: an orphan would go on answering on the old port."""
    parent = os.getppid()
    while os.getppid() == parent:  # noqa: ASYNC110 - nothing can be waited for: only the number changes
        await asyncio.sleep(PARENT_CHECK_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)
