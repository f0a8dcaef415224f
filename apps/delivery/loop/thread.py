"""The loop's thread inside a Celery worker, and the way in for the doorbell's task."""

import asyncio
import threading

import structlog

from apps.delivery.loop.dispatcher import Dispatcher

log = structlog.get_logger(__name__)
_STOP_SECONDS = 9.0
_running: set["DeliveryThread"] = set()


class DeliveryThread:
    """Runs one Dispatcher in a thread with an event loop of its own."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._dispatcher: Dispatcher | None = None
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="delivery-loop", daemon=True)

    def start(self) -> None:
        """Begin to deliver; returns when the loop runs."""
        self._thread.start()
        self._ready.wait()
        _running.add(self)

    def _run(self) -> None:
        asyncio.run(self._main())

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._dispatcher = Dispatcher()
        self._ready.set()
        log.info("delivery.started")
        await self._dispatcher.run()
        log.info("delivery.stopped")

    def wake(self) -> None:
        """Have the loop look for work now; from any thread."""
        if self._loop is not None and self._dispatcher is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._dispatcher.wake)

    def stop(self) -> None:
        """End within nine seconds: mails on the wire finish, the rest goes back into the queue."""
        _running.discard(self)
        if self._loop is not None and self._dispatcher is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._dispatcher.stop)
            self._thread.join(_STOP_SECONDS)


def wake_delivery() -> None:
    """Wake the loops of this process."""
    for thread in list(_running):
        thread.wake()
