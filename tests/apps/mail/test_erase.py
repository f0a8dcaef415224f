"""Erasing a mailbox's mail: all of it, in batches, and a raw mail only with the last message that refers to it."""

from datetime import datetime
from typing import Any

import pytest

from apps.accounts.models import Organization
from apps.core.errors import NotFound
from apps.delivery.services import delete_mailbox
from apps.mail.blobs import read_blob
from apps.mail.models import Attachment, BlobChunk, Message, MessageBody, MessageLabel, Thread
from apps.mail.services import erase, erase_mailbox_mail
from apps.mailboxes.models import Mailbox, MailboxUsage
from tests.apps.conftest import MakeMailbox
from tests.apps.mail.conftest import DepositMail, message_of
from tests.apps.mail.test_deposit import WITH_FILE
from tests.apps.threads import run_together

pytestmark = pytest.mark.django_db
BOTH = ("alice@agents.localhost", "carol@agents.localhost")
TABLES: tuple[Any, ...] = (Message, MessageBody, Attachment, MessageLabel, Thread, BlobChunk)


@pytest.fixture
def carol(make_mailbox: MakeMailbox, stranger: Organization) -> Mailbox:
    return make_mailbox("carol", of=stranger)


def test_nothing_of_it_is_left(mailbox: Mailbox, deposit: DepositMail) -> None:
    for _ in range(3):
        message = message_of(deposit(WITH_FILE)[0])
        MessageLabel.objects.create(mailbox_id=mailbox.id, label="x", message=message)

    assert erase_mailbox_mail(mailbox_id=mailbox.id) == 3
    assert erase_mailbox_mail(mailbox_id=mailbox.id) == 0
    assert [table.__name__ for table in TABLES if table._default_manager.exists()] == []


def test_others_keep_theirs(mailbox: Mailbox, carol: Mailbox, deposit: DepositMail) -> None:
    deposit(WITH_FILE)
    kept = message_of(deposit(WITH_FILE, "carol@agents.localhost")[0])

    erase_mailbox_mail(mailbox_id=mailbox.id)

    assert [table.objects.count() for table in (Message, MessageBody, Attachment, Thread)] == [1, 1, 1, 1]
    assert read_blob(kept.blob_id) == WITH_FILE


def test_a_shared_raw_mail_stays_until_the_last_message_goes(
    mailbox: Mailbox, carol: Mailbox, deposit: DepositMail
) -> None:
    blob_id = message_of(deposit(WITH_FILE, *BOTH)[0]).blob_id

    erase_mailbox_mail(mailbox_id=mailbox.id)
    assert read_blob(blob_id) == WITH_FILE
    erase_mailbox_mail(mailbox_id=carol.id)
    with pytest.raises(NotFound):
        read_blob(blob_id)


def test_more_than_a_batch_goes_and_an_interruption_is_made_good(
    mailbox: Mailbox, deposit: DepositMail, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(erase, "_BATCH", 4)
    for _ in range(11):
        deposit()
    assert erase._erase_batch(mailbox.id) == 4  # and then the power went

    assert erase_mailbox_mail(mailbox_id=mailbox.id) == 7
    assert not Message.objects.exists()
    assert not BlobChunk.objects.exists()


def test_the_storage_it_took_is_given_back(mailbox: Mailbox, carol: Mailbox, deposit: DepositMail) -> None:
    deposit(WITH_FILE, *BOTH)
    deposit(WITH_FILE, *BOTH)

    erase_mailbox_mail(mailbox_id=mailbox.id)

    assert MailboxUsage.objects.get(mailbox=mailbox).stored_bytes == 0
    assert MailboxUsage.objects.get(mailbox=mailbox).total_received == 2
    assert MailboxUsage.objects.get(mailbox=carol).stored_bytes == 2 * len(WITH_FILE)


def test_a_purge_leaves_the_mailbox_and_its_reserved_address(
    mailbox: Mailbox, deposit: DepositMail, now: datetime
) -> None:
    deposit()
    for _ in range(2):  # safe to repeat
        delete_mailbox(mailbox=Mailbox.objects.get(id=mailbox.id), purge=True, now=now)

    assert not Message.objects.exists()
    mailbox.refresh_from_db()
    assert (mailbox.status, mailbox.address_key) == ("deleted", None)


def test_a_plain_deletion_keeps_the_mail(mailbox: Mailbox, deposit: DepositMail, now: datetime) -> None:
    deposit()
    delete_mailbox(mailbox=mailbox, purge=False, now=now)

    assert Message.objects.exists()
    assert BlobChunk.objects.exists()


@pytest.mark.django_db(transaction=True)
class TestAtOnce:
    def test_the_last_two_owners_of_a_raw_mail_do_not_each_leave_it_to_the_other(
        self, mailbox: Mailbox, carol: Mailbox, deposit: DepositMail
    ) -> None:
        for _ in range(5):
            for _ in range(3):
                deposit(WITH_FILE, *BOTH)
            results = run_together(lambda number: erase_mailbox_mail(mailbox_id=(mailbox, carol)[number].id), 2)
            assert results == [3, 3]

        assert not BlobChunk.objects.exists()

    def test_mail_that_comes_during_a_purge_is_either_erased_or_refused(
        self, mailbox: Mailbox, deposit: DepositMail, now: datetime
    ) -> None:
        def act(number: int) -> object:
            if number == 0:
                return delete_mailbox(mailbox=Mailbox.objects.get(id=mailbox.id), purge=True, now=now)
            while deposit()[0].message_id is not None:
                pass
            return None

        run_together(act, 5)

        assert [table.__name__ for table in TABLES if table._default_manager.exists()] == []
