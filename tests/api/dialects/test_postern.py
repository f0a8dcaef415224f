"""Every request of the Postern document, as printed there."""

import hmac
import json
import re
from datetime import datetime
from typing import Any

import pytest
from django.test import Client

from apps.accounts.models import SCOPES, ApiKey, Organization
from apps.accounts.services import create_api_key
from apps.api.dialects.postern.errors import SHOWN_AS
from apps.api.native.errors import STATUS_OF
from apps.core.ids import new_id
from apps.delivery.models import Delivery
from apps.domains.models import Domain
from apps.events.models import Webhook
from apps.events.webhooks.formats import EventView, Notice, WebhookView, build_call
from apps.mailboxes.models import Mailbox
from apps.mailboxes.services import update_mailbox

pytestmark = pytest.mark.django_db
BASE = "/dialects/postern"


class Postern:
    """A client of the vendor's, with a key."""

    def __init__(self, secret: str) -> None:
        self.secret = secret

    def ask(self, method: str, path: str, body: Any = None, raw: bytes | None = None) -> tuple[int, Any, Any]:
        data = raw if raw is not None else b"" if body is None else json.dumps(body).encode()
        answer = Client().generic(
            method, BASE + path, data, content_type="application/json", HTTP_AUTHORIZATION=f"Bearer {self.secret}"
        )
        assert answer.headers["X-Postern-Request-Id"]
        return answer.status_code, json.loads(answer.content), answer.headers


@pytest.fixture
def make_key(organization: Organization, now: datetime):
    def make(of: Organization | None = None, **fields: Any) -> ApiKey:
        fields = {"scopes": SCOPES, "name": "agent"} | fields
        key, secret = create_api_key(organization=of or organization, now=now, **fields)
        key.secret = secret
        return key

    return make


@pytest.fixture
def agent(make_key, shared_domain: Domain) -> Postern:
    return Postern(make_key().secret)


@pytest.fixture
def stranger_agent(make_key, stranger: Organization) -> Postern:
    return Postern(make_key(of=stranger).secret)


def create(agent: Postern, **body: Any) -> dict[str, Any]:
    status, inbox, _ = agent.ask("POST", "/v1/inboxes", body)
    assert status == 201, inbox
    return inbox


def test_create_with_everything_printed(agent: Postern) -> None:
    body = {
        "username": "support",
        "domain": "agents.localhost",
        "display_name": "Support Bot",
        "client_id": "create-12",
    }
    status, inbox, _ = agent.ask("POST", "/v1/inboxes", body)
    assert status == 201
    assert set(inbox) == {"id", "address", "display_name", "domain", "status", "created_at"}
    assert inbox["id"].startswith("inbox_")
    assert (inbox["address"], inbox["display_name"]) == ("support@agents.localhost", "Support Bot")
    assert (inbox["domain"], inbox["status"]) == ("agents.localhost", "live")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", inbox["created_at"])
    status, again, _ = agent.ask("POST", "/v1/inboxes", body)
    assert (status, again) == (200, inbox)


def test_an_inbound_webhook_is_registered_and_its_secret_shown_once(agent: Postern) -> None:
    body = {"username": "hooked", "client_id": "h", "inbound_webhook_url": "https://my-agent.example.com/inbound"}
    inbox = create(agent, **body)
    assert inbox["inbound_webhook_secret"].startswith("whsec_")
    webhook = Webhook.objects.get()
    assert (webhook.url, webhook.dialect) == (body["inbound_webhook_url"], "postern")
    assert webhook.event_types == ["message.received"]
    assert "inbound_webhook_secret" not in agent.ask("GET", "/v1/inboxes/hooked%40agents.localhost")[1]
    assert "inbound_webhook_secret" not in agent.ask("POST", "/v1/inboxes", body)[1]


@pytest.mark.parametrize("url", ["http://my-agent.example.com/", "ftp://x.test/", "https://127.0.0.1/", "x"])
def test_a_webhook_to_a_private_or_plain_address_is_refused(agent: Postern, url: str) -> None:
    status, answer, _ = agent.ask("POST", "/v1/inboxes", {"inbound_webhook_url": url})
    assert (status, answer["error"]["code"]) == (422, "validation_failed")
    assert not Mailbox.objects.exists()


