"""Redis only rings the doorbell: wiped or stopped, nothing is lost, requests do not wait, and mail goes on."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from config.embedded.redis import EmbeddedRedis
from tests.e2e.agent import Agent
from tests.e2e.installation import Installation
from tests.fakes.smtp import SmtpSink


class OwnRedis:
    """A Redis that the test may stop for good: no supervisor brings it back."""

    def __init__(self, state: Path) -> None:
        self.server = EmbeddedRedis(state)
        self.server.prepare()
        self.process = self.server.start()
        self.server.wait_until_ready(self.process)

    def stop(self) -> None:
        self.process.kill()
        self.process.wait(10)


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[OwnRedis]:
    server = OwnRedis(tmp_path)
    yield server
    server.stop()


def test_a_wiped_redis_loses_no_mail_and_a_stopped_one_delays_nobody(
    relaying: Installation, sink: SmtpSink, own_redis: OwnRedis
) -> None:
    relaying.environ["REDIS_URL"] = own_redis.server.url
    relaying.start()
    relaying.wait_until_ready()
    agent = Agent(relaying)
    inbox = agent.make_inbox(username="patient")

    sink.refuse("rcpt", "451 4.3.0 later", match="first")  # these three wait in the queue when Redis is wiped
    first = [agent.send(inbox, [f"first{number}@dest.test"])["id"] for number in range(3)]
    with redis.Redis.from_url(own_redis.server.url) as client:
        client.flushall()
    second = [agent.send(inbox, [f"second{number}@dest.test"])["id"] for number in range(5)]
    sink.wait_for(5, timeout=20)

    own_redis.stop()
    third, slowest = [], 0.0
    for number in range(5):
        began = time.monotonic()
        third.append(agent.send(inbox, [f"third{number}@dest.test"])["id"])
        slowest = max(slowest, time.monotonic() - began)
    assert slowest < 2, "a send waited for a Redis that is not there"
    wait_for_status(agent, [*second, *third], "sent")
    assert {mail.rcpt_to[0] for mail in sink.mails} >= {f"third{number}@dest.test" for number in range(5)}
    assert agent.statuses(first) == {message: ["deferred"] for message in first}


def wait_for_status(agent: Agent, messages: list[str], wanted: str) -> None:
    deadline = time.monotonic() + 30
    while any(status != wanted for found in agent.statuses(messages).values() for status in found):
        assert time.monotonic() < deadline, agent.statuses(messages)
        time.sleep(0.3)
