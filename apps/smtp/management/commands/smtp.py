"""`manage.py smtp`: takes mail from other servers, in as many processes as MAILHOST_SMTP_PROCESSES says."""

import errno
import gc
import socket
import time
from functools import partial
from typing import Any

import structlog
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import connections

from apps.smtp.daemon import GRACE_SECONDS, Certificate, run_inbound
from apps.smtp.pool import ProcessPool
from mailhost.smtp.listener import bind_socket
from mailhost.smtp.tls import InvalidCertificate, self_signed

log = structlog.get_logger(__name__)

# The processes of a parent that was killed let go of the port within moments.
_PORT_PATIENCE_SECONDS = 5.0
# Beyond the grace of the processes themselves, for closing down.
_EXTRA_SECONDS = 1.5


class Command(BaseCommand):
    """Binds the port, then watches over the processes that serve it."""

    help = "Takes mail over SMTP on MAILHOST_BIND:MAILHOST_SMTP_PORT until SIGTERM."
    requires_system_checks = []

    def handle(self, *args: Any, **options: Any) -> None:
        """Runs until it is told to stop."""
        certificate = find_certificate()
        sockets = bind_sockets(settings.MAILHOST_BIND, settings.MAILHOST_SMTP_PORT, settings.MAILHOST_SMTP_PROCESSES)
        serve = partial(run_inbound, hostname=settings.MAILHOST_HOSTNAME, certificate=certificate)
        connections.close_all()  # a connection must not be shared by forks
        gc.freeze()  # what is loaded now stays, and stays shared
        log.info("smtp.listening", bind=settings.MAILHOST_BIND, port=settings.MAILHOST_SMTP_PORT)
        ProcessPool(sockets, serve, grace=GRACE_SECONDS + _EXTRA_SECONDS).run()


def find_certificate() -> Certificate:
    """The operator's certificate, else a self-signed one. Raises CommandError."""
    if settings.MAILHOST_TLS_CERT is not None:
        certificate = Certificate(settings.MAILHOST_TLS_CERT, settings.MAILHOST_TLS_KEY)
    else:
        certificate = Certificate(self_signed(settings.MAILHOST_STATE / "tls", settings.MAILHOST_HOSTNAME))
    try:
        certificate.load()
    except InvalidCertificate as error:
        raise CommandError(f"{error.message}. Check MAILHOST_TLS_CERT and MAILHOST_TLS_KEY.") from error
    return certificate


def bind_sockets(bind: str, port: int, count: int) -> list[socket.socket]:
    """One listening socket per process, all on one port that nobody else has. Raises CommandError."""
    deadline = time.monotonic() + _PORT_PATIENCE_SECONDS
    while True:
        try:
            # Alone first: a shared socket could be bound beside another installation's, and take its mail.
            bind_socket(bind, port).close()
            return [bind_socket(bind, port, is_shared=True) for _ in range(count)]
        except OSError as error:
            if error.errno != errno.EADDRINUSE or time.monotonic() > deadline:
                raise CommandError(_explain(bind, port, error)) from error
        time.sleep(0.1)


def _explain(bind: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"Port {port} of {bind} is taken by another program: set MAILHOST_SMTP_PORT to a free one."
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"Port {port} may not be opened by this user: set MAILHOST_SMTP_PORT to one above 1023."
    return f"{bind} cannot be listened on ({error.strerror}): set MAILHOST_BIND to an address of this machine."
