"""Admin pages of the queue."""

from datetime import datetime
from uuid import uuid4

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client

from apps.accounts.models import Organization
from apps.core.ids import encode_id
from apps.delivery.models import Attempt, Delivery
from apps.mailboxes.models import Mailbox
from tests.apps.admin_people import (
    MAX_QUERIES,
    add_url,
    count_queries,
    counts_rows,
    list_url,
    page_url,
    press,
    rows_of,
    run_action,
    send,
    sign_in_operator,
    text_of,
)
from tests.apps.conftest import MakeMailbox

pytestmark = pytest.mark.django_db


@pytest.fixture
def operator() -> Client:
    return sign_in_operator()


@pytest.fixture
def held(mailbox: Mailbox) -> list[Delivery]:
    """Three deliveries, held as a trial run holds what would leave it."""
    for number in range(3):
        send(mailbox, f"person{number}@customer{number}.example")
    return list(Delivery.objects.order_by("id"))


def statuses() -> list[str]:
    return list(Delivery.objects.order_by("id").values_list("status", flat=True))


def test_the_life_of_a_delivery_by_its_buttons(operator: Client, held: list[Delivery]) -> None:
    delivery = held[0]
    for action, status in (("release", "queued"), ("hold", "held"), ("release", "queued")):
        press(operator, delivery, action)
        delivery.refresh_from_db()
        assert delivery.status == status
    Delivery.objects.filter(id=delivery.id).update(status="deferred", last_code=451, last_text="Later, please")
    assert "451 Later, please" in text_of(operator.get(list_url(Delivery, status="deferred")))
    press(operator, delivery, "retry")
    delivery.refresh_from_db()
    assert delivery.status == "queued"
    press(operator, delivery, "cancel")
    press(operator, delivery, "release")
    delivery.refresh_from_db()
    assert delivery.status == "canceled"


def test_only_buttons_that_mean_something_are_offered(operator: Client, held: list[Delivery]) -> None:
    page = operator.get(page_url(held[0])).content.decode()
    assert "/release/" in page and "/cancel/" in page
    assert "/hold/" not in page and "/retry/" not in page


def test_a_selection_is_released_and_what_is_not_held_is_left_alone(operator: Client, held: list[Delivery]) -> None:
    press(operator, held[2], "cancel")
    page = text_of(run_action(operator, Delivery, "release_selected", *held))
    assert statuses() == ["queued", "queued", "canceled"]
    assert "2 deliveries are released." in page
    assert "1 of the selected were not in a state for this." in page
    assert LogEntry.objects.filter(change_message__contains="released").count() == 3


@pytest.mark.parametrize(
    ("before", "action", "after"),
    [
        ("queued", "hold_selected", "held"),
        ("deferred", "retry_selected", "queued"),
        ("deferred", "cancel_selected", "canceled"),
        ("delivered", "cancel_selected", "delivered"),
        ("delivered", "hold_selected", "delivered"),
    ],
)
def test_actions_move_only_along_the_table_of_moves(
    operator: Client, held: list[Delivery], before: str, action: str, after: str
) -> None:
    Delivery.objects.update(status=before)
    run_action(operator, Delivery, action, *held[:2])
    assert statuses() == [after, after, before]


def test_deliveries_are_found_by_status_destination_recipient_and_id(operator: Client, held: list[Delivery]) -> None:
    Delivery.objects.filter(id=held[0].id).update(status="delivered")
    for query, found in (
        ({"status": "delivered"}, held[:1]),
        ({"status": "in_queue"}, [held[2], held[1]]),
        ({"destination": "CUSTOMER1.example "}, held[1:2]),
        ({"destination": "nowhere.example"}, []),
        ({"q": "customer1.example", "status": "held"}, held[1:2]),
        ({"q": "PERSON2@customer2.example"}, held[2:]),
        ({"q": encode_id("msg", held[1].message_id)}, held[1:2]),
        ({"q": str(held[1].id)}, held[1:2]),
        ({"q": str(uuid4())}, []),
        ({"mailbox": held[0].mailbox_id, "status": "held"}, [held[2], held[1]]),
        ({"status": "nonsense"}, []),
    ):
        assert rows_of(operator.get(list_url(Delivery), query)) == found, query


def test_a_page_tells_every_attempt_in_the_remote_s_own_words(
    operator: Client, held: list[Delivery], now: datetime
) -> None:
    for code, text, outcome in ((451, "Greylisted <b>", "temporary"), (550, "No such user", "permanent")):
        Attempt.objects.create(
            delivery_id=held[0].id, at=now, host="mx.customer0.example", ip="203.0.113.9", code=code, text=text,
            outcome=outcome,
        )  # fmt: skip
    Attempt.objects.create(delivery_id=held[1].id, at=now, outcome="delivered", text="Another one's")
    response = operator.get(page_url(held[0]))
    page = text_of(response)
    assert page.index("451 Greylisted <b>") < page.index("550 No such user")
    assert b"Greylisted <b>" not in response.content
    assert "mx.customer0.example (203.0.113.9), no TLS" in page
    assert "Another one's" not in page


def test_local_recipients_are_named_as_such(operator: Client, mailbox: Mailbox, make_mailbox: MakeMailbox) -> None:
    send(mailbox, make_mailbox("bob").address)
    assert "a mailbox here" in text_of(operator.get(list_url(Delivery)))


def test_deliveries_are_neither_added_edited_nor_deleted(operator: Client, held: list[Delivery]) -> None:
    assert operator.get(add_url(Delivery)).status_code == 403
    assert operator.post(page_url(held[0], "delete"), {"post": "yes"}).status_code == 403
    operator.post(page_url(held[0]), {"address": "x@y.example", "status": "delivered"})
    held[0].refresh_from_db()
    assert (held[0].status, held[0].address) == ("held", "person0@customer0.example")


def test_the_list_costs_the_same_for_more_rows_and_counts_nothing(
    operator: Client, organization: Organization, mailbox: Mailbox
) -> None:
    for number in range(20):
        send(mailbox, f"person{number}@customer{number}.example")
    with count_queries() as queries:
        assert len(rows_of(operator.get(list_url(Delivery)))) == 20
    assert len(queries) <= MAX_QUERIES
    assert not counts_rows(queries)
