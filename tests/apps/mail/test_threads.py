"""Threads: joined by what a mail refers to, within one mailbox and nowhere else."""

from datetime import datetime
from uuid import UUID

import pytest
from django.db import transaction

from apps.accounts.models import Organization
from apps.mail.models import Message, Thread
from apps.mail.services import Deposit, deposit_messages, hash_message_id
from apps.mailboxes.models import Mailbox
from mailhost.message.parse import parse_message
from tests.apps.conftest import MakeMailbox
from tests.apps.mail.conftest import DepositMail, message_of, write_mail
from tests.apps.threads import run_together

pytestmark = pytest.mark.django_db
ROOT, SECOND, THIRD = "<root@remote.example>", "<second@remote.example>", "<third@remote.example>"


def thread_of(deposit: DepositMail, *recipients: str, **fields: str) -> UUID:
    return message_of(deposit(None, *recipients, **fields)[0]).thread_id


class TestJoining:
    def test_an_answer_joins_what_it_answers(self, mailbox: Mailbox, deposit: DepositMail) -> None:
        root = thread_of(deposit, message_id=ROOT)

        assert thread_of(deposit, message_id=SECOND, in_reply_to=ROOT, subject="Re: Hi") == root
        assert thread_of(deposit, message_id=THIRD, references=f"{ROOT} {SECOND}") == root

    def test_the_subject_alone_joins_nothing(self, mailbox: Mailbox, deposit: DepositMail) -> None:
        assert thread_of(deposit, subject="Invoice") != thread_of(deposit, subject="Re: Invoice")

    def test_in_reply_to_counts_before_references_and_the_newest_reference_before_older_ones(
        self, mailbox: Mailbox, deposit: DepositMail
    ) -> None:
        first, second = thread_of(deposit, message_id=ROOT), thread_of(deposit, message_id=SECOND)

        assert thread_of(deposit, in_reply_to=ROOT, references=f"{ROOT} {SECOND}") == first
        assert thread_of(deposit, references=f"{ROOT} {SECOND} <unknown@x.example>") == second

    def test_references_to_nothing_that_is_here_begin_a_thread(self, mailbox: Mailbox, deposit: DepositMail) -> None:
        root = thread_of(deposit, message_id=ROOT)

        assert thread_of(deposit, in_reply_to="<unknown@x.example>", references="<x@y> <z@y>") != root

    def test_mails_without_a_message_id_do_not_find_each_other(self, mailbox: Mailbox, deposit: DepositMail) -> None:
        assert hash_message_id("") is None
        assert thread_of(deposit, in_reply_to="<>") != thread_of(deposit, in_reply_to="<>")

    def test_a_mail_may_refer_to_itself(self, mailbox: Mailbox, deposit: DepositMail) -> None:
        root = thread_of(deposit, message_id=ROOT, in_reply_to=ROOT, references=ROOT)

        assert thread_of(deposit, in_reply_to=ROOT) == root

    def test_a_message_id_used_twice_is_two_messages(self, mailbox: Mailbox, deposit: DepositMail) -> None:
        for _ in range(2):
            thread_of(deposit, message_id=ROOT)

        assert Message.objects.count() == Thread.objects.count() == 2
        assert thread_of(deposit, in_reply_to=ROOT) in set(Thread.objects.values_list("id", flat=True)[:2])

    def test_the_answer_may_come_in_the_same_batch_as_the_question(self, mailbox: Mailbox, now: datetime) -> None:
        raws = [
            write_mail(message_id=ROOT),
            write_mail(message_id=SECOND, in_reply_to=ROOT),
            write_mail(message_id=THIRD, in_reply_to=SECOND),
        ]
        mails = [Deposit(["alice@agents.localhost"], raw, parse_message(raw)) for raw in raws]
        with transaction.atomic():
            deposit_messages(deposits=mails, now=now)

        assert Thread.objects.get().message_count == 3


