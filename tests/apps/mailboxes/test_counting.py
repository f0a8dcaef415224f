"""Counters: the day's limit to the last recipient, and sums that no batch loses."""

from datetime import UTC, datetime, timedelta

import pytest
from pytest_django import DjangoAssertNumQueries

from apps.core.ids import new_id
from apps.events.models import Event
from apps.mailboxes.errors import DailyLimitReached, InboxDeleted
from apps.mailboxes.models import Mailbox, MailboxUsage
from apps.mailboxes.services import (
    add_usage,
    close_mailbox,
    count_sends,
    next_midnight,
    reset_daily_counters,
    update_mailbox,
)
from apps.mailboxes.tasks import reset_day
from tests.apps.conftest import MakeMailbox

pytestmark = pytest.mark.django_db
NOON = datetime(2031, 5, 5, 12, tzinfo=UTC)
BEFORE_MIDNIGHT = datetime(2031, 5, 5, 23, 59, 59, 900_000, tzinfo=UTC)
AFTER_MIDNIGHT = BEFORE_MIDNIGHT + timedelta(milliseconds=200)


def usage_of(mailbox: Mailbox) -> MailboxUsage:
    return MailboxUsage.objects.get(mailbox=mailbox)


@pytest.fixture
def limited(make_mailbox: MakeMailbox) -> Mailbox:
    return make_mailbox("limited", daily_send_limit=10)


class TestTheDaysLimit:
    def test_the_last_place_is_given_and_not_one_more(self, limited: Mailbox) -> None:
        count_sends(mailbox=limited, count=7, now=NOON)
        with pytest.raises(DailyLimitReached):
            count_sends(mailbox=limited, count=4, now=NOON)
        count_sends(mailbox=limited, count=3, now=NOON)
        with pytest.raises(DailyLimitReached):
            count_sends(mailbox=limited, count=1, now=NOON)

        assert (usage_of(limited).sends_today, usage_of(limited).total_sent) == (10, 10)

    def test_the_refusal_says_when_the_day_ends(self, limited: Mailbox) -> None:
        with pytest.raises(DailyLimitReached) as caught:
            count_sends(mailbox=limited, count=11, now=NOON)
        assert caught.value.data["retry_after"] in (43_200, 43_201)

        with pytest.raises(DailyLimitReached) as caught:
            count_sends(mailbox=limited, count=11, now=BEFORE_MIDNIGHT)
        assert 1 <= caught.value.data["retry_after"] <= 2
        assert next_midnight(BEFORE_MIDNIGHT) == datetime(2031, 5, 6, tzinfo=UTC)

    def test_a_new_day_begins_by_its_date_without_any_task(self, limited: Mailbox) -> None:
        count_sends(mailbox=limited, count=10, now=BEFORE_MIDNIGHT)
        count_sends(mailbox=limited, count=10, now=AFTER_MIDNIGHT)

        usage = usage_of(limited)
        assert (usage.sends_today, usage.day.isoformat(), usage.total_sent) == (10, "2031-05-06", 20)
        assert usage.sends_on(BEFORE_MIDNIGHT.date()) == 0

    def test_a_day_is_that_of_utc_wherever_the_time_was_written(self, limited: Mailbox) -> None:
        from zoneinfo import ZoneInfo

        count_sends(mailbox=limited, count=10, now=BEFORE_MIDNIGHT.astimezone(ZoneInfo("Asia/Tokyo")))

        with pytest.raises(DailyLimitReached):
            count_sends(mailbox=limited, count=1, now=NOON)

    def test_a_request_from_before_midnight_does_not_begin_the_new_day_again(self, limited: Mailbox) -> None:
        """Two machines whose clocks differ would else take turns in starting from nothing."""
        accepted = 0
        for _ in range(10):
            for moment in (BEFORE_MIDNIGHT, AFTER_MIDNIGHT):
                try:
                    count_sends(mailbox=limited, count=5, now=moment)
                    accepted += 5
                except DailyLimitReached:
                    pass

        assert accepted <= 20
        assert usage_of(limited).sends_today == 10

    def test_a_clock_that_was_a_year_ahead_does_not_close_the_mailbox_for_a_year(self, limited: Mailbox) -> None:
        count_sends(mailbox=limited, count=10, now=NOON + timedelta(days=365))
        count_sends(mailbox=limited, count=10, now=NOON)
        count_sends(mailbox=limited, count=10, now=NOON + timedelta(days=1))

        assert usage_of(limited).day.isoformat() == "2031-05-06"

    def test_no_limit_is_no_limit(self, make_mailbox: MakeMailbox) -> None:
        mailbox = make_mailbox(daily_send_limit=None)
        count_sends(mailbox=mailbox, count=1_000_000, now=NOON)

        assert usage_of(mailbox).sends_today == 1_000_000
        assert not Event.objects.filter(type="inbox.limit_reached").exists()

    def test_a_limit_of_none_lets_nothing_out(self, make_mailbox: MakeMailbox) -> None:
        with pytest.raises(DailyLimitReached):
            count_sends(mailbox=make_mailbox(daily_send_limit=0), count=1, now=NOON)

    def test_the_limit_is_that_of_now_not_of_the_object_in_hand(self, limited: Mailbox, now: datetime) -> None:
        count_sends(mailbox=limited, count=10, now=NOON)
        update_mailbox(mailbox=Mailbox.objects.get(id=limited.id), changes={"daily_send_limit": 12}, now=now)
        count_sends(mailbox=limited, count=2, now=NOON)
        update_mailbox(mailbox=Mailbox.objects.get(id=limited.id), changes={"daily_send_limit": 5}, now=now)

        with pytest.raises(DailyLimitReached):
            count_sends(mailbox=limited, count=1, now=NOON)
        assert usage_of(limited).sends_today == 12

    def test_reaching_it_is_told_once(self, limited: Mailbox) -> None:
        for count in (9, 1):
            count_sends(mailbox=limited, count=count, now=NOON)
        for _ in range(3):
            with pytest.raises(DailyLimitReached):
                count_sends(mailbox=limited, count=1, now=NOON)

        event = Event.objects.get(type="inbox.limit_reached")
        assert (event.mailbox_id, event.data["daily_send_limit"]) == (limited.id, 10)

    def test_a_send_costs_one_statement(
        self, mailbox: Mailbox, django_assert_num_queries: DjangoAssertNumQueries
    ) -> None:
        with django_assert_num_queries(1):
            count_sends(mailbox=mailbox, count=50, now=NOON)

    def test_a_deleted_mailbox_sends_no_more(self, limited: Mailbox, now: datetime) -> None:
        close_mailbox(mailbox=Mailbox.objects.get(id=limited.id), release_address=False, now=now)

        with pytest.raises(InboxDeleted):
            count_sends(mailbox=limited, count=1, now=NOON)


