"""How fast accepted mail leaves: 5,000 mails of 4 KB from 20 mailboxes, signed twice, through a relay to smtp-sink.

    python tests/bench/drain.py [--mails 5000] [--workers 2] [--sink /usr/sbin/smtp-sink]

fsync and synchronous_commit are on and checked; every check of the product is enabled. Needs Postfix's smtp-sink
(Debian: postfix). Prints mails a second, from the first mail that the sink's side has confirmed to the last.
"""

import argparse
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

QUIET = subprocess.DEVNULL
PROJECT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(PROJECT))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start_servers(state: Path) -> subprocess.Popen[bytes]:
    servers = subprocess.Popen(
        [sys.executable, "-m", "config.embedded", "--state", str(state)], cwd=PROJECT, stdout=subprocess.PIPE
    )
    assert servers.stdout is not None
    for _ in range(2):
        name, _, value = servers.stdout.readline().decode().strip().partition("=")
        os.environ[name] = value
    return servers


def accept(mails: int, mailboxes: int) -> None:
    """Put the mails into the queue through the service that the API calls."""
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0)
    from django.db import connection
    from django.utils import timezone

    from apps.accounts.services import create_organization
    from apps.delivery.services import SendRequest, send_message
    from apps.domains.services import ensure_shared_domain
    from apps.mailboxes.models import Mailbox
    from apps.mailboxes.services import NewMailbox, create_mailbox

    with connection.cursor() as cursor:
        for setting in ("fsync", "synchronous_commit"):
            cursor.execute(f"SHOW {setting}")
            assert cursor.fetchone() == ("on",), setting
    now = timezone.now()
    ensure_shared_domain(name="agents.localhost", now=now)
    organization = create_organization(name="bench", now=now)
    ids = []
    for _ in range(mailboxes):
        mailbox, _ = create_mailbox(organization=organization, wanted=NewMailbox(daily_send_limit=None), now=now)
        ids.append(mailbox.id)
    boxes = list(Mailbox.objects.select_related("organization", "domain", "usage").filter(id__in=ids))
    text = "\n".join("Reporting in, line after line." for _ in range(120))
    began = time.monotonic()
    for number in range(mails):
        request = SendRequest(to=[f"r{number}@d{number % 50}.test"], subject=f"Mail {number}", text=text)
        send_message(mailbox=boxes[number % mailboxes], request=request, now=timezone.now())
    print(f"accepted   {mails / (time.monotonic() - began):8.0f} mails/s (one process, in turn)")


def count_sent() -> int:
    from apps.delivery.models import Delivery

    return Delivery.objects.filter(status="sent").count()


def drain(mails: int, workers: int) -> None:
    command = [sys.executable, "-m", "celery", "-A", "config", "-q", "worker", "-P", "threads", "-c", "2"]
    processes = [
        subprocess.Popen(
            [*command, "-n", f"bench{number}@%h"], cwd=PROJECT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for number in range(workers)
    ]
    try:
        deadline = time.monotonic() + 300
        while (first := count_sent()) == 0:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        began = time.monotonic()
        while (done := count_sent()) < mails:
            assert time.monotonic() < deadline, f"{done} of {mails}"
            time.sleep(0.05)
        print(f"drained    {(mails - first) / (time.monotonic() - began):8.0f} mails/s ({workers} workers)")
    finally:
        for process in processes:
            process.send_signal(signal.SIGTERM)
        for process in processes:
            process.wait(20)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--mails", type=int, default=5000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--sink", default=shutil.which("smtp-sink") or "/usr/sbin/smtp-sink")
    options = parser.parse_args()
    if not Path(options.sink).exists():
        print("drain: skipped, smtp-sink is not installed (Debian: postfix)")
        return
    state = Path(tempfile.mkdtemp(prefix="mailhost-bench-"))
    state.chmod(0o711)
    port = free_port()
    os.environ.update(
        DJANGO_SETTINGS_MODULE="config.settings", MAILHOST_STATE=str(state), MAILHOST_DELIVERY="relay",
        MAILHOST_RELAY_URL=f"smtp://127.0.0.1:{port}", MAILHOST_HOSTNAME="bench.test",
    )  # fmt: skip
    sink = subprocess.Popen([options.sink, "-u", "root", f"127.0.0.1:{port}", "1000"], stderr=subprocess.DEVNULL)
    servers = start_servers(state)
    try:
        accept(options.mails, 20)
        drain(options.mails, options.workers)
    finally:
        for process in (sink, servers):
            process.send_signal(signal.SIGTERM)
            process.wait(20)
        shutil.rmtree(state, ignore_errors=True)


if __name__ == "__main__":
    main()
