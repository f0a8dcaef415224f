"""The loop's thread inside a Celery worker, and the way in for the doorbell's task."""

from apps.core.loops import LoopThread, wake_loops
from apps.events.loop.sender import WebhookSender

_NAME = "webhooks"


class WebhookThread(LoopThread):
    """Runs one WebhookSender."""

    def __init__(self) -> None:
        super().__init__(_NAME, WebhookSender)


def wake_webhooks() -> None:
    """Wake the loops of this process."""
    wake_loops(_NAME)
