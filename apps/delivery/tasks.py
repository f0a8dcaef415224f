"""What the doorbell wakes, and periodic work on the queue."""

from typing import Any

from celery import shared_task
from django.db import transaction
from django.utils import timezone

from apps.core.locks import try_lock
from apps.delivery.loop import wake_delivery
from apps.delivery.services import DELIVER_TASK, forget_expired


@shared_task(name=DELIVER_TASK)
def deliver(**_: Any) -> None:
    """Wake this process's delivery loop; it finds the work in PostgreSQL."""
    wake_delivery()


@shared_task
def forget_expired_suppressions(**_: Any) -> None:
    """Delete suppressions that are over. Only tidiness: they keep nobody away any more."""
    with transaction.atomic():
        if try_lock("forget_expired_suppressions"):
            forget_expired(now=timezone.now())
