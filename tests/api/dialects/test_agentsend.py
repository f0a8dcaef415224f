"""Every request of AgentSend's document, as printed there, and what its server answers to the rest."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from apps.accounts.models import SCOPES, Organization
from apps.accounts.services import create_api_key, revoke_api_key, suspend_organization
from apps.api.dialects.agentsend.errors import SHOWN_AS
from apps.api.dialects.agentsend.outputs import INBOX_STATUS, MESSAGE_STATUS
from apps.api.native.errors import STATUS_OF
from apps.core.errors import DomainError
from apps.core.ids import encode_id
from apps.delivery.services import delete_mailbox
from apps.delivery.states import DeliveryStatus
from apps.domains.models import Domain
from apps.domains.services import create_domain
from apps.mail.models import Message
from apps.mailboxes.models import Mailbox
from apps.mailboxes.services import suspend_mailbox, update_mailbox
from tests.api.dialects.agentsend import BASE, AgentSend, check_error, check_inbox, check_message
from tests.api.mail import deposit_mail
from tests.apps.conftest import MakeMailbox

pytestmark = pytest.mark.django_db

MakeClient = Callable[..., AgentSend]
INVALID = "Request validation failed"


@pytest.fixture
def make_client(organization: Organization, shared_domain: Domain, now: datetime) -> MakeClient:
    def make(of: Organization | None = None, **fields: Any) -> AgentSend:
        fields = {"scopes": SCOPES, "name": "agent"} | fields
        return AgentSend(create_api_key(organization=of or organization, now=now, **fields)[1])

    return make


@pytest.fixture
def owner(make_client: MakeClient) -> AgentSend:
    return make_client()


@pytest.fixture
def outsider(make_client: MakeClient, stranger: Organization) -> AgentSend:
    return make_client(of=stranger)


@pytest.fixture
def own_domain(organization: Organization, now: datetime) -> Domain:
    domain = create_domain(organization=organization, name="acme.example.com", now=now)
    Domain.objects.filter(id=domain.id).update(ownership_verified_at=now, sending_status="verified")
    return domain


def inbox_of(mailbox: Mailbox) -> str:
    return f"/inboxes/{mailbox.id}"


# What the document prints.


def test_create_with_both_fields(owner: AgentSend, own_domain: Domain) -> None:
    for domain_id in (str(own_domain.id), encode_id("dom", own_domain.id)):
        inbox = owner.create(displayName="Support Agent", domainId=domain_id)
        assert inbox["displayName"] == "Support Agent"
        assert inbox["domainId"] == str(own_domain.id)
        assert inbox["address"].endswith("@acme.example.com")
        assert inbox["isVerified"] is True


def test_create_with_a_domain_that_is_not_there(owner: AgentSend, outsider: AgentSend, own_domain: Domain) -> None:
    answer = owner.ask("POST", "/inboxes", {"displayName": "Support Agent", "domainId": "dom_abc123"})
    assert check_error(answer, 404, "NOT_FOUND") == "Domain 'dom_abc123' not found"
    answer = outsider.ask("POST", "/inboxes", {"domainId": str(own_domain.id)})
    check_error(answer, 404, "NOT_FOUND")
    Domain.objects.filter(id=own_domain.id).update(sending_status="pending")
    answer = owner.ask("POST", "/inboxes", {"domainId": str(own_domain.id)})
    check_error(answer, 400, "DOMAIN_NOT_VERIFIED")


@pytest.mark.parametrize("body", [{}, None, {"prefix": "support", "color": 7}])
def test_create_without_anything(owner: AgentSend, organization: Organization, body: Any) -> None:
    answer = owner.ask("POST", "/inboxes", body)
    assert answer.status_code == 201
    inbox = check_inbox(answer.json())
    assert inbox["displayName"] is None
    assert inbox["domainId"] is None
    assert inbox["accountId"] == str(organization.id)
    assert inbox["address"].endswith("@agents.localhost")
    assert (inbox["status"], inbox["deletedAt"]) == ("active", None)
    assert (inbox["sendsToday"], inbox["totalSent"], inbox["bounceCount"], inbox["complaintCount"]) == (0, 0, 0, 0)


def test_list_with_limit_and_offset(owner: AgentSend) -> None:
    made = [owner.create(displayName=f"Agent {number}") for number in range(25)]
    answer = owner.get("/inboxes?limit=20&offset=0")
    assert answer.status_code == 200
    assert set(answer.json()) == {"data", "total"}
    first = [check_inbox(inbox) for inbox in answer.json()["data"]]
    assert answer.json()["total"] == 25
    assert first == made[:4:-1]  # newest first
    assert owner.get("/inboxes").json() == answer.json()
    rest = owner.get("/inboxes?limit=20&offset=20").json()
    assert (rest["data"], rest["total"]) == (made[4::-1], 25)
    assert owner.get("/inboxes?limit=100&offset=9007199254740992").json() == {"data": [], "total": 25}
    assert owner.get("/inboxes/?limit=1").json()["data"] == made[:-2:-1]


def test_delete_answers_204_without_a_body(owner: AgentSend) -> None:
    inbox = owner.create()
    answer = owner.ask("DELETE", f"/inboxes/{inbox['id']}")
    assert (answer.status_code, answer.content) == (204, b"")
    check_error(owner.get(f"/inboxes/{inbox['id']}"), 404, "NOT_FOUND")
    check_error(owner.ask("DELETE", f"/inboxes/{inbox['id']}"), 404, "NOT_FOUND")
    check_error(owner.send(inbox["id"]), 404, "NOT_FOUND")
    assert owner.get("/inboxes").json() == {"data": [], "total": 0}


def test_the_remaining_sends_can_be_worked_out(owner: AgentSend, mailbox: Mailbox) -> None:
    assert owner.send(mailbox.id, to=["a@example.com", "b@example.com"], cc=["c@example.com"]).status_code == 202
    inbox = owner.inbox(mailbox.id)
    assert (inbox["sendsToday"], inbox["totalSent"]) == (3, 3)
    assert inbox["dailySendLimit"] - inbox["sendsToday"] == 997


# What deletion takes with it.


def test_deletion_takes_the_messages_and_frees_the_address_for_everybody(
    owner: AgentSend, outsider: AgentSend, make_client: MakeClient, mailbox: Mailbox
) -> None:
    received = deposit_mail(mailbox, attachment=b"hello")
    sent = owner.send(mailbox.id).json()
    assert owner.ask("DELETE", inbox_of(mailbox)).status_code == 204
    for message_id in (received.id, sent["id"]):
        check_error(owner.get(f"/messages/{message_id}"), 404, "NOT_FOUND")
    check_error(owner.get(f"{inbox_of(mailbox)}/messages"), 404, "NOT_FOUND")
    assert not Message.objects.exists()
    again = outsider.create(address="alice@agents.localhost")
    assert again["address"] == mailbox.address
    assert again["id"] != str(mailbox.id)
    taken = owner.ask("POST", "/inboxes", {"address": "Alice@agents.localhost"})
    check_error(taken, 409, "INBOX_EXISTS")


def test_an_interrupted_deletion_shows_nothing_and_can_be_finished(
    owner: AgentSend, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = deposit_mail(mailbox)
    with monkeypatch.context() as patch:
        patch.setattr("apps.delivery.services.operate.erase_mailbox_mail", lambda **_: 0)
        assert owner.ask("DELETE", inbox_of(mailbox)).status_code == 204
    check_error(owner.get(f"/messages/{message.id}"), 404, "NOT_FOUND")
    check_error(owner.get(f"{inbox_of(mailbox)}/messages"), 404, "NOT_FOUND")
    assert owner.ask("DELETE", inbox_of(mailbox)).status_code == 204
    assert not Message.objects.exists()
    check_error(owner.ask("DELETE", inbox_of(mailbox)), 404, "NOT_FOUND")


def test_an_inbox_that_was_deleted_elsewhere_shows_it_and_can_be_purged(
    owner: AgentSend, mailbox: Mailbox, now: datetime
) -> None:
    message = deposit_mail(mailbox)
    delete_mailbox(mailbox=mailbox, purge=False, now=now)
    inbox = owner.inbox(mailbox.id)
    assert inbox["status"] == "deleted"
    assert inbox["deletedAt"]
    assert owner.get(f"/messages/{message.id}").status_code == 200
    check_error(owner.send(mailbox.id), 404, "NOT_FOUND")
    assert owner.get("/inboxes").json() == {"data": [], "total": 0}
    assert owner.ask("DELETE", inbox_of(mailbox)).status_code == 204
    check_error(owner.get(f"/messages/{message.id}"), 404, "NOT_FOUND")


# Keys.


def test_the_key_goes_into_either_header(owner: AgentSend) -> None:
    assert owner.ask("GET", "/inboxes", HTTP_AUTHORIZATION=f"Bearer {owner.secret}").status_code == 200
    assert owner.ask("GET", "/inboxes", HTTP_X_API_KEY=owner.secret).status_code == 200
    both = {"HTTP_AUTHORIZATION": "Basic eA==", "HTTP_X_API_KEY": owner.secret}
    assert owner.ask("GET", "/inboxes", **both).status_code == 200


@pytest.mark.parametrize("headers", [{}, {"HTTP_X_API_KEY": "mh_wrong"}, {"HTTP_AUTHORIZATION": "Bearer "}])
def test_without_a_good_key_everything_is_401(db: None, headers: dict[str, str]) -> None:
    for path in ("/inboxes", f"/messages/{uuid4()}", "/nope"):
        answer = Client().get(BASE + path, **headers)
        assert check_error(answer, 401, "UNAUTHORIZED") == "Invalid or missing API key"
        assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_a_revoked_key_is_401(organization: Organization, now: datetime) -> None:
    key, secret = create_api_key(organization=organization, name="k", scopes=SCOPES, now=now)
    revoke_api_key(key=key, now=now)
    check_error(AgentSend(secret).get("/inboxes"), 401, "UNAUTHORIZED")


def test_a_key_without_the_scope_or_without_an_organization_is_403(
    make_client: MakeClient, mailbox: Mailbox, now: datetime
) -> None:
    reader = make_client(scopes=["inboxes:read", "messages:read"])
    assert reader.get("/inboxes").status_code == 200
    check_error(reader.ask("POST", "/inboxes", {}), 403, "FORBIDDEN")
    check_error(reader.send(mailbox.id), 403, "FORBIDDEN")
    check_error(reader.ask("DELETE", inbox_of(mailbox)), 403, "FORBIDDEN")
    platform = AgentSend(create_api_key(organization=None, name="p", scopes=SCOPES, now=now)[1])
    check_error(platform.get("/inboxes"), 403, "FORBIDDEN")


def test_a_stranger_finds_nothing(owner: AgentSend, outsider: AgentSend, mailbox: Mailbox) -> None:
    message = deposit_mail(mailbox)
    wanted = f"Inbox '{mailbox.id}' not found"
    assert check_error(outsider.get(inbox_of(mailbox)), 404, "NOT_FOUND") == wanted
    assert check_error(outsider.ask("DELETE", inbox_of(mailbox)), 404, "NOT_FOUND") == wanted
    assert check_error(outsider.send(mailbox.id), 404, "NOT_FOUND") == wanted
    assert check_error(outsider.get(f"{inbox_of(mailbox)}/messages"), 404, "NOT_FOUND") == wanted
    assert check_error(outsider.get(f"/messages/{message.id}"), 404, "NOT_FOUND") == f"Message '{message.id}' not found"
    assert outsider.get("/inboxes").json() == {"data": [], "total": 0}
    assert owner.inbox(mailbox.id)["status"] == "active"


def test_a_key_narrowed_to_an_inbox_sees_that_one_only(
    make_client: MakeClient, mailbox: Mailbox, make_mailbox: MakeMailbox
) -> None:
    other = make_mailbox("other")
    message = deposit_mail(other)
    narrow = make_client(inbox_ids=[mailbox.id])
    listed = narrow.get("/inboxes").json()
    assert ([inbox["id"] for inbox in listed["data"]], listed["total"]) == ([str(mailbox.id)], 1)
    check_error(narrow.get(inbox_of(other)), 404, "NOT_FOUND")
    check_error(narrow.send(other.id), 404, "NOT_FOUND")
    check_error(narrow.get(f"{inbox_of(other)}/messages"), 404, "NOT_FOUND")
    check_error(narrow.get(f"/messages/{message.id}"), 404, "NOT_FOUND")
    check_error(narrow.ask("DELETE", inbox_of(other)), 404, "NOT_FOUND")
    thread_of_other = {"threadId": str(message.thread_id)}
    check_error(narrow.send(mailbox.id, **thread_of_other), 404, "NOT_FOUND")
    check_error(narrow.ask("POST", "/inboxes", {}), 403, "FORBIDDEN")
    assert narrow.send(mailbox.id).status_code == 202


# Messages.


def test_send_answers_202_with_the_message(owner: AgentSend, mailbox: Mailbox) -> None:
    body = {
        "to": ["bob@example.com"], "cc": ["c@example.com"], "bcc": ["d@example.com"],
        "subject": "Re: Hello", "bodyText": "hi", "bodyHtml": "<p>hi</p>",
    }  # fmt: skip
    answer = owner.ask("POST", f"{inbox_of(mailbox)}/messages", body)
    assert answer.status_code == 202, answer.content
    message = check_message(answer.json())
    assert message["fromAddress"] == "Alice Agent <alice@agents.localhost>"
    assert (message["toAddresses"], message["ccAddresses"]) == (["bob@example.com"], ["c@example.com"])
    assert message["bccAddresses"] == ["d@example.com"]
    assert (message["subject"], message["bodyText"], message["bodyHtml"]) == ("Re: Hello", "hi", "<p>hi</p>")
    assert (message["inboxId"], message["direction"]) == (str(mailbox.id), "outbound")
    assert (message["status"], message["sentAt"], message["errorMessage"]) == ("queued", None, None)
    assert (message["attachments"], message["retryCount"], message["rawHeaders"]) == ([], 0, None)
    assert message["messageIdHeader"].endswith("@agents.localhost>")
    assert (message["inReplyTo"], message["referencesHeaders"]) == (None, [])
    assert owner.get(f"/messages/{message['id']}").json() == message
    assert owner.get(f"{inbox_of(mailbox)}/messages").json() == {"data": [message], "total": 1}


def test_a_message_may_be_a_subject_only(owner: AgentSend, mailbox: Mailbox) -> None:
    answer = owner.ask("POST", f"{inbox_of(mailbox)}/messages", {"to": ["bob@example.com"], "subject": "Hello"})
    assert answer.status_code == 202
    assert (answer.json()["bodyText"], answer.json()["bodyHtml"]) == (None, None)


def test_a_reply_goes_into_its_thread(owner: AgentSend, mailbox: Mailbox) -> None:
    asked = deposit_mail(mailbox, extra="Message-ID: <q1@example.com>\r\nReferences: <q0@example.com>\r\n")
    answer = owner.send(mailbox.id, to=["ann@example.com"], subject="Re: Hello", threadId=str(asked.thread_id))
    assert answer.status_code == 202, answer.content
    message = check_message(answer.json())
    assert message["threadId"] == str(asked.thread_id)
    assert message["inReplyTo"] == "<q1@example.com>"
    assert message["referencesHeaders"] == ["<q0@example.com>", "<q1@example.com>"]


def test_a_thread_has_to_be_there_and_of_this_inbox(
    owner: AgentSend, mailbox: Mailbox, make_mailbox: MakeMailbox
) -> None:
    thread_id = str(uuid4())
    answer = owner.send(mailbox.id, threadId=thread_id)
    assert check_error(answer, 404, "NOT_FOUND") == f"Thread '{thread_id}' not found"
    elsewhere = deposit_mail(make_mailbox("other"))
    answer = owner.send(mailbox.id, threadId=str(elsewhere.thread_id))
    assert check_error(answer, 400, "THREAD_INBOX_MISMATCH") == "Thread does not belong to this inbox"
    assert "details" not in answer.json()["error"]


def test_an_inbound_message_shows_what_came(owner: AgentSend, mailbox: Mailbox) -> None:
    stored = deposit_mail(
        mailbox, subject="Hello in", text="Hi there.", attachment=b"%PDF-", filename="a.pdf",
        content_type="application/pdf", extra="Message-ID: <in@example.com>\r\nX-A: 1\r\nX-A: 2\r\n",
    )  # fmt: skip
    message = check_message(owner.get(f"/messages/{stored.id}").json())
    assert (message["direction"], message["status"]) == ("inbound", "received")
    assert message["fromAddress"] == "ann@example.com"
    assert message["toAddresses"] == ["alice@agents.localhost"]
    assert message["bodyText"].strip() == "Hi there."
    (attachment,) = message["attachments"]
    assert set(attachment) == {"key", "size", "filename", "contentType"}
    assert attachment["key"].startswith(f"inbound/{mailbox.id}/")
    assert (attachment["size"], attachment["contentType"]) == (5, "application/pdf")
    assert message["rawHeaders"]["subject"] == "Hello in"
    assert message["rawHeaders"]["x-a"] == "1\n2"
    assert message["messageIdHeader"] == "<in@example.com>"


def test_messages_are_paged_newest_first_and_filtered_by_status(owner: AgentSend, mailbox: Mailbox) -> None:
    received = [str(deposit_mail(mailbox, subject=f"In {number}").id) for number in range(3)]
    sent = [owner.send(mailbox.id, subject=f"Out {number}").json()["id"] for number in range(3)]
    path = f"{inbox_of(mailbox)}/messages"

    def ids(query: str) -> tuple[list[str], int]:
        answer = owner.get(path + query).json()
        assert set(answer) == {"data", "total"}
        return [check_message(message)["id"] for message in answer["data"]], answer["total"]

    everything = [*received, *sent][::-1]
    assert ids("") == (everything, 6)
    assert ids("?limit=2&offset=1") == (everything[1:3], 6)
    assert ids("?limit=2&offset=6") == ([], 6)
    assert ids("?status=received&limit=2") == (received[:0:-1], 3)
    assert ids("?status=queued") == (sent[::-1], 3)
    Message.objects.get(id=sent[0]).deliveries.update(status="delivered")
    Message.objects.get(id=sent[1]).deliveries.update(status="canceled")
    assert ids("?status=delivered") == (sent[:1], 1)
    assert ids("?status=failed") == (sent[1:2], 1)
    assert ids("?status=queued") == (sent[2:], 1)
    assert ids("?status=bounced") == ([], 0)
    check_error(owner.get(f"{path}?status=lost"), 400, "VALIDATION_ERROR")


def test_a_message_to_several_is_filtered_by_the_status_it_shows(owner: AgentSend, mailbox: Mailbox) -> None:
    message = owner.send(mailbox.id, to=["a@example.com", "b@example.com"]).json()
    path = f"{inbox_of(mailbox)}/messages?status="
    states = [DeliveryStatus.BOUNCED, DeliveryStatus.DELIVERED, DeliveryStatus.DEFERRED, DeliveryStatus.CANCELED]
    for one in states:
        for other in states:
            first, second = Message.objects.get().deliveries.order_by("id")
            for delivery, status in ((first, one), (second, other)):
                delivery.status = status
                delivery.save()
            shown = owner.get(f"/messages/{message['id']}").json()["status"]
            for status in set(MESSAGE_STATUS.values()):
                assert owner.get(path + status).json()["total"] == int(status == shown), (one, other, status)


def test_lists_cost_the_same_however_long_they_are(owner: AgentSend, mailbox: Mailbox) -> None:
    def costs(path: str) -> int:
        with CaptureQueriesContext(
            connection,
        ) as queries:
            assert owner.get(path).status_code == 200
        return len(queries)

    def fill() -> None:
        deposit_mail(mailbox, attachment=b"x")
        owner.send(mailbox.id)
        owner.create()

    paths = ("/inboxes", f"{inbox_of(mailbox)}/messages", f"{inbox_of(mailbox)}/messages?status=queued")
    fill()
    few = [costs(path) for path in paths]
    fill()
    fill()
    assert [costs(path) for path in paths] == few
    assert max(few) <= 8


def test_every_request_of_the_sdk_carries_a_json_type_without_a_body(owner: AgentSend, mailbox: Mailbox) -> None:
    message = deposit_mail(mailbox)
    for path in ("/inboxes", inbox_of(mailbox), f"{inbox_of(mailbox)}/messages", f"/messages/{message.id}"):
        assert owner.ask("GET", path, b"").status_code == 200
    assert owner.ask("DELETE", inbox_of(mailbox), b"").status_code == 204


# What is refused.


@pytest.mark.parametrize(
    ("body", "details"),
    [
        ({"displayName": None}, {"displayName": ["Expected string, received null"]}),
        ({"displayName": 7}, {"displayName": ["Expected string, received number"]}),
        ({"displayName": "x" * 256}, {"displayName": ["String must contain at most 255 character(s)"]}),
        ({"displayName": "a\r\nBcc: x@y.example"}, {"displayName": ["String must be one line"]}),
        ({"domainId": ["a"], "displayName": True}, {
            "displayName": ["Expected string, received boolean"], "domainId": ["Expected string, received array"],
        }),
        ([], {}),
        ("text", {}),
    ],
)  # fmt: skip
def test_a_bad_inbox_is_told_field_by_field_and_not_made(owner: AgentSend, body: Any, details: Any) -> None:
    answer = owner.ask("POST", "/inboxes", body)
    assert check_error(answer, 400, "VALIDATION_ERROR", details) == INVALID
    assert not Mailbox.objects.exists()


@pytest.mark.parametrize(
    ("address", "code"),
    [
        ("bob@elsewhere.example", "INVALID_INBOX_DOMAIN"),
        ("bob", "INVALID_INBOX_ADDRESS"),
        ("b ob@agents.localhost", "INVALID_INBOX_ADDRESS"),
        ("bob+tag@agents.localhost", "INVALID_INBOX_LOCAL_PART"),
    ],
)
def test_a_bad_address_is_told_by_its_own_code(owner: AgentSend, address: str, code: str) -> None:
    message = check_error(owner.ask("POST", "/inboxes", {"address": address}), 400, code)
    if code == "INVALID_INBOX_DOMAIN":
        assert message == "Inbox address must use @agents.localhost"
    assert not Mailbox.objects.exists()


def test_an_address_on_an_own_domain(owner: AgentSend, own_domain: Domain) -> None:
    inbox = owner.create(address="Sales@Acme.Example.com", domainId=str(own_domain.id))
    assert inbox["address"] == "sales@acme.example.com"
    check_error(owner.ask("POST", "/inboxes", {"address": "postmaster@agents.localhost"}), 409, "INBOX_EXISTS")


@pytest.mark.parametrize(
    ("change", "details"),
    [
        ({"to": []}, {"to": ["Array must contain at least 1 element(s)"]}),
        ({"to": "bob@example.com"}, {"to": ["Expected array, received string"]}),
        ({"to": ["Bob <bob@example.com>"]}, {"to": ["Invalid email"]}),
        ({"to": ["bob@example.com\r\nRCPT TO:<x@y.example>"]}, {"to": ["Invalid email"]}),
        ({"to": [7]}, {"to": ["Expected string, received number"]}),
        ({"to": [f"a{n}@example.com" for n in range(51)]}, {"to": ["Array must contain at most 50 element(s)"]}),
        ({"cc": ["x"], "subject": ""}, {
            "cc": ["Invalid email"], "subject": ["String must contain at least 1 character(s)"],
        }),
        ({"subject": "x" * 999}, {"subject": ["String must contain at most 998 character(s)"]}),
        ({"subject": "é x\r\nX-Evil: 1"}, {"subject": ["String must be one line"]}),
        ({"subject": None}, {"subject": ["Expected string, received null"]}),
        ({"bodyText": "x" * 256_001}, {"bodyText": ["String must contain at most 256000 character(s)"]}),
        ({"bodyHtml": {}}, {"bodyHtml": ["Expected string, received object"]}),
        ({"threadId": "thread_1"}, {"threadId": ["Invalid uuid"]}),
    ],
)  # fmt: skip
def test_a_bad_message_is_told_field_by_field_and_nothing_is_stored(
    owner: AgentSend, mailbox: Mailbox, change: dict[str, Any], details: Any
) -> None:
    assert check_error(owner.send(mailbox.id, **change), 400, "VALIDATION_ERROR", details) == INVALID
    assert not Message.objects.exists()
    assert owner.inbox(mailbox.id)["sendsToday"] == 0


def test_what_is_missing_is_required(owner: AgentSend, mailbox: Mailbox) -> None:
    answer = owner.ask("POST", f"{inbox_of(mailbox)}/messages", {})
    check_error(answer, 400, "VALIDATION_ERROR", {"to": ["Required"], "subject": ["Required"]})


def test_recipients_are_counted_together(owner: AgentSend, mailbox: Mailbox) -> None:
    many = {kind: [f"{kind}{number}@example.com" for number in range(20)] for kind in ("to", "cc", "bcc")}
    answer = owner.send(mailbox.id, **many)
    check_error(answer, 400, "VALIDATION_ERROR", {"to": ["A message has at most 50 recipients in all."]})


def test_an_attachment_that_was_never_uploaded_is_not_found(owner: AgentSend, mailbox: Mailbox) -> None:
    attachment_id = str(uuid4())
    answer = owner.send(mailbox.id, attachmentIds=[attachment_id])
    assert check_error(answer, 404, "NOT_FOUND") == f"Attachment '{attachment_id}' not found"
    assert owner.send(mailbox.id, attachmentIds=[]).status_code == 202


@pytest.mark.parametrize(
    ("query", "details"),
    [
        ("limit=0", {"limit": ["Number must be greater than or equal to 1"]}),
        ("limit=101", {"limit": ["Number must be less than or equal to 100"]}),
        ("limit=abc", {"limit": ["Expected number, received nan"]}),
        ("offset=-1", {"offset": ["Number must be greater than or equal to 0"]}),
        ("offset=9999999999999999999999", {"offset": ["Expected number, received nan"]}),
        ("limit=&offset=%00", {
            "limit": ["Expected number, received nan"], "offset": ["Expected number, received nan"],
        }),
    ],
)  # fmt: skip
def test_a_bad_window_is_refused(owner: AgentSend, mailbox: Mailbox, query: str, details: Any) -> None:
    for path in ("/inboxes", f"{inbox_of(mailbox)}/messages"):
        check_error(owner.get(f"{path}?{query}"), 400, "VALIDATION_ERROR", details)


@pytest.mark.parametrize("path", ["/inboxes/x", "/inboxes/inb_7x9kQm2Np", "/inboxes/x/messages", "/messages/x"])
def test_an_id_that_is_none_is_told_so(owner: AgentSend, path: str) -> None:
    check_error(owner.get(path), 400, "VALIDATION_ERROR", {"id": ["Invalid uuid"]})


def test_an_id_that_was_never_given_is_not_found(owner: AgentSend) -> None:
    unknown = "00000000-0000-4000-8000-000000000000"
    assert check_error(owner.get(f"/inboxes/{unknown}"), 404, "NOT_FOUND") == f"Inbox '{unknown}' not found"
    assert check_error(owner.get(f"/messages/{unknown}"), 404, "NOT_FOUND") == f"Message '{unknown}' not found"


@pytest.mark.parametrize(
    "raw", [b"{", b"\xff", b'{"displayName": "a\\u0000b"}', b'{"displayName": "\\ud800"}', b"NaN", b"[" * 100_000]
)
def test_a_broken_body_is_400(owner: AgentSend, raw: bytes) -> None:
    check_error(owner.ask("POST", "/inboxes", raw), 400, "VALIDATION_ERROR")
    assert not Mailbox.objects.exists()


def test_another_content_type_is_400(owner: AgentSend) -> None:
    answer = Client().post(f"{BASE}/inboxes", b"a=b", "text/plain", HTTP_X_API_KEY=owner.secret)
    check_error(answer, 400, "VALIDATION_ERROR")


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/nope"), ("PUT", "/inboxes"), ("PATCH", "/inboxes/00000000-0000-4000-8000-000000000000"), ("GET", "/")],
)
def test_an_unknown_route_or_method_is_404_in_the_routers_words(owner: AgentSend, method: str, path: str) -> None:
    answer = owner.ask(method, path)
    assert answer.status_code == 404
    message = f"Route {method}:{path} not found"
    assert answer.json() == {"message": message, "error": "Not Found", "statusCode": 404}


def test_what_is_not_supported_says_so(owner: AgentSend, mailbox: Mailbox) -> None:
    for method, path in [
        ("GET", f"{inbox_of(mailbox)}/threads"), ("GET", f"/threads/{uuid4()}"), ("POST", "/attachments"),
        ("DELETE", f"/messages/{uuid4()}"), ("GET", "/domains"),
    ]:  # fmt: skip
        check_error(owner.ask(method, path), 501, "NOT_SUPPORTED")


# Statuses.


def test_what_cannot_send_is_suspended_and_says_so(
    owner: AgentSend, mailbox: Mailbox, organization: Organization, now: datetime
) -> None:
    update_mailbox(mailbox=mailbox, changes={"status": "paused"}, now=now)
    assert owner.inbox(mailbox.id)["status"] == "suspended"
    check_error(owner.send(mailbox.id), 403, "INBOX_SUSPENDED")
    update_mailbox(mailbox=mailbox, changes={"status": "active"}, now=now)
    suspend_mailbox(mailbox=mailbox, reason="abuse", now=now)
    assert owner.inbox(mailbox.id)["status"] == "suspended"
    check_error(owner.send(mailbox.id), 403, "INBOX_SUSPENDED")
    assert owner.get(f"{inbox_of(mailbox)}/messages").status_code == 200
    listed = owner.get("/inboxes").json()
    assert ([inbox["status"] for inbox in listed["data"]], listed["total"]) == (["suspended"], 1)
    suspend_organization(organization=organization, reason="abuse", now=now)
    check_error(owner.send(mailbox.id), 403, "ACCOUNT_SUSPENDED")


def test_a_mailbox_of_ours_shows_here_what_it_lacks(owner: AgentSend, make_mailbox: MakeMailbox) -> None:
    mailbox = make_mailbox("bare", daily_send_limit=None)
    inbox = owner.inbox(mailbox.id)
    assert (inbox["displayName"], inbox["dailySendLimit"]) == (None, 2147483647)


def test_the_limit_answers_429_and_midnight_opens_again(
    owner: AgentSend, make_mailbox: MakeMailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    mailbox = make_mailbox("limited", daily_send_limit=2)
    noon, midnight = datetime(2031, 5, 6, 12, tzinfo=UTC), datetime(2031, 5, 7, tzinfo=UTC)
    clock = [noon]
    monkeypatch.setattr("django.utils.timezone.now", lambda: clock[0])
    assert owner.send(mailbox.id, to=["a@example.com", "b@example.com"]).status_code == 202
    answer = owner.send(mailbox.id)
    check_error(answer, 429, "RATE_LIMIT_EXCEEDED")
    assert 0 <= int(answer.headers["Retry-After"]) - 12 * 3600 <= 1
    assert owner.inbox(mailbox.id)["sendsToday"] == 2
    clock[0] = midnight
    assert owner.inbox(mailbox.id)["sendsToday"] == 0
    assert owner.send(mailbox.id).status_code == 202
    inbox = owner.inbox(mailbox.id)
    assert (inbox["sendsToday"], inbox["totalSent"]) == (1, 3)


# The tables.


def all_codes(kind: type[DomainError] = DomainError) -> set[str]:
    return {kind.code} | {code for child in kind.__subclasses__() for code in all_codes(child)}


def test_every_error_of_ours_has_its_answer_here() -> None:
    assert set(SHOWN_AS) == set(STATUS_OF)
    assert all_codes() <= set(SHOWN_AS)


def test_every_status_of_ours_has_its_word_here() -> None:
    assert set(INBOX_STATUS) == set(Mailbox.Status.values)
    assert set(MESSAGE_STATUS) == {*DeliveryStatus.values, "received"}
