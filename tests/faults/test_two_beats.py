"""Two beats do nothing twice: a periodic task that finds another at work leaves the work to it."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection, transaction

from apps.core.locks import try_lock
from apps.mailboxes.models import Mailbox, MailboxUsage
from apps.mailboxes.services import count_sends
from config.celery import BEAT_SCHEDULE, app
from tests.apps.conftest import *  # noqa: F403 - the fixtures of the product's tests

app.loader.import_default_modules()  # what a worker does: it knows the tasks of every app
pytestmark = pytest.mark.django_db(transaction=True)


def run_task(name: str) -> None:
    app.tasks[name]()


def at_once(work: Callable[[], None], times: int) -> None:
    start = threading.Barrier(times)
    errors: list[BaseException] = []

    def run() -> None:
        try:
            start.wait()
            work()
        except BaseException as error:
            errors.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=run) for _ in range(times)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert errors == []


@pytest.mark.parametrize("name", sorted(entry["task"] for entry in BEAT_SCHEDULE.values()))
def test_every_periodic_task_can_be_asked_for_by_many_beats_at_once(name: str, db: None) -> None:
    at_once(lambda: run_task(name), 4)
    run_task(name)


def test_the_day_is_begun_once_and_what_was_counted_since_stays(mailbox: Mailbox) -> None:
    yesterday = datetime.now(UTC).date() - timedelta(days=1)
    MailboxUsage.objects.filter(mailbox=mailbox).update(day=yesterday, sends_today=7, total_sent=7)
    run_task("apps.mailboxes.tasks.reset_day")
    with transaction.atomic():
        count_sends(mailbox=mailbox, count=2, now=datetime.now(UTC))
    at_once(lambda: run_task("apps.mailboxes.tasks.reset_day"), 4)  # a second beat, and a third
    usage = MailboxUsage.objects.get(mailbox=mailbox)
    assert (usage.sends_today, usage.total_sent, usage.day) == (2, 9, datetime.now(UTC).date())


def test_a_task_that_finds_another_at_work_does_nothing(mailbox: Mailbox) -> None:
    yesterday = datetime.now(UTC).date() - timedelta(days=1)
    MailboxUsage.objects.filter(mailbox=mailbox).update(day=yesterday, sends_today=7)
    working, done = threading.Event(), threading.Event()

    def hold() -> None:
        with transaction.atomic():
            assert try_lock("reset_day")
            working.set()
            assert done.wait(10)
        connection.close()

    holder = threading.Thread(target=hold)
    holder.start()
    assert working.wait(10)
    run_task("apps.mailboxes.tasks.reset_day")
    assert MailboxUsage.objects.get(mailbox=mailbox).day == yesterday
    done.set()
    holder.join(10)
