"""A mailbox whose mail bounces or is complained about too often is suspended, in the transaction that counts it."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import pytest
from django.utils import timezone

from apps.delivery.models import Delivery, Lane
from apps.delivery.services import (
    ClaimedDelivery,
    DeliveryResult,
    cancel_waiting,
    claim_deliveries,
    hold_waiting,
    record_results,
    reinstate_sending,
)
from apps.events.models import Event
from apps.mailboxes.errors import InboxSuspended
from apps.mailboxes.models import Mailbox, MailboxUsage
from apps.mailboxes.selectors import count_mailboxes
from apps.mailboxes.services import (
    add_usage,
    close_mailbox,
    count_sends,
    reinstate_mailbox,
    suspend_mailbox,
    update_mailbox,
)
from mailhost.smtp.replies import Outcome
from tests.apps.conftest import MakeMailbox
from tests.apps.delivery.conftest import Send
from tests.apps.delivery.test_send import reload
from tests.apps.threads import run_together

pytestmark = pytest.mark.django_db(transaction=True)
NOON = datetime(2031, 5, 5, 12, tzinfo=UTC)

GONE = (Outcome.PERMANENT, 550, "5.1.1", "no such user")
FULL = (Outcome.PERMANENT, 552, "5.2.2", "mailbox full")
LATER = (Outcome.TEMPORARY, 450, "4.2.0", "try later")
Claims = Callable[[Mailbox, int], list[ClaimedDelivery]]


@pytest.fixture
def claims(send: Send) -> Claims:
    """Sends to so many recipients and claims them."""

    def send_and_claim(mailbox: Mailbox, count: int) -> list[ClaimedDelivery]:
        for start in range(0, count, 50):
            send(reload(mailbox), *(f"r{number}@acme.test" for number in range(start, min(start + 50, count))))
        return claim_deliveries(limit=500, lane_limit=500, now=timezone.now()).deliveries

    return send_and_claim


def end(deliveries: list[ClaimedDelivery], ending: tuple[Outcome, int, str, str]) -> None:
    now = timezone.now()
    outcome, code, enhanced, text = ending
    results = [DeliveryResult(delivery, outcome, now, code, enhanced, text) for delivery in deliveries]
    assert record_results(results=results, now=now) == len(deliveries)


def status_of(mailbox: Mailbox) -> str:
    return Mailbox.objects.get(id=mailbox.id).status


def judged(mailbox: Mailbox) -> tuple[date, int, int, int]:
    usage = MailboxUsage.objects.get(mailbox=mailbox)
    return usage.judged_since, usage.judged_sent, usage.judged_bounces, usage.judged_complaints


def test_more_than_five_percent_of_hard_bounces_suspend(mailbox: Mailbox, claims: Claims, send: Send) -> None:
    claimed = claims(mailbox, 100)
    end(claimed[:5], GONE)
    assert status_of(mailbox) == "active"
    end(claimed[5:6], GONE)
    found = Mailbox.objects.get(id=mailbox.id)
    assert found.status == "suspended"
    assert found.suspended_reason == "6 of 100 recipients bounced for good; at most 5 % may."
    event = Event.objects.get(type="inbox.suspended")
    assert (event.mailbox_id, event.data["reason"]) == (mailbox.id, found.suspended_reason)
    assert count_mailboxes(organization_id=mailbox.organization_id, statuses=["suspended"]) == 1
    with pytest.raises(InboxSuspended):
        send(reload(mailbox), "else@acme.test")
    end(claimed[6:10], GONE)  # what still comes in is counted, and told once
    assert Event.objects.filter(type="inbox.suspended").count() == 1
    assert MailboxUsage.objects.get(mailbox=mailbox).bounce_count == 10


def test_below_a_hundred_nobody_is_judged(mailbox: Mailbox, claims: Claims) -> None:
    end(claims(mailbox, 99), GONE)
    assert status_of(mailbox) == "active"


@pytest.mark.parametrize("ending", [FULL, LATER])
def test_soft_and_transient_bounces_never_count(
    mailbox: Mailbox, claims: Claims, ending: tuple[Outcome, int, str, str]
) -> None:
    end(claims(mailbox, 100), ending)
    assert status_of(mailbox) == "active"
    assert judged(mailbox)[1:] == (100, 0, 0)


def test_more_than_a_thousandth_of_complaints_suspends(mailbox: Mailbox) -> None:
    MailboxUsage.objects.filter(mailbox=mailbox).update(judged_sent=3000)
    add_usage(deltas={mailbox.id: {"complaint_count": 3}}, now=NOON)
    assert status_of(mailbox) == "active"
    add_usage(deltas={mailbox.id: {"complaint_count": 1}}, now=NOON)
    assert Mailbox.objects.get().suspended_reason == "4 of 3000 recipients complained; at most 0.1 % may."


def test_the_bounds_are_settings(mailbox: Mailbox, settings: object) -> None:
    settings.MAILHOST_SUSPEND_MIN_SENT = 10  # type: ignore[attr-defined]
    settings.MAILHOST_SUSPEND_BOUNCE_PERCENT = Decimal("20")  # type: ignore[attr-defined]
    settings.MAILHOST_SUSPEND_COMPLAINT_PERCENT = Decimal("100")  # type: ignore[attr-defined]
    MailboxUsage.objects.filter(mailbox=mailbox).update(judged_sent=10)
    add_usage(deltas={mailbox.id: {"hard_bounces": 2, "complaint_count": 10}}, now=NOON)
    assert status_of(mailbox) == "active"
    add_usage(deltas={mailbox.id: {"hard_bounces": 1}}, now=NOON)
    assert status_of(mailbox) == "suspended"


def test_whoever_is_reinstated_begins_with_nothing(mailbox: Mailbox, claims: Claims) -> None:
    end(claims(mailbox, 100)[:20], GONE)
    assert status_of(mailbox) == "suspended"
    reinstate_mailbox(mailbox=mailbox, now=NOON)
    assert judged(mailbox) == (NOON.date(), 0, 0, 0)
    add_usage(deltas={mailbox.id: {"hard_bounces": 6}}, now=NOON)
    assert status_of(mailbox) == "active"
    usage = MailboxUsage.objects.get(mailbox=mailbox)
    assert (usage.total_sent, usage.bounce_count) == (100, 20)  # totals stay


def test_a_deleted_mailbox_stays_deleted_and_a_paused_one_is_suspended(
    mailbox: Mailbox, make_mailbox: MakeMailbox, now: datetime
) -> None:
    paused = make_mailbox("paused")
    update_mailbox(mailbox=paused, changes={"status": "paused"}, now=now)
    close_mailbox(mailbox=mailbox, release_address=False, now=now)
    MailboxUsage.objects.update(judged_sent=1000)
    add_usage(deltas={mailbox.id: {"hard_bounces": 99}, paused.id: {"hard_bounces": 99}}, now=now)
    assert (status_of(mailbox), status_of(paused)) == ("deleted", "suspended")


def test_what_is_old_fades_and_the_rate_stays(mailbox: Mailbox) -> None:
    MailboxUsage.objects.filter(mailbox=mailbox).update(
        judged_since=NOON.date(), judged_sent=1000, judged_bounces=40, judged_complaints=1
    )
    window = timedelta(days=30)
    count_sends(mailbox=mailbox, count=1, now=NOON + window - timedelta(days=1))
    assert judged(mailbox)[1:] == (1001, 40, 1)
    count_sends(mailbox=mailbox, count=1, now=NOON + window)
    assert judged(mailbox) == ((NOON + window).date(), 501, 20, 0)
    count_sends(mailbox=mailbox, count=1, now=NOON + 3.5 * window)
    assert judged(mailbox) == ((NOON + 3 * window).date(), 126, 5, 0)
    count_sends(mailbox=mailbox, count=1, now=NOON + timedelta(days=20_000))
    assert judged(mailbox)[1:] == (1, 0, 0)


def test_what_was_canceled_unsent_makes_no_rate_better(mailbox: Mailbox, claims: Claims, send: Send) -> None:
    claimed = claims(mailbox, 100)
    send(reload(mailbox), *(f"more{number}@acme.test" for number in range(50)))
    cancel_waiting(deliveries=Delivery.objects.filter(address__startswith="more"), now=timezone.now())
    end(claimed[:6], GONE)
    assert status_of(mailbox) == "suspended"


def test_results_deletion_and_changes_at_once_do_not_wait_in_a_circle(make_mailbox: MakeMailbox, now: datetime) -> None:
    mailboxes = [make_mailbox(f"agent{number}") for number in range(8)]
    MailboxUsage.objects.update(judged_sent=1000)
    ids: list[UUID] = [mailbox.id for mailbox in mailboxes]

    def work(number: int) -> object:
        mailbox = Mailbox.objects.get(id=ids[number % 8])
        match number % 4:
            case 0:
                return add_usage(deltas={mailbox_id: {"hard_bounces": 99} for mailbox_id in ids}, now=now)
            case 1:
                return close_mailbox(mailbox=mailbox, release_address=True, now=now)
            case 2:
                return reinstate_mailbox(mailbox=mailbox, now=now)
        return add_usage(deltas={mailbox_id: {"complaint_count": 9} for mailbox_id in reversed(ids)}, now=now)

    results = run_together(work, 32)
    assert [result for result in results if isinstance(result, Exception)] == []


def test_what_a_suspended_mailbox_has_waiting_is_held_until_it_is_reinstated(
    mailbox: Mailbox, make_mailbox: MakeMailbox, send: Send
) -> None:
    send(mailbox, *(f"r{number}@acme.test" for number in range(30)))
    send(make_mailbox("bob"), "other@acme.test")
    held_by_hand = Delivery.objects.filter(address="r0@acme.test")
    hold_waiting(deliveries=held_by_hand)
    now = timezone.now()
    suspend_mailbox(mailbox=mailbox, reason="Bounces", now=now)
    claimed = []
    while batch := claim_deliveries(limit=10, lane_limit=10, now=now):
        claimed += batch.deliveries
        if not batch.lanes_seen:
            break
    assert [delivery.address for delivery in claimed] == ["other@acme.test"]
    held = Delivery.objects.filter(status="held", reason="inbox_suspended")
    assert held.count() == 29
    assert not held.exclude(lease_token=None, lease_expires_at=None, next_attempt_at=None).exists()
    assert Lane.objects.get().next_due_at is None

    assert reinstate_sending(mailbox=mailbox, now=now)
    assert not reinstate_sending(mailbox=mailbox, now=now)
    assert len(claim_deliveries(limit=100, lane_limit=100, now=now).deliveries) == 29
    assert held_by_hand.get().status == "held"
