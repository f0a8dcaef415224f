"""What the doorbell wakes."""

from typing import Any

from celery import shared_task

from apps.delivery.loop import wake_delivery
from apps.delivery.services import DELIVER_TASK


@shared_task(name=DELIVER_TASK)
def deliver(**_: Any) -> None:
    """Wake this process's delivery loop; it finds the work in PostgreSQL."""
    wake_delivery()
