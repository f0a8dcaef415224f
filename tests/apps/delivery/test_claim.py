"""Leases: each due delivery goes to one worker, organizations in turn, and a lost lease changes nothing."""

import threading
from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import connection
from django.utils import timezone

from apps.accounts.models import Organization
from apps.accounts.services import reinstate_organization, suspend_organization
from apps.core.ids import new_id
from apps.delivery.models import Attempt, Delivery, Lane
from apps.delivery.services import (
    ClaimedDelivery,
    DeliveryResult,
    cancel_waiting,
    claim_deliveries,
    reclaim_expired,
    record_results,
    release_deliveries,
    renew_leases,
    stamp_on_wire,
)
from apps.mailboxes.models import Mailbox
from mailhost.smtp.replies import Outcome
from tests.apps.conftest import MakeMailbox
from tests.apps.delivery.conftest import Send

pytestmark = pytest.mark.django_db(transaction=True)


def claim(limit: int = 100) -> list[ClaimedDelivery]:
    return claim_deliveries(limit=limit, lane_limit=limit, now=timezone.now()).deliveries


def expire_leases() -> None:
    Delivery.objects.filter(status="sending").update(lease_expires_at=timezone.now() - timedelta(seconds=1))


def test_a_claim_takes_what_is_due_and_says_what_sending_needs(mailbox: Mailbox, send: Send) -> None:
    delivery = send(mailbox, "ops@acme.test")[0]
    (claimed,) = claim()
    assert (claimed.id, claimed.address, claimed.destination) == (delivery.id, "ops@acme.test", "acme.test")
    assert (claimed.sender, claimed.domain_id) == (mailbox.address, mailbox.domain_id)
    delivery.refresh_from_db()
    assert (delivery.status, delivery.lease_token) == ("sending", claimed.lease_token)
    assert claim() == []


def test_parallel_claims_never_share_a_delivery(mailbox: Mailbox, send: Send) -> None:
    for number in range(12):
        send(mailbox, *(f"r{number}-{person}@d{number % 4}.test" for person in range(10)))
    taken: list[ClaimedDelivery] = []
    start = threading.Barrier(4)

    def work() -> None:
        start.wait()
        for _ in range(40):
            taken.extend(claim(limit=7))
        connection.close()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    Lane.objects.filter(next_due_at__isnull=False).update(next_due_at=timezone.now())
    while rest := claim():
        taken.extend(rest)
    assert len(taken) == len({delivery.id for delivery in taken}) == 120


def test_one_organizations_thousand_does_not_stand_before_anothers_one(
    mailbox: Mailbox, stranger: Organization, make_mailbox: MakeMailbox, send: Send
) -> None:
    message = send(mailbox, "ops@acme.test")[0].message
    lane = Lane.objects.get(destination="acme.test")
    Delivery.objects.bulk_create(
        Delivery(
            organization_id=mailbox.organization_id, mailbox_id=mailbox.id, message=message, lane=lane, kind="to",
            address=f"r{number}@acme.test", next_attempt_at=timezone.now(), created_at=timezone.now(),
        )
        for number in range(1000)
    )  # fmt: skip
    send(make_mailbox("bob", of=stranger), "ops@other.test")
    first = claim(limit=20)
    assert "ops@other.test" in {delivery.address for delivery in first}


def test_a_walk_over_many_organizations_comes_to_each(make_mailbox: MakeMailbox, send: Send, now: object) -> None:
    for number in range(40):
        organization = Organization.objects.create(name=str(number))
        send(make_mailbox(f"box{number}", of=organization), f"r{number}@acme.test")
    seen, rotation = set(), claim_deliveries(limit=0, lane_limit=1, now=timezone.now()).rotation
    for _ in range(6):
        step = claim_deliveries(limit=40, lane_limit=1, now=timezone.now(), rotation=rotation)
        rotation = step.rotation
        seen |= {delivery.organization_id for delivery in step.deliveries}
    assert len(seen) == 40


