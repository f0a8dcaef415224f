"""The sender's own copy: what was sent, in its thread, with what the recipients are not told."""

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from apps.core.errors import DomainError
from apps.delivery.services import SendRequest, send_message
from apps.mail.blobs import read_blob
from apps.mail.models import Attachment, Message, MessageLabel, Thread
from apps.mail.services import OutboundMail, store_outbound
from apps.mailboxes.models import Mailbox
from mailhost.address import parse_named_address
from mailhost.message.compose import OutgoingAttachment, OutgoingMail, compose_message
from mailhost.message.parse import read_attachment
from tests.apps.mail.conftest import DepositMail, message_of

pytestmark = pytest.mark.django_db
Store = Callable[..., Message]


@pytest.fixture
def store(mailbox: Mailbox, now: datetime) -> Store:
    """Composes and stores a mail of Alice's."""

    def act(bcc: tuple[str, ...] = (), labels: tuple[str, ...] = (), thread_id: Any = None, **fields: Any) -> Message:
        mail = OutgoingMail(
            **{
                "sender": parse_named_address("Alice Ägent <alice@agents.localhost>"),
                "to": [parse_named_address("Bob <bob@remote.example>")],
                "subject": "Grüße",
                "message_id": "<own@agents.localhost>",
                "date": now,
                **fields,
            }
        )
        outbound = OutboundMail(mail, compose_message(mail).raw, list(map(parse_named_address, bcc)), labels, thread_id)
        with transaction.atomic():
            message = store_outbound(mailbox=mailbox, outbound=outbound, now=now)
        return Message.objects.select_related("body", "thread").get(id=message.id)

    return act


def test_it_says_what_was_sent(store: Store, mailbox: Mailbox, now: datetime) -> None:
    message = store(text="Hello Bob", cc=[parse_named_address("carol@x.example")])

    assert (message.direction, message.unread, message.mailbox_id) == ("outbound", False, mailbox.id)
    assert (message.from_address, message.from_name) == ("alice@agents.localhost", "Alice Ägent")
    assert message.to == [{"address": "bob@remote.example", "name": "Bob"}]
    assert message.cc == [{"address": "carol@x.example", "name": ""}]
    assert (message.subject, message.preview, message.sent_at) == ("Grüße", "Hello Bob", now)
    assert message.authentication["dkim"] == "pass"
    headers = dict(message.body.headers)
    assert headers["Subject"] == "Grüße"
    assert headers["From"] == "Alice Ägent <alice@agents.localhost>"


def test_blind_copies_are_known_to_the_sender_and_stand_nowhere_in_the_mail(store: Store) -> None:
    message = store(text="x", bcc=("Eve <eve@secret.example>",))

    assert message.bcc == [{"address": "eve@secret.example", "name": "Eve"}]
    assert b"secret.example" not in read_blob(message.blob_id)
    assert "secret.example" not in str(message.body.headers)


def test_the_preview_of_html_is_what_people_read(store: Store) -> None:
    html = "<html><head><style>p {color: red}</style></head><body><p>Dear <b>Bob</b> &amp; co</p></body></html>"

    assert store(html=html).preview == "Dear Bob & co"
    assert len(store(html="<p>" * 200_000 + "x").preview) <= 200


def test_attachments_can_be_read_back(store: Store) -> None:
    files = [
        OutgoingAttachment("ä.pdf", "application/pdf", bytes(range(256))),
        OutgoingAttachment("logo.png", "image/png", b"png", content_id="logo@x", disposition="inline"),
    ]
    message = store(text="x", html="<img src='cid:logo@x'>", attachments=files)

    rows = list(Attachment.objects.filter(message=message).order_by("position"))
    raw = read_blob(message.blob_id)
    assert {row.filename: read_attachment(raw, row.part) for row in rows} == {
        "ä.pdf": bytes(range(256)), "logo.png": b"png",
    }  # fmt: skip
    assert message.has_attachments


@pytest.mark.parametrize("disposition", ["inline", "attachment"])
@pytest.mark.parametrize("content_type", ["text/plain", "text/html", "message/rfc822", "image/png"])
@pytest.mark.parametrize("body", [{}, {"text": "x"}, {"html": "<p>x</p>"}])
def test_a_mail_of_hardly_more_than_a_file_is_stored(
    store: Store, body: dict[str, str], content_type: str, disposition: str
) -> None:
    file = OutgoingAttachment("", content_type, b"Subject: inner\r\n\r\ncontent\r\n", disposition=disposition)

    assert read_blob(store(attachments=[file], **body).blob_id)


def test_labels_are_kept_once_each(store: Store) -> None:
    message = store(text="x", labels=("b", "a", "b", "ü" * 100))

    assert message.labels == ["b", "a", "ü" * 100]
    assert MessageLabel.objects.filter(message=message).count() == 3


def test_answers_to_it_join_its_thread_and_it_joins_theirs(store: Store, deposit: DepositMail) -> None:
    sent = store(text="x")
    answer = message_of(deposit(message_id="<answer@remote.example>", in_reply_to="<own@agents.localhost>")[0])
    again = store(text="y", message_id="<again@agents.localhost>", thread_id=answer.thread_id)

    assert sent.thread_id == answer.thread_id == again.thread_id
    thread = Thread.objects.get()
    assert (thread.message_count, thread.unread_count, thread.preview) == (3, 1, "y")


def test_files_and_labels_do_not_add_statements_each(store: Store) -> None:
    def count(size: int) -> int:
        files = [OutgoingAttachment(f"{number}.bin", "application/x", b"x") for number in range(size)]
        labels = tuple(f"label{number}" for number in range(size))
        with CaptureQueriesContext(connection) as captured:
            store(text="x", attachments=files, labels=labels)
        return len(captured)

    assert count(1) == count(50)


@pytest.mark.parametrize("field", ["subject", "text", "html", "labels"])
@pytest.mark.parametrize("value", ["a\0b", "a\ud800b"])
def test_what_the_database_cannot_store_is_the_senders_error(
    mailbox: Mailbox, field: str, value: str, now: datetime
) -> None:
    fields: dict[str, Any] = {"to": ["bob@remote.example"], "text": "x", field: [value] if field == "labels" else value}
    with suppress(DomainError):  # a subject may be mended instead
        send_message(mailbox=mailbox, request=SendRequest(**fields), now=now)
        assert field == "subject"
