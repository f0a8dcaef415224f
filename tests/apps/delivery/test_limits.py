"""Daily limits on every level: exact at a hundred sends at once, and given back by a cancel in time."""

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from apps.accounts.models import Organization
from apps.delivery.models import Delivery
from apps.delivery.services import (
    DeliveryResult,
    cancel_waiting,
    claim_deliveries,
    delete_mailbox,
    hold_waiting,
    record_results,
)
from apps.domains.models import Domain
from apps.events.models import Event
from apps.mail.models import Message
from apps.mailboxes.errors import DailyLimitReached
from apps.mailboxes.models import DomainUsage, Mailbox, MailboxUsage, OrganizationUsage
from apps.mailboxes.services import count_sends
from mailhost.smtp.replies import Outcome
from tests.apps.conftest import MakeMailbox
from tests.apps.delivery.conftest import Send
from tests.apps.delivery.test_send import reload
from tests.apps.threads import run_together

pytestmark = pytest.mark.django_db(transaction=True)
NOON = datetime(2031, 5, 5, 12, tzinfo=UTC)
DAY = timedelta(days=1)

Limit = Callable[[str, int | None], None]


@pytest.fixture
def limit(organization: Organization, shared_domain: Domain, mailbox: Mailbox) -> Limit:
    """Sets the limit of a level, as the database has it."""

    def set_limit(level: str, number: int | None) -> None:
        rows: dict[str, Any] = {
            "organization": Organization.objects.filter(id=organization.id),
            "domain": Domain.objects.filter(id=shared_domain.id),
            "inbox": Mailbox.objects.filter(organization=organization),
        }
        rows[level].update(daily_send_limit=number)

    return set_limit


def used() -> dict[str, int]:
    """What each level has counted today, as far as it counts."""
    today = timezone.now().astimezone(UTC).date()
    found = {"inbox": sum(usage.sends_on(today) for usage in MailboxUsage.objects.all())}
    for name, model in (("organization", OrganizationUsage), ("domain", DomainUsage)):
        for usage in model.objects.filter(day=today):
            found[name] = usage.sends_today
    return found


@pytest.mark.parametrize("level", ["organization", "domain", "inbox"])
def test_of_a_hundred_sends_at_once_exactly_as_many_pass_as_the_level_allows(
    level: str, mailbox: Mailbox, make_mailbox: MakeMailbox, limit: Limit, send: Send
) -> None:
    """Mailboxes loaded before the others sent, as requests that came first: the first look sees no sends."""
    limit(level, 10)
    mailboxes = [mailbox] if level == "inbox" else [mailbox, *(make_mailbox(f"agent{number}") for number in range(4))]
    loaded = [reload(mailboxes[number % len(mailboxes)]) for number in range(100)]
    send(loaded[0], "first@acme.test")  # the lane, and the level's row, are there already

    results = run_together(lambda number: send(loaded[number], f"r{number}@acme.test"), 100)
    kinds = Counter(type(result).__name__ for result in results)
    assert kinds == {"list": 9, "DailyLimitReached": 91}
    refused = next(result for result in results if isinstance(result, DailyLimitReached))
    assert refused.data["level"] == level
    assert 0 < refused.data["retry_after"] <= 86_401
    assert used()[level] == used()["inbox"] == 10
    assert Message.objects.count() == Delivery.objects.count() == 10
    event = Event.objects.get(type="inbox.limit_reached")
    assert (event.data["level"], event.data["daily_send_limit"]) == (level, 10)


@pytest.mark.parametrize("level", ["organization", "domain"])
def test_the_very_first_sends_of_a_level_may_come_together(
    level: str, mailbox: Mailbox, limit: Limit, send: Send
) -> None:
    limit(level, 5)
    loaded = [reload(mailbox) for _ in range(40)]
    results = run_together(lambda number: send(loaded[number], f"r{number}@acme.test"), 40)
    assert Counter(type(result).__name__ for result in results) == {"list": 5, "DailyLimitReached": 35}
    assert used()[level] == 5


