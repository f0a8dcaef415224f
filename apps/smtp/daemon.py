"""One process of the SMTP server: an event loop with a listener, until it is told to stop."""

import asyncio
import signal
import socket
import ssl
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
import uvloop

from apps.core.heartbeat import start_heartbeat
from apps.smtp.receiver import InboundReceiver
from mailhost.smtp.listener import Limits, Listener, Receiver
from mailhost.smtp.tls import InvalidCertificate, server_context

log = structlog.get_logger(__name__)

GRACE_SECONDS = 5.0
_CERTIFICATE_POLL_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Certificate:
    """Where the certificate is; `key` None means in the same file."""

    path: Path
    key: Path | None = None

    def load(self) -> ssl.SSLContext:
        """Raises InvalidCertificate."""
        return server_context(self.path, self.key)

    def version(self) -> tuple[int, ...]:
        """Changes when one of the files does."""
        paths = [self.path] if self.key is None else [self.path, self.key]
        return tuple(path.stat().st_mtime_ns for path in paths)


def run_inbound(sock: socket.socket, *, hostname: str, certificate: Certificate) -> None:
    """Take mail for our mailboxes on `sock` until SIGTERM; blocks."""
    receiver = InboundReceiver()
    heartbeat = start_heartbeat("smtp")
    try:
        run_loop(serve(sock, receiver, hostname=hostname, certificate=certificate))
    finally:
        heartbeat.stop()
        receiver.close()


def run_loop(main: Coroutine[Any, Any, None]) -> None:
    """asyncio.run on uvloop, which halves the listener's CPU per mail (mailhost/smtp/README.md)."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main)


async def serve(
    sock: socket.socket,
    receiver: Receiver,
    *,
    hostname: str,
    certificate: Certificate | None = None,
    limits: Limits | None = None,
) -> None:
    """Listen until SIGTERM or SIGINT, then let mails under way finish for GRACE_SECONDS."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    tls = certificate.load() if certificate else None
    listener = Listener(receiver, hostname=hostname, tls=tls, limits=limits)
    await listener.start_on(sock)
    watcher = asyncio.create_task(_watch_certificate(certificate, listener)) if certificate else None
    await stop.wait()
    if watcher is not None:
        watcher.cancel()
    await listener.stop(GRACE_SECONDS)


async def _watch_certificate(certificate: Certificate, listener: Listener) -> None:
    """Offer a renewed certificate without a restart. One that cannot be used leaves the old one in place."""
    seen = certificate.version()
    while True:
        await asyncio.sleep(_CERTIFICATE_POLL_SECONDS)
        try:
            if certificate.version() == seen:
                continue
            seen = certificate.version()
            listener.replace_tls(certificate.load())
            log.info("smtp.certificate_renewed", path=str(certificate.path))
        except (OSError, InvalidCertificate) as error:
            # In the middle of being replaced, perhaps: looked at again next time.
            log.error("smtp.certificate_unusable", error=str(error))
