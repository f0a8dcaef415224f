"""Celery: carries wake-ups and batches, never one task per mail. PostgreSQL holds all that matters."""

import os
from typing import Any

import django
from celery import Celery
from celery.schedules import crontab
from celery.signals import beat_init, setup_logging, worker_ready, worker_shutdown
from django.conf import settings

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
django.setup()  # before the models below can be imported; does nothing when it was done

from apps.core.heartbeat import HeartbeatThread, start_heartbeat  # noqa: E402

# Periodic tasks, by name. Each must be idempotent and take an advisory lock: any number of beats may run.
BEAT_SCHEDULE: dict[str, dict[str, Any]] = {
    "reset_day": {"task": "apps.mailboxes.tasks.reset_day", "schedule": crontab(minute="0", hour="0")},
    "create_partitions": {"task": "apps.core.tasks.create_partitions", "schedule": crontab(minute="30", hour="3")},
    "forget_answers": {"task": "apps.api.tasks.forget_answers", "schedule": crontab(minute="15")},
    "forget_suppressions": {
        "task": "apps.delivery.tasks.forget_expired_suppressions",
        "schedule": crontab(minute="50", hour="3"),
    },
    "forget_webhook_calls": {"task": "apps.events.tasks.forget_webhook_calls", "schedule": crontab(minute="45")},
}

app = Celery("mailhost")
app.conf.update(
    broker_url=settings.REDIS_URL,
    broker_connection_retry_on_startup=True,
    # For ever: a worker whose Redis is away still sends mail, which it finds in PostgreSQL.
    broker_connection_max_retries=None,
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
    # Kept in memory: nothing on disk to be corrupted by a kill, and a missed turn does no harm.
    beat_scheduler="celery.beat:Scheduler",
)
app.autodiscover_tasks()
# Mail leaves from a thread of each worker, which needs no broker to find its work; so do the calls of webhooks.
app.steps["worker"].add("apps.delivery.bootstep:DeliveryStep")
app.steps["worker"].add("apps.events.bootstep:WebhookStep")

_heartbeats: list[HeartbeatThread] = []


@setup_logging.connect
def keep_logging(**_: object) -> None:
    """Having a receiver is the point: Celery then leaves the logging that Django has set up alone."""


@worker_ready.connect
def show_worker(**_: object) -> None:
    """The worker takes tasks from now on."""
    _heartbeats.append(start_heartbeat("worker"))


@beat_init.connect
def show_beat(**_: object) -> None:
    """The beat sends tasks from now on."""
    _heartbeats.append(start_heartbeat("beat"))


@worker_shutdown.connect
def hide_worker(**_: object) -> None:
    """The worker ends on purpose."""
    for heartbeat in _heartbeats:
        heartbeat.stop()
