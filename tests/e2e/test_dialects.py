"""The five documents against a running installation, over HTTP, with mail really sent and received in between."""

import json
import smtplib
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from email.message import EmailMessage, Message
from typing import Any

import pytest

from tests.e2e.agent import Agent
from tests.e2e.installation import Installation
from tests.fakes.smtp import SmtpSink


def lower(headers: Message) -> dict[str, str]:
    """Headers by their names in lower case: the case of a name means nothing."""
    return {name.lower(): value for name, value in headers.items()}


class Client:
    """A vendor's client: a base URL and a header with our key."""

    def __init__(self, agent: Agent, base: str, header: str) -> None:
        facts = agent.installation.first_run()
        self.base = f"{facts['api_url']}/dialects/{base}"
        value = facts["api_key"] if header.lower() == "x-api-key" else f"Bearer {facts['api_key']}"
        self.headers = {header: value, "Content-Type": "application/json"}

    def ask(self, method: str, path: str, body: object = None) -> tuple[int, Any, dict[str, str]]:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.base + path, data, self.headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=20) as response:
                return response.status, json.loads(response.read() or b"null"), lower(response.headers)
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read() or b"null"), lower(error.headers)


@pytest.fixture(scope="module")
def sink() -> Iterator[SmtpSink]:
    with SmtpSink() as server:
        server.refuse("rcpt", "550 5.1.1 no such user", match="gone@")
        server.refuse("rcpt", "451 4.7.1 later", match="grey@")
        yield server


@pytest.fixture(scope="module")
def agent(sink: SmtpSink) -> Iterator[Agent]:
    installation = Installation(MAILHOST_DELIVERY="relay", MAILHOST_RELAY_URL=f"smtp://127.0.0.1:{sink.port}")
    try:
        installation.start()
        installation.wait_until_ready()
        yield Agent(installation)
    finally:
        installation.remove()


def write_to(agent: Agent, address: str, subject: str = "Hello") -> None:
    """Another mail server delivers."""
    facts = agent.installation.first_run()
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = "Ada <ada@example.org>", address, subject
    mail.set_content("Hello there.")
    with smtplib.SMTP(facts["smtp_host"], facts["smtp_port"], timeout=10) as smtp:
        smtp.send_message(mail)


def report(agent: Agent, address: str, raw: str) -> None:
    """Another mail server reports a bounce or a complaint."""
    facts = agent.installation.first_run()
    with smtplib.SMTP(facts["smtp_host"], facts["smtp_port"], timeout=10) as smtp:
        smtp.sendmail("", [address], raw.encode())


def assert_received(agent: Agent, address: str, subject: str) -> None:
    """The same mailbox, seen through the native API."""
    status, page = agent.call("GET", f"/inboxes/{urllib.parse.quote(address)}/messages?direction=inbound&limit=1")
    assert (status, page["data"][0]["subject"]) == (200, subject)


def assert_refused(agent: Agent, address: str) -> None:
    with pytest.raises(smtplib.SMTPRecipientsRefused) as refused:
        write_to(agent, address)
    assert refused.value.recipients[address][0] == 550


def wait_until(check: Callable[[], Any], wanted: Any) -> None:
    deadline = time.monotonic() + 15
    while check() != wanted:
        assert time.monotonic() < deadline, check()
        time.sleep(0.05)


def test_sendook(agent: Agent) -> None:
    client = Client(agent, "sendook", "Authorization")
    body = {"name": "Customer Success Bot", "email": "cs-bot@agents.localhost"}
    status, inbox, _ = client.ask("POST", "/v1/inboxes", body)
    assert (status, inbox["email"], inbox["name"]) == (201, body["email"], body["name"])
    write_to(agent, inbox["email"], "To sendook")
    assert_received(agent, inbox["email"], "To sendook")
    assert inbox["id"] in [row["id"] for row in client.ask("GET", "/v1/inboxes")[1]["data"]]
    assert client.ask("GET", f"/v1/inboxes/{inbox['id']}")[1]["createdAt"] == inbox["createdAt"]
    _, page = agent.call("GET", f"/inboxes/{urllib.parse.quote(inbox['email'])}/messages")
    assert client.ask("DELETE", f"/v1/inboxes/{inbox['id']}")[0] == 204
    assert_refused(agent, inbox["email"])
    assert agent.call("GET", f"/messages/{page['data'][0]['id']}")[0] == 200  # archived, not erased


