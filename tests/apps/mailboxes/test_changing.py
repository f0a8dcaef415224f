"""Changing, suspending and ending mailboxes, and what becomes of their addresses."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from apps.accounts.models import Organization
from apps.core.errors import Conflict, DomainError, ValidationFailed
from apps.events.models import Event
from apps.mailboxes.errors import AddressTaken, InboxDeleted
from apps.mailboxes.models import AddressReservation, Mailbox, MailboxUsage
from apps.mailboxes.services import (
    RESERVED_AFTER_PURGE,
    close_mailbox,
    reinstate_mailbox,
    suspend_mailbox,
    update_mailbox,
)
from tests.apps.conftest import MakeMailbox

pytestmark = pytest.mark.django_db
TICK = timedelta(seconds=1)


def list_events(mailbox: Mailbox) -> list[str]:
    return list(Event.objects.filter(mailbox_id=mailbox.id).order_by("id").values_list("type", flat=True))


class TestUpdate:
    def test_what_is_not_named_stays(self, mailbox: Mailbox, now: datetime) -> None:
        changed = update_mailbox(mailbox=mailbox, changes={"webhook_url": "https://x.example/"}, now=now)

        assert (changed.display_name, changed.webhook_url) == ("Alice Agent", "https://x.example/")
        changed.refresh_from_db()
        assert changed.daily_send_limit == 1000

    def test_metadata_is_merged_and_a_null_removes_its_key(self, make_mailbox: MakeMailbox, now: datetime) -> None:
        mailbox = make_mailbox(metadata={"a": 1, "b": {"x": 1}, "c": 3})

        changed = update_mailbox(mailbox=mailbox, changes={"metadata": {"b": {"y": 2}, "c": None, "d": 4}}, now=now)

        assert changed.metadata == {"a": 1, "b": {"y": 2}, "d": 4}

    def test_none_removes_all_metadata(self, make_mailbox: MakeMailbox, now: datetime) -> None:
        mailbox = make_mailbox(metadata={"a": 1})

        assert update_mailbox(mailbox=mailbox, changes={"metadata": {}}, now=now).metadata == {"a": 1}
        assert update_mailbox(mailbox=mailbox, changes={"metadata": None}, now=now).metadata == {}

    def test_two_merges_do_not_lose_each_others_keys(self, mailbox: Mailbox, now: datetime) -> None:
        stale = Mailbox.objects.get(id=mailbox.id)
        update_mailbox(mailbox=mailbox, changes={"metadata": {"a": 1}}, now=now)

        assert update_mailbox(mailbox=stale, changes={"metadata": {"b": 2}}, now=now).metadata == {"a": 1, "b": 2}

    def test_merged_metadata_is_bounded_as_a_whole(self, mailbox: Mailbox, now: datetime) -> None:
        update_mailbox(mailbox=mailbox, changes={"metadata": {"a": "x" * 10_000}}, now=now)
        with pytest.raises(ValidationFailed):
            update_mailbox(mailbox=mailbox, changes={"metadata": {"b": "x" * 10_000}}, now=now)

        mailbox.refresh_from_db()
        assert list(mailbox.metadata) == ["a"]

    @pytest.mark.parametrize(
        ("changes", "field"),
        [
            ({"display_name": "a\nb"}, "display_name"),
            ({"display_name": "a\0b"}, "display_name"),
            ({"metadata": {"a": "\0"}}, "metadata"),
            ({"webhook_url": "x" * 2001}, "webhook_url"),
            ({"webhook_url": "\ud800"}, "webhook_url"),
            ({"daily_send_limit": -1}, "daily_send_limit"),
            ({"status": "deleted"}, "status"),
            ({"status": "suspended"}, "status"),
            ({"status": "\0"}, "status"),
        ],
    )
    def test_what_is_not_allowed_changes_nothing(
        self, mailbox: Mailbox, changes: dict[str, Any], field: str, now: datetime
    ) -> None:
        with pytest.raises(ValidationFailed) as caught:
            update_mailbox(mailbox=mailbox, changes={"display_name": "New", **changes}, now=now)

        assert caught.value.data["details"][0]["field"] == field
        mailbox.refresh_from_db()
        assert mailbox.display_name == "Alice Agent"

    def test_nulls_clear_what_may_be_empty(self, mailbox: Mailbox, now: datetime) -> None:
        changes = {"display_name": None, "webhook_url": None, "daily_send_limit": None, "metadata": None}
        changed = update_mailbox(mailbox=mailbox, changes=changes, now=now)

        assert (changed.display_name, changed.webhook_url, changed.daily_send_limit) == ("", None, None)

    def test_a_deleted_mailbox_is_gone(self, mailbox: Mailbox, now: datetime) -> None:
        stale = Mailbox.objects.get(id=mailbox.id)
        close_mailbox(mailbox=mailbox, release_address=False, now=now)

        with pytest.raises(InboxDeleted):
            update_mailbox(mailbox=stale, changes={"display_name": "x"}, now=now)


class TestSuspension:
    def test_it_is_told_once_and_can_be_ended(self, mailbox: Mailbox, now: datetime) -> None:
        assert suspend_mailbox(mailbox=mailbox, reason="spam", now=now)
        assert not suspend_mailbox(mailbox=mailbox, reason="more spam", now=now)
        assert (mailbox.status, mailbox.suspended_reason) == ("suspended", "spam")

        assert reinstate_mailbox(mailbox=mailbox, now=now)
        assert not reinstate_mailbox(mailbox=mailbox, now=now)
        assert (mailbox.status, mailbox.suspended_reason) == ("active", "")
        assert list_events(mailbox) == ["inbox.created", "inbox.suspended", "inbox.reinstated"]

    def test_its_user_cannot_end_it(self, mailbox: Mailbox, now: datetime) -> None:
        suspend_mailbox(mailbox=mailbox, reason="spam", now=now)
        for status in ("active", "paused"):
            with pytest.raises(Conflict):
                update_mailbox(mailbox=mailbox, changes={"status": status}, now=now)

    def test_a_deleted_mailbox_is_neither_suspended_nor_reinstated(self, mailbox: Mailbox, now: datetime) -> None:
        close_mailbox(mailbox=mailbox, release_address=False, now=now)

        assert not suspend_mailbox(mailbox=mailbox, reason="spam", now=now)
        assert not reinstate_mailbox(mailbox=mailbox, now=now)
        mailbox.refresh_from_db()
        assert mailbox.status == "deleted"

    @pytest.mark.parametrize("reason", ["x" * 501, "\0"])
    def test_a_reason_that_cannot_be_stored_is_refused(self, mailbox: Mailbox, reason: str, now: datetime) -> None:
        with pytest.raises(ValidationFailed):
            suspend_mailbox(mailbox=mailbox, reason=reason, now=now)

        mailbox.refresh_from_db()
        assert mailbox.status == "active"


class TestDeletion:
    def test_it_is_told_once(self, mailbox: Mailbox, now: datetime) -> None:
        assert close_mailbox(mailbox=mailbox, release_address=False, now=now)
        assert not close_mailbox(mailbox=mailbox, release_address=False, now=now + TICK)

        assert (mailbox.status, mailbox.deleted_at) == ("deleted", now)
        assert MailboxUsage.objects.get(mailbox=mailbox).closed
        assert list_events(mailbox) == ["inbox.created", "inbox.deleted"]

    @pytest.mark.parametrize("again", ["alice", "ALICE"])
    def test_without_a_purge_the_address_stays_taken_for_everybody_for_ever(
        self, mailbox: Mailbox, make_mailbox: MakeMailbox, stranger: Organization, again: str, now: datetime
    ) -> None:
        close_mailbox(mailbox=mailbox, release_address=False, now=now - timedelta(days=4000))
        for who in (None, stranger):
            with pytest.raises(AddressTaken):
                make_mailbox(again, of=who)

    def test_the_client_id_is_free_again(self, make_mailbox: MakeMailbox, now: datetime) -> None:
        first = make_mailbox(client_id="agent-7")
        close_mailbox(mailbox=first, release_address=False, now=now)

        second = make_mailbox(client_id="agent-7")
        assert second.id != first.id
        close_mailbox(mailbox=second, release_address=False, now=now)
        assert make_mailbox(client_id="agent-7").id != second.id

    def test_after_a_purge_only_its_organization_may_have_the_address_for_thirty_days(
        self, mailbox: Mailbox, make_mailbox: MakeMailbox, stranger: Organization, now: datetime
    ) -> None:
        close_mailbox(mailbox=mailbox, release_address=True, now=now)

        with pytest.raises(AddressTaken):
            make_mailbox("alice", of=stranger)
        assert make_mailbox("Alice").id != mailbox.id

    def test_after_thirty_days_a_stranger_may_have_it(
        self, mailbox: Mailbox, make_mailbox: MakeMailbox, stranger: Organization, now: datetime
    ) -> None:
        close_mailbox(mailbox=mailbox, release_address=True, now=now - RESERVED_AFTER_PURGE + timedelta(minutes=1))
        with pytest.raises(AddressTaken):
            make_mailbox("alice", of=stranger)
        AddressReservation.objects.update(until=now)

        assert make_mailbox("alice", of=stranger).organization == stranger

    def test_a_second_purge_of_the_same_address_reserves_it_anew(
        self, mailbox: Mailbox, make_mailbox: MakeMailbox, stranger: Organization, now: datetime
    ) -> None:
        close_mailbox(mailbox=mailbox, release_address=True, now=now - timedelta(days=29))
        close_mailbox(mailbox=make_mailbox("alice"), release_address=True, now=now)

        assert AddressReservation.objects.get().until == now + RESERVED_AFTER_PURGE
        with pytest.raises(AddressTaken):
            make_mailbox("alice", of=stranger)

    def test_a_deleted_mailbox_can_be_purged_later(
        self, mailbox: Mailbox, make_mailbox: MakeMailbox, now: datetime
    ) -> None:
        stale = Mailbox.objects.get(id=mailbox.id)
        close_mailbox(mailbox=mailbox, release_address=False, now=now)
        assert not close_mailbox(mailbox=mailbox, release_address=True, now=now + TICK)

        again = make_mailbox("alice")
        close_mailbox(mailbox=stale, release_address=True, now=now + timedelta(days=10))  # repeated, with old knowledge
        again.refresh_from_db()
        assert again.address_key == "alice@agents.localhost"
        assert AddressReservation.objects.get().until == now + TICK + RESERVED_AFTER_PURGE

    def test_a_strangers_old_reservation_does_not_keep_the_next_owner_from_purging(
        self, mailbox: Mailbox, make_mailbox: MakeMailbox, stranger: Organization, now: datetime
    ) -> None:
        close_mailbox(mailbox=mailbox, release_address=True, now=now - timedelta(days=31))
        theirs = make_mailbox("alice", of=stranger)
        close_mailbox(mailbox=theirs, release_address=True, now=now)

        assert AddressReservation.objects.get().organization == stranger
        with pytest.raises(DomainError):
            make_mailbox("alice")
