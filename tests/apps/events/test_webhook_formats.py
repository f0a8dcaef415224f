"""What webhooks' requests look like: ours by Standard Webhooks, others by their dialect and with what they need."""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.utils import timezone
from standardwebhooks import Webhook as Verifier
from standardwebhooks import WebhookVerificationError

from apps.api.native.outputs import show_event as show_event_by_api
from apps.core.errors import ValidationFailed
from apps.core.ids import new_id
from apps.events.models import Event, EventType, WebhookAttempt, WebhookCall
from apps.events.services import Slots, claim_calls, prepare_calls, record_calls, rotate_webhook_secret
from apps.events.services import test_webhook as send_ping
from apps.events.services.prepare import MAX_BODY, Preparation
from apps.events.webhooks import formats
from apps.events.webhooks.formats import EventView, HttpCall, Notice, register_enricher, register_format
from tests.apps.events.conftest import MakeWebhook, Record, make_due

pytestmark = pytest.mark.django_db


@pytest.fixture
def registers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test registers ends with it."""
    monkeypatch.setattr(formats, "_formats", dict(formats._formats))
    monkeypatch.setattr(formats, "_enrichers", {})
    yield


def prepare() -> Preparation:
    make_due()
    claim = claim_calls(slots=Slots(), now=timezone.now())
    return prepare_calls(calls=claim.calls, now=timezone.now())


def make_dialect(name: str = "tale", *, tells: bool = True, size: int = 0) -> list[Notice]:
    """A dialect that says what it was given; the list collects it."""
    notices: list[Notice] = []

    def format_tale(notice: Notice) -> HttpCall | None:
        notices.append(notice)
        if not tells:
            return None
        body = {"what": notice.event.type, "text": notice.event.extra.get("text", "")}
        return HttpCall({"X-Tale": "1"}, json.dumps(body).encode() + b" " * size)

    register_format(name, format_tale)
    return notices


class TestNative:
    def test_its_signature_verifies_with_the_standard_library_of_the_scheme(
        self, make_webhook: MakeWebhook, record: Record
    ) -> None:
        webhook = make_webhook()
        event = record(subject="Grüße \N{GRINNING FACE}")
        (prepared,) = prepare().calls
        headers = dict(prepared.http.headers)
        payload = Verifier(webhook.secret).verify(prepared.http.body, headers)
        assert payload["type"] == "message.received"
        assert payload["data"]["id"] == headers["webhook-id"]
        assert payload["data"]["data"]["subject"] == event.data["subject"]
        for wrong in (b"x" + prepared.http.body, prepared.http.body[:-1]):
            with pytest.raises(WebhookVerificationError):
                Verifier(webhook.secret).verify(wrong, headers)
        with pytest.raises(WebhookVerificationError):
            Verifier(make_webhook("https://other.example/").secret).verify(prepared.http.body, headers)

    def test_its_data_is_the_event_as_the_api_shows_it(self, make_webhook: MakeWebhook, record: Record) -> None:
        make_webhook()
        event = record(mailbox_id=new_id(), thread_id=str(new_id()), recipients=["a@b.c"], domain_id="no id")
        (prepared,) = prepare().calls
        payload = json.loads(prepared.http.body)
        assert payload == {
            "type": "message.received",
            "timestamp": payload["data"]["created_at"],
            "data": show_event_by_api(event),
        }

    def test_after_a_rotation_both_secrets_verify_for_a_day(self, make_webhook: MakeWebhook, record: Record) -> None:
        webhook = make_webhook()
        old = webhook.secret
        now = timezone.now()
        webhook, new = rotate_webhook_secret(webhook=webhook, now=now)
        assert old != new
        view = formats.WebhookView(webhook.id, webhook.organization_id, webhook.url, webhook.dialect)
        event = EventView(new_id(), "ping", webhook.organization_id, None, now, {})
        notice = Notice(event, view, webhook.valid_secrets(now), now, new_id())
        call = formats.format_native(notice)
        for secret in (old, new):
            Verifier(secret).verify(call.body, dict(call.headers))
        assert webhook.valid_secrets(now + timedelta(hours=23)) == (new, old)
        assert webhook.valid_secrets(now + timedelta(hours=24)) == (new,)

    def test_a_ping_goes_to_one_webhook_and_stands_in_no_log(self, make_webhook: MakeWebhook) -> None:
        webhook = make_webhook(event_types=["message.bounced"])
        make_webhook("https://other.example/")
        call = send_ping(webhook=webhook, now=timezone.now())
        (prepared,) = prepare().calls
        assert prepared.call.id == call.id
        payload = Verifier(webhook.secret).verify(prepared.http.body, dict(prepared.http.headers))
        assert (payload["type"], list(payload["data"]["data"])) == ("ping", ["webhook_id"])
        assert payload["data"]["data"]["webhook_id"].startswith("whk_")
        assert not Event.objects.exists()


@pytest.mark.usefixtures("registers")
class TestDialects:
    def test_a_dialect_shapes_its_own_webhooks_and_no_others(self, make_webhook: MakeWebhook, record: Record) -> None:
        make_dialect()
        tale = make_webhook("https://tale.example/", dialect="tale")
        make_webhook("https://native.example/")
        record()
        bodies = {prepared.url: json.loads(prepared.http.body) for prepared in prepare().calls}
        assert bodies["https://tale.example/"] == {"what": "message.received", "text": ""}
        assert bodies["https://native.example/"]["data"]["type"] == "message.received"
        assert tale.dialect == "tale"

    def test_a_format_is_given_all_it_may_sign_with(self, make_webhook: MakeWebhook, record: Record) -> None:
        notices = make_dialect()
        webhook = make_webhook(dialect="tale")
        event = record(mailbox_id=new_id())
        (prepared,) = prepare().calls
        (notice,) = notices
        assert notice.secrets == (webhook.secret,)
        assert (notice.event.id, notice.event.mailbox_id) == (event.id, event.mailbox_id)
        assert notice.event.data == event.data
        assert (notice.webhook.id, notice.request_id) == (webhook.id, prepared.request_id)

    def test_an_unknown_dialect_is_refused(self, make_webhook: MakeWebhook) -> None:
        with pytest.raises(ValidationFailed):
            make_webhook(dialect="klingon")

    def test_what_a_dialect_does_not_tell_is_skipped(self, make_webhook: MakeWebhook, record: Record) -> None:
        make_dialect(tells=False)
        make_webhook(dialect="tale")
        record()
        preparation = prepare()
        assert preparation.calls == []
        record_calls(results=preparation.results, now=timezone.now())
        call = WebhookCall.objects.get()
        assert (call.status, call.attempt_count, call.next_attempt_at) == ("skipped", 0, None)
        assert not WebhookAttempt.objects.exists()

    def test_a_request_that_is_too_large_is_given_up(self, make_webhook: MakeWebhook, record: Record) -> None:
        make_dialect(size=MAX_BODY)
        make_webhook(dialect="tale")
        record()
        record_calls(results=prepare().results, now=timezone.now())
        assert WebhookCall.objects.get().status == "failed"

    def test_a_format_that_breaks_delays_its_own_calls_only(self, make_webhook: MakeWebhook, record: Record) -> None:
        def broken(notice: Notice) -> HttpCall:
            raise ZeroDivisionError

        register_format("broken", broken)
        webhook = make_webhook("https://broken.example/", dialect="broken")
        make_webhook("https://native.example/")
        record()
        preparation = prepare()
        assert [prepared.url for prepared in preparation.calls] == ["https://native.example/"]
        record_calls(results=preparation.results, now=timezone.now())
        call = WebhookCall.objects.get(webhook_id=webhook.id)
        assert (call.status, call.attempt_count) == ("pending", 1)
        assert "prepared here" in call.last_error
        webhook.refresh_from_db()
        assert webhook.failing_since is None  # not its URL's fault


@pytest.mark.usefixtures("registers")
class TestEnrichers:
    def test_they_are_asked_once_for_all_events_of_a_batch(self, make_webhook: MakeWebhook, record: Record) -> None:
        asked: list[list[UUID]] = []

        def add_text(events: Sequence[Event]) -> Mapping[UUID, Mapping[str, Any]]:
            asked.append(sorted(event.id for event in events))
            return {event.id: {"text": f"text of {event.data['n']}"} for event in events}

        register_enricher("message.received", add_text)
        register_enricher("message.received", add_text)  # twice is once
        notices = make_dialect()
        make_webhook(dialect="tale")
        make_webhook("https://two.example/", dialect="tale")
        events = [record(n=number) for number in range(3)]
        record(EventType.MESSAGE_BOUNCED)
        assert len(prepare().calls) == 8
        assert asked == [sorted(event.id for event in events)]
        texts = {notice.event.id: notice.event.extra.get("text") for notice in notices}
        assert texts[events[2].id] == "text of 2"
        assert list(texts.values()).count(None) == 1

    def test_nobody_is_asked_for_formats_that_show_the_event_alone(
        self, make_webhook: MakeWebhook, record: Record
    ) -> None:
        def refuse(events: Sequence[Event]) -> Mapping[UUID, Mapping[str, Any]]:
            raise AssertionError("asked for nothing")

        register_enricher("message.received", refuse)
        make_webhook()
        record()
        assert len(prepare().calls) == 1

    def test_several_are_joined(self, make_webhook: MakeWebhook, record: Record) -> None:
        register_enricher("message.received", lambda events: {event.id: {"text": "a"} for event in events})
        register_enricher("message.received", lambda events: {event.id: {"html": "b"} for event in events})
        notices = make_dialect()
        make_webhook(dialect="tale")
        record()
        prepare()
        assert dict(notices[0].event.extra) == {"text": "a", "html": "b"}

    def test_one_that_breaks_lets_native_webhooks_go(self, make_webhook: MakeWebhook, record: Record) -> None:
        def broken(events: Sequence[Event]) -> Mapping[UUID, Mapping[str, Any]]:
            raise ZeroDivisionError

        register_enricher("message.received", broken)
        make_dialect()
        make_webhook("https://tale.example/", dialect="tale")
        make_webhook("https://native.example/")
        record()
        preparation = prepare()
        assert [prepared.url for prepared in preparation.calls] == ["https://native.example/"]
        assert len(preparation.results) == 1
