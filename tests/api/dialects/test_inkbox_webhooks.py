"""What the webhook_url of an Inkbox mailbox is told, and how it is signed: checked by the vendor's own client."""

import json
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone
from inkbox.signing_keys import verify_webhook

from apps.accounts.models import Organization
from apps.core.ids import encode_id
from apps.core.secretbox import encrypt_secret
from apps.delivery.services import SendRequest, send_message
from apps.domains.models import Domain
from apps.events.models import Event, EventType, SigningKey, Webhook, WebhookCall
from apps.events.services import NewEvent, Preparation, Slots, claim_calls, prepare_calls, record_events
from apps.events.webhooks.formats import HttpCall
from apps.mail.models import Message
from apps.mailboxes.models import Mailbox
from tests.api.dialects.inkbox import MAIL, Inkbox, MakeInkbox
from tests.api.mail import deposit_mail

pytestmark = pytest.mark.django_db
URL = "https://example.com/webhook"


def prepare() -> Preparation:
    """What would be sent now."""
    WebhookCall.objects.filter(status="pending").update(next_attempt_at=timezone.now() - timedelta(minutes=1))
    claim = claim_calls(slots=Slots(), now=timezone.now())
    return prepare_calls(calls=claim.calls, now=timezone.now())


def next_call() -> HttpCall:
    """The only request that would be sent now."""
    preparation = prepare()
    assert not preparation.results
    (prepared,) = preparation.calls
    assert prepared.url == URL
    return prepared.http


@pytest.fixture
def mailbox(inkbox: Inkbox) -> Mailbox:
    """A mailbox of Acme's with a webhook."""
    inkbox.make_mailbox("alice", email_local_part="alice")
    inkbox.expect(200, "PATCH", f"{MAIL}/alice", {"webhook_url": URL})
    return Mailbox.objects.select_related("organization", "domain", "usage").get()


def make_key(client: Inkbox) -> str:
    shown = client.expect(201, "POST", "/signing-keys", {})
    assert set(shown) == {"signing_key", "created_at"}
    assert datetime.fromisoformat(shown["created_at"]).tzinfo is not None
    return str(shown["signing_key"])


class TestWhoIsTold:
    def test_setting_the_url_makes_the_mailboxs_webhook_and_null_ends_it(
        self, inkbox: Inkbox, mailbox: Mailbox
    ) -> None:
        webhook = Webhook.objects.get()
        assert (webhook.for_mailbox, webhook.url, webhook.dialect) == (mailbox.id, URL, "inkbox")
        inkbox.expect(200, "PATCH", f"{MAIL}/alice", {"display_name": "Alice"})
        assert Webhook.objects.get().url == URL
        inkbox.expect(200, "PATCH", f"{MAIL}/alice", {"webhook_url": None})
        assert not Webhook.objects.exists()
        deposit_mail(mailbox)
        assert not WebhookCall.objects.exists()

    @pytest.mark.parametrize("url", ["https://127.0.0.1/", "https://localhost/", "https://10.1.2.3/", "https://[::1]/"])
    def test_a_private_address_is_refused(self, inkbox: Inkbox, mailbox: Mailbox, url: str) -> None:
        detail = inkbox.expect(422, "PATCH", f"{MAIL}/alice", {"webhook_url": url})
        assert detail[0]["loc"] == ["body", "webhook_url"]
        assert Webhook.objects.get().url == URL

    @pytest.mark.parametrize("kind", ["message.queued", "message.held", "message.deferred", "inbox.suspended"])
    def test_of_what_the_vendor_does_not_tell_nothing_is_told(self, mailbox: Mailbox, kind: str) -> None:
        facts = [NewEvent(EventType(kind), mailbox.organization_id, mailbox.id, {"message_id": str(mailbox.id)})]
        record_events(events=facts, now=timezone.now())
        assert not WebhookCall.objects.exists()


