"""A whole installation that delivers to a mail server of the tests', by a DNS of the tests'."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.e2e.installation import Installation
from tests.fakes.smtp import SmtpSink


@dataclass
class Agent:
    """A client of the REST API with the installation's first key."""

    installation: Installation

    def call(self, method: str, path: str, body: object = None, **headers: str) -> tuple[int, Any]:
        facts = self.installation.first_run()
        request = urllib.request.Request(
            facts["api_url"] + "/v1" + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {facts['api_key']}", "Content-Type": "application/json"}
            | {name.replace("_", "-"): value for name, value in headers.items()},
        )
        try:
            with urllib.request.urlopen(request, timeout=20) as response:
                return response.status, json.loads(response.read() or b"null")
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read() or b"null")

    def make_inbox(self, **fields: object) -> str:
        status, inbox = self.call("POST", "/inboxes", fields)
        assert status == 201, inbox
        return str(inbox["id"])

    def send(self, inbox: str, to: list[str], **fields: object) -> dict[str, Any]:
        body = {"to": to, "subject": "Hello", "text": "Reporting in."} | fields
        status, answer = self.call("POST", f"/inboxes/{inbox}/messages", body)
        assert status == 202, answer
        return dict(answer)

    def statuses(self, messages: list[str]) -> dict[str, list[str]]:
        """For each message the statuses of its recipients."""
        found = {}
        for message in messages:
            status, answer = self.call("GET", f"/messages/{message}")
            assert status == 200, answer
            found[message] = [recipient["status"] for recipient in answer["recipients"]]
        return found

    def deliveries(self, message: str) -> list[dict[str, Any]]:
        status, answer = self.call("GET", f"/messages/{message}/deliveries")
        assert status == 200, answer
        return list(answer["data"])


@pytest.fixture
def sink() -> Iterator[SmtpSink]:
    with SmtpSink() as server:
        yield server


@pytest.fixture
def relaying(sink: SmtpSink) -> Iterator[Installation]:
    """An installation that hands everything to the sink as its smarthost; not started yet."""
    installation = Installation(
        MAILHOST_DELIVERY="relay",
        MAILHOST_RELAY_URL=f"smtp://127.0.0.1:{sink.port}",
        MAILHOST_WORKER_PROCESSES="2",
    )
    try:
        yield installation
    finally:
        installation.remove()
