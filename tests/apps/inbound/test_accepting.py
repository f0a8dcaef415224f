"""Mail from other servers: a 250 means stored, a culprit stands alone, and trouble of ours is a 451."""

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from django.db import OperationalError, connection, transaction
from django.test.utils import CaptureQueriesContext

from apps.accounts.models import Organization
from apps.inbound import services
from apps.inbound.services import ACCEPTED, TRY_AGAIN, IncomingMail, accept_mails, resolve_recipients
from apps.mail.blobs import read_blob
from apps.mail.models import BlobChunk, Message
from apps.mailboxes.errors import InboxDeleted
from apps.mailboxes.models import Mailbox, MailboxUsage
from apps.mailboxes.services import close_mailbox, suspend_mailbox
from mailhost.message.parse import ParsedAttachment, ParsedMessage
from tests.apps.conftest import MakeMailbox
from tests.apps.threads import run_together

ALICE = "alice@agents.localhost"
POISON = b"Subject: poison\r\n\r\nx\r\n"
EMPTIED = "The parsed fields could not be stored."
MakeMail = Callable[..., IncomingMail]


@pytest.fixture
def make_mail(now: datetime) -> MakeMail:
    def make(raw: bytes = b"", *recipients: str, number: int = 0) -> IncomingMail:
        raw = raw or b"From: bob@remote.example\r\nSubject: mail %d\r\n\r\nHello\r\n" % number
        return IncomingMail(
            raw=raw,
            mail_from="bob@remote.example",
            recipients=list(recipients or [ALICE]),
            client_ip="192.0.2.1",
            helo="mx.remote.example",
            tls=True,
            smtputf8=False,
            received_at=now,
        )

    return make


@pytest.fixture
def poisoned(monkeypatch: pytest.MonkeyPatch) -> Callable[[ParsedMessage | Exception], None]:
    """Has the parser answer something of the test's own for the mail POISON."""

    def poison(answer: ParsedMessage | Exception) -> None:
        real = services.parse_message

        def parse(raw: bytes) -> ParsedMessage:
            if raw != POISON:
                return real(raw)
            if isinstance(answer, Exception):
                raise answer
            return answer

        monkeypatch.setattr(services, "parse_message", parse)

    return poison


def list_subjects() -> list[str]:
    return list(Message.objects.order_by("id").values_list("subject", flat=True))


@pytest.mark.django_db
class TestRecipients:
    def test_each_address_gets_its_verdict_in_order(
        self, mailbox: Mailbox, make_mailbox: MakeMailbox, now: datetime
    ) -> None:
        suspend_mailbox(mailbox=make_mailbox("suspended"), reason="x", now=now)
        close_mailbox(mailbox=make_mailbox("deleted"), release_address=False, now=now)
        names = ["alice+tag", "nobody", "suspended", "deleted"]
        addresses = [*(f"{name}@agents.localhost" for name in names), "bad address", "alice@elsewhere.example"]

        verdicts = resolve_recipients(addresses=addresses, now=now)

        assert verdicts[0].mailbox_id == mailbox.id
        assert verdicts[0].refusal is None
        refusals = [verdict.refusal for verdict in verdicts[1:]]
        assert [(refusal.code, refusal.enhanced) for refusal in refusals if refusal] == [
            (550, "5.1.1"), (550, "5.2.1"), (550, "5.1.1"), (553, "5.1.3"), (550, "5.1.1"),
        ]  # fmt: skip
        assert all(verdict.mailbox_id is None for verdict in verdicts[1:])

    def test_nobody_learns_whether_an_address_ever_existed(self, make_mailbox: MakeMailbox, now: datetime) -> None:
        close_mailbox(mailbox=make_mailbox("deleted"), release_address=False, now=now)
        deleted, unknown = resolve_recipients(
            addresses=["deleted@agents.localhost", "unknown@agents.localhost"], now=now
        )

        assert deleted == unknown


