"""Every request of Sendook's document, as printed there, and what is answered to the rest."""

import base64
import json
import re
from collections.abc import Callable
from datetime import datetime
from typing import Any
from uuid import uuid4

import pytest
from django.test import Client
from django.utils import timezone

from apps.accounts.models import SCOPES, Organization
from apps.accounts.services import create_api_key, revoke_api_key, suspend_organization
from apps.api.dialects.sendook import inputs
from apps.api.dialects.sendook.errors import SHOWN_AS
from apps.api.dialects.sendook.outputs import MESSAGE_STATUS
from apps.api.native.errors import STATUS_OF
from apps.api.public_ids import encode_ulid
from apps.core.errors import DomainError
from apps.delivery.models import Delivery
from apps.delivery.states import DeliveryStatus
from apps.domains.models import Domain
from apps.domains.services import create_domain
from apps.inbound.services import IncomingMail, accept_mails
from apps.mail.models import Message
from apps.mailboxes.models import Mailbox
from apps.mailboxes.services import suspend_mailbox, update_mailbox
from tests.api.mail import deposit_mail
from tests.apps.conftest import MakeMailbox

pytestmark = pytest.mark.django_db
BASE = "/dialects/sendook"
ID = re.compile(r"ibox_[0-7][0-9A-HJKMNP-TV-Z]{25}")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
PRINTED = {"name": "Customer Success Bot", "email": "cs-bot@agents.example.com"}


class Sendook:
    """A client of the vendor's, with a key."""

    def __init__(self, secret: str) -> None:
        self.secret = secret

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        return Client(enforce_csrf_checks=True).generic(
            method, BASE + path, data, "application/json", HTTP_AUTHORIZATION=f"Bearer {self.secret}"
        )

    def get(self, path: str) -> Any:
        return self.ask("GET", path)

    def create(self, **body: Any) -> dict[str, Any]:
        answer = self.ask("POST", "/v1/inboxes", {"name": "Bot"} | body)
        assert answer.status_code == 201, answer.content
        return check_inbox(answer.json())

    def send(self, inbox_id: str, **body: Any) -> Any:
        body = {"to": ["ann@example.com"], "subject": "Hello", "text": "hi", "html": "<p>hi</p>"} | body
        return self.ask("POST", f"/v1/inboxes/{inbox_id}/messages/send", body)


MakeClient = Callable[..., Sendook]


def check_inbox(inbox: dict[str, Any]) -> dict[str, Any]:
    assert set(inbox) == {"id", "name", "email", "createdAt"}
    assert ID.fullmatch(inbox["id"])
    assert all(isinstance(value, str) and value for value in inbox.values())
    assert TIME.fullmatch(inbox["createdAt"])
    return inbox


def check_message(message: dict[str, Any]) -> dict[str, Any]:
    assert {"id", "subject", "text", "html", "labels", "createdAt"} <= set(message)
    assert re.fullmatch(r"msg_[0-9A-Z]{26}", message["id"])
    assert ID.fullmatch(message["inboxId"])
    assert TIME.fullmatch(message["createdAt"])
    return message


def check_error(answer: Any, status: int, code: str, field: str | None = None) -> dict[str, Any]:
    assert answer.status_code == status, answer.content
    error = answer.json()
    assert set(error) == {"message", "code", "details", "error"}
    assert (error["code"], error["error"]) == (code, error["message"])
    assert error["details"]["requestId"] == answer.headers["X-Request-Id"]
    assert list(error["details"].get("fields", {})) == ([] if field is None else [field])
    return error


@pytest.fixture
def make_client(organization: Organization, shared_domain: Domain, now: datetime) -> MakeClient:
    def make(of: Organization | None = None, **fields: Any) -> Sendook:
        fields = {"scopes": SCOPES, "name": "agent"} | fields
        return Sendook(create_api_key(organization=of or organization, now=now, **fields)[1])

    return make


@pytest.fixture
def owner(make_client: MakeClient) -> Sendook:
    return make_client()


@pytest.fixture
def outsider(make_client: MakeClient, stranger: Organization) -> Sendook:
    return make_client(of=stranger)


