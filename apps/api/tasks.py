"""Periodic work of the API."""

from typing import Any

from celery import shared_task
from django.utils import timezone

from apps.api.idempotency import forget_old_answers


@shared_task
def forget_answers(**_: Any) -> None:
    """Delete remembered answers older than a day; any number of beats may ask."""
    forget_old_answers(now=timezone.now())
