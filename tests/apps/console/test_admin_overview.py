"""The admin's first page and its sidebar."""

import re
from datetime import datetime, timedelta

import pytest
from django.urls import reverse

from apps.accounts.models import Organization
from apps.console.selectors import queue_states
from apps.core.heartbeat import write_heartbeat
from apps.delivery.models import Delivery
from apps.domains.services import create_domain
from apps.mailboxes.models import Mailbox
from tests.apps.admin_people import count_queries, send, sign_in, sign_in_operator, text_of
from tests.apps.conftest import MakeMailbox

pytestmark = pytest.mark.django_db


def links_of(page: str) -> set[str]:
    """The links of the overview's content, without the sidebar's."""
    return set(re.findall(r'class="mh-link" href="([^"]+)"', page))


def test_it_counts_what_waits_and_says_since_when(mailbox: Mailbox, organization: Organization, now: datetime) -> None:
    for number in range(3):
        send(mailbox, f"person{number}@customer.example")
    Delivery.objects.update(created_at=now - timedelta(hours=2))
    (held,) = [state for state in queue_states(None) if state.status == "held"]
    assert (held.count, held.shown_count, held.oldest_at) == (3, "3", now - timedelta(hours=2))
    assert "Held 3 oldest 2 hours" in text_of(sign_in_operator().get("/admin/"))


def test_all_its_links_lead_somewhere(mailbox: Mailbox, organization: Organization, now: datetime) -> None:
    create_domain(organization=organization, name="acme.example", now=now)
    send(mailbox)
    operator = sign_in_operator()
    links = links_of(operator.get("/admin/").content.decode())
    assert len(links) > 12
    for link in links:
        assert operator.get(link).status_code == 200, link


def test_members_see_figures_of_their_organization_only(
    mailbox: Mailbox, stranger: Organization, make_mailbox: MakeMailbox
) -> None:
    send(mailbox, "secret@customer.example", subject="Secret plans")
    page = text_of(sign_in("owner", stranger).get("/admin/"))
    assert "Held 0" in page
    assert "Secret plans" not in page
    assert "There is no mailbox yet" in page
    assert "Processes" not in page


def test_it_shows_which_processes_are_alive() -> None:
    write_heartbeat(process="worker")
    page = text_of(sign_in_operator().get("/admin/"))
    assert "alive worker" in page
    assert "not seen smtp" in page


def test_it_costs_the_same_for_more_of_everything(mailbox: Mailbox) -> None:
    operator = sign_in_operator()
    for number in range(15):
        send(mailbox, f"person{number}@customer.example")
    with count_queries() as queries:
        operator.get("/admin/")
    assert len(queries) <= 14


def test_the_sidebar_offers_users_to_operators_only(organization: Organization) -> None:
    users = reverse("admin:accounts_user_changelist")
    assert users in sign_in_operator().get("/admin/").content.decode()
    assert users not in sign_in("owner", organization).get("/admin/").content.decode()


def test_pages_load_nothing_from_elsewhere(mailbox: Mailbox) -> None:
    page = sign_in_operator().get("/admin/").content.decode()
    assert not re.findall(r'(?:src|href)="(?:https?:)?//', page)
