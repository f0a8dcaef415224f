"""A mail from another server, over a real socket, into the real database."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import smtplib
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote, urlencode

import psutil
import pytest
from django.conf import settings
from django.db import connection

from apps.core.heartbeat import list_living_processes
from apps.mail.models import Message
from apps.smtp.daemon import run_loop
from apps.smtp.receiver import InboundReceiver
from mailhost.smtp.listener import Listener

pytestmark = pytest.mark.django_db(transaction=True)

PROJECT = Path(__file__).resolve().parents[3]
BODY = b"From: Bob <bob@example.org>\r\nTo: alice@agents.localhost\r\nSubject: Hello\r\n\r\nHi Alice\r\n"


def deliver(port: int, to: str = "alice@agents.localhost", body: bytes = BODY) -> None:
    with smtplib.SMTP("127.0.0.1", port, "mx.example.org", timeout=20) as client:
        client.sendmail("bob@example.org", [to], body)


def wait_until(condition: Callable[[], object], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def port() -> Iterator[int]:
    """A listener with the real services behind it, in a thread."""
    started = threading.Event()
    ends: list[Callable[[], object]] = []
    ports: list[int] = []

    async def serve() -> None:
        stop, loop = asyncio.Event(), asyncio.get_running_loop()
        receiver = InboundReceiver()
        listener = Listener(receiver, hostname="mail.test")
        await listener.start("127.0.0.1", 0)
        ports.append(listener.port)
        ends.append(lambda: loop.call_soon_threadsafe(stop.set))
        started.set()
        await stop.wait()
        await listener.stop(1)
        receiver.close()

    thread = threading.Thread(target=lambda: run_loop(serve()))
    thread.start()
    assert started.wait(10)
    yield ports[0]
    ends[0]()
    thread.join(10)
    wait_until(lambda: not any(thread.name.startswith("smtp-") for thread in threading.enumerate()))


def test_a_mail_is_in_the_database_when_it_is_accepted(port: int, mailbox: object) -> None:
    deliver(port)
    message = Message.objects.get()
    assert (message.subject, message.direction) == ("Hello", "inbound")
    assert message.from_address == "bob@example.org"


def test_an_unknown_recipient_is_refused_at_rcpt(port: int, mailbox: object) -> None:
    with pytest.raises(smtplib.SMTPRecipientsRefused) as caught:
        deliver(port, "nobody@agents.localhost")
    assert caught.value.recipients["nobody@agents.localhost"][0] == 550
    assert caught.value.recipients["nobody@agents.localhost"][1].startswith(b"5.1.1 ")


def test_fifty_mails_at_once_are_all_stored(port: int, mailbox: object) -> None:
    with ThreadPoolExecutor(50) as pool:
        list(pool.map(lambda number: deliver(port), range(50)))
    assert Message.objects.count() == 50


def test_a_restarted_database_costs_no_mail(port: int, mailbox: object) -> None:
    deliver(port)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        assert len(cursor.fetchall()) >= 2
    deliver(port)
    assert Message.objects.count() == 2


# --- the command


def database_url() -> str:
    database = connection.settings_dict
    query = urlencode({"host": database["HOST"], "port": database["PORT"]})
    user = f"{quote(database['USER'], safe='')}:{quote(database['PASSWORD'], safe='')}"
    return f"postgres://{user}@/{database['NAME']}?{query}"


class Daemon:
    """`manage.py smtp`, running on the test's database."""

    def __init__(self, state: Path, **variables: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.log = state / "smtp.log"
        self.environ = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "config.settings",
            "MAILHOST_STATE": str(state),
            "MAILHOST_HOSTNAME": "mail.test",
            "MAILHOST_SMTP_PORT": str(self.port),
            "DATABASE_URL": database_url(),
            "MAILHOST_SECRET_KEY": settings.MAILHOST_SECRET_KEY,
            **variables,
        }

    def start(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "manage.py", "smtp"], cwd=PROJECT, env=self.environ, stdout=log, stderr=log
            )
        return self.process

    def answers(self) -> bool:
        try:
            with smtplib.SMTP("127.0.0.1", self.port, timeout=5):
                return True
        except OSError:
            return False


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path)
    process = daemon.start()
    try:
        wait_until(daemon.answers)
        yield daemon
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0, daemon.log.read_text()
    assert "Traceback" not in daemon.log.read_text()


def test_the_command_takes_mail_and_shows_that_it_lives(daemon: Daemon, mailbox: object) -> None:
    deliver(daemon.port)
    assert Message.objects.count() == 1
    wait_until(lambda: "smtp" in list_living_processes())


def test_no_accepted_mail_is_lost_when_processes_are_killed(daemon: Daemon, mailbox: object) -> None:
    accepted: list[str] = []

    def send(number: int) -> None:
        subject = f"mail {number}"
        with contextlib.suppress(OSError, smtplib.SMTPException):
            deliver(daemon.port, body=f"Subject: {subject}\r\n\r\nx\r\n".encode())
            accepted.append(subject)

    with ThreadPoolExecutor(8) as pool:
        for number in range(200):
            pool.submit(send, number)
        for _ in range(4):
            time.sleep(0.15)
            children = psutil.Process(daemon.process.pid).children()
            if children:
                children[0].kill()
    stored = list(Message.objects.values_list("subject", flat=True))
    assert len(accepted) > 100
    assert set(accepted) <= set(stored)
    assert len(stored) == len(set(stored))


def test_the_command_offers_tls_with_a_certificate_of_its_own(daemon: Daemon, mailbox: object) -> None:
    context = ssl.create_default_context(cafile=Path(daemon.environ["MAILHOST_STATE"]) / "tls/smtp-self-signed.pem")
    with smtplib.SMTP("127.0.0.1", daemon.port, "mx.example.org", timeout=20) as client:
        client._host = "mail.test"
        client.starttls(context=context)
        client.sendmail("bob@example.org", ["alice@agents.localhost"], BODY)
    assert Message.objects.count() == 1


def test_a_taken_port_is_one_sentence(daemon: Daemon) -> None:
    second = Daemon(Path(daemon.environ["MAILHOST_STATE"]), MAILHOST_SMTP_PORT=str(daemon.port))
    second.log = second.log.with_name("second.log")
    assert second.start().wait(30) == 1
    assert re.search(
        rf"Port {daemon.port} of 127\.0\.0\.1 is taken by another program: set MAILHOST_SMTP_PORT to a free one\.",
        second.log.read_text(),
    )


def test_an_unusable_certificate_is_one_sentence(tmp_path: Path) -> None:
    broken = tmp_path / "broken.pem"
    broken.write_text("nothing")
    daemon = Daemon(tmp_path, MAILHOST_TLS_CERT=str(broken), MAILHOST_TLS_KEY=str(broken))
    assert daemon.start().wait(30) == 1
    text = daemon.log.read_text()
    assert "broken.pem cannot be used" in text
    assert "Traceback" not in text
