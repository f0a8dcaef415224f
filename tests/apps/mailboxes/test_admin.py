"""Admin pages of mailboxes."""

from datetime import datetime

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client

from apps.accounts.models import Organization
from apps.delivery.models import Delivery
from apps.domains.models import Domain
from apps.mail.models import Message
from apps.mailboxes.models import Mailbox, MailboxUsage
from tests.apps.admin_people import (
    MAX_QUERIES,
    add_url,
    count_queries,
    list_url,
    page_url,
    press,
    rows_of,
    run_action,
    send,
    sign_in,
    sign_in_operator,
    text_of,
)
from tests.apps.conftest import MakeMailbox

pytestmark = pytest.mark.django_db


@pytest.fixture
def operator() -> Client:
    return sign_in_operator()


def test_a_mailbox_needs_nothing_but_an_organization(
    operator: Client, organization: Organization, shared_domain: Domain
) -> None:
    operator.post(add_url(Mailbox), {"organization": str(organization.id), "daily_send_limit": "5"})
    mailbox = Mailbox.objects.get()
    assert mailbox.address.endswith("@agents.localhost")
    assert mailbox.daily_send_limit == 5
    assert mailbox.usage.total_sent == 0


def test_a_taken_address_is_refused_on_the_form(operator: Client, organization: Organization, mailbox: Mailbox) -> None:
    form = {"organization": str(organization.id), "username": "ALICE", "domain": str(mailbox.domain_id)}
    response = operator.post(add_url(Mailbox), form)
    assert "is taken" in text_of(response)
    assert Mailbox.objects.count() == 1


def test_name_and_limit_are_edited_and_nothing_else(operator: Client, mailbox: Mailbox) -> None:
    form = {"display_name": "Bob", "daily_send_limit": "", "status": "deleted", "address": "x@y.example"}
    operator.post(page_url(mailbox), form)
    mailbox.refresh_from_db()
    assert (mailbox.display_name, mailbox.daily_send_limit) == ("Bob", None)
    assert (mailbox.status, mailbox.address) == ("active", "alice@agents.localhost")


def test_a_display_name_of_two_lines_is_refused(operator: Client, mailbox: Mailbox) -> None:
    operator.post(page_url(mailbox), {"display_name": "Bob\r\nBcc: all@example.org", "daily_send_limit": "1"})
    mailbox.refresh_from_db()
    assert "\n" not in mailbox.display_name


def test_the_life_of_a_mailbox_by_its_buttons(operator: Client, mailbox: Mailbox) -> None:
    steps = (
        ("pause", {}, "paused"),
        ("activate", {}, "active"),
        ("suspend", {"reason": "Bounces"}, "suspended"),
        ("activate", {}, "suspended"),  # a suspension is not a pause
        ("reinstate", {}, "active"),
        ("delete_keeping_mail", {}, "deleted"),
    )
    for action, fields, status in steps:
        press(operator, mailbox, action, **fields)
        mailbox.refresh_from_db()
        assert mailbox.status == status, action


def test_only_buttons_that_mean_something_are_offered(operator: Client, mailbox: Mailbox) -> None:
    page = operator.get(page_url(mailbox)).content.decode()
    assert "/pause/" in page and "/suspend/" in page
    assert "/activate/" not in page and "/reinstate/" not in page


def test_deleting_keeps_the_mail_and_cancels_the_queue(operator: Client, mailbox: Mailbox) -> None:
    send(mailbox)
    press(operator, mailbox, "delete_keeping_mail")
    assert Delivery.objects.get().status == "canceled"
    assert Message.objects.filter(mailbox=mailbox).exists()


def test_purging_erases_the_mail(operator: Client, mailbox: Mailbox) -> None:
    send(mailbox)
    press(operator, mailbox, "purge")
    mailbox.refresh_from_db()
    assert mailbox.address_key is None
    assert not Message.objects.filter(mailbox=mailbox).exists()


def test_a_selection_is_suspended_with_its_reason(operator: Client, make_mailbox: MakeMailbox) -> None:
    mailboxes = [make_mailbox(name) for name in ("one", "two", "three")]
    page = run_action(operator, Mailbox, "suspend_selected", *mailboxes[:2])
    assert "Say why" in text_of(page)
    assert not Mailbox.objects.filter(status="suspended").exists()

    page = run_action(operator, Mailbox, "suspend_selected", *mailboxes[:2], reason="Spam wave")
    assert "2 mailboxes are now suspended: Spam wave" in text_of(page)
    assert set(Mailbox.objects.filter(suspended_reason="Spam wave")) == set(mailboxes[:2])
    assert LogEntry.objects.count() == 2

    run_action(operator, Mailbox, "reinstate_selected", *mailboxes)
    assert not Mailbox.objects.exclude(status="active").exists()


def test_counters_are_shown_and_yesterday_s_sends_are_not_today_s(
    operator: Client, mailbox: Mailbox, now: datetime
) -> None:
    usage = MailboxUsage.objects.filter(mailbox=mailbox)
    usage.update(sends_today=7, total_sent=4321, bounce_count=12, complaint_count=3, total_received=99)
    page = text_of(operator.get(page_url(mailbox)))
    for figure in ("Sends today 7 of 1000, 993 left", "Sent in all 4321", "Bounces 12", "Complaints 3", "Received 99"):
        assert figure in page
    usage.update(day="2001-01-01")
    assert "Sends today 0 of 1000" in text_of(operator.get(page_url(mailbox)))


def test_mailboxes_are_found_by_address_and_status(operator: Client, make_mailbox: MakeMailbox) -> None:
    alice, bob = make_mailbox("alice"), make_mailbox("bob")
    press(operator, bob, "pause")
    assert rows_of(operator.get(list_url(Mailbox, q="ALICE@agents"))) == [alice]
    assert rows_of(operator.get(list_url(Mailbox, status__exact="paused"))) == [bob]


def test_a_viewer_finds_no_field_and_no_button(organization: Organization, mailbox: Mailbox) -> None:
    viewer = sign_in("viewer", organization)
    page = viewer.get(page_url(mailbox)).content.decode()
    assert 'name="display_name"' not in page
    assert "/suspend/" not in page
    assert viewer.post(page_url(mailbox), {"display_name": "Mine"}).status_code == 403


def test_the_list_costs_the_same_for_more_rows(operator: Client, make_mailbox: MakeMailbox) -> None:
    for number in range(20):
        make_mailbox(f"agent{number}")
    with count_queries() as queries:
        assert len(rows_of(operator.get(list_url(Mailbox)))) == 20
    assert len(queries) <= MAX_QUERIES


def test_a_warm_up_begins_and_ends_by_a_dialog(organization: Organization, mailbox: Mailbox) -> None:
    owner = sign_in("owner", organization)
    press(owner, mailbox, "warm_up", ramp_start="5", ramp_growth="100", ramp_ceiling="50")
    page = text_of(owner.get(page_url(mailbox)))
    assert "5 on the first day, 100 % more each day, at most 50" in page
    assert "of 5, 5 left" in page
    press(owner, mailbox, "warm_up")
    mailbox.refresh_from_db()
    assert mailbox.ramp is None