def test_all_levels_hold_at_once_and_nobody_waits_in_a_circle(
    mailbox: Mailbox, make_mailbox: MakeMailbox, limit: Limit, send: Send
) -> None:
    for level, number in (("organization", 30), ("domain", 20), ("inbox", 8)):
        limit(level, number)
    mailboxes = [mailbox, make_mailbox("bob", daily_send_limit=8), make_mailbox("carol", daily_send_limit=8)]
    loaded = [reload(mailboxes[number % 3]) for number in range(60)]

    def work(number: int) -> object:
        if number % 10 == 9:
            return cancel_waiting(deliveries=Delivery.objects.filter(mailbox_id=loaded[number].id), now=timezone.now())
        return send(loaded[number], f"r{number}@acme.test", f"s{number}@acme.test")

    results = run_together(work, 60)
    assert {type(result).__name__ for result in results} <= {"list", "int", "DailyLimitReached"}
    alive = Delivery.objects.exclude(status="canceled").count()
    assert used() == {"organization": alive, "domain": alive, "inbox": alive}
    assert alive <= 20


class TestWhatIsCounted:
    def test_a_level_without_a_limit_is_not_touched(self, mailbox: Mailbox, limit: Limit, send: Send) -> None:
        with CaptureQueriesContext(connection) as queries:
            send(mailbox)
        assert not any("organizationusage" in query["sql"] or "domainusage" in query["sql"] for query in queries)
        limit("organization", 5)
        send(reload(mailbox))
        assert OrganizationUsage.objects.exists()
        assert not DomainUsage.objects.exists()

    def test_a_limit_set_at_noon_holds_for_the_whole_day(
        self, mailbox: Mailbox, make_mailbox: MakeMailbox, stranger: Organization, limit: Limit, send: Send
    ) -> None:
        send(mailbox, "a@acme.test", "b@acme.test")
        send(make_mailbox("eve", of=stranger), "a@acme.test")
        limit("organization", 3)
        send(reload(mailbox))
        with pytest.raises(DailyLimitReached):
            send(reload(mailbox))
        limit("domain", 5)  # which the stranger uses too
        limit("organization", None)
        send(reload(mailbox))
        assert used() == {"inbox": 5, "organization": 3, "domain": 5}

    def test_a_refused_send_counts_on_no_level(self, mailbox: Mailbox, limit: Limit, send: Send) -> None:
        limit("organization", 10)
        limit("inbox", 2)
        stale = reload(mailbox)
        send(reload(mailbox), "a@acme.test", "b@acme.test")
        with pytest.raises(DailyLimitReached) as refused:
            send(stale)  # refused by the last of the statements, after the organization was counted
        assert refused.value.data["level"] == "inbox"
        assert used() == {"inbox": 2, "organization": 2}

    def test_a_new_day_begins_by_the_counters_own_date(self, mailbox: Mailbox, limit: Limit) -> None:
        limit("organization", 3)
        limit("domain", 3)
        loaded = reload(mailbox)
        for now in (NOON, NOON + DAY, NOON + 5 * DAY):
            count_sends(mailbox=loaded, count=3, now=now)
            with pytest.raises(DailyLimitReached):
                count_sends(mailbox=loaded, count=1, now=now)

    def test_requests_from_both_sides_of_midnight_do_not_begin_the_day_again_and_again(
        self, mailbox: Mailbox, limit: Limit
    ) -> None:
        limit("organization", 10)
        loaded = reload(mailbox)
        before = datetime(2031, 5, 5, 23, 59, 59, 900_000, tzinfo=UTC)
        accepted = 0
        for _ in range(10):
            for moment in (before, before + timedelta(milliseconds=200)):
                try:
                    count_sends(mailbox=loaded, count=5, now=moment)
                    accepted += 5
                except DailyLimitReached:
                    pass
        assert accepted <= 20
        assert OrganizationUsage.objects.get().sends_today == 10

    def test_a_clock_that_was_a_year_ahead_closes_nothing_for_a_year(self, mailbox: Mailbox, limit: Limit) -> None:
        limit("organization", 10)
        loaded = reload(mailbox)
        count_sends(mailbox=loaded, count=10, now=NOON + timedelta(days=365))
        count_sends(mailbox=loaded, count=10, now=NOON)
        with pytest.raises(DailyLimitReached):
            count_sends(mailbox=loaded, count=1, now=NOON)

    def test_a_full_level_is_refused_before_any_work(self, mailbox: Mailbox, limit: Limit, send: Send) -> None:
        limit("domain", 1)
        send(reload(mailbox))
        with CaptureQueriesContext(connection) as queries, pytest.raises(DailyLimitReached, match=r"agents\.localhost"):
            send(reload(mailbox))
        assert not any("INSERT" in query["sql"] for query in queries)

    def test_each_limited_level_costs_one_statement(self, mailbox: Mailbox, limit: Limit) -> None:
        counts = []
        for level in ("inbox", "domain", "organization"):
            limit(level, 100)
            count_sends(mailbox=reload(mailbox), count=1, now=NOON)
            loaded = reload(mailbox)
            with CaptureQueriesContext(connection) as queries:
                count_sends(mailbox=loaded, count=1, now=NOON)
            counts.append(len(queries))
        assert counts == [1, 2, 3]
        tables = [next(name for name in ("organization", "domain", "mailbox") if f"_{name}usage" in query["sql"])
                  for query in queries]  # fmt: skip
        assert tables == ["organization", "domain", "mailbox"]  # the order in which everybody locks


