"""Admin pages of the event log."""

from datetime import datetime

import pytest
from django.test import Client

from apps.accounts.models import Organization
from apps.events.models import Event, EventType
from apps.events.services import NewEvent, record_events
from apps.mailboxes.models import Mailbox
from tests.apps.admin_people import (
    MAX_QUERIES,
    add_url,
    count_queries,
    counts_rows,
    list_url,
    page_url,
    rows_of,
    sign_in,
    sign_in_operator,
    text_of,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def operator() -> Client:
    return sign_in_operator()


@pytest.fixture
def events(organization: Organization, now: datetime) -> list[Event]:
    """Sixty facts, oldest first."""
    facts = [
        NewEvent(EventType.MESSAGE_RECEIVED, organization.id, data={"subject": f"Fact {number}"})
        for number in range(60)
    ]
    record_events(events=facts, now=now)
    return list(Event.objects.order_by("position", "id"))


@pytest.mark.parametrize("as_member", [False, True])
def test_newest_first_and_every_fact_once(
    operator: Client, organization: Organization, events: list[Event], as_member: bool
) -> None:
    client = sign_in("viewer", organization) if as_member else operator
    first = client.get(list_url(Event))
    second = client.get(list_url(Event) + first.context["cl"].older_url)
    assert [*rows_of(first), *rows_of(second)] == events[::-1]
    assert not second.context["cl"].older_url


def test_within_an_organization_the_index_of_places_is_read(organization: Organization, events: list[Event]) -> None:
    viewer = sign_in("viewer", organization)
    with count_queries() as queries:
        viewer.get(list_url(Event))
    (read,) = [query["sql"] for query in queries.captured_queries if 'FROM "events_event"' in query["sql"]]
    assert 'ORDER BY "events_event"."position" DESC, "events_event"."id" DESC' in read


def test_facts_are_found_by_type_and_mailbox(operator: Client, mailbox: Mailbox, events: list[Event]) -> None:
    (created,) = rows_of(operator.get(list_url(Event, type="inbox.created")))
    assert rows_of(operator.get(list_url(Event, mailbox=mailbox.id))) == [created]
    page = text_of(operator.get(page_url(created)))
    assert mailbox.address in page and "Acme" in page


def test_a_list_says_what_each_fact_is_about(operator: Client, events: list[Event]) -> None:
    page = text_of(operator.get(list_url(Event)))
    assert "message.received Fact 59 Acme" in page


def test_facts_are_read_only(operator: Client, events: list[Event]) -> None:
    assert operator.get(add_url(Event)).status_code == 403
    assert operator.post(page_url(events[0]), {"type": "inbox.deleted"}).status_code == 403
    assert operator.post(page_url(events[0], "delete"), {"post": "yes"}).status_code == 403


def test_the_list_costs_the_same_for_more_rows_and_counts_nothing(operator: Client, events: list[Event]) -> None:
    with count_queries() as queries:
        assert len(rows_of(operator.get(list_url(Event)))) == 50
    assert len(queries) <= MAX_QUERIES
    assert not counts_rows(queries)
