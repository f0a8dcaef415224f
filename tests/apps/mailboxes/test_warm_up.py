"""Warm-up: a limit that grows day by day, the same in Python and in the statement that counts."""

import random
from datetime import UTC, date, datetime, timedelta

import pytest
from django.db import IntegrityError, connection, transaction

from apps.core.errors import ValidationFailed
from apps.core.warmup import Ramp, limit_sql
from apps.domains.models import Domain
from apps.domains.services import limit_domain
from apps.mailboxes.errors import DailyLimitReached
from apps.mailboxes.models import DomainUsage, Mailbox
from apps.mailboxes.services import count_sends, warm_up_mailbox

pytestmark = pytest.mark.django_db
NOON = datetime(2031, 5, 5, 12, tzinfo=UTC)
DAY = timedelta(days=1)
FIELDS = {
    "daily_send_limit": "int",
    "ramp_start": "int",
    "ramp_growth": "int",
    "ramp_ceiling": "int",
    "ramp_since": "date",
}


def reload(mailbox: Mailbox) -> Mailbox:
    return Mailbox.objects.select_related("organization", "domain", "usage").get(id=mailbox.id)


def fill(mailbox: Mailbox, now: datetime) -> int:
    """How many recipients the mailbox may write to that day."""
    for number in range(100_000):
        try:
            count_sends(mailbox=mailbox, count=1, now=now)
        except DailyLimitReached as refused:
            assert f" {number} recipients" in refused.message
            return number
    raise AssertionError("no limit")


def test_a_mailbox_may_send_a_little_more_each_day_up_to_the_ceiling(mailbox: Mailbox) -> None:
    warm_up_mailbox(mailbox=mailbox, ramp=Ramp(start=4, growth=50, ceiling=12), now=NOON)
    loaded = reload(mailbox)
    assert [fill(loaded, NOON + days * DAY) for days in range(6)] == [4, 6, 9, 12, 12, 12]


def test_its_own_limit_holds_beside_it_and_it_ends_when_it_is_taken_away(mailbox: Mailbox) -> None:
    mailbox.daily_send_limit = 5
    mailbox.save()
    warm_up_mailbox(mailbox=mailbox, ramp=Ramp(start=2, growth=100, ceiling=1000), now=NOON)
    loaded = reload(mailbox)
    assert [fill(loaded, NOON + days * DAY) for days in range(4)] == [2, 4, 5, 5]
    warm_up_mailbox(mailbox=mailbox, ramp=None, now=NOON)
    assert fill(reload(mailbox), NOON + 9 * DAY) == 5


def test_a_domain_is_warmed_up_for_all_its_mailboxes(mailbox: Mailbox, shared_domain: Domain) -> None:
    limit_domain(domain=shared_domain, daily_send_limit=None, ramp=Ramp(3, 100, 6), now=NOON)
    loaded = reload(mailbox)
    assert [fill(loaded, NOON + days * DAY) for days in range(4)] == [3, 6, 6, 6]
    assert DomainUsage.objects.get().sends_today == 6


def test_a_change_keeps_the_first_day(mailbox: Mailbox) -> None:
    warm_up_mailbox(mailbox=mailbox, ramp=Ramp(1, 100, 100), now=NOON)
    warm_up_mailbox(mailbox=mailbox, ramp=Ramp(1, 100, 4), now=NOON + 3 * DAY)
    found = reload(mailbox)
    assert (found.ramp_since, found.limit_on(NOON.date() + 3 * DAY)) == (NOON.date(), 4)


@pytest.mark.parametrize(
    ("ramp", "field"),
    [
        (Ramp(0, 10, 10), "ramp_start"),
        (Ramp(2**31, 10, 2**31), "ramp_start"),
        (Ramp(1, -1, 10), "ramp_growth"),
        (Ramp(1, 1001, 10), "ramp_growth"),
        (Ramp(10, 10, 9), "ramp_ceiling"),
        (Ramp(10, 10, 2**31), "ramp_ceiling"),
    ],
)
def test_numbers_that_make_no_ramp_are_refused(mailbox: Mailbox, ramp: Ramp, field: str) -> None:
    with pytest.raises(ValidationFailed) as refused:
        warm_up_mailbox(mailbox=mailbox, ramp=ramp, now=NOON)
    assert refused.value.data["details"][0]["field"] == field


def test_half_a_ramp_cannot_be_stored(mailbox: Mailbox) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        Mailbox.objects.update(ramp_start=5)


def test_python_and_postgresql_work_out_the_same(db: None) -> None:
    since = date(2031, 5, 5)
    chance = random.Random(7)
    for _ in range(300):
        ramp = Ramp(chance.randint(1, 10 ** chance.randint(1, 9)), chance.randint(0, 1000), 2**31 - 1)
        day = since + timedelta(days=chance.randint(-10, 10 ** chance.randint(1, 4)))
        domain = Domain(daily_send_limit=chance.choice([None, chance.randint(0, 2**31 - 1)]))
        domain.set_ramp(ramp, today=since)
        row = {field: getattr(domain, field) for field in FIELDS}
        with connection.cursor() as cursor:
            columns = ", ".join(f"%({field})s::{kind} AS {field}" for field, kind in FIELDS.items())
            cursor.execute(f"SELECT {limit_sql('it')} FROM (SELECT {columns}) AS it", {**row, "day": day})
            (found,) = cursor.fetchone()
        expected = domain.limit_on(day)
        assert expected is not None
        assert abs(found - expected) <= 1, (ramp, day)  # the last digit of a double, before rounding