@pytest.mark.django_db
class TestAGroup:
    def test_each_mail_is_stored_before_its_250(self, mailbox: Mailbox, make_mail: MakeMail, now: datetime) -> None:
        replies = accept_mails(mails=[make_mail(number=number) for number in range(3)], now=now)

        assert replies == [ACCEPTED] * 3
        assert list_subjects() == ["mail 0", "mail 1", "mail 2"]

    def test_the_octets_are_kept_through_several_chunks(
        self, mailbox: Mailbox, make_mail: MakeMail, now: datetime
    ) -> None:
        raw = b"Subject: big\r\n\r\n" + bytes(range(256)) * 4000 + os.urandom(2_000_000) + b"\r\n"

        assert accept_mails(mails=[make_mail(raw)], now=now) == [ACCEPTED]
        assert read_blob(Message.objects.get().blob_id) == raw

    def test_a_mail_for_several_is_stored_once_and_its_tag_is_kept(
        self, mailbox: Mailbox, make_mailbox: MakeMailbox, stranger: Organization, make_mail: MakeMail, now: datetime
    ) -> None:
        make_mailbox("eve", of=stranger)
        mail = make_mail(b"", "alice+shop@agents.localhost", "EVE@agents.localhost")

        assert accept_mails(mails=[mail], now=now) == [ACCEPTED]
        assert set(Message.objects.values_list("delivered_to", flat=True)) == set(mail.recipients)
        assert BlobChunk.objects.count() == 1

    def test_fifty_cost_as_many_statements_as_one(self, mailbox: Mailbox, make_mail: MakeMail, now: datetime) -> None:
        def count(size: int) -> int:
            with CaptureQueriesContext(connection) as captured:
                replies = accept_mails(mails=[make_mail(number=number) for number in range(size)], now=now)
            assert set(replies) == {ACCEPTED}
            return len(captured)

        assert count(1) == count(50)

    def test_no_mails_are_no_work(self, now: datetime) -> None:
        assert accept_mails(mails=[], now=now) == []

    def test_a_recipient_deleted_since_rcpt_gets_nothing(
        self, mailbox: Mailbox, make_mailbox: MakeMailbox, make_mail: MakeMail, now: datetime
    ) -> None:
        gone, purged = make_mailbox("gone"), make_mailbox("purged")
        close_mailbox(mailbox=gone, release_address=False, now=now)
        close_mailbox(mailbox=purged, release_address=True, now=now)

        mails = [make_mail(b"", gone.address), make_mail(b"", purged.address), make_mail(b"", gone.address, ALICE)]
        replies = accept_mails(mails=mails, now=now)

        assert [(reply.code, reply.enhanced) for reply in replies] == [
            (550, "5.1.1"), (550, "5.1.1"), (250, "2.0.0"),
        ]  # fmt: skip
        assert Message.objects.get().mailbox_id == mailbox.id

    def test_one_deleted_while_the_group_is_written_spoils_nothing_for_the_others(
        self, mailbox: Mailbox, make_mailbox: MakeMailbox, make_mail: MakeMail, now: datetime,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        gone = make_mailbox("gone")
        real = services.deposit_messages

        def deposit(**arguments: Any) -> Any:
            results = real(**arguments)
            if len(arguments["deposits"]) > 1:  # the group has counted in vain
                raise InboxDeleted
            return results

        def delete_then_alone(*arguments: Any) -> Any:
            close_mailbox(mailbox=Mailbox.objects.get(id=gone.id), release_address=False, now=now)
            return alone(*arguments)

        alone = services._store_alone
        monkeypatch.setattr(services, "deposit_messages", deposit)
        monkeypatch.setattr(services, "_store_alone", delete_then_alone)

        replies = accept_mails(mails=[make_mail(), make_mail(b"", gone.address), make_mail()], now=now)

        assert [reply.code for reply in replies] == [250, 550, 250]
        assert Message.objects.count() == 2


@pytest.mark.django_db
class TestTheCulprit:
    @pytest.mark.parametrize(
        "poison",
        [
            ParsedMessage(subject="a\0b"),
            ParsedMessage(text="a\0b"),
            ParsedMessage(html="a\ud800b"),
            ParsedMessage(headers=[["X", "\0"]]),
            ParsedMessage(headers=[["X", "\ud800"]]),
            ParsedMessage(headers=[["X", object()]]),  # type: ignore[list-item]
            ParsedMessage(references=["\0"]),
            ParsedMessage(attachments=[ParsedAttachment("1." * 500, "x", "x/y", 1, None, "inline")]),
            ParsedMessage(attachments=[ParsedAttachment("1", "x", "x/y", 2**40, None, "inline")]),
            ParsedMessage(subject=None),  # type: ignore[arg-type]
            ParsedMessage(to=[None]),  # type: ignore[list-item]
            RecursionError(),
        ],
        ids=lambda poison: repr(poison)[:10],
    )
    def test_is_stored_without_its_fields_and_its_neighbours_are_untouched(
        self, mailbox: Mailbox, make_mail: MakeMail, poisoned: Callable[[Any], None], poison: Any, now: datetime
    ) -> None:
        poisoned(poison)
        mails = [make_mail(number=0), make_mail(POISON), make_mail(number=2)]

        assert accept_mails(mails=mails, now=now) == [ACCEPTED] * 3

        assert {"mail 0", "mail 2"} <= set(list_subjects())
        blobs = [read_blob(blob_id) for blob_id in Message.objects.order_by("id").values_list("blob_id", flat=True)]
        assert blobs == [mail.raw for mail in mails]
        assert Message.objects.filter(subject="").count() <= 1
        assert MailboxUsage.objects.get(mailbox=mailbox).total_received == 3

    def test_says_so_in_a_defect(
        self, mailbox: Mailbox, make_mail: MakeMail, poisoned: Callable[[Any], None], now: datetime
    ) -> None:
        poisoned(ParsedMessage(subject="a\0b", text="x"))
        accept_mails(mails=[make_mail(POISON)], now=now)

        message = Message.objects.select_related("body").get()
        assert (message.defects, message.subject, message.body.text) == ([EMPTIED], "", "")

    def test_leaves_nothing_of_the_mail_in_the_log(
        self, mailbox: Mailbox, make_mail: MakeMail, poisoned: Callable[[Any], None], now: datetime,
        caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str],
    ) -> None:  # fmt: skip
        poisoned(
            ParsedMessage(
                text="a private matter",
                attachments=[ParsedAttachment("1", "private", "x/y", -1, None, "inline")],  # refused by a constraint
            )
        )
        accept_mails(mails=[make_mail(POISON)], now=now)

        assert Message.objects.get().defects == [EMPTIED]
        assert "violates check constraint" in caplog.text
        assert "private" not in caplog.text + capfd.readouterr().err

    def test_that_cannot_be_stored_at_all_is_asked_to_come_again(
        self, mailbox: Mailbox, make_mail: MakeMail, now: datetime
    ) -> None:
        hopeless = replace(make_mail(number=1), raw="not octets")  # type: ignore[arg-type]

        replies = accept_mails(mails=[make_mail(number=0), hopeless, make_mail(number=2)], now=now)

        assert replies == [ACCEPTED, TRY_AGAIN, ACCEPTED]
        assert list_subjects() == ["mail 0", "mail 2"]

    def test_with_a_sender_that_no_column_holds_is_stored(
        self, mailbox: Mailbox, make_mail: MakeMail, now: datetime
    ) -> None:
        mails = [replace(make_mail(), mail_from=sender) for sender in ("a\0@x.example", "\udc80@x", "x" * 9999)]

        assert accept_mails(mails=mails, now=now) == [ACCEPTED] * 3