@pytest.fixture
def printed_domain(organization: Organization, now: datetime) -> Domain:
    """The domain of the document's example, proved."""
    domain = create_domain(organization=organization, name="agents.example.com", now=now)
    Domain.objects.filter(id=domain.id).update(ownership_verified_at=now, sending_status="verified")
    return domain


def inbox_id(mailbox: Mailbox) -> str:
    return encode_ulid("ibox", mailbox.id)


# What the document prints.


def test_create_an_inbox(owner: Sendook, printed_domain: Domain) -> None:
    answer = owner.ask("POST", "/v1/inboxes", PRINTED)
    assert answer.status_code == 201
    inbox = check_inbox(answer.json())
    assert {name: inbox[name] for name in PRINTED} == PRINTED


def test_create_with_a_generated_address(owner: Sendook) -> None:
    answer = owner.ask("POST", "/v1/inboxes", {"name": "Customer Success Bot", "color": "blue"})
    assert answer.status_code == 201
    assert check_inbox(answer.json())["email"].endswith("@agents.localhost")


def test_list_inboxes(owner: Sendook) -> None:
    made = [owner.create(name=f"Bot {number}") for number in range(3)]
    answer = owner.get("/v1/inboxes")
    assert answer.status_code == 200
    assert answer.json() == {"data": made[::-1]}


def test_retrieve_an_inbox(owner: Sendook) -> None:
    inbox = owner.create()
    answer = owner.get(f"/v1/inboxes/{inbox['id']}")
    assert (answer.status_code, answer.json()) == (200, inbox)
    assert owner.get(f"/v1/inboxes/{inbox['id'].lower()}").json() == inbox


def test_delete_revokes_sending_and_archives_the_mail(owner: Sendook, outsider: Sendook, mailbox: Mailbox) -> None:
    received, inbox = deposit_mail(mailbox, subject="Keep me"), inbox_id(mailbox)
    sent = owner.send(inbox).json()
    answer = owner.ask("DELETE", f"/v1/inboxes/{inbox}")
    assert (answer.status_code, answer.content) == (204, b"")

    check_error(owner.send(inbox), 404, "not_found")
    check_error(owner.get(f"/v1/inboxes/{inbox}"), 404, "not_found")
    check_error(owner.ask("DELETE", f"/v1/inboxes/{inbox}"), 404, "not_found")
    assert owner.get("/v1/inboxes").json() == {"data": []}
    mail = IncomingMail(
        raw=b"Subject: x\r\n\r\nx\r\n", mail_from="a@example.com", recipients=[mailbox.address],
        client_ip="192.0.2.1", helo="mx", tls=False, smtputf8=False, received_at=timezone.now(),
    )  # fmt: skip
    assert [reply.code // 100 for reply in accept_mails(mails=[mail], now=timezone.now())] == [5]
    assert [row.status for row in Delivery.objects.all()] == ["canceled"]

    archived = encode_ulid("msg", received.id)
    for path in (f"/v1/messages/{archived}", f"/v1/inboxes/{inbox}/messages/{archived}"):
        message = check_message(owner.get(path).json())
        assert (message["subject"], message["status"]) == ("Keep me", "received")
    listed = owner.get(f"/v1/inboxes/{inbox}/messages").json()
    assert [message["id"] for message in listed] == [sent["id"], archived]
    native = Client().get(f"/v1/messages/msg_{archived[4:].lower()}", HTTP_AUTHORIZATION=f"Bearer {owner.secret}")
    assert native.json()["subject"] == "Keep me"
    check_error(outsider.ask("POST", "/v1/inboxes", {"name": "x", "email": mailbox.address}), 409, "email_taken")


# Creating, refused.


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "name"),
        (None, "name"),
        ({"name": ""}, "name"),
        ({"name": "  "}, "name"),
        ({"name": None}, "name"),
        ({"name": 7}, "name"),
        ({"name": "x" * 256}, "name"),
        ({"name": "a\r\nBcc: x@y.example"}, "name"),
        ({"name": "a", "email": 7}, "email"),
        ({"name": "a", "email": "bob"}, "email"),
        ({"name": "a", "email": "Bob <bob@agents.localhost>"}, "email"),
        ({"name": "a", "email": "bob+tag@agents.localhost"}, "email"),
        ({"name": "a", "email": "bob@[192.0.2.1]"}, "email"),
        ({"name": "a", "email": "bob@elsewhere.example"}, "email"),
        ({"name": "a\u0000b"}, "name"),
        ([], None),
    ],
)
def test_a_bad_inbox_is_told_field_by_field_and_not_made(owner: Sendook, body: Any, field: str | None) -> None:
    check_error(owner.ask("POST", "/v1/inboxes", body), 400, "validation_failed", field)
    assert not Mailbox.objects.exists()


