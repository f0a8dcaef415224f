"""How fast waiting agents hear of their mail, and what waiting costs: 500 requests wait in one web process.

    python tests/bench/waiters.py [--waiting 500] [--mails 300]

Each of the waiting requests has an inbox of its own. Mail is deposited as the inbound server deposits it, one mail in
a transaction, and the time runs from before the deposit to the last octet of the answer; the request is sent again at
once, so that always as many wait. fsync and synchronous_commit are on and checked. Then all inboxes get a mail within
one transaction, and then the process is left alone and its CPU time read.
"""

import argparse
import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import quantiles
from types import SimpleNamespace
from typing import Any

import psutil

PROJECT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(PROJECT))

BATCH = 100
IDLE_SECONDS = 10


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def servers(state: Path) -> Iterator[None]:
    process = subprocess.Popen(
        [sys.executable, "-m", "config.embedded", "--state", str(state)], cwd=PROJECT, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        for _ in range(2):
            name, _, value = process.stdout.readline().decode().strip().partition("=")
            os.environ[name] = value
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


@contextmanager
def web(port: int) -> Iterator[psutil.Process]:
    """One web process; the value is its worker."""
    from config.web.command import web_command

    settings = SimpleNamespace(MAILHOST_BIND="127.0.0.1", MAILHOST_HTTP_PORT=port, MAILHOST_WEB_PROCESSES=1)
    process = subprocess.Popen(web_command(settings), cwd=PROJECT)
    try:
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                time.sleep(0.1)
        yield psutil.Process(process.pid).children()[0]
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def prepare(inboxes: int) -> tuple[list[Any], str]:
    """The inboxes and a key for them."""
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0)
    from django.db import connection
    from django.utils import timezone

    from apps.accounts.services import create_api_key, create_organization
    from apps.domains.services import ensure_shared_domain
    from apps.mailboxes.services import NewMailbox, create_mailbox

    with connection.cursor() as cursor:
        for setting in ("fsync", "synchronous_commit"):
            cursor.execute(f"SHOW {setting}")
            assert cursor.fetchone() == ("on",), setting
    now = timezone.now()
    ensure_shared_domain(name="agents.localhost", now=now)
    organization = create_organization(name="bench", now=now)
    made = [create_mailbox(organization=organization, wanted=NewMailbox(), now=now)[0] for _ in range(inboxes)]
    return made, create_api_key(organization=organization, name="bench", scopes=["messages:read"], now=now)[1]


def deposit(mailboxes: list[Any], number: int) -> None:
    from django.db import transaction
    from django.utils import timezone

    from apps.mail.services import Deposit, deposit_messages
    from mailhost.message.parse import parse_message

    raw = (
        f"From: Acme <no-reply@acme.example>\r\nSubject: Your sign-in code {number}\r\nMIME-Version: 1.0\r\n"
        f"Content-Type: text/plain\r\n\r\nYour code is {100000 + number}.\r\n" + "It expires soon.\r\n" * 100
    ).encode()
    with transaction.atomic():
        deposit_messages(
            deposits=[Deposit([mailbox.address], raw, parse_message(raw), "a@acme.example") for mailbox in mailboxes],
            now=timezone.now(),
        )


class Waiting:
    """The waiting requests, each on a connection of its own."""

    def __init__(self, port: int, secret: str) -> None:
        self._port, self._secret = port, secret
        self._selector = selectors.DefaultSelector()
        self._connections: dict[Any, socket.socket] = {}

    def ask(self, mailbox: Any, since: str) -> None:
        connection = self._connections.get(mailbox.id)
        if connection is None:
            connection = self._connections[mailbox.id] = socket.create_connection(("127.0.0.1", self._port), 30)
            self._selector.register(connection, selectors.EVENT_READ, mailbox)
        body = f'{{"timeout_seconds": 300, "since": "{since}"}}'
        head = (
            f"POST /v1/inboxes/{mailbox.address.replace('@', '%40')}/wait HTTP/1.1\r\nHost: bench\r\n"
            f"Authorization: Bearer {self._secret}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        )
        connection.sendall(f"{head}\r\n{body}".encode())

    def answers(self, count: int) -> list[tuple[Any, float]]:
        """The next answers, each with the inbox and the moment of its last octet."""
        found: list[tuple[Any, float]] = []
        while len(found) < count:
            ready = self._selector.select(30)
            assert ready, "no answer came within 30 seconds"
            for key, _ in ready:
                read_answer(key.fileobj)
                found.append((key.data, time.perf_counter()))
        return found


def read_answer(connection: Any) -> None:
    data = connection.recv(1 << 20)
    while b"\r\n\r\n" not in data:
        data += connection.recv(1 << 20)
    head, _, body = data.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200"), data[:1000]
    length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    while len(body) < length:
        body += connection.recv(1 << 20)
    assert b'"timed_out":false' in body


def show(name: str, seconds: list[float]) -> None:
    cuts = quantiles(seconds, n=100)
    print(f"{name:36} p50 {cuts[49] * 1000:7.1f} ms   p99 {cuts[98] * 1000:7.1f} ms   of {len(seconds)}")


def measure(mailboxes: list[Any], waiting: Waiting, mails: int, worker: psutil.Process) -> None:
    from django.utils import timezone

    def since() -> str:
        return timezone.now().isoformat()

    for mailbox in mailboxes:
        waiting.ask(mailbox, since())
    time.sleep(3)
    times = []
    for number in range(mails):
        mailbox = mailboxes[number * 37 % len(mailboxes)]
        began = time.perf_counter()
        deposit([mailbox], number)
        ((answered, ended),) = waiting.answers(1)
        assert answered is mailbox
        times.append(ended - began)
        waiting.ask(mailbox, since())
        time.sleep(0.02)
    show("one mail, deposit to answer", times)
    began = time.perf_counter()
    for start in range(0, len(mailboxes), BATCH):
        deposit(mailboxes[start : start + BATCH], start)
    at_once = waiting.answers(len(mailboxes))
    show(f"all {len(mailboxes)} at once, from the first", [ended - began for _, ended in at_once])
    for mailbox in mailboxes:
        waiting.ask(mailbox, since())
    time.sleep(4)
    before = worker.cpu_times()
    time.sleep(IDLE_SECONDS)
    after = worker.cpu_times()
    used = after.user + after.system - before.user - before.system
    print(f"{len(mailboxes)} waiting, no mail: {100 * used / IDLE_SECONDS:.1f} % of a core, "
          f"{worker.num_threads()} threads, {worker.memory_info().rss / 1e6:.0f} MB")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--waiting", type=int, default=500)
    parser.add_argument("--mails", type=int, default=300)
    options = parser.parse_args()
    state = Path(tempfile.mkdtemp(prefix="mailhost-bench-"))
    state.chmod(0o711)
    os.environ.update(DJANGO_SETTINGS_MODULE="config.settings", MAILHOST_STATE=str(state))
    try:
        with servers(state):
            mailboxes, secret = prepare(options.waiting)
            port = free_port()
            with web(port) as worker:
                measure(mailboxes, Waiting(port, secret), options.mails, worker)
    finally:
        shutil.rmtree(state, ignore_errors=True)


if __name__ == "__main__":
    main()
