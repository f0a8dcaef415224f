"""Making, changing and ending webhooks; whose they are; and the one behind a mailbox's webhook_url."""

import base64
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from apps.accounts.models import Organization
from apps.core.errors import Conflict, NotFound, ValidationFailed
from apps.core.ids import new_id
from apps.events.models import Event, Webhook, WebhookAttempt, WebhookCall
from apps.events.selectors import (
    get_call,
    get_mailbox_webhook,
    get_webhook,
    list_attempts,
    list_calls,
    list_webhooks,
)
from apps.events.services import (
    create_webhook,
    delete_webhook,
    replay_call,
    rotate_webhook_secret,
    set_mailbox_webhook,
    update_webhook,
)
from apps.events.services import test_webhook as send_ping
from apps.events.services import webhooks as webhooks_module
from apps.mailboxes.models import Mailbox
from apps.mailboxes.services import NewMailbox, close_mailbox, create_mailbox, update_mailbox
from tests.apps.conftest import MakeMailbox
from tests.apps.events.conftest import MakeWebhook, Record
from tests.apps.threads import run_together

pytestmark = pytest.mark.django_db
URL = "https://hook.example/x"


class TestCreating:
    def test_its_secret_is_random_shown_once_and_stored_encrypted(self, organization: Organization, now: Any) -> None:
        webhook, secret = create_webhook(organization=organization, url=URL, now=now)
        _, other_secret = create_webhook(organization=organization, url=URL, now=now)
        assert secret is not None and secret.startswith("whsec_")
        assert len(base64.b64decode(secret.removeprefix("whsec_"), validate=True)) >= 24
        assert secret != other_secret
        with connection.cursor() as cursor:
            cursor.execute("SELECT row_to_json(w)::text FROM events_webhook AS w")
            stored = "".join(row[0] for row in cursor.fetchall())
        assert secret.removeprefix("whsec_") not in stored
        assert Webhook.objects.get(id=webhook.id).secret == secret
        assert (webhook.host, webhook.enabled, webhook.dialect) == ("hook.example", True, "native")

    def test_the_same_client_id_gives_the_same_webhook_and_no_secret(
        self, organization: Organization, stranger: Organization, now: Any
    ) -> None:
        first, secret = create_webhook(organization=organization, url=URL, client_id="a", now=now)
        again, none = create_webhook(organization=organization, url="https://other.example/", client_id="a", now=now)
        theirs, their_secret = create_webhook(organization=stranger, url=URL, client_id="a", now=now)
        assert (again.id, again.url, none) == (first.id, URL, None)
        assert theirs.id != first.id and their_secret != secret
        delete_webhook(webhook=first)
        fresh, fresh_secret = create_webhook(organization=organization, url=URL, client_id="a", now=now)
        assert fresh.id != first.id and fresh_secret is not None

    @pytest.mark.parametrize(
        ("fields", "field"),
        [
            ({"url": "http://hook.example/"}, "url"),
            ({"url": "https://10.0.0.1/"}, "url"),
            ({"url": "https://u:p@hook.example/"}, "url"),
            ({"event_types": []}, "events"),
            ({"event_types": ["message.recieved"]}, "events"),
            ({"event_types": ["ping"]}, "events"),
            ({"mailbox_ids": []}, "inbox_ids"),
            ({"mailbox_ids": [new_id() for _ in range(1001)]}, "inbox_ids"),
            ({"client_id": ""}, "client_id"),
            ({"client_id": "x" * 257}, "client_id"),
            ({"client_id": "a\0"}, "client_id"),
            ({"dialect": "klingon"}, "dialect"),
        ],
    )
    def test_bad_fields_are_named(
        self, organization: Organization, now: Any, fields: dict[str, Any], field: str
    ) -> None:
        with pytest.raises(ValidationFailed) as refused:
            create_webhook(organization=organization, now=now, **{"url": URL, **fields})
        assert refused.value.data["details"][0]["field"] == field
        assert not Webhook.objects.exists()

    def test_repetitions_are_removed(self, make_webhook: MakeWebhook) -> None:
        box = new_id()
        webhook = make_webhook(event_types=["message.sent", "message.sent"], mailbox_ids=[box, box])
        assert (webhook.event_types, webhook.mailbox_ids) == (["message.sent"], [box])

    def test_an_organization_has_a_bounded_number(
        self, make_webhook: MakeWebhook, stranger: Organization, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(webhooks_module, "MAX_WEBHOOKS", 2)
        update_mailbox(mailbox=mailbox, changes={"webhook_url": URL}, now=timezone.now())  # not counted
        make_webhook()
        make_webhook()
        with pytest.raises(Conflict):
            make_webhook()
        make_webhook(of=stranger)


@pytest.mark.django_db(transaction=True)
def test_parallel_creations_with_one_client_id_make_one_webhook(organization: Organization, now: Any) -> None:
    results = run_together(lambda _: create_webhook(organization=organization, url=URL, client_id="same", now=now), 8)
    made = [entry for entry in results if isinstance(entry, tuple)]
    assert len(made) == 8, results
    assert len({webhook.id for webhook, _ in made}) == 1
    assert len([secret for _, secret in made if secret is not None]) == 1


class TestChanging:
    def test_it_changes_what_is_named_and_nothing_else(self, make_webhook: MakeWebhook, now: Any) -> None:
        webhook = make_webhook(event_types=["message.sent"])
        secret = webhook.secret
        changed = update_webhook(webhook=webhook, changes={"url": "https://new.example:8443/y"}, now=now)
        assert (changed.url, changed.host) == ("https://new.example:8443/y", "new.example:8443")
        assert (changed.event_types, changed.enabled, changed.secret) == (["message.sent"], True, secret)
        changed = update_webhook(webhook=webhook, changes={"event_types": None, "enabled": False}, now=now)
        assert (changed.event_types, changed.enabled, changed.disabled_at) == (None, False, now)
        assert changed.url == "https://new.example:8443/y"

    @pytest.mark.parametrize(
        "changes", [{"url": "https://127.0.0.1/"}, {"event_types": ["x"]}, {"mailbox_ids": []}, {"url": ""}]
    )
    def test_a_bad_change_changes_nothing(self, make_webhook: MakeWebhook, now: Any, changes: dict[str, Any]) -> None:
        webhook = make_webhook()
        with pytest.raises(ValidationFailed):
            update_webhook(webhook=webhook, changes={"enabled": False} | changes, now=now)
        webhook.refresh_from_db()
        assert (webhook.url, webhook.enabled) == (URL, True)

    def test_one_that_was_deleted_meanwhile_is_not_found(self, make_webhook: MakeWebhook, now: Any) -> None:
        webhook = make_webhook()
        delete_webhook(webhook=Webhook.objects.get(id=webhook.id))
        with pytest.raises(NotFound):
            update_webhook(webhook=webhook, changes={}, now=now)
        with pytest.raises(NotFound):
            rotate_webhook_secret(webhook=webhook, now=now)
        with pytest.raises(NotFound):
            delete_webhook(webhook=webhook)


class TestStrangers:
    def test_a_strangers_webhook_and_calls_are_not_found(
        self, make_webhook: MakeWebhook, record: Record, organization: Organization, stranger: Organization
    ) -> None:
        mine, theirs = make_webhook(), make_webhook(of=stranger)
        record()
        record(of=stranger)
        assert get_webhook(organization_id=organization.id, webhook_id=mine.id) == mine
        with pytest.raises(NotFound):
            get_webhook(organization_id=organization.id, webhook_id=theirs.id)
        with pytest.raises(NotFound):
            get_webhook(organization_id=organization.id, webhook_id=new_id())
        assert list_webhooks(organization_id=organization.id, limit=10) == [mine]
        their_call = WebhookCall.objects.get(webhook_id=theirs.id)
        with pytest.raises(NotFound):
            get_call(webhook=mine, call_id=their_call.id)
        assert [call.organization_id for call in list_calls(webhook=mine, limit=10)] == [organization.id]


class TestCalls:
    def test_they_are_listed_newest_first_by_place(self, make_webhook: MakeWebhook, record: Record) -> None:
        webhook = make_webhook()
        for _ in range(5):
            record()
        calls = list_calls(webhook=webhook, limit=3)
        rest = list_calls(webhook=webhook, limit=3, after=calls[-1].id)
        ids = [call.id for call in calls + rest]
        assert ids == sorted(ids, reverse=True) and len(set(ids)) == 5
        assert [call.id for call in list_calls(webhook=webhook, limit=9, ascending=True)] == ids[::-1]
        WebhookCall.objects.filter(id=ids[0]).update(status="delivered")
        assert [call.id for call in list_calls(webhook=webhook, limit=9, status="delivered")] == ids[:1]
        attempt = WebhookAttempt.objects.create(call_id=ids[0], at=timezone.now(), duration_ms=1, url=URL)
        assert list_attempts(call_ids=ids[:2]) == {ids[0]: [attempt], ids[1]: []}

    def test_a_finished_call_is_made_again_with_the_same_event(
        self, make_webhook: MakeWebhook, record: Record, now: Any
    ) -> None:
        webhook = make_webhook()
        event = record()
        call = get_call(webhook=webhook, call_id=WebhookCall.objects.get().id)
        with pytest.raises(Conflict):
            replay_call(call=call, now=now)  # it still waits
        WebhookCall.objects.update(status="failed", attempt_count=9, first_attempt_at=now, next_attempt_at=None)
        later = now + timedelta(days=5)
        again = replay_call(call=call, now=later)
        assert (again.id, again.event_id, again.status) == (call.id, event.id, "pending")
        assert (again.attempt_count, again.first_attempt_at, again.next_attempt_at) == (0, None, later)

    def test_nothing_is_made_again_for_a_webhook_that_is_disabled_or_gone_or_an_event_that_is(
        self, make_webhook: MakeWebhook, record: Record, now: Any
    ) -> None:
        webhook = make_webhook()
        record()
        WebhookCall.objects.update(status="delivered")
        call = WebhookCall.objects.get()
        update_webhook(webhook=webhook, changes={"enabled": False}, now=now)
        with pytest.raises(Conflict):
            replay_call(call=call, now=now)
        with pytest.raises(Conflict):
            send_ping(webhook=Webhook.objects.get(id=webhook.id), now=now)
        update_webhook(webhook=webhook, changes={"enabled": True}, now=now)
        Event.objects.all().delete()
        with pytest.raises(Conflict):
            replay_call(call=call, now=now)
        delete_webhook(webhook=webhook)
        with pytest.raises(Conflict):
            replay_call(call=call, now=now)


class TestMailboxes:
    def hook(self, mailbox: Mailbox) -> Webhook | None:
        return get_mailbox_webhook(organization_id=mailbox.organization_id, mailbox_id=mailbox.id)

    def test_a_url_given_at_creation_makes_a_webhook_that_is_told_of_it(self, make_mailbox: MakeMailbox) -> None:
        mailbox = make_mailbox("bob", webhook_url=URL)
        webhook = self.hook(mailbox)
        assert webhook is not None
        assert (webhook.url, webhook.event_types, webhook.dialect) == (URL, None, "native")
        assert webhook.secret.startswith("whsec_")
        assert [call.event_type for call in WebhookCall.objects.all()] == ["inbox.created"]
        assert not list_webhooks(organization_id=mailbox.organization_id, limit=10)  # only its mailbox shows it

    def test_a_dialect_may_narrow_what_it_is_told(self, make_mailbox: MakeMailbox) -> None:
        mailbox = make_mailbox("bob", webhook_url=URL, webhook_dialect="native", webhook_events=["message.received"])
        webhook = self.hook(mailbox)
        assert webhook is not None and webhook.event_types == ["message.received"]
        assert not WebhookCall.objects.exists()
        update_mailbox(mailbox=mailbox, changes={"webhook_url": "https://two.example/"}, now=timezone.now())
        webhook = self.hook(mailbox)
        assert webhook is not None and webhook.event_types == ["message.received"]

    def test_changing_keeps_the_secret_and_removing_removes(self, mailbox: Mailbox, now: Any) -> None:
        update_mailbox(mailbox=mailbox, changes={"webhook_url": URL}, now=now)
        first = self.hook(mailbox)
        update_mailbox(mailbox=mailbox, changes={"display_name": "B"}, now=now)
        update_mailbox(mailbox=mailbox, changes={"webhook_url": "https://two.example/"}, now=now)
        second = self.hook(mailbox)
        assert first is not None and second is not None
        assert (second.id, second.secret, second.url) == (first.id, first.secret, "https://two.example/")
        update_mailbox(mailbox=mailbox, changes={"webhook_url": None}, now=now)
        assert self.hook(mailbox) is None
        update_mailbox(mailbox=mailbox, changes={"webhook_url": None}, now=now)
        assert not Webhook.objects.exists()

    def test_giving_the_url_again_enables_it_again(self, mailbox: Mailbox, now: Any) -> None:
        update_mailbox(mailbox=mailbox, changes={"webhook_url": URL}, now=now)
        Webhook.objects.update(enabled=False, disabled_at=now, disabled_reason="dead", failing_since=now)
        update_mailbox(mailbox=mailbox, changes={"webhook_url": URL}, now=now)
        webhook = self.hook(mailbox)
        assert webhook is not None
        assert (webhook.enabled, webhook.disabled_at, webhook.failing_since) == (True, None, None)

    @pytest.mark.parametrize("url", ["http://hook.example/", "https://127.0.0.1/", "nonsense", "", "https://[::1]/"])
    def test_a_bad_url_makes_no_mailbox_and_changes_none(
        self, organization: Organization, mailbox: Mailbox, now: Any, url: str
    ) -> None:
        with pytest.raises(ValidationFailed) as refused:
            create_mailbox(organization=organization, wanted=NewMailbox(username="bob", webhook_url=url), now=now)
        assert refused.value.data["details"][0]["field"] == "webhook_url"
        with pytest.raises(ValidationFailed):
            update_mailbox(mailbox=mailbox, changes={"webhook_url": url, "display_name": "B"}, now=now)
        mailbox.refresh_from_db()
        assert (mailbox.webhook_url, mailbox.display_name) == (None, "Alice Agent")
        assert not Mailbox.objects.filter(username="bob").exists()
        assert not Webhook.objects.exists()

    def test_its_url_is_changed_through_the_mailbox_alone(self, make_mailbox: MakeMailbox, now: Any) -> None:
        webhook = self.hook(make_mailbox("bob", webhook_url=URL))
        assert webhook is not None
        with pytest.raises(Conflict):
            update_webhook(webhook=webhook, changes={"url": "https://two.example/"}, now=now)
        with pytest.raises(Conflict):
            delete_webhook(webhook=webhook)
        rotated, secret = rotate_webhook_secret(webhook=webhook, now=now)
        assert rotated.secret == secret
        assert update_webhook(webhook=webhook, changes={"enabled": False}, now=now).enabled is False

    def test_a_deleted_mailbox_still_tells_that_it_was_deleted(self, make_mailbox: MakeMailbox, now: Any) -> None:
        mailbox = make_mailbox("bob", webhook_url=URL)
        close_mailbox(mailbox=mailbox, release_address=True, now=now)
        assert "inbox.deleted" in WebhookCall.objects.values_list("event_type", flat=True)
        assert self.hook(mailbox) is not None

    def test_a_mailbox_without_a_webhook_costs_no_statement_more(
        self, organization: Organization, make_mailbox: MakeMailbox, now: Any
    ) -> None:
        make_mailbox("warm")
        with CaptureQueriesContext(connection) as queries:
            create_mailbox(organization=organization, wanted=NewMailbox(username="bob"), now=now)
        assert not [query for query in queries if "events_webhook" in query["sql"]]

    def test_set_mailbox_webhook_leaves_a_strangers_alone(
        self, make_mailbox: MakeMailbox, stranger: Organization, now: Any
    ) -> None:
        mailbox = make_mailbox("bob", webhook_url=URL)
        set_mailbox_webhook(organization_id=stranger.id, mailbox_id=mailbox.id, url=None, now=now)
        assert self.hook(mailbox) is not None
