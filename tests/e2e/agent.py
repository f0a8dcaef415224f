"""A client of the REST API of an installation under test."""

import json
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any

from tests.e2e.installation import Installation


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

    def download(self, path: str) -> bytes:
        """The octets behind a path."""
        facts = self.installation.first_run()
        request = urllib.request.Request(
            facts["api_url"] + "/v1" + path, headers={"Authorization": f"Bearer {facts['api_key']}"}
        )
        with urllib.request.urlopen(request, timeout=20) as response:
            return bytes(response.read())
