"""Which long-running processes are alive, on however many machines: each writes a row every few seconds.

`GET /health/ready` reads the rows. A row not renewed for 15 seconds counts as dead; a clean end removes it.
"""

import contextlib
import os
import socket
import threading
from datetime import timedelta

import structlog
from django.db import DatabaseError, InterfaceError, connection, transaction
from django.db.models.functions import Now

from apps.core.models import Heartbeat

log = structlog.get_logger(__name__)

BEAT_SECONDS = 5.0
DEAD_AFTER = timedelta(seconds=15)
_FORGET_AFTER = timedelta(hours=1)


class HeartbeatThread(threading.Thread):
    """Writes the process's row until stop() is called; a database that is away only makes it silent."""

    def __init__(self, process: str) -> None:
        super().__init__(name=f"heartbeat-{process}", daemon=True)
        self.process = process
        self._stopped = threading.Event()

    def run(self) -> None:
        """Beat at once, then every five seconds."""
        while True:
            try:
                write_heartbeat(process=self.process)
            except (DatabaseError, InterfaceError) as error:
                log.warning("heartbeat.silent", process=self.process, error=str(error))
                connection.close()
            if self._stopped.wait(BEAT_SECONDS):
                break
        with contextlib.suppress(DatabaseError, InterfaceError):  # then the row dies of age
            remove_heartbeat(process=self.process)
        connection.close()

    def stop(self, timeout: float = 2.0) -> None:
        """Remove the row: the process ends on purpose."""
        self._stopped.set()
        self.join(timeout)


def start_heartbeat(process: str) -> HeartbeatThread:
    """Begin to show this process (`smtp`, `worker`, `beat`) as alive; call it once it does its work."""
    thread = HeartbeatThread(process)
    thread.start()
    return thread


def write_heartbeat(*, process: str) -> None:
    """One sign of life, on the database's clock."""
    host, pid = _identity()
    with transaction.atomic():
        Heartbeat.objects.bulk_create(
            [Heartbeat(process=process, host=host, pid=pid, at=Now())],
            update_conflicts=True,
            unique_fields=["process", "host", "pid"],
            update_fields=["at"],
        )
        Heartbeat.objects.filter(at__lt=Now() - _FORGET_AFTER).delete()


def remove_heartbeat(*, process: str) -> None:
    """This process is no longer there."""
    host, pid = _identity()
    Heartbeat.objects.filter(process=process, host=host, pid=pid).delete()


def forget_host() -> None:
    """Before this machine's processes start: whatever rows they left when they were killed mean nothing."""
    Heartbeat.objects.filter(host=socket.gethostname()).delete()


def list_living_processes() -> set[str]:
    """The names of the processes of which at least one is alive, anywhere."""
    living = Heartbeat.objects.filter(at__gte=Now() - DEAD_AFTER)
    return set(living.values_list("process", flat=True).distinct())


def _identity() -> tuple[str, int]:
    return socket.gethostname()[:255], os.getpid()
