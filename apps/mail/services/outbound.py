"""The sender's own copy of a mail that leaves."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from apps.core.ids import new_id
from apps.mail.blobs import store_blobs
from apps.mail.models import Attachment, Message, MessageBody, MessageLabel
from apps.mail.services.deposit import make_attachments
from apps.mail.services.threads import ThreadBook, hash_message_id
from apps.mailboxes.models import Mailbox
from mailhost.address import NamedAddress
from mailhost.message.compose import OutgoingMail
from mailhost.message.extract import make_preview, storable
from mailhost.message.html import html_to_text
from mailhost.message.parse import parse_message
from mailhost.message.words import decode_words

OWN_AUTHENTICATION = {"spf": "pass", "dkim": "pass", "dmarc": "pass", "arc": "none", "from_aligned": True}
"""The verdict on mail whose sender authenticated here and writes under their own address."""

_PREVIEWED = 20_000
"""Characters of HTML that a preview is made from."""


@dataclass(frozen=True, slots=True)
class OutboundMail:
    """A composed mail and what its headers do not say."""

    mail: OutgoingMail
    raw: bytes
    bcc: Sequence[NamedAddress] = ()
    labels: Sequence[str] = ()
    thread_id: UUID | None = None


def store_outbound(*, mailbox: Mailbox, outbound: OutboundMail, now: datetime) -> Message:
    """Store an outbound message with its thread, body, attachments and labels, in the caller's transaction."""
    mail = outbound.mail
    message = Message(
        id=new_id(),
        organization_id=mailbox.organization_id,
        mailbox_id=mailbox.id,
        direction=Message.Direction.OUTBOUND,
        rfc_message_id=mail.message_id,
        rfc_message_id_hash=hash_message_id(mail.message_id),
        in_reply_to=mail.in_reply_to or "",
        references=list(mail.references),
        from_address=mail.sender.address.text,
        from_name=mail.sender.name,
        to=_people(mail.to),
        cc=_people(mail.cc),
        bcc=_people(outbound.bcc),
        reply_to=_people(mail.reply_to),
        subject=mail.subject,
        preview=make_preview(mail.text or html_to_text((mail.html or "")[:_PREVIEWED])),
        labels=list(dict.fromkeys(outbound.labels)),
        has_attachments=bool(mail.attachments),
        authentication=OWN_AUTHENTICATION,
        size=len(outbound.raw),
        blob_id=store_blobs([outbound.raw])[0],
        created_at=now,
        sent_at=now,
    )
    threads = ThreadBook()
    if outbound.thread_id is not None:
        threads.lock([outbound.thread_id])
    threads.place(message, [], outbound.thread_id)
    threads.save()
    message.save(force_insert=True)
    MessageBody.objects.create(
        message=message, text=mail.text or "", html=mail.html or "", headers=_header_list(outbound.raw)
    )
    if mail.attachments:
        Attachment.objects.bulk_create(make_attachments(message, parse_message(outbound.raw)))
    if message.labels:
        MessageLabel.objects.bulk_create(
            MessageLabel(mailbox_id=mailbox.id, label=label, message=message) for label in message.labels
        )
    return message


def _people(addresses: Sequence[NamedAddress]) -> list[dict[str, str]]:
    return [{"address": person.address.text, "name": person.name} for person in addresses]


def _header_list(raw: bytes) -> list[list[str]]:
    """The header fields as composed, unfolded (RFC 5322, section 2.2.3) and decoded, as those of inbound mail are."""
    block = raw.partition(b"\r\n\r\n")[0].decode("utf-8", "replace").replace("\r\n ", " ").replace("\r\n\t", " ")
    fields = (line.partition(":") for line in block.split("\r\n"))
    return [[name, storable(decode_words(value.strip()))] for name, _, value in fields]
