"""A whole installation tells a receiver what happens in an inbox, beside a dead one and across a kill of the worker."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.agent import Agent
from tests.e2e.installation import Installation
from tests.fakes.http import HttpReceiver, ReceivedRequest


@pytest.fixture
def receiver() -> Iterator[HttpReceiver]:
    with HttpReceiver() as server:
        yield server


@pytest.fixture
def installation() -> Iterator[Installation]:
    """One whose webhooks may reach this machine; it sends no mail to strangers."""
    made = Installation(MAILHOST_PRIVATE_TARGETS="127.0.0.1/32", MAILHOST_WORKER_PROCESSES="1")
    try:
        yield made
    finally:
        made.remove()


def subjects(requests: list[ReceivedRequest]) -> list[str]:
    return [request.json["data"]["data"]["subject"] for request in requests if request.path == "/bob"]


def wait_for_subject(receiver: HttpReceiver, subject: str, seconds: float) -> float:
    began = time.monotonic()
    while subject not in subjects(list(receiver.requests)):
        assert time.monotonic() - began < seconds, subjects(receiver.requests)
        time.sleep(0.01)
    return time.monotonic() - began


def test_an_inbox_tells_its_webhook_of_mail_within_a_moment(installation: Installation, receiver: HttpReceiver) -> None:
    receiver.hang(match="/alice")  # a dead endpoint beside it
    installation.start()
    installation.wait_until_ready()
    agent = Agent(installation)
    alice = agent.make_inbox(username="alice", webhook_url=receiver.url("/alice"))
    status, bob = agent.call("POST", "/inboxes", {"username": "bob"})
    assert status == 201
    status, answer = agent.call("PATCH", f"/inboxes/{bob['id']}", {"webhook_url": "http://127.0.0.2:1/"})
    assert (status, answer["error"]["details"][0]["field"]) == (400, "webhook_url")
    status, _ = agent.call("PATCH", f"/inboxes/{bob['id']}", {"webhook_url": receiver.url("/bob")})
    assert status == 200

    agent.send(alice, [bob["address"]], subject="First")
    assert wait_for_subject(receiver, "First", 10) < 10
    (request,) = [request for request in receiver.requests if request.path == "/bob"]
    assert request.json["type"] == "message.received"
    assert request.json["data"]["inbox_id"] == bob["id"]
    assert request.headers["webhook-id"] == request.json["data"]["id"]
    assert request.headers["webhook-signature"].startswith("v1,")

    (worker,) = [pid for pid in installation.descendants() if _is_worker(pid)]
    os.kill(worker, signal.SIGKILL)
    agent.send(alice, [bob["address"]], subject="Second")
    wait_for_subject(receiver, "Second", 60)


def _is_worker(pid: int) -> bool:
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return b"celery" in command and b"worker" in command
