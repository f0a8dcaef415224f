"""AgentSend's webhooks: their requests, and what they are told when mail is really sent and received."""

import hashlib
import hmac
import re
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from ipaddress import ip_network
from typing import Any
from uuid import uuid4

import pytest
from django.utils import timezone

from apps.accounts.models import SCOPES, Organization
from apps.accounts.services import create_api_key
from apps.delivery.loop import DeliveryThread
from apps.domains.models import Domain
from apps.events.loop import WebhookThread
from apps.events.models import EventType, Webhook, WebhookCall
from apps.events.services import create_webhook
from apps.inbound.services import IncomingMail, accept_mails
from apps.mailboxes.models import Mailbox
from tests.api.dialects.agentsend import TIME, AgentSend, check_error
from tests.apps.conftest import MakeMailbox
from tests.fakes.dns import FakeDns
from tests.fakes.http import HttpReceiver, ReceivedRequest
from tests.fakes.smtp import SmtpSink

pytestmark = pytest.mark.django_db(transaction=True)

URL = "https://hooks.example.com/agentsend"
LISTED = {"id", "url", "events", "isActive", "createdAt", "updatedAt"}
MakeClient = Callable[..., AgentSend]


@pytest.fixture
def make_client(organization: Organization, shared_domain: Domain, now: datetime) -> MakeClient:
    def make(of: Organization | None = None, **fields: Any) -> AgentSend:
        fields = {"scopes": SCOPES, "name": "agent"} | fields
        return AgentSend(create_api_key(organization=of or organization, now=now, **fields)[1])

    return make


@pytest.fixture
def owner(make_client: MakeClient) -> AgentSend:
    return make_client()


def make_hook(client: AgentSend, **body: Any) -> dict[str, Any]:
    answer = client.ask("POST", "/webhooks", {"url": URL} | body)
    assert answer.status_code == 201, answer.content
    hook: dict[str, Any] = answer.json()
    assert set(hook) == LISTED | {"accountId", "secret"}
    return hook


def test_create_shows_the_secret_this_once(owner: AgentSend, organization: Organization) -> None:
    hook = make_hook(owner, events=["message.received", "message.bounced"], prefix="unknown")
    assert re.fullmatch(r"whsec_\S{40,}", hook["secret"])
    assert (hook["accountId"], hook["url"], hook["isActive"]) == (str(organization.id), URL, True)
    assert hook["events"] == ["message.received", "message.bounced"]
    assert TIME.fullmatch(hook["createdAt"]) and TIME.fullmatch(hook["updatedAt"])
    shown = owner.get(f"/webhooks/{hook['id']}").json()
    assert shown == {name: value for name, value in hook.items() if name != "secret"}
    assert owner.get("/webhooks").json() == {"data": [{name: shown[name] for name in shown if name in LISTED}]}
    assert owner.get("/webhooks").json()["data"][0].keys() == LISTED


def test_without_events_it_is_told_of_received_mail(owner: AgentSend) -> None:
    assert make_hook(owner)["events"] == ["message.received"]


def test_update_changes_what_is_sent_and_delete_ends_it(owner: AgentSend) -> None:
    path = f"/webhooks/{make_hook(owner)['id']}"
    answer = owner.ask("PUT", path, {"isActive": False})
    assert (answer.status_code, answer.json()["isActive"]) == (200, False)
    assert answer.json()["url"] == URL
    changed = owner.ask("PUT", path, {"url": f"{URL}/2", "events": ["message.sent"], "isActive": True}).json()
    assert (changed["url"], changed["events"], changed["isActive"]) == (f"{URL}/2", ["message.sent"], True)
    assert owner.get(path).json()["url"] == f"{URL}/2"
    answer = owner.ask("DELETE", path)
    assert (answer.status_code, answer.content) == (204, b"")
    check_error(owner.get(path), 404, "NOT_FOUND")
    check_error(owner.ask("PUT", path, {}), 404, "NOT_FOUND")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "url"),
        ({"url": 7}, "url"),
        ({"url": ""}, "url"),
        ({"url": "ftp://example.com"}, "url"),
        ({"url": "http://hooks.example.com/"}, "url"),
        ({"url": "https://127.0.0.1/hook"}, "url"),
        ({"url": "https://localhost:8000/hook"}, "url"),
        ({"url": URL, "events": []}, "events"),
        ({"url": URL, "events": "message.received"}, "events"),
        ({"url": URL, "events": ["message.lost"]}, "events"),
    ],
)
def test_a_bad_webhook_is_refused(owner: AgentSend, body: dict[str, Any], field: str) -> None:
    answer = owner.ask("POST", "/webhooks", body)
    check_error(answer, 400, "VALIDATION_ERROR")
    assert list(answer.json()["error"]["details"]) == [field]
    assert not Webhook.objects.exists()


