"""Mail for the tests of the API, stored as the inbound server stores it."""

from typing import Any

from django.db import transaction
from django.utils import timezone

from apps.mail.models import Message
from apps.mail.services import Deposit, deposit_messages
from apps.mailboxes.models import Mailbox
from mailhost.message.parse import parse_message


def make_raw(
    *,
    subject: str = "Hello",
    text: str = "Hello, Alice.",
    sender: str = "Ann <ann@example.com>",
    attachment: bytes | None = None,
    filename: str = "note.txt",
    content_type: str = "text/plain",
    extra: str = "",
) -> bytes:
    """A mail as another server would hand it over."""
    head = f"From: {sender}\r\nTo: alice@agents.localhost\r\nSubject: {subject}\r\n{extra}MIME-Version: 1.0\r\n"
    body = f"Content-Type: text/plain; charset=utf-8\r\n\r\n{text}\r\n"
    if attachment is None:
        return (head + body).encode()
    return (
        f'{head}Content-Type: multipart/mixed; boundary="x"\r\n\r\n--x\r\n{body}--x\r\n'
        f"Content-Type: {content_type}\r\n"
        f'Content-Disposition: attachment; filename="{filename}"\r\n\r\n'
    ).encode() + attachment + b"\r\n--x--\r\n"  # fmt: skip


def deposit_mail(mailbox: Mailbox, **mail: Any) -> Message:
    """Store a mail in the mailbox."""
    raw = make_raw(**mail)
    with transaction.atomic():
        results = deposit_messages(
            deposits=[Deposit([mailbox.address], raw, parse_message(raw), "ann@example.com")], now=timezone.now()
        )
    return Message.objects.get(id=results[0][0].message_id)
