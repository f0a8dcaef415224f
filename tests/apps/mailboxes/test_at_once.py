"""Many at the same moment: one address, one client_id, and never one more than allowed."""

import threading
import time
from datetime import datetime
from typing import Any
from uuid import UUID

import pytest
from django.db import transaction

from apps.accounts.errors import QuotaExhausted
from apps.accounts.models import Organization
from apps.accounts.services import create_api_key
from apps.domains.models import Domain
from apps.events.models import Event
from apps.mailboxes.errors import AddressTaken, DailyLimitReached, InboxDeleted
from apps.mailboxes.models import Mailbox, MailboxUsage, Pod
from apps.mailboxes.services import (
    NewMailbox,
    add_usage,
    close_mailbox,
    count_sends,
    create_mailbox,
    update_mailbox,
)
from tests.apps.conftest import MakeMailbox
from tests.apps.threads import run_together

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("shared_domain")]


def errors_of(results: list[Any]) -> list[type[Exception]]:
    return [type(result) for result in results if isinstance(result, Exception)]


def test_ten_creations_with_one_client_id_make_one_mailbox(organization: Organization, now: datetime) -> None:
    wanted = NewMailbox(client_id="agent-7")
    results = run_together(lambda _: create_mailbox(organization=organization, wanted=wanted, now=now), 10)

    assert errors_of(results) == []
    assert {mailbox.id for mailbox, _ in results} == {Mailbox.objects.get().id}
    assert sum(created for _, created in results) == 1
    assert MailboxUsage.objects.count() == Event.objects.count() == 1


def test_with_one_client_id_and_ten_names_one_name_wins(organization: Organization, now: datetime) -> None:
    def create(number: int) -> tuple[Mailbox, bool]:
        wanted = NewMailbox(client_id="agent-7", username=f"agent{number}")
        return create_mailbox(organization=organization, wanted=wanted, now=now)

    results = run_together(create, 10)

    assert errors_of(results) == []
    assert {mailbox.address for mailbox, _ in results} == {Mailbox.objects.get().address}


def test_of_ten_that_want_one_name_one_gets_it(
    organization: Organization, stranger: Organization, now: datetime
) -> None:
    def create(number: int) -> tuple[Mailbox, bool]:
        wanted = NewMailbox(username="Alice" if number % 3 else "alice", client_id=f"agent-{number}")
        return create_mailbox(organization=stranger if number % 2 else organization, wanted=wanted, now=now)

    results = run_together(create, 10)

    assert errors_of(results) == [AddressTaken] * 9
    assert Mailbox.objects.count() == Event.objects.count() == 1


def test_a_key_for_five_makes_five_and_failures_cost_it_nothing(
    organization: Organization, make_mailbox: MakeMailbox, now: datetime
) -> None:
    make_mailbox("taken")
    key, _ = create_api_key(organization=organization, name="k", scopes=[], max_inboxes=5, now=now)

    def create(number: int) -> tuple[Mailbox, bool]:
        wanted = NewMailbox(username="taken" if number % 4 == 0 else f"agent{number}")
        return create_mailbox(organization=organization, wanted=wanted, now=now, key=key)

    results = run_together(create, 20)

    assert Mailbox.objects.exclude(username="taken").count() == 5
    assert sorted(error.__name__ for error in errors_of(results)) == sorted(
        [AddressTaken.__name__] * 5 + [QuotaExhausted.__name__] * 10
    )
    key.refresh_from_db()
    assert key.used_count == 5


def test_the_first_mailboxes_of_an_organization_share_one_default_pod(
    organization: Organization, now: datetime
) -> None:
    results = run_together(lambda _: create_mailbox(organization=organization, wanted=NewMailbox(), now=now), 10)

    assert errors_of(results) == []
    assert Pod.objects.count() == 1


def test_parallel_merges_of_metadata_lose_nothing(mailbox: Mailbox, now: datetime) -> None:
    run_together(
        lambda number: update_mailbox(mailbox=mailbox, changes={"metadata": {f"k{number}": number}}, now=now), 10
    )

    mailbox.refresh_from_db()
    assert len(mailbox.metadata) == 10


