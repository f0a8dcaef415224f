"""Periodic work on the tables themselves."""

from typing import Any

from celery import shared_task
from django.utils import timezone

from apps.core.partitions import create_month_partitions


@shared_task
def create_partitions(**_: Any) -> None:
    """Make the coming months' partitions; any number of beats may ask."""
    create_month_partitions(now=timezone.now())