class TestWhatACancelGivesBack:
    @pytest.fixture(autouse=True)
    def _limits(self, limit: Limit) -> None:
        limit("organization", 5)
        limit("domain", 5)

    def test_the_same_day_on_every_level_once(self, mailbox: Mailbox, send: Send) -> None:
        send(reload(mailbox), *(f"r{number}@acme.test" for number in range(5)))
        some = Delivery.objects.filter(address__in=["r0@acme.test", "r1@acme.test"])
        for _ in range(2):
            cancel_waiting(deliveries=some, now=timezone.now())
        assert used() == {"inbox": 3, "organization": 3, "domain": 3}
        usage = MailboxUsage.objects.get()
        assert (usage.total_sent, usage.judged_sent) == (5, 3)
        send(reload(mailbox), "a@acme.test", "b@acme.test")

    def test_what_was_held_too(self, mailbox: Mailbox, send: Send) -> None:
        send(reload(mailbox))
        hold_waiting(deliveries=Delivery.objects.all())
        assert used()["organization"] == 1
        cancel_waiting(deliveries=Delivery.objects.all(), now=timezone.now())
        assert used() == {"inbox": 0, "organization": 0, "domain": 0}

    def test_not_what_was_tried(self, mailbox: Mailbox, send: Send) -> None:
        send(reload(mailbox))
        now = timezone.now()
        claimed = claim_deliveries(limit=1, lane_limit=1, now=now).deliveries[0]
        record_results(results=[DeliveryResult(claimed, Outcome.TEMPORARY, now, 451)], now=now)
        assert cancel_waiting(deliveries=Delivery.objects.all(), now=now) == 1
        assert used()["organization"] == 1

    def test_not_on_another_day(self, mailbox: Mailbox, send: Send) -> None:
        send(reload(mailbox))
        Delivery.objects.update(created_at=timezone.now() - DAY)
        cancel_waiting(deliveries=Delivery.objects.all(), now=timezone.now())
        assert used()["organization"] == 1

    def test_not_what_is_suppressed(self, mailbox: Mailbox, send: Send) -> None:
        send(reload(mailbox))
        Delivery.objects.update(status="suppressed")
        assert cancel_waiting(deliveries=Delivery.objects.all(), now=timezone.now()) == 0
        assert used()["organization"] == 1

    def test_the_end_of_a_mailbox_gives_back_what_it_had_waiting(self, mailbox: Mailbox, send: Send) -> None:
        send(reload(mailbox))
        delete_mailbox(mailbox=mailbox, purge=True, now=timezone.now())
        assert used()["organization"] == 0