def test_a_taken_email_is_409(owner: Sendook, outsider: Sendook) -> None:
    owner.create(email="cs-bot@agents.localhost")
    for client in (owner, outsider):
        answer = client.ask("POST", "/v1/inboxes", {"name": "x", "email": "CS-Bot@agents.localhost"})
        check_error(answer, 409, "email_taken")


def test_a_domain_has_to_be_proved_and_ones_own(owner: Sendook, outsider: Sendook, printed_domain: Domain) -> None:
    check_error(outsider.ask("POST", "/v1/inboxes", PRINTED), 400, "validation_failed", "email")
    Domain.objects.filter(id=printed_domain.id).update(sending_status="pending")
    check_error(owner.ask("POST", "/v1/inboxes", PRINTED), 403, "domain_not_verified")


@pytest.mark.parametrize("raw", [b"{", b"\xff", b"NaN", b"[" * 100_000])
def test_a_broken_body_is_400(owner: Sendook, raw: bytes) -> None:
    check_error(owner.ask("POST", "/v1/inboxes", raw), 400, "malformed_json")


# Keys and strangers.


@pytest.mark.parametrize("header", ["", "Bearer ", "Bearer mh_wrong", "Basic eA=="])
def test_without_a_good_key_everything_is_401(db: None, header: str) -> None:
    for path in ("/v1/inboxes", "/v1/webhooks", "/nope"):
        answer = Client().get(BASE + path, HTTP_AUTHORIZATION=header)
        check_error(answer, 401, "auth_invalid_token")


def test_a_key_that_was_revoked_or_lacks_the_scope(
    organization: Organization, make_client: MakeClient, now: datetime
) -> None:
    key, secret = create_api_key(organization=organization, name="k", scopes=SCOPES, now=now)
    revoke_api_key(key=key, now=now)
    check_error(Sendook(secret).get("/v1/inboxes"), 401, "auth_invalid_token")
    reader = make_client(scopes=["inboxes:read"])
    assert reader.get("/v1/inboxes").status_code == 200
    check_error(reader.ask("POST", "/v1/inboxes", {"name": "x"}), 403, "scope_denied")
    platform = Sendook(create_api_key(organization=None, name="p", scopes=SCOPES, now=now)[1])
    check_error(platform.get("/v1/inboxes"), 403, "scope_denied")


def test_a_stranger_and_a_narrowed_key_find_nothing(
    outsider: Sendook, make_client: MakeClient, mailbox: Mailbox, make_mailbox: MakeMailbox
) -> None:
    message = encode_ulid("msg", deposit_mail(mailbox).id)
    own = make_mailbox("own")
    path = f"/v1/inboxes/{inbox_id(mailbox)}"
    for client in (outsider, make_client(inbox_ids=[own.id])):
        check_error(client.get(path), 404, "not_found")
        check_error(client.ask("DELETE", path), 404, "not_found")
        check_error(client.get(f"{path}/messages"), 404, "not_found")
        check_error(client.get(f"{path}/messages/{message}"), 404, "not_found")
        check_error(client.get(f"/v1/messages/{message}"), 404, "not_found")
        check_error(client.send(inbox_id(mailbox)), 404, "not_found")
        check_error(client.ask("POST", f"{path}/messages/{message}/reply", {"text": "x"}), 404, "not_found")
    assert outsider.get("/v1/inboxes").json() == {"data": []}
    narrow = make_client(inbox_ids=[own.id])
    assert [inbox["email"] for inbox in narrow.get("/v1/inboxes").json()["data"]] == [own.address]
    check_error(narrow.ask("POST", "/v1/inboxes", {"name": "x"}), 403, "scope_denied")


