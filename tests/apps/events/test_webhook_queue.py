"""Claims, leases, pauses and health: what the outbox promises, without a network."""

import random
from collections import Counter
from datetime import datetime, timedelta
from uuid import UUID

import pytest
from django.db import connection
from django.utils import timezone
from pytest_django.fixtures import DjangoAssertNumQueries

from apps.accounts.models import Organization
from apps.core.ids import id_floor, new_id
from apps.events.models import Event, EventType, Webhook, WebhookAttempt, WebhookCall
from apps.events.services import (
    FIRST_WEBHOOK,
    CallResult,
    ClaimedCall,
    NewEvent,
    Place,
    Slots,
    claim_calls,
    delete_webhook,
    prepare_calls,
    record_calls,
    record_events,
    release_calls,
    update_webhook,
)
from apps.events.services import record as record_module
from apps.events.services.record import GIVE_UP_AFTER, pause_after
from apps.events.services.slots import MAX_A_HOST, MAX_A_WEBHOOK, MAX_AN_ORGANIZATION, MAX_CALLS, MAX_FAILING
from apps.events.tasks import forget_webhook_calls
from tests.apps.events.conftest import MakeWebhook, Record, make_due
from tests.apps.threads import run_together

NOW = datetime(2031, 5, 5, 12, tzinfo=timezone.now().tzinfo)


def claim(slots: Slots | None = None) -> list[ClaimedCall]:
    make_due()
    return claim_calls(slots=slots or Slots(), now=timezone.now()).calls


def result(call: ClaimedCall, status: int | None = 500, **fields: object) -> CallResult:
    fields = {"at": NOW, "request_id": new_id(), "url": "https://hook.example/x", "error": "no"} | fields
    return CallResult(call, status_code=status, **fields)  # type: ignore[arg-type]


def fill(organization: Organization, count: int) -> None:
    facts = [NewEvent(EventType.MESSAGE_QUEUED, organization.id) for _ in range(count)]
    record_events(events=facts, now=timezone.now())


