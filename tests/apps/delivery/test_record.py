"""What a try leads to: the state, the attempt, the event and the counter, together."""

from datetime import timedelta

import pytest
from django.utils import timezone

from apps.delivery.models import Attempt, Delivery, Lane
from apps.delivery.services import ClaimedDelivery, DeliveryResult, claim_deliveries, record_results
from apps.delivery.states import MOVES, DeliveryStatus, message_status, sources_of
from apps.events.models import Event
from apps.mailboxes.models import Mailbox
from mailhost.smtp.replies import Outcome
from tests.apps.delivery.conftest import Send

pytestmark = pytest.mark.django_db(transaction=True)


def finish(claimed: ClaimedDelivery, outcome: Outcome, **fields: object) -> Delivery:
    result = DeliveryResult(claimed, outcome, timezone.now(), **fields)  # type: ignore[arg-type]
    assert record_results(results=[result], now=timezone.now()) == 1
    return Delivery.objects.get(id=claimed.id)


@pytest.fixture
def claimed(mailbox: Mailbox, send: Send) -> ClaimedDelivery:
    send(mailbox)
    return claim_deliveries(limit=10, lane_limit=10, now=timezone.now()).deliveries[0]


def last_event() -> Event:
    return Event.objects.order_by("-position", "-id")[0]


def test_taken_by_the_recipients_server_is_delivered(claimed: ClaimedDelivery) -> None:
    delivery = finish(claimed, Outcome.DELIVERED, code=250, enhanced_code="2.0.0", text="OK", host="mx.acme.test")
    assert (delivery.status, delivery.last_code, delivery.last_text) == ("delivered", 250, "OK")
    assert delivery.finished_at is not None and delivery.lease_token is None
    attempt = Attempt.objects.get()
    assert (attempt.delivery_id, attempt.outcome, attempt.host) == (claimed.id, "delivered", "mx.acme.test")
    assert (last_event().type, last_event().data["recipient"]) == ("message.delivered", "ops@acme.test")


def test_taken_by_a_relay_is_sent(claimed: ClaimedDelivery) -> None:
    assert finish(claimed, Outcome.DELIVERED, code=250, by_relay=True).status == "sent"
    assert last_event().type == "message.sent"


def test_refused_by_a_server_is_a_bounce_and_counts_once(claimed: ClaimedDelivery, mailbox: Mailbox) -> None:
    delivery = finish(claimed, Outcome.PERMANENT, code=550, enhanced_code="5.1.1", text="no such user")
    assert (delivery.status, delivery.next_attempt_at) == ("bounced", None)
    mailbox.usage.refresh_from_db()
    assert mailbox.usage.bounce_count == 1
    assert last_event().data["text"] == "no such user"


def test_what_no_server_refused_fails_without_a_bounce(claimed: ClaimedDelivery, mailbox: Mailbox) -> None:
    assert finish(claimed, Outcome.PERMANENT, text="The domain does not exist", is_local=True).status == "failed"
    mailbox.usage.refresh_from_db()
    assert mailbox.usage.bounce_count == 0


@pytest.mark.parametrize("outcome", [Outcome.TEMPORARY, Outcome.UNCERTAIN])
def test_anything_else_is_tried_again_on_the_schedule(claimed: ClaimedDelivery, outcome: Outcome) -> None:
    before = timezone.now()
    delivery = finish(claimed, outcome, code=451, text="later")
    assert (delivery.status, delivery.attempt_count) == ("deferred", 1)
    assert delivery.next_attempt_at is not None
    assert timedelta(seconds=50) < delivery.next_attempt_at - before < timedelta(seconds=70)
    assert Lane.objects.get().next_due_at == delivery.next_attempt_at
    assert Attempt.objects.get().outcome == outcome.value


def test_what_is_too_old_expires(claimed: ClaimedDelivery) -> None:
    old = ClaimedDelivery(
        **{field: getattr(claimed, field) for field in ClaimedDelivery.__dataclass_fields__}
        | {"created_at": timezone.now() - timedelta(days=5, seconds=1)}
    )
    delivery = finish(old, Outcome.TEMPORARY, code=451)
    assert (delivery.status, delivery.reason) == ("failed", "expired")


def test_odd_words_of_a_server_are_stored(claimed: ClaimedDelivery) -> None:
    delivery = finish(claimed, Outcome.TEMPORARY, code=499, enhanced_code="4.999.999999", text="é" * 5000)
    assert len(delivery.last_text) == 2000


def test_no_move_leads_out_of_a_final_state_except_to_a_later_bounce_or_complaint() -> None:
    for status in (DeliveryStatus.SENT, DeliveryStatus.DELIVERED):
        assert MOVES[status] == {DeliveryStatus.BOUNCED, DeliveryStatus.COMPLAINED}
    final = set(DeliveryStatus) - {"scheduled", "held", "queued", "sending", "deferred", "sent", "delivered"}
    assert all(MOVES[status] == frozenset() for status in final)
    assert set(MOVES) == set(DeliveryStatus)
    assert sources_of(DeliveryStatus.SENDING) == ["queued", "deferred"]


@pytest.mark.parametrize(
    ("statuses", "shown"),
    [
        (["delivered", "sending"], "sending"),
        (["delivered", "bounced"], "bounced"),
        (["delivered", "deferred", "held"], "deferred"),
        (["delivered", "sent"], "sent"),
        (["delivered", "canceled"], "delivered"),
        (["failed", "complained"], "failed"),
    ],
)
def test_a_message_shows_the_first_status_that_any_recipient_has(statuses: list[str], shown: str) -> None:
    assert message_status(statuses) == shown