def test_webhooks_of_others_are_not_there(
    owner: AgentSend, make_client: MakeClient, stranger: Organization, organization: Organization, now: datetime
) -> None:
    hook = make_hook(owner)
    native, _ = create_webhook(organization=organization, url=URL, now=now)
    for client, webhook_id in ((make_client(of=stranger), hook["id"]), (owner, native.id), (owner, uuid4())):
        path = f"/webhooks/{webhook_id}"
        assert check_error(client.get(path), 404, "NOT_FOUND") == f"Webhook '{webhook_id}' not found"
        check_error(client.ask("PUT", path, {"isActive": False}), 404, "NOT_FOUND")
        check_error(client.ask("DELETE", path), 404, "NOT_FOUND")
    check_error(owner.get("/webhooks/x"), 400, "VALIDATION_ERROR", {"id": ["Invalid uuid"]})
    reader = make_client(scopes=["webhooks:read"])
    assert len(reader.get("/webhooks").json()["data"]) == 1
    check_error(reader.ask("POST", "/webhooks", {"url": URL}), 403, "FORBIDDEN")


def test_a_narrowed_key_makes_webhooks_of_its_inboxes_only(
    owner: AgentSend, make_client: MakeClient, mailbox: Mailbox
) -> None:
    wide = make_hook(owner)
    narrow = make_client(inbox_ids=[mailbox.id])
    hook = make_hook(narrow)
    assert Webhook.objects.get(id=hook["id"]).mailbox_ids == [mailbox.id]
    assert [row["id"] for row in narrow.get("/webhooks").json()["data"]] == [hook["id"]]
    check_error(narrow.get(f"/webhooks/{wide['id']}"), 404, "NOT_FOUND")
    by_domain = make_client(allowed_domains=["agents.localhost"])
    check_error(by_domain.ask("POST", "/webhooks", {"url": URL}), 403, "FORBIDDEN")
    assert by_domain.get("/webhooks").json() == {"data": []}


def test_deleting_an_inbox_deletes_its_webhooks(
    owner: AgentSend, make_client: MakeClient, make_mailbox: MakeMailbox
) -> None:
    one, other = make_mailbox("one"), make_mailbox("other")
    alone = make_hook(make_client(inbox_ids=[one.id]))
    both = make_hook(make_client(inbox_ids=[one.id, other.id]))
    wide = make_hook(owner)
    assert owner.ask("DELETE", f"/inboxes/{one.id}").status_code == 204
    assert {str(webhook.id) for webhook in Webhook.objects.all()} == {both["id"], wide["id"]}
    assert Webhook.objects.get(id=both["id"]).mailbox_ids == [other.id]
    check_error(owner.get(f"/webhooks/{alone['id']}"), 404, "NOT_FOUND")
    assert owner.ask("DELETE", f"/inboxes/{other.id}").status_code == 204
    assert [str(webhook.id) for webhook in Webhook.objects.all()] == [wide["id"]]


# Told by real mail.


@pytest.fixture
def receiver() -> Iterator[HttpReceiver]:
    with HttpReceiver() as server:
        yield server


@pytest.fixture
def sink(settings: Any) -> Iterator[SmtpSink]:
    """The mail server of acme.test; loopback may be reached."""
    with SmtpSink() as server, FakeDns() as dns:
        settings.MAILHOST_DELIVERY = "direct"
        settings.MAILHOST_DNS_SERVERS = [dns.address]
        settings.MAILHOST_OUTBOUND_PORT = server.port
        settings.MAILHOST_PRIVATE_TARGETS = [ip_network("127.0.0.0/8")]
        dns.zone["acme.test"] = [("MX", "10 mx.acme.test")]
        dns.zone["mx.acme.test"] = [("A", "127.0.0.1")]
        yield server


