"""The way into a mailbox: whole or not at all, for every recipient, at the same cost for one mail and for fifty."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime
from uuid import UUID

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from apps.accounts.models import Organization
from apps.events.models import Event
from apps.mail.blobs import read_blob, store_blobs
from apps.mail.models import Attachment, BlobChunk, Message, MessageBody, Thread
from apps.mail.services import Deposit, deposit_messages
from apps.mailboxes.errors import InboxDeleted
from apps.mailboxes.models import Mailbox, MailboxUsage
from apps.mailboxes.selectors import RecipientState
from apps.mailboxes.services import Usage, close_mailbox, suspend_mailbox
from mailhost.message.parse import parse_message, read_attachment
from tests.apps.conftest import MakeMailbox
from tests.apps.mail.conftest import DepositMail, message_of, write_mail

pytestmark = pytest.mark.django_db

WITH_FILE = b"""From: =?utf-8?q?B=C3=B6b?= <bob@remote.example>\r
To: Alice <alice@agents.localhost>, "Carol, C." <carol@x.example>\r
Cc: dave@x.example\r
Reply-To: replies@remote.example\r
Subject: =?utf-8?b?UmVwb3J0IPCfkJ8=?=\r
Date: Mon, 05 May 2031 14:00:00 +0200\r
Message-ID: <one@remote.example>\r
MIME-Version: 1.0\r
Content-Type: multipart/mixed; boundary=b\r
\r
--b\r
Content-Type: text/plain; charset=utf-8\r
Content-Transfer-Encoding: 8bit\r
\r
See the file. \xc3\xbc\r
--b\r
Content-Type: application/pdf; name="../../r.pdf"\r
Content-Disposition: attachment; filename="../../r.pdf"\r
Content-Transfer-Encoding: base64\r
\r
AAECA//+\r
--b--\r
"""


class TestWhatIsStored:
    def test_the_mail_can_be_read_as_it_was_sent(self, mailbox: Mailbox, deposit: DepositMail, now: datetime) -> None:
        message = message_of(deposit(WITH_FILE, "Alice+orders@Agents.Localhost")[0])

        assert (message.organization_id, message.mailbox_id) == (mailbox.organization_id, mailbox.id)
        assert (message.direction, message.unread, message.has_attachments) == ("inbound", True, True)
        assert (message.from_address, message.from_name) == ("bob@remote.example", "Böb")
        assert [person["address"] for person in message.to] == ["alice@agents.localhost", "carol@x.example"]
        assert message.cc == [{"address": "dave@x.example", "name": ""}]
        assert message.reply_to == [{"address": "replies@remote.example", "name": ""}]
        assert message.subject == "Report 🐟"
        assert message.sent_at is not None
        assert message.sent_at.isoformat() == "2031-05-05T12:00:00+00:00"
        assert (message.delivered_to, message.mail_from) == ("Alice+orders@Agents.Localhost", "bob@remote.example")
        assert (message.size, message.created_at) == (len(WITH_FILE), now)
        assert message.body.text.strip() == "See the file. ü"
        assert message.preview == "See the file. ü"

    def test_the_raw_octets_are_kept(self, mailbox: Mailbox, deposit: DepositMail) -> None:
        raw = b"From: a@x.example\r\n\r\n" + bytes(range(256)) * 12_000 + b"\r\n"
        message = message_of(deposit(raw)[0])

        assert read_blob(message.blob_id) == raw

    def test_an_attachment_is_found_in_them(self, mailbox: Mailbox, deposit: DepositMail) -> None:
        message = message_of(deposit(WITH_FILE)[0])

        attachment = Attachment.objects.get(message=message)
        assert (attachment.filename, attachment.size) == ("r.pdf", 6)
        assert read_attachment(read_blob(message.blob_id), attachment.part) == b"\0\1\2\3\xff\xfe"

    def test_it_is_told_and_counted(self, mailbox: Mailbox, deposit: DepositMail) -> None:
        message = message_of(deposit(WITH_FILE)[0])

        event = Event.objects.get(type="message.received")
        assert (event.organization_id, event.mailbox_id) == (mailbox.organization_id, mailbox.id)
        assert event.data["message_id"] == str(message.id)
        assert event.data["from"] == {"address": "bob@remote.example", "name": "Böb"}
        usage = MailboxUsage.objects.get(mailbox=mailbox)
        assert (usage.total_received, usage.stored_bytes, usage.sends_today) == (1, len(WITH_FILE), 0)

    @pytest.mark.parametrize(
        "raw",
        [
            b"",
            b"\r\n",
            b"\0" * 1000,
            b"no header at all",
            b"Subject: \x80\xff\xfe\r\n\r\n\xff",
            b"Subject: =?utf-16?b?2AA=?=\r\n\r\nx",
            b"From: " + b"x" * 5000 + b"@" + b"y" * 5000 + b"\r\n\r\n",
            b"From: =?utf-8?q?=00=ED=A0=80?= <a\0b@x.example>\r\nTo: \0\r\nMessage-ID: <\0@x>\r\n\r\na\0b",
            b"Message-ID: <" + b"x" * 990 + b"@x>\r\nIn-Reply-To: <" + b"y" * 990 + b"@y>\r\n\r\n",
            b"References: " + b" ".join(b"<%d@x>" % number for number in range(5000)) + b"\r\n\r\n",
            b"To: " + b", ".join(b"a%d@x.example" % number for number in range(5000)) + b"\r\n\r\n",
            b"Date: Mon, 01 Jan 0001 00:00:00 +0000\r\n\r\n",
            b"Date: Fri, 31 Dec 9999 23:59:59 -1200\r\n\r\n",
            b"Date: Mon, 31 Feb 2031 99:99:99 +9999\r\n\r\n",
            b"X-Many: 1\r\n" * 3000 + b"\r\n",
            b"Subject: " + b"long " * 50_000 + b"\r\n\r\n",
            b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n\r\nx\r\n" * 3000,
            b"Content-Type: " + b"a" * 120 + b"/" + b"b" * 120 + b"; name=" + b"n" * 3000 + b"\r\n\r\nx",
            b"Content-Type: image/png\r\nContent-Id: <" + b"c" * 3000 + b">\r\n\r\nx",
            b"Content-Type: text/html; charset=nonsense\r\n\r\n<p>" + b"<div>" * 5000,
            b"\r\n" + b"ten megabytes of text\r\n" * 450_000,
        ],
        ids=lambda raw: repr(raw[:25]),
    )
    def test_nothing_that_a_stranger_writes_breaks_it(self, mailbox: Mailbox, deposit: DepositMail, raw: bytes) -> None:
        message = message_of(deposit(raw)[0])

        assert read_blob(message.blob_id) == raw
        assert message.thread.message_count == 1

    @pytest.mark.parametrize("mail_from", ["", "a\0b@x.example", "\ud800@x.example", "x" * 5000, '"a b"@x.example'])
    def test_no_envelope_sender_breaks_it_either(self, mailbox: Mailbox, deposit: DepositMail, mail_from: str) -> None:
        assert deposit(mail_from=mail_from)[0].message_id is not None


class TestRecipients:
    def test_each_gets_a_message_of_the_one_stored_mail(
        self, mailbox: Mailbox, make_mailbox: MakeMailbox, stranger: Organization, deposit: DepositMail
    ) -> None:
        eve = make_mailbox("eve", of=stranger)
        results = deposit(None, "alice@agents.localhost", "eve@agents.localhost")

        messages = [message_of(result) for result in results]
        assert [message.mailbox_id for message in messages] == [mailbox.id, eve.id]
        assert [message.organization_id for message in messages] == [mailbox.organization_id, stranger.id]
        assert messages[0].blob_id == messages[1].blob_id
        assert BlobChunk.objects.count() == 1
        assert messages[0].thread_id != messages[1].thread_id

    def test_those_who_take_nothing_get_nothing_and_the_others_do(
        self, mailbox: Mailbox, make_mailbox: MakeMailbox, deposit: DepositMail, now: datetime
    ) -> None:
        close_mailbox(mailbox=make_mailbox("deleted"), release_address=False, now=now)
        suspend_mailbox(mailbox=make_mailbox("suspended"), reason="x", now=now)
        names = ("deleted", "alice", "nobody", "suspended")
        results = deposit(None, *(f"{name}@agents.localhost" for name in names), "not an address")

        states = RecipientState
        assert [result.state for result in results] == [
            states.DELETED, states.ACCEPTS, states.UNKNOWN, states.SUSPENDED, states.INVALID,
        ]  # fmt: skip
        assert [result.message_id is not None for result in results] == [False, True, False, False, False]
        assert Message.objects.count() == Thread.objects.count() == 1

    def test_a_mail_that_nobody_takes_leaves_nothing(self, mailbox: Mailbox, deposit: DepositMail) -> None:
        deposit(None, "nobody@agents.localhost")

        for model in (Message, MessageBody, Thread, BlobChunk, Attachment):
            assert not model._default_manager.exists()
        assert not Event.objects.filter(type="message.received").exists()

    def test_a_blob_that_is_stored_already_is_not_stored_again(self, mailbox: Mailbox, now: datetime) -> None:
        raw = write_mail()
        blob_id = store_blobs([raw])[0]
        mail = Deposit(["alice@agents.localhost"], raw, parse_message(raw), blob_id=blob_id)
        with transaction.atomic():
            deposit_messages(deposits=[mail], now=now)

        assert Message.objects.get().blob_id == blob_id
        assert BlobChunk.objects.count() == 1


class TestCost:
    @pytest.fixture
    def count(self, now: datetime) -> Callable[[list[Deposit]], int]:
        def act(mails: list[Deposit]) -> int:
            queries: AbstractContextManager[CaptureQueriesContext] = CaptureQueriesContext(connection)
            with queries as captured, transaction.atomic():
                deposit_messages(deposits=mails, now=now)
            return len(captured)

        return act

    def make(self, number: int, *recipients: str) -> Deposit:
        raw = WITH_FILE.replace(b"<one@", b"<%d@" % number).replace(
            b"Subject:", b"In-Reply-To: <root@remote.example>\r\nSubject:"
        )
        return Deposit(recipients or ["alice@agents.localhost"], raw, parse_message(raw))

    def test_fifty_mails_cost_as_many_statements_as_one(
        self, mailbox: Mailbox, count: Callable[[list[Deposit]], int], deposit: DepositMail
    ) -> None:
        deposit(message_id="<root@remote.example>")
        one = count([self.make(0)])
        fifty = count([self.make(number) for number in range(1, 51)])

        assert one == fifty
        assert one <= 13
        assert Thread.objects.get().message_count == 52

    def test_fifty_mailboxes_cost_as_many_as_one(
        self, mailbox: Mailbox, make_mailbox: MakeMailbox, count: Callable[[list[Deposit]], int]
    ) -> None:
        addresses = [make_mailbox().address for _ in range(50)]

        assert count([self.make(0, *addresses)]) == count([self.make(1)])
        assert count([self.make(number, address) for number, address in enumerate(addresses)]) == count([self.make(2)])


class TestAllOrNothing:
    def test_what_fails_late_leaves_nothing(
        self, mailbox: Mailbox, deposit: DepositMail, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from apps.mail.services import deposit as module

        def fail(*, deltas: Usage) -> None:
            raise RuntimeError

        monkeypatch.setattr(module, "add_usage", fail)
        with pytest.raises(RuntimeError):
            deposit()

        for model in (Message, MessageBody, Thread, BlobChunk):
            assert not model._default_manager.exists()

    def test_a_mailbox_deleted_after_the_look_gets_nothing(
        self, mailbox: Mailbox, deposit: DepositMail, now: datetime, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from apps.mail.services import deposit as module

        find = module.find_recipients

        def find_then_delete(addresses: list[str]) -> object:
            found = find(addresses)
            close_mailbox(mailbox=Mailbox.objects.get(id=mailbox.id), release_address=True, now=now)
            return found

        monkeypatch.setattr(module, "find_recipients", find_then_delete)
        with pytest.raises(InboxDeleted):
            deposit()

        assert not Message.objects.exists()

    def test_a_callers_own_counters_are_added_to_and_left_to_it(self, mailbox: Mailbox, now: datetime) -> None:
        raw = write_mail()
        usage: Usage = {mailbox.id: {"bounce_count": 1, "total_received": 2}}
        with transaction.atomic():
            deposit_messages(
                deposits=[Deposit(["alice@agents.localhost"], raw, parse_message(raw))], now=now, usage=usage
            )

        counters: dict[UUID, dict[str, int]] = {
            mailbox.id: {"bounce_count": 1, "total_received": 3, "stored_bytes": len(raw), "message_count": 1}
        }
        assert usage == counters
        assert MailboxUsage.objects.get(mailbox=mailbox).total_received == 0