@pytest.mark.parametrize("text", ["x", "ibox_01J3ZKZ0BRQ9SSJK1GRSCX4N4Z", "ibox_", "ibox_" + "Z" * 26, "msg_1"])
def test_an_id_that_was_never_given_is_not_there(owner: Sendook, text: str) -> None:
    assert check_error(owner.get(f"/v1/inboxes/{text}"), 404, "not_found")["message"] == "Inbox not found"
    check_error(owner.get(f"/v1/messages/{text}"), 404, "not_found")


def test_a_message_is_found_in_its_own_inbox_only(owner: Sendook, mailbox: Mailbox, make_mailbox: MakeMailbox) -> None:
    message = encode_ulid("msg", deposit_mail(mailbox).id)
    check_error(owner.get(f"/v1/inboxes/{inbox_id(make_mailbox())}/messages/{message}"), 404, "not_found")


# Lists that are longer than one answer.


def test_lists_go_on_at_the_cursor_of_a_header(
    owner: Sendook, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inputs, "MAX_INBOXES", 2)
    monkeypatch.setattr(inputs, "MAX_MESSAGES", 2)
    made = [owner.create()["id"] for _ in range(4)]
    stored = [encode_ulid("msg", deposit_mail(mailbox).id) for _ in range(5)]
    everything = {
        "/v1/inboxes": [*made[::-1], inbox_id(mailbox)],
        f"/v1/inboxes/{inbox_id(mailbox)}/messages": stored[::-1],
    }
    for path, wanted in everything.items():
        found: list[str] = []
        cursor = ""
        while len(found) < 10:
            answer = owner.get(f"{path}?cursor={cursor}" if cursor else path)
            rows = answer.json()["data"] if path.endswith("inboxes") else answer.json()
            assert len(rows) <= 2
            found += [row["id"] for row in rows]
            cursor = answer.headers.get("X-Next-Cursor", "")
            if not cursor:
                break
        assert found == wanted
    check_error(owner.get("/v1/inboxes?cursor=rubbish"), 400, "invalid_cursor")
    check_error(owner.get("/v1/inboxes?limit=0"), 400, "validation_failed", "limit")


# Messages.


def test_send_a_message(owner: Sendook, mailbox: Mailbox) -> None:
    body = {
        "to": ["recipient@example.com"],
        "cc": ["manager@example.com"],
        "bcc": [],
        "labels": ["outbound", "welcome"],
        "subject": "Welcome to Sendook",
        "text": "Plain text version of the email.",
        "html": "<p>HTML version of the email.</p>",
        "attachments": [
            {"content": base64.b64encode(b"%PDF-").decode(), "name": "document.pdf", "contentType": "application/pdf"}
        ],
    }
    answer = owner.ask("POST", f"/v1/inboxes/{inbox_id(mailbox)}/messages/send", body)
    assert answer.status_code == 202, answer.content
    message = check_message(answer.json())
    for name in ("to", "cc", "bcc", "labels", "subject", "text", "html"):
        assert message[name] == body[name]
    assert message["attachments"] == [{"name": "document.pdf", "contentType": "application/pdf", "size": 5}]
    assert (message["from"], message["status"]) == (mailbox.address, "queued")
    assert owner.get(f"/v1/messages/{message['id']}").json() == message
    assert owner.get(f"/v1/inboxes/{inbox_id(mailbox)}/messages").json() == [message]


