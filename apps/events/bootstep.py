"""Ties the webhook loop to the life of a Celery worker, whether or not the broker can be reached."""

from typing import Any

from celery import bootsteps

from apps.events.loop import WebhookThread


class WebhookStep(bootsteps.StartStopStep):
    """Starts after the pool and before the consumer, which waits for the broker: calls are made without one too."""

    requires = ("celery.worker.components:Pool",)

    def __init__(self, parent: Any, **kwargs: Any) -> None:
        super().__init__(parent, **kwargs)
        self._thread = WebhookThread()

    def start(self, parent: Any) -> None:
        self._thread.start()

    def stop(self, parent: Any) -> None:
        self._thread.stop()

    terminate = stop