@pytest.mark.parametrize("base", ["agentry/agent/v0", "agentmail/v0"])
def test_agentry(agent: Agent, base: str) -> None:
    client = Client(agent, base, "Authorization")
    name = base.partition("/")[0]
    body = {"client_id": f"c-{name}", "display_name": "Agent", "domain": "agents.localhost", "username": f"u-{name}"}
    status, inbox, _ = client.ask("POST", "/inboxes", body)
    assert (status, inbox["email"], inbox["client_id"]) == (200, f"u-{name}@agents.localhost", f"c-{name}")
    assert client.ask("POST", "/inboxes", body)[1]["inbox_id"] == inbox["inbox_id"]
    write_to(agent, inbox["email"], f"To {name}")
    assert_received(agent, inbox["email"], f"To {name}")
    path = f"/inboxes/{urllib.parse.quote(inbox['inbox_id'])}"
    assert client.ask("PATCH", path, {"display_name": "New"})[1]["display_name"] == "New"
    assert client.ask("DELETE", path)[0] == 200
    assert client.ask("GET", path)[0] == 404
    assert_refused(agent, inbox["email"])


def test_inkbox(agent: Agent) -> None:
    client = Client(agent, "inkbox/api/v1", "X-API-Key")
    status, identity, _ = client.ask("POST", "/identities", {"agent_handle": "@sales-agent"})
    assert status == 201, identity
    body = {"agent_handle": "@sales-agent", "display_name": "Sales", "email_local_part": "sales.team"}
    status, mailbox, _ = client.ask("POST", "/mail/mailboxes", body)
    assert (status, mailbox["email_address"]) == (201, "sales.team@agents.localhost")
    assert client.ask("POST", "/mail/mailboxes", body)[0] == 409
    write_to(agent, mailbox["email_address"], "To inkbox")
    assert_received(agent, mailbox["email_address"], "To inkbox")
    assert mailbox["id"] in [row["id"] for row in client.ask("GET", "/mail/mailboxes")[1]]
    assert client.ask("GET", "/mail/mailboxes/sales.team")[1]["id"] == mailbox["id"]
    assert client.ask("PATCH", "/mail/mailboxes/sales.team", {"display_name": "Team"})[1]["display_name"] == "Team"
    assert client.ask("DELETE", "/mail/mailboxes/sales.team")[0] == 204
    assert_refused(agent, mailbox["email_address"])


def test_agentsend_counts_by_real_mail(agent: Agent, sink: SmtpSink) -> None:
    client = Client(agent, "agentsend", "x-api-key")
    status, inbox, _ = client.ask("POST", "/inboxes", {"displayName": "Support Agent"})
    assert status == 201
    path = f"/inboxes/{inbox['id']}"

    def counters() -> tuple[int, int, int, int]:
        shown = client.ask("GET", path)[1]
        return shown["sendsToday"], shown["totalSent"], shown["bounceCount"], shown["complaintCount"]

    body = {"to": ["ok@acme.test", "gone@acme.test", "grey@acme.test"], "subject": "Hello", "bodyText": "Hi"}
    status, message, _ = client.ask("POST", f"{path}/messages", body)
    assert (status, message["status"]) == (202, "queued")
    wait_until(counters, (3, 3, 1, 0))  # the refusal counts, the greylisting does not
    sent = next(mail for mail in sink.wait_for(1) if mail.rcpt_to == ["ok@acme.test"])
    assert b"From: Support Agent <" in sent.raw
    assert b"DKIM-Signature:" in sent.raw

    fields = "Feedback-Type: abuse\r\nOriginal-Rcpt-To: ok@acme.test\r\n"
    report(
        agent,
        inbox["address"],
        "From: fbl@acme.test\r\nMIME-Version: 1.0\r\nContent-Type: multipart/report; report-type=feedback-report; "
        f'boundary="B"\r\n\r\n--B\r\nContent-Type: message/feedback-report\r\n\r\n{fields}\r\n'
        f"--B\r\nContent-Type: text/rfc822-headers\r\n\r\nMessage-ID: {message['messageIdHeader']}\r\n\r\n--B--\r\n",
    )
    assert counters() == (3, 3, 1, 1)

    write_to(agent, inbox["address"], "To agentsend")
    assert_received(agent, inbox["address"], "To agentsend")
    total = client.ask("GET", "/inboxes?limit=20&offset=0")[1]["total"]
    assert client.ask("DELETE", path)[0] == 204
    assert client.ask("GET", "/inboxes?limit=20&offset=0")[1]["total"] == total - 1
    assert client.ask("GET", f"/messages/{message['id']}")[0] == 404
    assert_refused(agent, inbox["address"])


