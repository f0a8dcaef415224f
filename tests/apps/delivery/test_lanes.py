"""A lane's next_due_at is never later than its earliest waiting delivery, whoever commits when."""

import threading
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.utils import timezone

from apps.delivery.lanes import find_lanes, make_lanes_due, settle_lanes
from apps.delivery.models import Delivery, Lane
from apps.delivery.services import claim_deliveries
from apps.mailboxes.models import Mailbox
from tests.apps.delivery.conftest import Send

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_send_makes_its_lane_due_and_a_claim_settles_it(mailbox: Mailbox, send: Send) -> None:
    send(mailbox, "ops@acme.test")
    lane = Lane.objects.get(destination="acme.test")
    assert lane.next_due_at is not None and lane.next_due_at <= timezone.now()

    claim = claim_deliveries(limit=10, lane_limit=10, now=timezone.now())
    assert len(claim.deliveries) == 1
    lane.refresh_from_db()
    assert lane.next_due_at is None


def test_lanes_are_made_once_for_senders_that_come_at_once(mailbox: Mailbox) -> None:
    found: list[dict[str, int]] = []
    start = threading.Barrier(8)

    def look() -> None:
        start.wait()
        found.append(find_lanes(organization_id=mailbox.organization_id, destinations=["a.test", "b.test"]))
        connection.close()

    threads = [threading.Thread(target=look) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(found) == 8
    assert all(lanes == found[0] and set(lanes) == {"a.test", "b.test"} for lanes in found)
    assert Lane.objects.count() == 2


def test_a_claim_does_not_settle_a_lane_that_a_sender_is_writing_to(mailbox: Mailbox, send: Send) -> None:
    """The lost wake-up: the lane is due, so the sender does not write it; the claim must not call it empty."""
    send(mailbox, "first@acme.test")
    lane = Lane.objects.get(destination="acme.test")
    inserted, commit = threading.Event(), threading.Event()

    def slow_send() -> None:
        with transaction.atomic():
            send(mailbox, "second@acme.test")
            inserted.set()
            assert commit.wait(10)
        connection.close()

    sender = threading.Thread(target=slow_send)
    sender.start()
    assert inserted.wait(10)

    claim = claim_deliveries(limit=10, lane_limit=10, now=timezone.now())
    assert [delivery.address for delivery in claim.deliveries] == ["first@acme.test"]
    lane.refresh_from_db()
    assert lane.next_due_at is not None  # looked at again, since a sender was there

    commit.set()
    sender.join(10)
    lane.refresh_from_db()
    assert lane.next_due_at is not None
    Lane.objects.update(next_due_at=timezone.now())  # its time has come
    claim = claim_deliveries(limit=10, lane_limit=10, now=timezone.now())
    assert [delivery.address for delivery in claim.deliveries] == ["second@acme.test"]


def test_settling_finds_the_earliest_delivery_that_still_waits(mailbox: Mailbox, send: Send) -> None:
    first, second = send(mailbox, "a@acme.test", "b@acme.test")
    soon, later = timezone.now() + timedelta(minutes=1), timezone.now() + timedelta(minutes=5)
    Delivery.objects.filter(id=first.id).update(next_attempt_at=later)
    Delivery.objects.filter(id=second.id).update(next_attempt_at=soon)
    with transaction.atomic():
        settle_lanes(lane_ids=[first.lane_id], now=timezone.now())
    assert Lane.objects.get().next_due_at == soon


def test_making_due_only_ever_lowers(mailbox: Mailbox) -> None:
    lane = find_lanes(organization_id=mailbox.organization_id, destinations=["a.test"])["a.test"]
    base = timezone.now()
    for offset, expected in ((10, 10), (20, 10), (5, 5)):
        with transaction.atomic():
            make_lanes_due(due={lane: base + timedelta(seconds=offset)})
        assert Lane.objects.get().next_due_at == base + timedelta(seconds=expected)


def test_senders_to_many_lanes_in_any_order_do_not_deadlock(mailbox: Mailbox) -> None:
    names = [f"d{number}.test" for number in range(20)]
    lanes = find_lanes(organization_id=mailbox.organization_id, destinations=names)
    errors: list[Exception] = []
    start = threading.Barrier(6)

    def work(reverse: bool) -> None:
        start.wait()
        try:
            for step in range(15):
                due = timezone.now() - timedelta(seconds=step)
                ids = sorted(lanes.values(), reverse=reverse)
                with transaction.atomic():
                    make_lanes_due(due=dict.fromkeys(ids, due))
        except Exception as error:
            errors.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=work, args=(number % 2 == 0,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert errors == []