def check_call(request: ReceivedRequest, hook: dict[str, Any], event: str) -> dict[str, Any]:
    """The vendor's headers, signature and envelope; the data."""
    signature = hmac.new(hook["secret"].encode(), request.body, hashlib.sha256).hexdigest()
    assert request.headers["x-agentsend-signature"] == signature
    assert request.headers["x-agentsend-event"] == event
    assert request.headers["x-agentsend-webhook-id"] == hook["id"]
    assert request.headers["content-type"] == "application/json"
    assert set(request.json) == {"event", "data", "timestamp"}
    assert request.json["event"] == event
    assert abs(request.json["timestamp"] / 1000 - time.time()) < 60
    data: dict[str, Any] = request.json["data"]
    return data


def receive(address: str, raw: str) -> None:
    mail = IncomingMail(
        raw=raw.encode(), mail_from="bob@example.com", recipients=[address], client_ip="192.0.2.1", helo="mx",
        tls=False, smtputf8=False, received_at=timezone.now(),
    )  # fmt: skip
    assert [reply.code for reply in accept_mails(mails=[mail], now=timezone.now())] == [250]


def test_received_mail_is_told(owner: AgentSend, receiver: HttpReceiver, sink: SmtpSink) -> None:
    inbox = owner.create()
    hook = make_hook(owner, url=receiver.url("/hook"))
    to = inbox["address"]
    receive(to, f"From: Bob <bob@example.com>\r\nTo: {to}\r\nSubject: Hello in\r\n\r\nHi.\r\n")
    thread = WebhookThread()
    thread.start()
    try:
        (request,) = receiver.wait_for(1)
    finally:
        thread.stop()
    data = check_call(request, hook, "message.received")
    (message,) = owner.get(f"/inboxes/{inbox['id']}/messages").json()["data"]
    assert data == {
        "messageId": message["id"],
        "inboxId": inbox["id"],
        "threadId": message["threadId"],
        "from": "bob@example.com",
        "to": [to],
        "subject": "Hello in",
        "direction": "inbound",
        "receivedAt": message["createdAt"],
    }


def test_what_becomes_of_sent_mail_is_told(owner: AgentSend, receiver: HttpReceiver, sink: SmtpSink) -> None:
    events = ["message.sent", "message.delivered", "message.bounced"]
    inbox = owner.create()
    hook = make_hook(owner, url=receiver.url("/hook"), events=events)
    sink.refuse("rcpt", "550 5.1.1 no such user", match="gone@")
    fine = owner.send(inbox["id"], to=["bob@acme.test"], cc=["c@acme.test"], bcc=["d@acme.test"]).json()
    lost = owner.send(inbox["id"], to=["gone@acme.test"]).json()
    threads = (DeliveryThread(), WebhookThread())
    for thread in threads:
        thread.start()
    try:
        requests = receiver.wait_for(6)
    finally:
        for thread in threads:
            thread.stop()
    told = [(request.json["event"], check_call(request, hook, request.json["event"])) for request in requests]
    by_message = [
        (event, {name: value for name, value in data.items() if name != "sentAt"})
        for event, data in told
        if data["messageId"] == fine["id"]
    ]
    about = {"messageId": fine["id"], "inboxId": inbox["id"]}
    sent = {
        **about, "threadId": fine["threadId"], "to": ["bob@acme.test"], "cc": ["c@acme.test"], "bcc": ["d@acme.test"],
        "subject": "Hello",
    }  # fmt: skip
    assert ("message.sent", sent) in by_message
    delivered = [data["recipients"] for event, data in by_message if event == "message.delivered"]
    assert sorted(delivered) == [["bob@acme.test"], ["c@acme.test"], ["d@acme.test"]]
    bounced = {"messageId": lost["id"], "inboxId": inbox["id"], "bounceType": "Permanent"}
    assert ("message.bounced", {**bounced, "bouncedRecipients": ["gone@acme.test"]}) in told


def test_what_it_does_not_know_is_not_told(owner: AgentSend, mailbox: Mailbox) -> None:
    make_hook(owner, events=["message.complained"])
    owner.send(mailbox.id)
    receive(mailbox.address, "From: bob@example.com\r\nSubject: x\r\n\r\nx\r\n")
    assert not WebhookCall.objects.exists()
    make_hook(owner, events=["message.received", "message.sent", "message.bounced"])
    told = set(Webhook.objects.order_by("-id")[0].event_types or ())
    assert told == {
        EventType.MESSAGE_RECEIVED, EventType.MESSAGE_QUEUED, EventType.MESSAGE_BOUNCED, EventType.MESSAGE_FAILED
    }  # fmt: skip
