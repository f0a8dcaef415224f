"""The admin page of suppressions."""

from datetime import datetime

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client

from apps.accounts.models import Organization
from apps.delivery.models import Suppression
from apps.delivery.services import NewSuppression, import_suppressions
from tests.apps.admin_people import (
    MAX_QUERIES,
    add_url,
    count_queries,
    counts_rows,
    list_url,
    page_url,
    rows_of,
    run_action,
    sign_in,
    sign_in_operator,
    text_of,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def entries(organization: Organization, now: datetime) -> list[Suppression]:
    """Three that bounced and one that complained."""
    wanted = [NewSuppression(f"r{number}@customer.example", "hard_bounce", "550 <b>gone</b>") for number in range(3)]
    wanted.append(NewSuppression("ann@shop.example", "complaint"))
    import_suppressions(organization=organization, wanted=wanted, now=now)
    return list(Suppression.objects.order_by("id"))


def form(organization: Organization, **fields: str) -> dict[str, str]:
    empty = {"address": "", "source": "", "expires_at_0": "", "expires_at_1": ""}
    return {"organization": str(organization.id), **empty, **fields}


def test_an_owner_adds_an_address_and_lets_it_go(organization: Organization) -> None:
    owner = sign_in("owner", organization)
    owner.post(add_url(Suppression), form(organization, address="Ann@Shop.example", source="Asked by phone."))
    entry = Suppression.objects.get()
    assert (entry.address, entry.address_key, entry.reason) == ("Ann@Shop.example", "ann@shop.example", "manual")
    assert "Asked by phone." in text_of(owner.get(page_url(entry)))
    owner.post(page_url(entry, "delete"), {"post": "yes"})
    assert not Suppression.objects.exists()
    assert LogEntry.objects.count() == 2


def test_what_the_service_refuses_stands_on_the_form(organization: Organization) -> None:
    for fields in ({"address": "nobody"}, {"address": "a@b.example", "expires_at_0": "2020-01-01",
                                           "expires_at_1": "10:00"}):  # fmt: skip
        response = sign_in("owner", organization, name=f"o{len(fields)}").post(
            add_url(Suppression), form(organization, **fields)
        )
        assert response.status_code == 200
        assert response.context["adminform"].form.errors
    assert not Suppression.objects.exists()


def test_entries_are_found_by_address_and_reason(entries: list[Suppression]) -> None:
    operator = sign_in_operator()
    for query, found in (
        ({"q": "CUSTOMER"}, entries[2::-1]),
        ({"reason__exact": "complaint"}, entries[3:]),
        ({"q": "ann@shop.example"}, entries[3:]),
        ({"q": "nobody"}, []),
    ):
        assert rows_of(operator.get(list_url(Suppression, **query))) == found, query
    page = operator.get(page_url(entries[0]))
    assert b"<b>gone</b>" not in page.content
    assert "550 <b>gone</b>" in text_of(page)


def test_a_selection_is_let_go(organization: Organization, entries: list[Suppression]) -> None:
    run_action(sign_in("admin", organization), Suppression, "delete_selected", *entries[:2], post="yes")
    assert list(Suppression.objects.order_by("id")) == entries[2:]


def test_viewers_and_strangers_add_and_remove_nothing(
    organization: Organization, stranger: Organization, entries: list[Suppression]
) -> None:
    for client in (sign_in("viewer", organization), sign_in("owner", stranger)):
        client.post(page_url(entries[0], "delete"), {"post": "yes"})
        client.post(add_url(Suppression), form(organization, address="new@shop.example"))
        run_action(client, Suppression, "delete_selected", *entries, post="yes")
    assert Suppression.objects.count() == 4


def test_an_entry_is_not_edited(organization: Organization, entries: list[Suppression]) -> None:
    sign_in("owner", organization).post(page_url(entries[0]), form(organization, address="x@y.example"))
    entries[0].refresh_from_db()
    assert entries[0].address == "r0@customer.example"


def test_the_list_costs_the_same_for_more_rows_and_counts_nothing(entries: list[Suppression]) -> None:
    operator: Client = sign_in_operator()
    with count_queries() as queries:
        assert len(rows_of(operator.get(list_url(Suppression)))) == 4
    assert len(queries) <= MAX_QUERIES
    assert not counts_rows(queries)
