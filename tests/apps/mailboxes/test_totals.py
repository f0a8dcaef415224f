"""How many there are, from counters: mailboxes by status, messages of a mailbox."""

from datetime import datetime, timedelta

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from apps.accounts.models import Organization
from apps.accounts.services import create_api_key
from apps.delivery.services import SendRequest, delete_mailbox, send_message
from apps.mail.models import Message
from apps.mail.services import Deposit, deposit_messages
from apps.mailboxes.models import AddressReservation, Mailbox, MailboxCount
from apps.mailboxes.selectors import count_mailboxes, count_visible_mailboxes
from apps.mailboxes.services import (
    NewMailbox,
    close_mailbox,
    create_mailbox,
    reinstate_mailbox,
    suspend_mailbox,
    update_mailbox,
)
from mailhost.message.parse import parse_message
from tests.apps.conftest import MakeMailbox
from tests.apps.threads import run_together

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("shared_domain")]

STATUSES = Mailbox.Status.values


def counted(organization: Organization) -> dict[str, int]:
    found = {status: count_mailboxes(organization_id=organization.id, statuses=[status]) for status in STATUSES}
    return {status: count for status, count in found.items() if count}


def test_every_change_of_status_moves_the_count(make_mailbox: MakeMailbox, organization: Organization, now: datetime):
    assert counted(organization) == {}
    first, second = make_mailbox(), make_mailbox()
    assert counted(organization) == {"active": 2}
    update_mailbox(mailbox=first, changes={"status": "paused"}, now=now)
    update_mailbox(mailbox=first, changes={"status": "paused", "display_name": "Bob"}, now=now)
    assert counted(organization) == {"active": 1, "paused": 1}
    suspend_mailbox(mailbox=first, reason="bounces", now=now)
    assert not suspend_mailbox(mailbox=first, reason="again", now=now)
    suspend_mailbox(mailbox=second, reason="bounces", now=now)
    assert counted(organization) == {"suspended": 2}
    reinstate_mailbox(mailbox=first, now=now)
    assert not reinstate_mailbox(mailbox=first, now=now)
    assert counted(organization) == {"active": 1, "suspended": 1}
    close_mailbox(mailbox=first, release_address=False, now=now)
    close_mailbox(mailbox=first, release_address=True, now=now)
    delete_mailbox(mailbox=second, purge=True, now=now)
    assert counted(organization) == {"deleted": 2}


def test_a_mailbox_that_is_not_made_is_not_counted(
    make_mailbox: MakeMailbox, organization: Organization, stranger: Organization, now: datetime
):
    make_mailbox("alice", client_id="one")
    create_mailbox(organization=organization, wanted=NewMailbox(client_id="one"), now=now)
    with pytest.raises(Exception, match="taken"):
        make_mailbox("alice")
    assert counted(organization) == {"active": 1}
    assert counted(stranger) == {}


def test_a_narrowed_key_counts_what_it_sees(make_mailbox: MakeMailbox, organization: Organization, now: datetime):
    boxes = [make_mailbox() for _ in range(3)]
    update_mailbox(mailbox=boxes[0], changes={"status": "paused"}, now=now)

    def count(**narrowing: object) -> int:
        key, _ = create_api_key(organization=organization, name="k", scopes=[], now=now, **narrowing)
        return count_visible_mailboxes(key=key, statuses=["active"])

    assert count() == 2
    assert count(inbox_ids=[boxes[0].id, boxes[1].id]) == 1
    assert count(allowed_domains=["agents.localhost"]) == 2
    assert count(allowed_domains=["other.example"]) == 0
    assert count(inbox_ids=[]) == 0


def test_the_total_costs_one_query_and_counts_no_mailboxes(make_mailbox: MakeMailbox, organization: Organization):
    make_mailbox()
    with CaptureQueriesContext(
        connection,
    ) as queries:
        assert count_mailboxes(organization_id=organization.id, statuses=["active", "paused"]) == 1
    assert [("mailboxes_mailboxcount" in query["sql"], '"mailboxes_mailbox"' in query["sql"]) for query in queries] == [
        (True, False)
    ]


@pytest.mark.django_db(transaction=True)
def test_totals_stay_exact_when_many_change_at_once(organization: Organization, now: datetime):
    def live(number: int) -> None:
        mailbox, _ = create_mailbox(organization=organization, wanted=NewMailbox(), now=now)
        for status in ("paused", "active", "paused"):
            update_mailbox(mailbox=mailbox, changes={"status": status}, now=now)
        if number % 2:
            delete_mailbox(mailbox=mailbox, purge=False, now=now)

    assert run_together(live, 12) == [None] * 12
    assert counted(organization) == {"paused": 6, "deleted": 6}
    assert MailboxCount.objects.filter(organization_id=organization.id, status="paused").count() > 1


def test_messages_are_counted_both_ways_and_once_each(mailbox: Mailbox, now: datetime):
    request = SendRequest(to=["ann@example.com", "bob@example.com"], subject="Hello", text="Hello.")
    send_message(mailbox=mailbox, request=request, now=now)
    raw = b"From: ann@example.com\r\nSubject: Hi\r\n\r\nHi.\r\n"
    with transaction.atomic():
        deposit_messages(deposits=[Deposit([mailbox.address], raw, parse_message(raw))], now=now)
    mailbox.usage.refresh_from_db()
    assert mailbox.usage.message_count == Message.objects.count() == 2
    assert mailbox.usage.sends_today == 2


def test_an_address_can_be_freed_for_everybody_at_once(
    make_mailbox: MakeMailbox, stranger: Organization, now: datetime
):
    delete_mailbox(mailbox=make_mailbox("kept"), purge=True, now=now)
    with pytest.raises(Exception, match="taken"):
        make_mailbox("kept", of=stranger)
    delete_mailbox(mailbox=make_mailbox("kept"), purge=True, kept_for=timedelta(0), now=now)
    assert make_mailbox("kept", of=stranger).address == "kept@agents.localhost"
    assert not AddressReservation.objects.filter(until__gt=now).exists()


def test_erased_messages_are_no_longer_counted(mailbox: Mailbox, now: datetime):
    send_message(mailbox=mailbox, request=SendRequest(to=["ann@example.com"], text="Hello."), now=now)
    raw = b"From: ann@example.com\r\nSubject: Hi\r\n\r\nHi.\r\n"
    with transaction.atomic():
        deposit_messages(deposits=[Deposit([mailbox.address], raw, parse_message(raw))], now=now)
    delete_mailbox(mailbox=mailbox, purge=True, now=now)
    mailbox.usage.refresh_from_db()
    assert (mailbox.usage.message_count, mailbox.usage.stored_bytes) == (0, 0)
