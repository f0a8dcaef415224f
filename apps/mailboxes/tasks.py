"""Periodic work on mailboxes."""

from typing import Any

from celery import shared_task
from django.db import transaction
from django.utils import timezone

from apps.core.locks import try_lock
from apps.mailboxes.services import reset_daily_counters


@shared_task
def reset_day(**_: Any) -> None:
    """Begin the day in the counters, at midnight UTC. A limit is right without it: each counter carries its date."""
    with transaction.atomic():
        if try_lock("reset_day"):
            reset_daily_counters(now=timezone.now())
