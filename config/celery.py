"""Celery: carries wake-ups and batches, never one task per mail. PostgreSQL holds all that matters."""

import os
from typing import Any

from celery import Celery
from django.conf import settings

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

# Periodic tasks, by name. Each must be idempotent and take an advisory lock: any number of beats may run.
BEAT_SCHEDULE: dict[str, dict[str, Any]] = {}

app = Celery("mailhost")
app.conf.update(
    broker_url=settings.REDIS_URL,
    broker_connection_retry_on_startup=True,
    # A doorbell must never hold up the request that rings it.
    broker_transport_options={
        "socket_timeout": 5,
        "socket_connect_timeout": 1,
        "socket_keepalive": True,
        # Early acknowledgement: nothing stays unacknowledged for long, and a lost ring costs one poll.
        "visibility_timeout": 600,
    },
    task_acks_late=False,
    worker_prefetch_multiplier=1,
    task_ignore_result=True,
    result_backend=None,
    task_serializer="json",
    accept_content=["json"],
    timezone="UTC",
    enable_utc=True,
    task_default_queue="mailhost",
    task_create_missing_queues=True,
    worker_hijack_root_logger=False,
    worker_enable_remote_control=False,
    beat_schedule=BEAT_SCHEDULE,
    beat_schedule_filename=str(settings.MAILHOST_STATE / "celerybeat-schedule"),
)
app.autodiscover_tasks()
