"""The processes of the SMTP server: they share a port, are replaced when they die, and end together."""

from __future__ import annotations

import os
import re
import signal
import smtplib
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

PROJECT = Path(__file__).resolve().parents[3]


class Pool:
    """The program, running."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "mails"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.apps.smtp.pool_program", str(self.log)],
            cwd=PROJECT,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(PROJECT), "DJANGO_SETTINGS_MODULE": "tests.settings"},
        )
        self.port = int(self.process.stdout.readline())

    def children(self) -> list[int]:
        return [child.pid for child in psutil.Process(self.process.pid).children()]

    def deliver(self, delay: float = 0.0) -> int:
        """Send a mail; the pid of the process that took it."""
        client = smtplib.SMTP("127.0.0.1", self.port, "c.example.org", timeout=10)
        try:
            client.ehlo()
            client.mail("a@example.org")
            client.rcpt("b@example.com")
            code, text = client.data(f"Subject: {delay}\r\n\r\n".encode())
        finally:
            client.close()  # without QUIT: a server that is ending has said 421 already
        assert code == 250, text
        return int(re.search(rb"pid (\d+)", text)[1])

    def end(self) -> None:
        children = self.children() if self.process.poll() is None else []
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        for pid in children:
            wait_until(lambda pid=pid: not is_alive(pid), 10)


def is_alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def wait_until(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[Pool]:
    pool = Pool(tmp_path)
    try:
        wait_until(lambda: len(pool.children()) == 2, 10)
        yield pool
    finally:
        pool.end()


def test_two_processes_share_the_port(pool: Pool) -> None:
    assert {pool.deliver() for _ in range(60)} == set(pool.children())


def test_a_killed_process_is_replaced_and_no_connection_is_refused(pool: Pool) -> None:
    victim, survivor = pool.children()
    os.kill(victim, signal.SIGKILL)
    takers = {pool.deliver() for _ in range(60)}
    assert victim not in takers
    wait_until(lambda: len(pool.children()) == 2, 5)
    [newcomer] = set(pool.children()) - {survivor}
    assert newcomer != victim
    wait_until(lambda: pool.deliver() == newcomer, 10)


def test_a_stop_finishes_the_mail_under_way(pool: Pool) -> None:
    taken: list[int] = []
    sender = threading.Thread(target=lambda: taken.append(pool.deliver(delay=0.7)))
    sender.start()
    time.sleep(0.3)
    pool.process.send_signal(signal.SIGTERM)
    sender.join(5)
    assert pool.process.wait(8) == 0
    assert pool.log.read_text().split() == [str(pid) for pid in taken]
    with pytest.raises(ConnectionRefusedError):
        pool.deliver()


def test_a_mail_that_takes_too_long_does_not_hold_up_the_end(pool: Pool) -> None:
    def send() -> None:
        with pytest.raises((smtplib.SMTPException, AssertionError)):
            pool.deliver(delay=60)

    sender = threading.Thread(target=send)
    sender.start()
    time.sleep(0.3)
    started = time.monotonic()
    pool.process.send_signal(signal.SIGTERM)
    assert pool.process.wait(9) == 0
    assert time.monotonic() - started < 8
    sender.join(5)
    assert not pool.log.exists()


def test_the_processes_do_not_outlive_a_killed_parent(pool: Pool) -> None:
    children = pool.children()
    pool.process.kill()
    pool.process.wait()
    for pid in children:
        wait_until(lambda pid=pid: not is_alive(pid), 8)


def test_a_process_that_cannot_live_is_not_started_in_a_hurry(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from apps.smtp.pool import ProcessPool\n"
        "from mailhost.smtp.listener import bind_socket\n"
        "def serve(sock):\n"
        "    print('be' + 'gun', flush=True)\n"
        "    raise RuntimeError('cannot')\n"
        "ProcessPool([bind_socket('127.0.0.1', 0)], serve, grace=1).run()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"},
    )
    time.sleep(2)
    process.terminate()
    output, _ = process.communicate(timeout=10)
    assert 2 <= output.count(b"begun") <= 6
