"""The outbox: a call for each webhook that is to be told, in the transaction of the fact, by one statement."""

from collections.abc import Iterator
from uuid import uuid4

import pytest
from django.db import transaction
from django.utils import timezone
from pytest_django.fixtures import DjangoAssertNumQueries, DjangoCaptureOnCommitCallbacks

from apps.accounts.models import Organization
from apps.core import doorbell as doorbell_module
from apps.core.ids import id_floor, new_id
from apps.events.models import Event, EventType, Webhook, WebhookCall
from apps.events.services import CALL_TASK, NewEvent, record_events, set_mailbox_webhook
from apps.mailboxes.models import Mailbox
from apps.mailboxes.services import update_mailbox
from tests.apps.events.conftest import MakeWebhook, Record

pytestmark = pytest.mark.django_db


def called() -> set[tuple[str, str]]:
    """URL and event type of every call."""
    urls = dict(Webhook.objects.values_list("id", "url"))
    return {(urls[call.webhook_id], call.event_type) for call in WebhookCall.objects.all()}


@pytest.fixture
def rings(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The tasks that the doorbell was asked to ring."""
    rung: list[str] = []
    monkeypatch.setattr(doorbell_module.doorbell, "ring", rung.append)
    yield rung


def test_each_webhook_is_told_of_what_it_asked_for(make_webhook: MakeWebhook, record: Record) -> None:
    box, other = new_id(), new_id()
    make_webhook("https://all.example/")
    make_webhook("https://bounces.example/", event_types=["message.bounced"])
    make_webhook("https://box.example/", mailbox_ids=[box])
    record(EventType.MESSAGE_BOUNCED, mailbox_id=box)
    record(EventType.MESSAGE_RECEIVED, mailbox_id=other)
    record(EventType.DOMAIN_VERIFIED)
    assert called() == {
        ("https://all.example/", "message.bounced"),
        ("https://all.example/", "message.received"),
        ("https://all.example/", "domain.verified"),
        ("https://bounces.example/", "message.bounced"),
        ("https://box.example/", "message.bounced"),
    }


def test_a_batch_tells_every_webhook_of_every_event(organization: Organization, make_webhook: MakeWebhook) -> None:
    hooks = [make_webhook(f"https://{name}.example/") for name in "ab"]
    facts = [NewEvent(EventType.MESSAGE_QUEUED, organization.id, data={"n": n}) for n in range(10)]
    record_events(events=facts, now=timezone.now())
    pairs = set(WebhookCall.objects.values_list("webhook_id", "event_id"))
    assert pairs == {(hook.id, event.id) for hook in hooks for event in Event.objects.all()}
    assert len(pairs) == 20


def test_strangers_and_disabled_webhooks_are_told_nothing(
    make_webhook: MakeWebhook, record: Record, stranger: Organization, mailbox: Mailbox
) -> None:
    make_webhook("https://stranger.example/", of=stranger)
    make_webhook("https://nosy.example/", of=stranger, mailbox_ids=[mailbox.id])
    set_mailbox_webhook(
        organization_id=stranger.id, mailbox_id=mailbox.id, url="https://thief.example/", now=timezone.now()
    )
    disabled = make_webhook("https://disabled.example/")
    Webhook.objects.filter(id=disabled.id).update(enabled=False)
    record(mailbox_id=mailbox.id)
    assert called() == set()


def test_a_mailbox_tells_its_own_webhook_of_itself_alone(mailbox: Mailbox, record: Record, now: object) -> None:
    update_mailbox(mailbox=mailbox, changes={"webhook_url": "https://alice.example/"}, now=timezone.now())
    record(mailbox_id=mailbox.id)
    record(mailbox_id=new_id())
    record(EventType.DOMAIN_FAILED)
    assert called() == {("https://alice.example/", "message.received")}


def test_ids_made_by_the_database_sort_by_time_like_ours(make_webhook: MakeWebhook, record: Record) -> None:
    make_webhook()
    before = timezone.now()
    record()
    call = WebhookCall.objects.get()
    assert call.id.version == 7
    assert abs(call.id.int - id_floor(before).int) >> 80 < 5000  # milliseconds
    assert (call.status, call.attempt_count, call.last_error) == ("pending", 0, "")
    assert call.next_attempt_at == call.created_at


def test_an_outbox_row_exists_only_if_the_transaction_committed(
    make_webhook: MakeWebhook, organization: Organization
) -> None:
    make_webhook()
    with pytest.raises(RuntimeError), transaction.atomic():
        record_events(events=[NewEvent(EventType.MESSAGE_SENT, organization.id)], now=timezone.now())
        assert WebhookCall.objects.count() == 1
        raise RuntimeError
    assert (WebhookCall.objects.count(), Event.objects.count()) == (0, 0)
    with transaction.atomic():
        record_events(events=[NewEvent(EventType.MESSAGE_SENT, organization.id)], now=timezone.now())
    assert (WebhookCall.objects.count(), Event.objects.count()) == (1, 1)


@pytest.mark.parametrize("listeners", [0, 1, 5])
@pytest.mark.parametrize("events", [1, 40])
def test_it_takes_one_statement_however_many_events_and_listeners(
    make_webhook: MakeWebhook,
    organization: Organization,
    django_assert_num_queries: DjangoAssertNumQueries,
    listeners: int,
    events: int,
) -> None:
    for number in range(listeners):
        make_webhook(f"https://h{number}.example/")
    facts = [NewEvent(EventType.MESSAGE_QUEUED, organization.id, new_id()) for _ in range(events)]
    with django_assert_num_queries(1):
        record_events(events=facts, now=timezone.now())
    assert WebhookCall.objects.count() == listeners * events
    with django_assert_num_queries(0):
        record_events(events=[], now=timezone.now())


def test_the_doorbell_rings_after_commit_and_only_if_somebody_listens(
    make_webhook: MakeWebhook,
    record: Record,
    stranger: Organization,
    rings: list[str],
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    make_webhook(of=stranger)
    with django_capture_on_commit_callbacks(execute=True):
        record()
    assert rings == []
    with django_capture_on_commit_callbacks(execute=True):
        record(of=stranger)
        assert rings == []
    assert rings == [CALL_TASK]


def test_events_keep_what_they_were_given(organization: Organization) -> None:
    box = uuid4()
    data = {"subject": "Ümläut \N{GRINNING FACE} \\ ' \"", "list": [1, None, {"a": True}], "percent": "100 %s"}
    now = timezone.now()
    record_events(events=[NewEvent(EventType.MESSAGE_RECEIVED, organization.id, box, data)], now=now)
    event = Event.objects.get()
    assert (event.type, event.organization_id, event.mailbox_id) == ("message.received", organization.id, box)
    assert (event.data, event.created_at) == (data, now)
    assert event.position > 0