def test_a_suspended_organizations_mail_waits_and_leaves_when_it_is_reinstated(
    mailbox: Mailbox, organization: Organization, send: Send, now: object
) -> None:
    send(mailbox)
    suspend_organization(organization=organization, reason="unpaid", now=timezone.now())
    assert claim() == []
    reinstate_organization(organization=organization)
    assert len(claim()) == 1


def test_busy_destinations_are_left_alone(mailbox: Mailbox, send: Send) -> None:
    send(mailbox, "a@slow.test", "b@quick.test")
    taken = claim_deliveries(limit=10, lane_limit=10, now=timezone.now(), busy=["slow.test"])
    assert [delivery.address for delivery in taken.deliveries] == ["b@quick.test"]
    assert [delivery.address for delivery in claim()] == ["a@slow.test"]


def test_an_expired_lease_is_tried_again_and_only_what_was_on_the_wire_is_uncertain(
    mailbox: Mailbox, send: Send
) -> None:
    send(mailbox, "wire@acme.test", "queue@acme.test")
    claimed = {delivery.address: delivery for delivery in claim()}
    assert stamp_on_wire(deliveries=[claimed["wire@acme.test"]]) == {claimed["wire@acme.test"].id}
    assert reclaim_expired(now=timezone.now()) == 0  # nobody's lease has run out
    expire_leases()
    assert reclaim_expired(now=timezone.now()) == 2
    attempts = Attempt.objects.all()
    assert [(attempt.delivery_id, attempt.outcome) for attempt in attempts] == [
        (claimed["wire@acme.test"].id, "uncertain")
    ]
    assert len(claim()) == 2
    assert not Delivery.objects.filter(on_wire_at__isnull=False).exists()


def test_a_renewed_lease_does_not_expire(mailbox: Mailbox, send: Send) -> None:
    send(mailbox)
    claimed = claim()
    expire_leases()
    assert renew_leases(deliveries=claimed) == {claimed[0].id}
    assert reclaim_expired(now=timezone.now()) == 0


def test_a_late_worker_overwrites_nothing(mailbox: Mailbox, send: Send) -> None:
    send(mailbox)
    late = claim()
    expire_leases()
    reclaim_expired(now=timezone.now())
    (current,) = claim()
    assert stamp_on_wire(deliveries=late) == set()
    assert renew_leases(deliveries=late) == set()
    assert release_deliveries(deliveries=late, now=timezone.now()) == 0
    result = DeliveryResult(late[0], Outcome.PERMANENT, timezone.now(), 550, "5.1.1", "no")
    assert record_results(results=[result], now=timezone.now()) == 0
    delivery = Delivery.objects.get()
    assert (delivery.status, delivery.lease_token) == ("sending", current.lease_token)
    assert not Attempt.objects.exists()


def test_what_is_given_back_is_due_at_once(mailbox: Mailbox, send: Send) -> None:
    send(mailbox)
    assert release_deliveries(deliveries=claim(), now=timezone.now()) == 1
    assert len(claim()) == 1


def test_a_claimed_delivery_can_be_canceled_until_it_is_stamped(mailbox: Mailbox, send: Send) -> None:
    send(mailbox, "a@acme.test", "b@acme.test")
    first, second = claim()
    stamp_on_wire(deliveries=[first])
    assert cancel_waiting(deliveries=Delivery.objects.all(), now=timezone.now()) == 1
    assert stamp_on_wire(deliveries=[second]) == set()
    assert {delivery.address: delivery.status for delivery in Delivery.objects.all()} == {
        first.address: "sending",
        second.address: "canceled",
    }


def test_a_lease_that_never_was_is_not_held() -> None:
    ghost = ClaimedDelivery(
        new_id(), uuid4(), new_id(), new_id(), new_id(), new_id(), 1, "x.test", "a@x.test", 0, timezone.now(),
        new_id(), 10, "b@x.test", new_id(),
    )  # fmt: skip
    assert renew_leases(deliveries=[ghost]) == set()
