"""The loop's thread inside a Celery worker, and the way in for the doorbell's task."""

from apps.core.loops import LoopThread, wake_loops
from apps.delivery.loop.dispatcher import Dispatcher

_NAME = "delivery"


class DeliveryThread(LoopThread):
    """Runs one Dispatcher. It ends within nine seconds: mails on the wire finish, the rest goes back into the queue."""

    def __init__(self) -> None:
        super().__init__(_NAME, Dispatcher)


def wake_delivery() -> None:
    """Wake the loops of this process."""
    wake_loops(_NAME)