def test_a_webhooks_signature_is_made_as_the_document_says(agent: Postern, now: datetime) -> None:
    create(agent, username="hooked", inbound_webhook_url="https://my-agent.example.com/inbound")
    view = EventView(new_id(), "message.received", new_id(), new_id(), now, {"subject": "Grüße"})
    hook = WebhookView(new_id(), new_id(), "https://x.example", "postern")
    call = build_call(Notice(view, hook, ["whsec_secret"], now, new_id()))
    assert call is not None
    found = re.fullmatch(r"t=(\d+),v1=([0-9a-f]{64})", call.headers["X-Postern-Signature"])
    assert found is not None
    wanted = hmac.new(b"whsec_secret", found[1].encode() + b"." + call.body, "sha256").hexdigest()
    assert found[2] == wanted
    assert json.loads(call.body)["data"]["subject"] == "Grüße"


def test_create_needs_no_body_and_ignores_what_it_does_not_know(agent: Postern) -> None:
    assert agent.ask("POST", "/v1/inboxes")[0] == 201
    inbox = create(agent, display_name="Support Bot", color="blue")
    assert inbox["address"].endswith("@agents.localhost")


def test_list_pages_by_cursor_newest_first(agent: Postern) -> None:
    made = [create(agent)["address"] for _ in range(5)]
    seen, cursor = [], ""
    for _ in range(3):
        status, page, _ = agent.ask("GET", f"/v1/inboxes?limit=2{cursor}")
        assert (status, set(page)) == (200, {"data", "next_cursor"})
        assert all({"id", "address", "status"} <= set(inbox) for inbox in page["data"])
        seen += [inbox["address"] for inbox in page["data"]]
        cursor = f"&cursor={page['next_cursor']}"
    assert seen == made[::-1]
    assert page["next_cursor"] is None
    assert agent.ask("GET", "/v1/inboxes?limit=20")[1]["next_cursor"] is None


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=101", "limit=x", "limit=000001000000", "limit=000001" + "0" * 5000, "cursor=rubbish"]
)
def test_a_bad_page_is_refused(agent: Postern, query: str) -> None:
    status, answer, _ = agent.ask("GET", f"/v1/inboxes?{query}")
    assert (status, answer["error"]["code"]) == (422, "validation_failed")


def test_get_and_delete_by_url_encoded_address(agent: Postern) -> None:
    inbox = create(agent, username="agent7")
    assert agent.ask("GET", "/v1/inboxes/agent7%40agents.localhost")[:2] == (200, inbox)
    status, answer, _ = agent.ask("DELETE", "/v1/inboxes/agent7%40agents.localhost")
    assert (status, answer) == (200, {"id": inbox["id"], "deleted": True})
    for method in ("GET", "DELETE"):
        status, answer, _ = agent.ask(method, "/v1/inboxes/agent7%40agents.localhost")
        assert (status, answer["error"]["code"]) == (404, "not_found")
        assert set(answer["error"]) == {"code", "message", "details", "request_id"}


def test_send_with_everything_printed(agent: Postern) -> None:
    create(agent, username="agent7")
    body = {
        "to": "ops@acme.test",
        "subject": "agent online",
        "text": "Reporting in.",
        "html": "<p>Reporting in.</p>",
        "cc": [],
        "bcc": [],
        "reply_to": "agent7@x4p.mszazu.com",
        "idempotency_key": "send-77",
    }
    status, sent, _ = agent.ask("POST", "/v1/inboxes/agent7%40agents.localhost/send", body)
    assert status == 202
    assert set(sent) == {"id", "status", "thread_id"}
    assert (sent["id"][:4], sent["thread_id"][:7], sent["status"]) == ("msg_", "thread_", "held")
    assert agent.ask("POST", "/v1/inboxes/agent7%40agents.localhost/send", body)[:2] == (202, sent)
    assert Delivery.objects.count() == 1
    status, answer, _ = agent.ask("POST", "/v1/inboxes/agent7%40agents.localhost/send", body | {"text": "Other."})
    assert (status, answer["error"]["code"]) == (409, "idempotency_conflict")


def test_send_to_an_array(agent: Postern, settings: Any) -> None:
    settings.MAILHOST_DELIVERY = "direct"
    create(agent, username="agent7")
    body = {"to": ["a@acme.test", "b@acme.test"], "subject": "x", "text": "y"}
    status, sent, _ = agent.ask("POST", "/v1/inboxes/agent7%40agents.localhost/send", body)
    assert (status, sent["status"]) == (202, "queued")
    assert Delivery.objects.count() == 2


