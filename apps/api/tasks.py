"""Periodic work of the API."""

from typing import Any

from celery import shared_task
from django.db import transaction
from django.utils import timezone

from apps.api.idempotency import forget_old_answers
from apps.core.locks import try_lock


@shared_task
def forget_answers(**_: Any) -> None:
    """Delete remembered answers older than a day; any number of beats may ask."""
    with transaction.atomic():
        if try_lock("forget_answers"):
            forget_old_answers(now=timezone.now())