def test_agentsend_stops_at_its_daily_limit(agent: Agent) -> None:
    client = Client(agent, "agentsend", "x-api-key")
    inbox = client.ask("POST", "/inboxes", {})[1]
    status, answer = agent.call("PATCH", f"/inboxes/{urllib.parse.quote(inbox['address'])}", {"daily_send_limit": 1})
    assert status == 200, answer
    body = {"to": ["other@acme.test"], "subject": "Hello", "bodyText": "Hi"}
    assert client.ask("POST", f"/inboxes/{inbox['id']}/messages", body)[0] == 202
    status, answer, headers = client.ask("POST", f"/inboxes/{inbox['id']}/messages", body)
    assert (status, answer["error"]["code"]) == (429, "RATE_LIMIT_EXCEEDED")
    assert int(headers["retry-after"]) > 0


def test_postern(agent: Agent, sink: SmtpSink) -> None:
    client = Client(agent, "postern", "Authorization")
    status, inbox, _ = client.ask("POST", "/v1/inboxes", {"username": "agent7", "display_name": "Support Bot"})
    assert (status, inbox["status"]) == (201, "live")
    path = f"/v1/inboxes/{urllib.parse.quote(inbox['address'], safe='')}"
    write_to(agent, inbox["address"], "To postern")
    assert_received(agent, inbox["address"], "To postern")
    body = {"to": "ops@acme.test", "subject": "agent online", "text": "Reporting in."}
    status, sent, _ = client.ask("POST", f"{path}/send", body)
    assert (status, sent["status"]) == (202, "queued")
    wait_until(lambda: any(mail.rcpt_to == ["ops@acme.test"] for mail in sink.mails), True)
    assert client.ask("DELETE", path)[:2] == (200, {"id": inbox["id"], "deleted": True})
    assert_refused(agent, inbox["address"])


def test_one_mailbox_is_the_same_in_every_dialect(agent: Agent) -> None:
    native = agent.call("POST", "/inboxes", {"username": "everywhere", "display_name": "Everywhere"})[1]
    address = native["address"]
    quoted = urllib.parse.quote(address, safe="")

    def get(base: str, header: str, path: str) -> Any:
        return Client(agent, base, header).ask("GET", path)[1]

    seen = {
        "sendook": [row["email"] for row in get("sendook", "Authorization", "/v1/inboxes")["data"]],
        "agentry": [get("agentry/agent/v0", "Authorization", f"/inboxes/{quoted}")["email"]],
        "inkbox": [get("inkbox/api/v1/mail", "X-API-Key", f"/mailboxes/{quoted}")["email_address"]],
        "agentsend": [row["address"] for row in get("agentsend", "x-api-key", "/inboxes")["data"]],
        "postern": [get("postern", "Authorization", f"/v1/inboxes/{quoted}")["address"]],
    }
    assert {name for name, found in seen.items() if address in found} == set(seen)
