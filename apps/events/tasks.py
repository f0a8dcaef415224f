"""What the doorbell wakes, and the periodic work on the log of calls."""

from datetime import timedelta
from typing import Any

from celery import shared_task
from django.db import transaction
from django.utils import timezone

from apps.core.ids import id_floor
from apps.core.locks import try_lock
from apps.events.loop import wake_webhooks
from apps.events.services import CALL_TASK, forget_calls

KEPT_FOR = timedelta(days=30)
_BATCH = 1000
_BATCHES = 200


@shared_task(name=CALL_TASK)
def call_webhooks(**_: Any) -> None:
    """Wake this process's webhook loop; it finds the work in PostgreSQL."""
    wake_webhooks()


@shared_task
def forget_webhook_calls(**_: Any) -> None:
    """Delete finished calls older than 30 days, in batches; any number of beats may ask."""
    before = id_floor(timezone.now() - KEPT_FOR)
    for _batch in range(_BATCHES):
        with transaction.atomic():
            if not try_lock("forget_webhook_calls") or forget_calls(before=before, limit=_BATCH) < _BATCH:
                return