class TestTheDaysLimit:
    def test_of_a_hundred_sends_against_ten_exactly_ten_pass(self, make_mailbox: MakeMailbox, now: datetime) -> None:
        mailbox = make_mailbox("limited", daily_send_limit=10)

        def send(_: int) -> None:
            for _ in range(4):
                try:
                    with transaction.atomic():
                        count_sends(mailbox=mailbox, count=1, now=now)
                        accepted.append(1)
                except DailyLimitReached:
                    refused.append(1)

        accepted: list[int] = []
        refused: list[int] = []
        results = run_together(send, 25)

        assert errors_of(results) == []
        assert (len(accepted), len(refused)) == (10, 90)
        usage = MailboxUsage.objects.get(mailbox=mailbox)
        assert (usage.sends_today, usage.total_sent) == (10, 10)
        assert Event.objects.filter(type="inbox.limit_reached").count() == 1

    def test_what_a_rolled_back_send_counted_is_free_again(self, make_mailbox: MakeMailbox, now: datetime) -> None:
        mailbox = make_mailbox("limited", daily_send_limit=10)

        def send(number: int) -> None:
            with transaction.atomic():
                count_sends(mailbox=mailbox, count=1, now=now)
                if number % 2:
                    raise RuntimeError

        run_together(send, 20)

        assert MailboxUsage.objects.get(mailbox=mailbox).sends_today == 10


class TestBatchesOfCounters:
    def test_batches_in_opposite_order_do_not_wait_in_a_circle(self, make_mailbox: MakeMailbox) -> None:
        ids: list[UUID] = [make_mailbox().id for _ in range(10)]

        def add(number: int) -> None:
            order = ids if number % 2 else ids[::-1]
            for _ in range(20):
                with transaction.atomic():
                    add_usage(deltas={mailbox_id: {"total_received": 1, "stored_bytes": 10} for mailbox_id in order})

        results = run_together(add, 6)

        assert errors_of(results) == []
        assert set(MailboxUsage.objects.values_list("total_received", "stored_bytes")) == {(120, 1200)}

    def test_sends_and_batches_do_not_lose_each_others_counts(self, mailbox: Mailbox, now: datetime) -> None:
        def act(number: int) -> None:
            for _ in range(20):
                if number % 2:
                    count_sends(mailbox=mailbox, count=1, now=now)
                else:
                    add_usage(deltas={mailbox.id: {"bounce_count": 1}})

        assert errors_of(run_together(act, 6)) == []
        usage = MailboxUsage.objects.get(mailbox=mailbox)
        assert (usage.total_sent, usage.bounce_count) == (60, 60)


class TestDeletionMeanwhile:
    """A mailbox that was alive when the work began, and is deleted before the work commits."""

    def close_during(self, mailbox: Mailbox, work: Any, now: datetime, *, close_first: bool) -> tuple[Any, list[str]]:
        """Run `work` in a transaction beside a deletion, either of them reaching its lock first."""
        order: list[str] = []
        first_has_lock = threading.Event()

        def act(number: int) -> None:
            mine, is_first = (number == 0) == close_first, number == 0
            if not is_first:
                assert first_has_lock.wait(10)
            with transaction.atomic():
                if mine:
                    close_mailbox(mailbox=Mailbox.objects.get(id=mailbox.id), release_address=True, now=now)
                else:
                    work()
                if is_first:
                    first_has_lock.set()
                    time.sleep(0.3)
            order.append("closed" if mine else "worked")

        return run_together(act, 2), order

    def test_a_send_that_counted_first_is_committed_first(self, mailbox: Mailbox, now: datetime) -> None:
        """So that the deletion's cancel finds its deliveries."""
        results, order = self.close_during(
            mailbox, lambda: count_sends(mailbox=mailbox, count=1, now=now), now, close_first=False
        )

        assert errors_of(results) == []
        assert order == ["worked", "closed"]

    def test_a_send_that_counts_later_is_refused(self, mailbox: Mailbox, now: datetime) -> None:
        results, order = self.close_during(
            mailbox, lambda: count_sends(mailbox=mailbox, count=1, now=now), now, close_first=True
        )

        assert errors_of(results) == [InboxDeleted]
        assert order == ["closed"]

    def test_mail_that_is_counted_later_is_refused_too(self, mailbox: Mailbox, now: datetime) -> None:
        results, order = self.close_during(
            mailbox, lambda: add_usage(deltas={mailbox.id: {"total_received": 1}}), now, close_first=True
        )

        assert errors_of(results) == [InboxDeleted]
        assert order == ["closed"]

    def test_two_deletions_are_one(self, mailbox: Mailbox, now: datetime) -> None:
        results = run_together(
            lambda _: close_mailbox(mailbox=Mailbox.objects.get(id=mailbox.id), release_address=True, now=now), 5
        )

        assert sorted(results) == [False] * 4 + [True]
        assert Event.objects.filter(type="inbox.deleted").count() == 1

    def test_a_purged_name_goes_to_nobody_else_even_at_the_same_moment(
        self, mailbox: Mailbox, stranger: Organization, shared_domain: Domain, now: datetime
    ) -> None:
        def act(number: int) -> object:
            if number == 0:
                return close_mailbox(mailbox=mailbox, release_address=True, now=now)
            return create_mailbox(organization=stranger, wanted=NewMailbox(username="alice"), now=now)

        results = run_together(act, 8)

        assert errors_of(results) == [AddressTaken] * 7