class TestPayload:
    def test_of_a_received_mail(self, mailbox: Mailbox) -> None:
        message = deposit_mail(mailbox, subject="Question", text="Can you help?", attachment=b"hello")
        event = Event.objects.get(type="message.received")
        payload = json.loads(next_call().body)
        assert set(payload) == {"id", "event_type", "timestamp", "data"}
        assert payload["id"] == encode_id("evt", event.id)
        assert payload["event_type"] == "message.received"
        assert datetime.fromisoformat(payload["timestamp"]) == event.created_at
        assert payload["data"] == {
            "message": {
                "id": str(message.id),
                "mailbox_id": str(mailbox.id),
                "email_address": "alice@agents.localhost",
                "thread_id": str(message.thread_id),
                "message_id": None,
                "from_address": "ann@example.com",
                "to_addresses": ["alice@agents.localhost"],
                "cc_addresses": None,
                "bcc_addresses": None,
                "subject": "Question",
                "snippet": "Can you help?",
                "direction": "inbound",
                "status": "received",
                "has_attachments": True,
                "created_at": payload["data"]["message"]["created_at"],
            },
            "contacts": [],
            "agent_identities": [],
        }

    @pytest.mark.parametrize(
        ("ours", "theirs", "status"),
        [
            ("message.sent", "message.sent", "sent"),
            ("message.delivered", "message.delivered", "delivered"),
            ("message.bounced", "message.bounced", "bounced"),
            ("message.complained", "message.bounced", "bounced"),
            ("message.failed", "message.failed", "failed"),
        ],
    )
    def test_of_what_became_of_a_sent_mail(self, mailbox: Mailbox, ours: str, theirs: str, status: str) -> None:
        request = SendRequest(to=["Ann <ann@example.com>"], bcc=["eve@example.com"], subject="Hi", text="Hello.")
        message = send_message(mailbox=mailbox, request=request, now=timezone.now()).message
        data = {"message_id": str(message.id), "recipient": "ann@example.com"}
        facts = [NewEvent(EventType(ours), mailbox.organization_id, mailbox.id, data)]
        record_events(events=facts, now=timezone.now())
        payload = json.loads(next_call().body)
        assert payload["event_type"] == theirs
        shown = payload["data"]["message"]
        assert (shown["direction"], shown["status"], shown["from_address"]) == (
            *("outbound", status),
            "alice@agents.localhost",
        )
        assert (shown["to_addresses"], shown["bcc_addresses"]) == (["ann@example.com"], ["eve@example.com"])
        assert shown["message_id"] == message.rfc_message_id

    def test_a_mail_that_was_erased_since_is_not_told(self, mailbox: Mailbox) -> None:
        Message.objects.filter(id=deposit_mail(mailbox).id).delete()
        preparation = prepare()
        assert not preparation.calls
        assert len(preparation.results) == 1


class TestSigning:
    def test_it_is_unsigned_before_there_is_a_key_and_then_signed(self, inkbox: Inkbox, mailbox: Mailbox) -> None:
        deposit_mail(mailbox)
        unsigned = next_call()
        assert set(unsigned.headers) == {"X-Inkbox-Request-ID", "X-Inkbox-Timestamp"}
        key = make_key(inkbox)
        signed = next_call()
        assert abs(int(signed.headers["X-Inkbox-Timestamp"]) - timezone.now().timestamp()) < 60
        assert verify_webhook(payload=signed.body, headers=signed.headers, secret=key)
        assert signed.headers["X-Inkbox-Request-ID"] != unsigned.headers["X-Inkbox-Request-ID"]
        assert signed.body == unsigned.body

    @pytest.mark.parametrize("part", ["body", "X-Inkbox-Request-ID", "X-Inkbox-Timestamp", "X-Inkbox-Signature"])
    def test_the_signature_covers_id_time_and_body(self, inkbox: Inkbox, mailbox: Mailbox, part: str) -> None:
        key = make_key(inkbox)
        deposit_mail(mailbox)
        call = next_call()
        headers, body = dict(call.headers), call.body
        if part == "body":
            body += b" "
        else:
            headers[part] += "0"
        assert not verify_webhook(payload=body, headers=headers, secret=key)

    def test_a_key_made_anew_replaces_the_old_one_at_once(self, inkbox: Inkbox, mailbox: Mailbox) -> None:
        old, new = make_key(inkbox), make_key(inkbox)
        assert old != new
        deposit_mail(mailbox)
        call = next_call()
        assert verify_webhook(payload=call.body, headers=call.headers, secret=new)
        assert not verify_webhook(payload=call.body, headers=call.headers, secret=old)

    def test_a_strangers_key_signs_nothing_of_ours(self, stranger_inkbox: Inkbox, mailbox: Mailbox) -> None:
        make_key(stranger_inkbox)
        deposit_mail(mailbox)
        assert "X-Inkbox-Signature" not in next_call().headers

    def test_the_key_is_encrypted_at_rest(self, inkbox: Inkbox) -> None:
        secret = make_key(inkbox)
        stored = SigningKey.objects.get()
        assert secret.encode() not in bytes(stored.secret_encrypted)
        assert stored.secret == secret

    def test_a_key_that_cannot_be_read_makes_the_call_wait_and_not_go_unsigned(
        self, inkbox: Inkbox, mailbox: Mailbox, settings: Any
    ) -> None:
        make_key(inkbox)
        with_other_key = settings.MAILHOST_SECRET_KEY
        settings.MAILHOST_SECRET_KEY = "x" * 40
        SigningKey.objects.update(secret_encrypted=encrypt_secret(b"whsec_x"))
        settings.MAILHOST_SECRET_KEY = with_other_key
        deposit_mail(mailbox)
        preparation = prepare()
        assert not preparation.calls
        assert preparation.results[0].error

    def test_the_key_is_for_keys_of_the_whole_organization(
        self, inkbox: Inkbox, organization: Organization, shared_domain: Domain, make_inkbox: MakeInkbox
    ) -> None:
        narrow = make_inkbox(organization, allowed_domains=["agents.localhost"])
        assert "narrowed" in narrow.expect(403, "POST", "/signing-keys", {})
        no_scope = make_inkbox(organization, scopes=["inboxes:write"])
        assert "webhooks:write" in no_scope.expect(403, "POST", "/signing-keys", {})
        assert make_inkbox(None).expect(403, "POST", "/signing-keys", {}) == "Organization ID missing from token"
        assert not SigningKey.objects.exists()