@pytest.mark.django_db
class TestClaiming:
    def test_a_call_is_leased_to_one_sender(self, make_webhook: MakeWebhook, record: Record) -> None:
        make_webhook()
        event = record()
        (call,) = claim()
        assert (call.event_id, call.event_type, call.attempt_count) == (event.id, "message.received", 0)
        assert claim_calls(slots=Slots(), now=timezone.now()).calls == []
        row = WebhookCall.objects.get()
        assert (row.status, row.lease_token) == ("pending", call.lease_token)
        assert row.next_attempt_at is not None and row.next_attempt_at > timezone.now() + timedelta(seconds=50)

    def test_a_lease_that_ran_out_is_taken_over_and_the_late_result_changes_nothing(
        self, make_webhook: MakeWebhook, record: Record
    ) -> None:
        make_webhook()
        record()
        (late,) = claim()
        (again,) = claim()
        assert (late.id, late.event_id) == (again.id, again.event_id)
        assert late.lease_token != again.lease_token
        assert record_calls(results=[result(late, 200)], now=NOW) == 0
        row = WebhookCall.objects.get()
        assert (row.status, row.lease_token, row.attempt_count) == ("pending", again.lease_token, 0)
        assert record_calls(results=[result(again, 200)], now=NOW) == 1
        assert WebhookCall.objects.get().status == "delivered"
        assert WebhookAttempt.objects.count() == 2  # both requests were made, and the log says so

    def test_what_is_given_back_is_due_at_once(self, make_webhook: MakeWebhook, record: Record) -> None:
        make_webhook()
        record()
        (call,) = claim()
        assert release_calls(calls=[call]) == 1
        assert [again.id for again in claim_calls(slots=Slots(), now=timezone.now()).calls] == [call.id]
        assert release_calls(calls=[call]) == 0  # no longer ours

    def test_calls_of_a_deleted_or_disabled_webhook_are_canceled(
        self, make_webhook: MakeWebhook, organization: Organization
    ) -> None:
        deleted, disabled, kept = (make_webhook(f"https://{name}.example/") for name in ("a", "b", "c"))
        fill(organization, 3)
        delete_webhook(webhook=deleted)
        update_webhook(webhook=disabled, changes={"enabled": False}, now=timezone.now())
        assert {call.webhook_id for call in claim()} == {kept.id}
        statuses = Counter(WebhookCall.objects.exclude(webhook_id=kept.id).values_list("status", flat=True))
        assert statuses == {"canceled": 6}

    def test_webhooks_take_turns_however_much_waits_for_one(
        self, make_webhook: MakeWebhook, organization: Organization, stranger: Organization
    ) -> None:
        make_webhook("https://busy.example/")
        fill(organization, 200)
        quiet = make_webhook("https://quiet.example/", of=stranger)
        fill(stranger, 1)
        counts = Counter(call.webhook_id for call in claim())
        assert counts[quiet.id] == 1
        assert max(counts.values()) <= MAX_A_WEBHOOK

    def test_more_webhooks_than_places_are_all_served_in_turn(
        self, make_webhook: MakeWebhook, organization: Organization, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        hooks = [make_webhook(f"https://h{number}.example/") for number in range(25)]
        fill(organization, 1)
        make_due()
        rotation, served = FIRST_WEBHOOK, []
        for _ in range(10):
            taken = claim_calls(slots=Slots(), now=timezone.now(), rotation=rotation)
            rotation = taken.rotation
            assert len(taken.calls) <= MAX_AN_ORGANIZATION
            served += [call.webhook_id for call in taken.calls]
        assert sorted(served) == sorted(hook.id for hook in hooks)

    def test_the_walk_over_many_waiting_webhooks_reaches_all_of_them(
        self, make_webhook: MakeWebhook, organization: Organization, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("apps.events.services.claim._WEBHOOKS_A_CLAIM", 3)
        hooks = [make_webhook(f"https://h{number}.example/") for number in range(8)]
        fill(organization, 1)
        WebhookCall.objects.exclude(webhook_id=hooks[-1].id).update(next_attempt_at=NOW)
        WebhookCall.objects.filter(webhook_id=hooks[-1].id).update(next_attempt_at=timezone.now() - timedelta(hours=1))
        rotation, found = FIRST_WEBHOOK, 0
        for step in range(3):
            taken = claim_calls(slots=Slots(), now=timezone.now(), rotation=rotation)
            rotation, found = taken.rotation, found + len(taken.calls)
            assert (rotation == FIRST_WEBHOOK) == (step == 2)
        assert found == 1

    def test_claiming_and_preparing_cost_the_same_queries_at_any_number(
        self,
        make_webhook: MakeWebhook,
        organization: Organization,
        stranger: Organization,
        django_assert_num_queries: DjangoAssertNumQueries,
    ) -> None:
        for number in range(6):
            make_webhook(f"https://h{number}.example/", of=organization if number % 2 else stranger)
        fill(organization, 10)
        fill(stranger, 10)
        make_due()
        with django_assert_num_queries(4):  # savepoint, walk, take, release
            calls = claim_calls(slots=Slots(), now=timezone.now()).calls
        assert len(calls) > 20
        with django_assert_num_queries(2):  # webhooks, events
            prepare_calls(calls=calls, now=timezone.now())
        with django_assert_num_queries(5):  # savepoint, states, attempts, health, release
            record_calls(results=[result(call, 200) for call in calls], now=NOW)


class TestSlots:
    def test_each_limit_holds(self) -> None:
        organization = new_id()
        slots = Slots()

        def take_all(hosts: list[str], *, failing: bool = False, organizations: int = 1) -> int:
            taken = 0
            owners = [organization, *(new_id() for _ in range(organizations - 1))]
            for number in range(300):
                place = Place(UUID(int=number), owners[number % organizations], hosts[number % len(hosts)], failing)
                if slots.room_for(place):
                    slots.take(place)
                    taken += 1
            return taken

        assert take_all(["one.example"]) == MAX_A_HOST
        assert take_all([f"h{number}.example" for number in range(40)]) == MAX_AN_ORGANIZATION - MAX_A_HOST
        hosts = [f"dead{number}.example" for number in range(40)]
        assert take_all(hosts, failing=True, organizations=20) == MAX_FAILING
        assert take_all([f"good{number}.example" for number in range(300)], organizations=20) > 0
        assert (slots.calls, slots.free) == (MAX_CALLS, 0)

    def test_what_failed_gets_one_place_and_places_are_given_back(self) -> None:
        slots = Slots()
        place = Place(new_id(), new_id(), "dead.example", True)
        assert slots.room_for(place) == 1
        slots.take(place)
        assert slots.room_for(place) == 0
        assert slots.copy().room_for(place) == 0
        slots.take(place, -1)
        assert (slots.room_for(place), slots) == (1, Slots())


@pytest.mark.django_db
class TestResults:
    def test_pauses_grow_and_end_after_three_days(
        self, make_webhook: MakeWebhook, record: Record, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(record_module, "_JITTER", 0)
        webhook = make_webhook()
        record()
        now, pauses = NOW, []
        for _ in range(50):
            (call,) = claim()
            record_calls(results=[result(call, at=now)], now=now)
            row = WebhookCall.objects.get()
            if row.next_attempt_at is None:
                break
            pauses.append(int((row.next_attempt_at - now).total_seconds()))
            now = row.next_attempt_at
        hours = 3600
        assert pauses[:9] == [5, 30, 120, 600, 1800, hours, 3 * hours, 6 * hours, 12 * hours]
        assert all(pause == 12 * hours for pause in pauses[9:-1])
        assert sum(pauses) == GIVE_UP_AFTER.total_seconds()
        assert (row.status, row.attempt_count, row.last_status_code) == ("failed", len(pauses) + 1, 500)
        assert row.finished_at == now == NOW + GIVE_UP_AFTER
        webhook.refresh_from_db()
        assert (webhook.enabled, webhook.disabled_at) == (False, now)  # nothing was taken for three days
        assert Event.objects.filter(type=EventType.WEBHOOK_DISABLED).count() == 1

    def test_pauses_are_scattered(self, make_webhook: MakeWebhook, record: Record) -> None:
        make_webhook()
        record()
        (call,) = claim()
        pauses = {(pause_after(result(call), NOW) or NOW) - NOW for _ in range(50)}
        assert len(pauses) > 40
        assert all(timedelta(seconds=4.5) <= pause <= timedelta(seconds=5.5) for pause in pauses)

    @pytest.mark.parametrize(
        ("asked", "low", "high"),
        [(timedelta(seconds=90), 90, 90), (timedelta(0), 4, 6), (timedelta(days=30), 43200, 43200)],
    )
    def test_retry_after_lengthens_a_pause_within_bounds(
        self, make_webhook: MakeWebhook, record: Record, asked: timedelta, low: int, high: int
    ) -> None:
        make_webhook()
        record()
        (call,) = claim()
        record_calls(results=[result(call, 429, retry_after=asked)], now=NOW)
        row = WebhookCall.objects.get()
        assert row.next_attempt_at is not None
        assert low <= (row.next_attempt_at - NOW).total_seconds() <= high

    def test_an_attempt_keeps_the_beginnings_of_request_and_answer(
        self, make_webhook: MakeWebhook, record: Record
    ) -> None:
        make_webhook()
        record()
        (call,) = claim()
        tried = result(call, 500, request="q" * 5000, response="a\0" * 5000, error="e\ud800" * 1000, duration_ms=12)
        record_calls(results=[tried], now=NOW)
        attempt = WebhookAttempt.objects.get()
        assert (attempt.id, attempt.call_id, attempt.at) == (tried.request_id, call.id, NOW)
        assert (attempt.status_code, attempt.duration_ms, attempt.url) == (500, 12, "https://hook.example/x")
        assert (len(attempt.request), len(attempt.response), len(attempt.error)) == (2048, 2048, 500)
        assert "\0" not in attempt.response

    def test_410_disables_at_once_and_tells_the_others(self, make_webhook: MakeWebhook, record: Record) -> None:
        gone = make_webhook("https://gone.example/hook?token=secret")
        other = make_webhook("https://other.example/", event_types=["webhook.disabled"])
        record()
        (call,) = claim()
        record_calls(results=[result(call, 410)], now=NOW)
        gone.refresh_from_db()
        assert (gone.enabled, gone.disabled_at, "410" in gone.disabled_reason) == (False, NOW, True)
        assert WebhookCall.objects.get(id=call.id).status == "failed"
        event = Event.objects.get(type=EventType.WEBHOOK_DISABLED)
        assert (event.organization_id, event.data["webhook_id"]) == (gone.organization_id, str(gone.id))
        assert event.data["url"] == "https://gone.example/hook"  # without the secret
        told = WebhookCall.objects.filter(status="pending")
        assert [(call.webhook_id, call.event_id) for call in told] == [(other.id, event.id)]

    def test_a_success_forgets_failures_and_nothing_healthy_is_written(
        self, make_webhook: MakeWebhook, record: Record
    ) -> None:
        webhook = make_webhook()
        record()
        (call,) = claim()
        record_calls(results=[result(call, 500)], now=NOW)
        webhook.refresh_from_db()
        assert webhook.failing_since == NOW
        (call,) = claim()
        assert call.place.failing
        later = NOW + GIVE_UP_AFTER - timedelta(hours=1)
        record_calls(results=[result(call, 204, at=later)], now=later)
        webhook.refresh_from_db()
        assert (webhook.failing_since, webhook.enabled) == (None, True)
        row_version = _xmin(webhook)
        record()
        (call,) = claim()
        record_calls(results=[result(call, 200)], now=NOW)
        assert _xmin(webhook) == row_version

    def test_a_success_beside_failures_in_one_batch_counts(
        self, make_webhook: MakeWebhook, organization: Organization
    ) -> None:
        webhook = make_webhook()
        Webhook.objects.update(failing_since=NOW - GIVE_UP_AFTER)
        fill(organization, 2)
        first, second = claim()[:1], []
        Webhook.objects.update(failing_since=None)
        second = claim_calls(slots=Slots(), now=timezone.now()).calls
        Webhook.objects.update(failing_since=NOW - GIVE_UP_AFTER)
        record_calls(results=[result(first[0], 500), result(second[0], 200)], now=NOW)
        webhook.refresh_from_db()
        assert (webhook.enabled, webhook.failing_since) == (True, None)

    def test_enabling_again_begins_from_nothing(self, make_webhook: MakeWebhook, record: Record) -> None:
        webhook = make_webhook()
        Webhook.objects.update(failing_since=NOW - GIVE_UP_AFTER)
        record()
        (call,) = claim()
        record_calls(results=[result(call, None)], now=NOW)
        webhook.refresh_from_db()
        assert not webhook.enabled
        webhook = update_webhook(webhook=webhook, changes={"enabled": True}, now=NOW)
        assert (webhook.enabled, webhook.disabled_at, webhook.disabled_reason) == (True, None, "")
        record()
        fresh = [call for call in claim() if call.attempt_count == 0]
        record_calls(results=[result(fresh[0], None)], now=NOW)
        webhook.refresh_from_db()
        assert (webhook.enabled, webhook.failing_since) == (True, NOW)

    def test_old_finished_calls_are_forgotten_and_waiting_ones_kept(
        self, make_webhook: MakeWebhook, organization: Organization
    ) -> None:
        make_webhook()
        fill(organization, 4)
        old = id_floor(timezone.now() - timedelta(days=31)).int
        for number, call in enumerate(WebhookCall.objects.order_by("id")):
            status = "pending" if number == 0 else "delivered"
            new = UUID(int=old + number) if number < 3 else call.id
            WebhookCall.objects.filter(id=call.id).update(id=new, status=status)
        forget_webhook_calls()
        assert sorted(WebhookCall.objects.values_list("status", flat=True)) == ["delivered", "pending"]


def _xmin(webhook: Webhook) -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT xmin::text || ctid::text FROM events_webhook WHERE id = %s", [webhook.id])
        row = cursor.fetchone()
    assert row is not None
    return str(row[0])


@pytest.mark.django_db(transaction=True)
def test_two_senders_never_take_one_call_at_once(make_webhook: MakeWebhook, organization: Organization) -> None:
    for number in range(20):
        make_webhook(f"https://h{number}.example/")
    fill(organization, 5)
    order = random.Random(7)
    pauses = [order.random() for _ in range(6)]

    def drain(number: int) -> list[UUID]:
        taken: list[UUID] = []
        for _ in range(20):
            calls = claim_calls(slots=Slots(), now=timezone.now()).calls
            taken += [call.id for call in calls]
            if pauses[number] < 0.5:
                record_calls(results=[result(call, 200) for call in calls], now=timezone.now())
        return taken

    results = run_together(drain, 6)
    taken = [call_id for part in results if isinstance(part, list) for call_id in part]
    assert all(isinstance(part, list) for part in results), results
    assert len(taken) == len(set(taken)) == 100


@pytest.mark.django_db(transaction=True)
def test_batches_that_judge_the_same_webhooks_do_not_wait_in_a_circle(
    make_webhook: MakeWebhook, organization: Organization
) -> None:
    hooks = [make_webhook(f"https://h{number}.example/") for number in range(12)]
    fill(organization, 4)
    make_due()
    batches: list[list[ClaimedCall]] = []
    for _ in range(4):
        calls: list[ClaimedCall] = []
        while len({call.webhook_id for call in calls}) < len(hooks):
            found = claim_calls(slots=Slots(), now=timezone.now()).calls
            assert found
            calls += found
        batches.append(calls)
        if sum(map(len, batches)) >= 48:
            break

    def judge(number: int) -> int:
        calls = sorted(batches[number], key=lambda call: call.webhook_id.int, reverse=bool(number % 2))
        good = [result(call, 200 if (call.webhook_id.int + number) % 2 else 500) for call in calls]
        return record_calls(results=good, now=timezone.now())

    results = run_together(judge, len(batches))
    assert sum(count for count in results if isinstance(count, int)) == sum(map(len, batches)), results
