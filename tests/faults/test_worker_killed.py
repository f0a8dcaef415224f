"""kill -9 of the workers while mail is under way loses nothing that was acknowledged."""

import os
import signal
import time
from collections import Counter
from pathlib import Path

from apps.delivery.loop.channel import GROUP_MAILS, MAX_CONNECTIONS
from tests.e2e.agent import Agent
from tests.e2e.installation import Installation
from tests.fakes.smtp import SmtpSink

RECIPIENTS = 500


def test_all_mails_arrive_although_the_workers_are_killed(relaying: Installation, sink: SmtpSink) -> None:
    relaying.start()
    relaying.wait_until_ready()
    agent = Agent(relaying)
    inbox = agent.make_inbox(username="busy")
    sink.delay("final", 0.02)
    messages = []
    for batch in range(RECIPIENTS // 50):
        to = [f"r{batch * 50 + number}@dest{number % 10}.test" for number in range(50)]
        messages.append(agent.send(inbox, to)["id"])

    sink.wait_for(60, timeout=30)
    workers = [pid for pid in relaying.descendants() if _is_worker(pid)]
    assert workers, relaying.describe()
    for pid in workers:
        os.kill(pid, signal.SIGKILL)
    assert len(sink.mails) < RECIPIENTS, "they were killed too late to show anything"

    wanted = {f"r{number}@dest{number % 10}.test" for number in range(RECIPIENTS)}
    deadline = time.monotonic() + 150  # a lease of 60 s runs out first
    while {mail.rcpt_to[0] for mail in sink.mails} != wanted:
        assert time.monotonic() < deadline, f"{len({mail.rcpt_to[0] for mail in sink.mails})} of {RECIPIENTS} came"
        time.sleep(0.5)
    while any(status != "sent" for found in agent.statuses(messages).values() for status in found):
        assert time.monotonic() < deadline
        time.sleep(0.5)

    copies = Counter(mail.rcpt_to[0] for mail in sink.mails)
    duplicates = {address for address, count in copies.items() if count > 1}
    uncertain = {
        delivery["address"]
        for message in messages
        for delivery in agent.deliveries(message)
        if any(attempt["outcome"] == "uncertain" for attempt in delivery["attempts"])
    }
    assert duplicates <= uncertain, "a mail came twice that nobody had marked uncertain"
    # At most what the connections had stamped: 2 workers, 4 connections, 8 mails each and the 8 that come next.
    assert len(uncertain) <= 2 * MAX_CONNECTIONS * 2 * GROUP_MAILS


def _is_worker(pid: int) -> bool:
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return b"celery" in command and b"worker" in command