@pytest.mark.django_db(transaction=True)
class TestTheDatabaseIsAway:
    def kill_own_backend(self) -> None:
        """As a crash of PostgreSQL looks from here: another connection ends ours."""
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            pid = cursor.fetchone()[0]

        def kill(_: int) -> None:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])

        assert run_together(kill, 1) == [None]

    @pytest.fixture
    def dies_at_commit(self) -> Iterator[None]:
        """The connection dies while it commits: what became of the transaction is unknown to the client."""
        statements = (
            "CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS"
            " 'BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(1); RETURN NULL; END'",
            "CREATE CONSTRAINT TRIGGER die AFTER INSERT ON mail_message DEFERRABLE INITIALLY DEFERRED"
            " FOR EACH ROW EXECUTE FUNCTION die()",
        )
        with connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
        yield
        connection.close()
        with connection.cursor() as cursor:
            cursor.execute("DROP TRIGGER IF EXISTS die ON mail_message")
            cursor.execute("DROP FUNCTION die()")

    def test_all_are_asked_to_come_again_and_the_next_group_is_stored(
        self, mailbox: Mailbox, make_mail: MakeMail, now: datetime
    ) -> None:
        self.kill_own_backend()
        mails = [make_mail(number=number) for number in range(3)]

        assert accept_mails(mails=mails, now=now) == [TRY_AGAIN] * 3
        assert accept_mails(mails=mails, now=now) == [ACCEPTED] * 3
        assert Message.objects.count() == 3

    def test_recipients_are_asked_to_come_again_too(self, mailbox: Mailbox, now: datetime) -> None:
        self.kill_own_backend()

        assert [verdict.refusal for verdict in resolve_recipients(addresses=[ALICE, "x"], now=now)] == [TRY_AGAIN] * 2
        assert resolve_recipients(addresses=[ALICE], now=now)[0].mailbox_id == mailbox.id

    def test_half_a_transaction_is_none(
        self, mailbox: Mailbox, make_mail: MakeMail, now: datetime, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = services.deposit_messages

        def deposit(**arguments: Any) -> Any:
            results = real(**arguments)
            self.kill_own_backend()
            return results

        with monkeypatch.context() as patch:
            patch.setattr(services, "deposit_messages", deposit)
            assert accept_mails(mails=[make_mail(), make_mail()], now=now) == [TRY_AGAIN] * 2

        assert not Message.objects.exists()
        assert not BlobChunk.objects.exists()
        assert accept_mails(mails=[make_mail()], now=now) == [ACCEPTED]

    @pytest.mark.usefixtures("dies_at_commit")
    def test_a_connection_that_dies_during_the_commit_is_no_250(
        self, mailbox: Mailbox, make_mail: MakeMail, now: datetime
    ) -> None:
        assert accept_mails(mails=[make_mail(), make_mail()], now=now) == [TRY_AGAIN] * 2
        assert not Message.objects.exists()

    def test_between_the_mails_of_a_failed_group_those_before_keep_their_250(
        self, mailbox: Mailbox, make_mail: MakeMail, poisoned: Callable[[Any], None], now: datetime,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        poisoned(ParsedMessage(subject="a\0b"))
        alone, calls = services._store_alone, []

        def store(*arguments: Any) -> Any:
            calls.append(1)
            if len(calls) == 3:
                self.kill_own_backend()
            return alone(*arguments)

        monkeypatch.setattr(services, "_store_alone", store)
        mails = [make_mail(POISON), *(make_mail(number=number) for number in range(4))]

        assert accept_mails(mails=mails, now=now) == [ACCEPTED, ACCEPTED, TRY_AGAIN, TRY_AGAIN, TRY_AGAIN]
        assert len(calls) == 3, "a database that is away is not asked again for every mail"
        assert Message.objects.count() == 2

    def test_a_deadlock_is_a_451_and_nothing_is_half_done(
        self, mailbox: Mailbox, make_mail: MakeMail, now: datetime, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(**_: Any) -> None:
            raise OperationalError("deadlock detected")

        with monkeypatch.context() as patch:
            patch.setattr(services, "deposit_messages", fail)
            assert accept_mails(mails=[make_mail()], now=now) == [TRY_AGAIN]
        assert accept_mails(mails=[make_mail()], now=now) == [ACCEPTED]

    def test_groups_at_the_same_moment_are_all_stored(
        self, mailbox: Mailbox, make_mailbox: MakeMailbox, make_mail: MakeMail, now: datetime
    ) -> None:
        addresses = [ALICE, *(make_mailbox().address for _ in range(5))]

        def accept(number: int) -> list[Any]:
            order = addresses if number % 2 else addresses[::-1]
            return [
                reply
                for _ in range(5)
                for reply in accept_mails(mails=[make_mail(b"", address) for address in order], now=now)
            ]

        results = run_together(accept, 6)

        assert all(result == [ACCEPTED] * 30 for result in results)
        assert Message.objects.count() == 180

    def test_inside_a_callers_transaction_the_connection_is_left_to_it(
        self, mailbox: Mailbox, make_mail: MakeMail, now: datetime
    ) -> None:
        with transaction.atomic():
            assert accept_mails(mails=[make_mail()], now=now) == [ACCEPTED]
            transaction.set_rollback(True)

        assert not Message.objects.exists()