def test_over_the_cap_is_429_with_retry_after(agent: Postern, now: datetime) -> None:
    create(agent, username="agent7")
    update_mailbox(mailbox=Mailbox.objects.get(), changes={"daily_send_limit": 1}, now=now)
    body = {"to": "ops@acme.test", "subject": "x", "text": "y"}
    assert agent.ask("POST", "/v1/inboxes/agent7%40agents.localhost/send", body)[0] == 202
    status, answer, headers = agent.ask("POST", "/v1/inboxes/agent7%40agents.localhost/send", body)
    assert (status, answer["error"]["code"]) == (429, "rate_limited")
    assert 0 < int(headers["Retry-After"]) <= 86_401


def test_a_used_up_key_is_409_and_deleting_gives_nothing_back(make_key, shared_domain: Domain) -> None:
    key = make_key(max_inboxes=1)
    agent = Postern(key.secret)
    create(agent, username="one")
    for _ in range(2):
        status, answer, _ = agent.ask("POST", "/v1/inboxes", {})
        assert (status, answer["error"]["code"]) == (409, "enrollment_token_exhausted")
        agent.ask("DELETE", "/v1/inboxes/one%40agents.localhost")
    key.refresh_from_db()
    assert key.used_count == 1


def test_allowed_domains_and_scopes_hold(make_key, shared_domain: Domain) -> None:
    narrowed = Postern(make_key(allowed_domains=["other.test"]).secret)
    status, answer, _ = narrowed.ask("POST", "/v1/inboxes", {"domain": "agents.localhost"})
    assert (status, answer["error"]["code"]) == (403, "scope_denied")
    reader = Postern(make_key(scopes=["inboxes:read"]).secret)
    status, answer, _ = reader.ask("POST", "/v1/inboxes", {})
    assert (status, answer["error"]["code"]) == (403, "scope_denied")


@pytest.mark.parametrize("secret", ["", "mh_wrong", "nonsense"])
def test_without_a_valid_key_it_is_401(shared_domain: Domain, secret: str) -> None:
    status, answer, _ = Postern(secret).ask("GET", "/v1/inboxes")
    assert (status, answer["error"]["code"]) == (401, "invalid_api_key")


@pytest.mark.parametrize(
    ("raw", "status", "code"),
    [
        (b"{", 400, "bad_request"),
        (b'"text"', 422, "validation_failed"),
        (b'{"to": 7}', 422, "validation_failed"),
        (b'{"to": ["a@b.test"], "text": {"a": 1}}', 422, "validation_failed"),
        (b'{"to": "a@b.test"}', 422, "validation_failed"),
        (b'{"to": "a@b.test\\r\\nBcc: x@y.test", "text": "x"}', 422, "validation_failed"),
        (b'{"to": "a@b.test", "subject": "x\\r\\nX-Evil: 1", "text": "x"}', 422, "validation_failed"),
        (b'{"to": "a@b.test", "text": "\\u0000"}', 422, "validation_failed"),
    ],
)
def test_bad_input_is_told_and_writes_nothing(agent: Postern, raw: bytes, status: int, code: str) -> None:
    create(agent, username="agent7")
    got, answer, _ = agent.ask("POST", "/v1/inboxes/agent7%40agents.localhost/send", raw=raw)
    assert (got, answer["error"]["code"]) == (status, code)
    assert not Delivery.objects.exists()


def test_a_stranger_finds_nothing(agent: Postern, stranger_agent: Postern) -> None:
    create(agent, username="agent7")
    body = {"to": "a@b.test", "text": "x"}
    for method, path, sent in (
        ("GET", "/v1/inboxes/agent7%40agents.localhost", None),
        ("DELETE", "/v1/inboxes/agent7%40agents.localhost", None),
        ("POST", "/v1/inboxes/agent7%40agents.localhost/send", body),
    ):
        status, answer, _ = stranger_agent.ask(method, path, sent)
        assert (status, answer["error"]["code"]) == (404, "not_found")
    assert stranger_agent.ask("GET", "/v1/inboxes")[1]["data"] == []


def test_what_is_not_supported_says_so_and_other_addresses_are_404(agent: Postern) -> None:
    status, answer, _ = agent.ask("GET", "/v1/inboxes/a%40b.test/messages")
    assert (status, answer["error"]["code"]) == (501, "not_supported")
    status, answer, _ = agent.ask("GET", "/v1/nothing")
    assert (status, answer["error"]["code"]) == (404, "not_found")
    status, answer, _ = agent.ask("PUT", "/v1/inboxes")
    assert (status, answer["error"]["code"]) == (405, "bad_request")


def test_every_error_of_ours_has_a_form_of_theirs() -> None:
    assert set(SHOWN_AS) == set(STATUS_OF)