def test_reply_to_a_message(owner: Sendook, mailbox: Mailbox) -> None:
    asked = deposit_mail(mailbox, subject="Order 7", sender="Ann <ann@example.com>")
    path = f"/v1/inboxes/{inbox_id(mailbox)}/messages/{encode_ulid('msg', asked.id)}/reply"
    body = {"text": "Thanks for reaching out!", "html": "<p>Thanks for reaching out!</p>"}
    answer = owner.ask("POST", path, body)
    assert answer.status_code == 202, answer.content
    message = check_message(answer.json())
    assert (message["subject"], message["to"]) == ("Re: Order 7", ["ann@example.com"])
    assert message["threadId"] == encode_ulid("thread", asked.thread_id)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"to": []}, "to"),
        ({"to": "ann@example.com"}, "to"),
        ({"to": ["not an address"]}, "to"),
        ({"to": [7]}, "to"),
        ({"to": ["a@example.com"] * 101}, "to"),
        ({"subject": None}, "subject"),
        ({"subject": "a\r\nX-Evil: 1"}, "subject"),
        ({"text": None, "html": None}, "text"),
        ({"text": 7}, "text"),
        ({"labels": [""]}, "labels"),
        ({"attachments": [7]}, "attachments[0]"),
        ({"attachments": [{"name": "a"}]}, "attachments[0].content"),
        ({"attachments": [{"content": "*"}]}, "attachments[0].content"),
        ({"attachments": [{"content": "", "name": 7}]}, "attachments[0].name"),
    ],
)
def test_a_bad_message_is_told_field_by_field_and_nothing_is_stored(
    owner: Sendook, mailbox: Mailbox, change: dict[str, Any], field: str
) -> None:
    check_error(owner.send(inbox_id(mailbox), **change), 400, "validation_failed", field)
    assert not Message.objects.exists()


def test_what_stops_a_mailbox_from_sending_is_told(
    owner: Sendook, mailbox: Mailbox, organization: Organization, now: datetime
) -> None:
    inbox = inbox_id(mailbox)
    update_mailbox(mailbox=mailbox, changes={"daily_send_limit": 1}, now=now)
    deposit_mail(mailbox)  # what comes in does not use up what may go out
    assert owner.send(inbox).status_code == 202
    answer = owner.send(inbox)
    check_error(answer, 429, "message_limit_reached")
    assert 0 < int(answer.headers["Retry-After"]) <= 86_401
    update_mailbox(mailbox=mailbox, changes={"status": "paused"}, now=now)
    check_error(owner.send(inbox), 403, "inbox_paused")
    suspend_mailbox(mailbox=mailbox, reason="abuse", now=now)
    check_error(owner.send(inbox), 403, "inbox_suspended")
    assert owner.get(f"/v1/inboxes/{inbox}").status_code == 200
    suspend_organization(organization=organization, reason="abuse", now=now)
    check_error(owner.send(inbox), 403, "organization_suspended")


def test_what_is_not_supported_or_not_there_says_so(owner: Sendook, mailbox: Mailbox) -> None:
    path = f"/v1/inboxes/{inbox_id(mailbox)}"
    check_error(owner.get(f"{path}/messages?query=invoice"), 501, "not_supported")
    check_error(owner.get(f"{path}/threads"), 501, "not_supported")
    check_error(owner.ask("POST", "/v1/domains", {"name": "x.example"}), 501, "not_supported")
    check_error(owner.ask("PATCH", path, {"name": "x"}), 405, "method_not_allowed")
    check_error(owner.get("/v1/nope"), 404, "not_found")


def test_a_mailbox_of_ours_without_a_name_shows_its_local_part(owner: Sendook, make_mailbox: MakeMailbox) -> None:
    mailbox = make_mailbox("nameless")
    inbox = check_inbox(owner.get(f"/v1/inboxes/{inbox_id(mailbox)}").json())
    assert inbox["name"] == "nameless"


# The tables.


def all_codes(kind: type[DomainError] = DomainError) -> set[str]:
    return {kind.code} | {code for child in kind.__subclasses__() for code in all_codes(child)}


def test_every_error_of_ours_has_its_answer_here() -> None:
    assert set(SHOWN_AS) == set(STATUS_OF)
    assert all_codes() <= set(SHOWN_AS)


def test_every_status_of_ours_has_its_word_here() -> None:
    assert set(MESSAGE_STATUS) == {*DeliveryStatus.values, "received"}


def test_an_id_is_our_own_in_other_words() -> None:
    value = uuid4()
    assert inputs.read_id("ibox", encode_ulid("ibox", value)) == value