class TestTheResetOfTheDay:
    def test_it_only_touches_days_that_are_over(self, make_mailbox: MakeMailbox) -> None:
        yesterday, today, unused = (make_mailbox(name) for name in ("yesterday", "today", "unused"))
        count_sends(mailbox=yesterday, count=3, now=NOON - timedelta(days=1))
        count_sends(mailbox=today, count=4, now=NOON)

        assert reset_daily_counters(now=NOON) == 1
        assert reset_daily_counters(now=NOON) == 0
        assert (usage_of(yesterday).sends_today, usage_of(yesterday).total_sent) == (0, 3)
        assert usage_of(today).sends_today == 4
        assert usage_of(unused).sends_today == 0

    def test_a_late_task_gives_nothing_back(self, limited: Mailbox) -> None:
        count_sends(mailbox=limited, count=10, now=AFTER_MIDNIGHT)
        reset_daily_counters(now=BEFORE_MIDNIGHT)
        reset_daily_counters(now=AFTER_MIDNIGHT)

        with pytest.raises(DailyLimitReached):
            count_sends(mailbox=limited, count=1, now=AFTER_MIDNIGHT)

    def test_the_task_takes_whatever_a_newer_beat_may_send(self, limited: Mailbox, now: datetime) -> None:
        count_sends(mailbox=limited, count=10, now=now - timedelta(days=2))
        reset_day(something_new=1)
        reset_day()

        assert usage_of(limited).sends_today == 0


class TestBatches:
    def test_each_counter_gets_its_own(self, make_mailbox: MakeMailbox) -> None:
        first, second = make_mailbox("first"), make_mailbox("second")
        add_usage(deltas={first.id: {"bounce_count": 2, "stored_bytes": 100}, second.id: {"complaint_count": 1}})
        add_usage(deltas={first.id: {"total_received": 1, "stored_bytes": -40}})

        usage = usage_of(first)
        assert (usage.bounce_count, usage.stored_bytes, usage.total_received) == (2, 60, 1)
        assert (usage_of(second).complaint_count, usage_of(second).bounce_count) == (1, 0)

    def test_sums_beyond_32_bits_are_kept(self, mailbox: Mailbox) -> None:
        add_usage(deltas={mailbox.id: {"stored_bytes": 2**40, "total_received": 2**33}})

        assert usage_of(mailbox).stored_bytes == 2**40

    def test_a_mailbox_that_is_not_there_is_nothing_to_count(self, mailbox: Mailbox) -> None:
        add_usage(deltas={new_id(): {"bounce_count": 1}, mailbox.id: {"bounce_count": 1}})

        assert usage_of(mailbox).bounce_count == 1

    def test_a_deleted_mailbox_still_counts_its_bounces_but_receives_nothing(
        self, mailbox: Mailbox, now: datetime
    ) -> None:
        close_mailbox(mailbox=mailbox, release_address=False, now=now)
        add_usage(deltas={mailbox.id: {"bounce_count": 1}})

        assert usage_of(mailbox).bounce_count == 1
        with pytest.raises(InboxDeleted):
            add_usage(deltas={mailbox.id: {"total_received": 1}})

    def test_any_number_of_mailboxes_costs_two_statements(
        self, make_mailbox: MakeMailbox, django_assert_num_queries: DjangoAssertNumQueries
    ) -> None:
        deltas = {make_mailbox().id: {"total_received": 1} for _ in range(20)}
        with django_assert_num_queries(2):
            add_usage(deltas=deltas)
        with django_assert_num_queries(0):
            add_usage(deltas={})