class TestWalls:
    def test_a_mail_joins_a_thread_of_its_own_mailbox_only(
        self, mailbox: Mailbox, make_mailbox: MakeMailbox, stranger: Organization, deposit: DepositMail
    ) -> None:
        make_mailbox("carol")
        make_mailbox("eve", of=stranger)
        root = thread_of(deposit, message_id=ROOT)
        for other in ("carol", "eve"):
            assert thread_of(deposit, f"{other}@agents.localhost", in_reply_to=ROOT) != root

        assert Thread.objects.get(id=root).message_count == 1

    def test_of_one_mail_to_two_mailboxes_each_goes_on_in_its_own_thread(
        self, mailbox: Mailbox, make_mailbox: MakeMailbox, deposit: DepositMail
    ) -> None:
        make_mailbox("carol")
        both = ("alice@agents.localhost", "carol@agents.localhost")
        roots = [message_of(result).thread_id for result in deposit(None, *both, message_id=ROOT)]
        answers = [message_of(result).thread_id for result in deposit(None, *both, in_reply_to=ROOT)]

        assert answers == roots
        assert roots[0] != roots[1]


class TestWhatAThreadShows:
    def test_it_counts_and_shows_its_newest(self, mailbox: Mailbox, deposit: DepositMail) -> None:
        deposit(message_id=ROOT, subject="Fwd: [list] Re: Invoice", body="First")
        last = message_of(deposit(message_id=SECOND, in_reply_to=ROOT, subject="Re: Other", body="Second")[0])

        thread = last.thread
        assert (thread.message_count, thread.unread_count) == (2, 2)
        assert (thread.preview, thread.last_message_id) == ("Second", last.id)
        assert (thread.subject, thread.subject_key) == ("Fwd: [list] Re: Invoice", "invoice")

    def test_its_participants_are_listed_once_each_and_bounded(self, mailbox: Mailbox, deposit: DepositMail) -> None:
        deposit(message_id=ROOT, to="alice@agents.localhost, x@y.example", cc="x@y.example")
        assert [person["address"] for person in Thread.objects.get().participants] == [
            "bob@remote.example", "alice@agents.localhost", "x@y.example",
        ]  # fmt: skip

        deposit(in_reply_to=ROOT, to=", ".join(f"p{number}@x.example" for number in range(500)))
        assert len(Thread.objects.get().participants) == 50

    def test_a_subject_of_any_length_has_a_key(self, mailbox: Mailbox, deposit: DepositMail) -> None:
        for subject in ("İ" * 300, "Re: " * 1000, "x" * 100_000):
            thread = message_of(deposit(subject=subject)[0]).thread
            assert len(thread.subject_key) <= 200


@pytest.mark.django_db(transaction=True)
class TestAtOnce:
    def test_parallel_answers_are_all_counted(self, mailbox: Mailbox, deposit: DepositMail) -> None:
        root = thread_of(deposit, message_id=ROOT)

        results = run_together(lambda number: [deposit(in_reply_to=ROOT) for _ in range(5)], 6)

        assert not [result for result in results if isinstance(result, Exception)]
        assert Thread.objects.get(id=root).message_count == 31

    def test_batches_that_answer_the_same_threads_in_opposite_order_do_not_wait_in_a_circle(
        self, mailbox: Mailbox, make_mailbox: MakeMailbox, deposit: DepositMail, now: datetime
    ) -> None:
        names = ["alice", *(make_mailbox().username for _ in range(7))]
        for name in names:
            thread_of(deposit, f"{name}@agents.localhost", message_id=ROOT)

        def answer(number: int) -> None:
            raw = write_mail(in_reply_to=ROOT)
            order = names if number % 2 else names[::-1]
            mails = [Deposit([f"{name}@agents.localhost"], raw, parse_message(raw)) for name in order]
            for _ in range(10):
                with transaction.atomic():
                    deposit_messages(deposits=mails, now=now)

        results = run_together(answer, 6)

        assert not [result for result in results if isinstance(result, Exception)]
        assert set(Thread.objects.values_list("message_count", flat=True)) == {61}
