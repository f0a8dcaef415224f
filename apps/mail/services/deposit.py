"""The one way into a mailbox: mail from strangers and mail between our own mailboxes both end here."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from apps.events.models import EventType
from apps.events.services import NewEvent, record_events
from apps.mail.blobs import store_blobs
from apps.mail.models import Attachment, Message, MessageBody
from apps.mail.services.threads import ThreadBook, hash_message_id
from apps.mailboxes.models import Mailbox
from apps.mailboxes.selectors import Recipient, RecipientState, find_recipients
from apps.mailboxes.services import Usage, add_usage
from mailhost.message.extract import extract_reply_text, make_preview, storable
from mailhost.message.parse import ParsedMessage
from mailhost.message.threading import thread_references

NOT_CHECKED = {"spf": "none", "dkim": "none", "dmarc": "none", "arc": "none", "from_aligned": False}
"""What a message's `authentication` says when nothing was checked."""


@dataclass(frozen=True, slots=True)
class Deposit:
    """A mail for one or more recipients of ours; its raw octets are stored once.

    `raw` is what is stored, unless `blob_id` names a blob that is stored already.
    """

    recipients: Sequence[str]
    raw: bytes
    parsed: ParsedMessage
    mail_from: str = ""
    authentication: dict[str, Any] = field(default_factory=lambda: dict(NOT_CHECKED))
    blob_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class DepositResult:
    """What became of one recipient of one deposit."""

    recipient: str
    state: RecipientState
    message_id: UUID | None = None
    mailbox_id: UUID | None = None


def deposit_messages(
    *, deposits: Sequence[Deposit], now: datetime, usage: Usage | None = None
) -> list[list[DepositResult]]:
    """Store mails in the mailboxes of their recipients; for each deposit the results in its recipients' order.

    Recipients are resolved anew here, so that a mailbox that was deleted since RCPT gets nothing. Call it inside a
    transaction: rows, threads, events and counters stand or fall together. A constant number of statements for any
    number of mails. A caller that changes counters itself hands in `usage`, to which the deposit's are added: it
    then calls add_usage once, last. Raises InboxDeleted when a mailbox was deleted meanwhile: roll back, and try again.
    """
    addresses = [address for deposit in deposits for address in deposit.recipients]
    found = iter(find_recipients(addresses))
    resolved = [[next(found) for _ in deposit.recipients] for deposit in deposits]
    writer = _Writer(now)
    blob_ids = _store_raws(deposits, resolved)
    writer.threads.load(
        (recipient.mailbox.id, thread_references(deposit.parsed))
        for deposit, recipients in zip(deposits, resolved, strict=True)
        for recipient in recipients
        if recipient.mailbox is not None
    )
    results = [
        [writer.add(deposit, recipient, blob_id) for recipient in recipients]
        for deposit, recipients, blob_id in zip(deposits, resolved, blob_ids, strict=True)
    ]
    writer.save()
    if usage is None:
        add_usage(deltas=writer.usage)
    else:
        for mailbox_id, deltas in writer.usage.items():
            counters = usage.setdefault(mailbox_id, {})
            for name, delta in deltas.items():
                counters[name] = counters.get(name, 0) + delta
    return results


def _store_raws(deposits: Sequence[Deposit], resolved: list[list[Recipient]]) -> list[UUID | None]:
    """The blob of each deposit; those that nobody takes are not stored."""
    ids: list[UUID | None] = [deposit.blob_id for deposit in deposits]
    wanted = [
        index
        for index, recipients in enumerate(resolved)
        if ids[index] is None and any(recipient.state == RecipientState.ACCEPTS for recipient in recipients)
    ]
    for index, blob_id in zip(wanted, store_blobs([deposits[index].raw for index in wanted]), strict=True):
        ids[index] = blob_id
    return ids


class _Writer:
    """Collects the rows of a batch and writes them table by table."""

    def __init__(self, now: datetime) -> None:
        self.now = now
        self.threads = ThreadBook()
        self.messages: list[Message] = []
        self.bodies: list[MessageBody] = []
        self.attachments: list[Attachment] = []
        self.events: list[NewEvent] = []
        self.usage: Usage = {}
        self._texts: dict[int, tuple[str, str]] = {}

    def add(self, deposit: Deposit, recipient: Recipient, blob_id: UUID | None) -> DepositResult:
        mailbox = recipient.mailbox
        if recipient.state != RecipientState.ACCEPTS or mailbox is None or blob_id is None:
            return DepositResult(recipient.address, recipient.state)
        message = self._make_message(deposit, mailbox, recipient.address, blob_id)
        self.threads.place(message, thread_references(deposit.parsed))
        self.messages.append(message)
        parsed = deposit.parsed
        body = MessageBody(
            message=message,
            text=parsed.text or "",
            html=parsed.html or "",
            extracted_text=self._text_of(parsed)[1],
            headers=parsed.headers,
        )
        self.bodies.append(body)
        self.attachments.extend(make_attachments(message, parsed))
        self.events.append(_received(message))
        usage = self.usage.setdefault(mailbox.id, {"total_received": 0, "stored_bytes": 0, "message_count": 0})
        usage["total_received"] += 1
        usage["message_count"] += 1
        usage["stored_bytes"] += message.size
        return DepositResult(recipient.address, recipient.state, message.id, mailbox.id)

    def _text_of(self, parsed: ParsedMessage) -> tuple[str, str]:
        """Preview and reply text, worked out once for all recipients of a mail."""
        if id(parsed) not in self._texts:
            reply = extract_reply_text(parsed.text, subject=parsed.subject)
            self._texts[id(parsed)] = (make_preview(reply or parsed.text or ""), reply)
        return self._texts[id(parsed)]

    def _make_message(self, deposit: Deposit, mailbox: Mailbox, address: str, blob_id: UUID) -> Message:
        parsed = deposit.parsed
        sender = parsed.from_[0] if parsed.from_ else None
        return Message(
            organization_id=mailbox.organization_id,
            mailbox_id=mailbox.id,
            direction=Message.Direction.INBOUND,
            rfc_message_id=(parsed.message_id or "")[:1000],
            rfc_message_id_hash=hash_message_id(parsed.message_id or ""),
            in_reply_to=parsed.in_reply_to[0] if parsed.in_reply_to else "",
            references=parsed.references,
            from_address=sender.address[:320] if sender else "",
            from_name=sender.name[:300] if sender else "",
            to=[{"address": person.address, "name": person.name} for person in parsed.to],
            cc=[{"address": person.address, "name": person.name} for person in parsed.cc],
            reply_to=[{"address": person.address, "name": person.name} for person in parsed.reply_to],
            delivered_to=address[:320],
            mail_from=storable(deposit.mail_from)[:320],
            subject=parsed.subject or "",
            preview=self._text_of(parsed)[0],
            unread=True,
            has_attachments=bool(parsed.attachments),
            auto_submitted=parsed.auto_submitted,
            automatic=parsed.automatic,
            authentication=deposit.authentication,
            defects=[defect[:200] for defect in parsed.defects],
            size=len(deposit.raw),
            blob_id=blob_id,
            created_at=self.now,
            sent_at=parsed.date,
        )

    def save(self) -> None:
        if not self.messages:
            return
        self.threads.save()
        Message.objects.bulk_create(self.messages)
        MessageBody.objects.bulk_create(self.bodies)
        Attachment.objects.bulk_create(self.attachments)
        record_events(events=self.events, now=self.now)


def make_attachments(message: Message, parsed: ParsedMessage) -> list[Attachment]:
    """The rows of a message's attachments."""
    return [
        Attachment(
            message=message,
            position=position,
            part=part.part,
            filename=(part.filename or "")[:500],
            content_type=part.content_type[:255],
            size=part.size,
            content_id=part.content_id[:500] if part.content_id else None,
            disposition=(part.disposition or "attachment")[:20],
        )
        for position, part in enumerate(parsed.attachments)
    ]


def _received(message: Message) -> NewEvent:
    data = {
        "message_id": str(message.id),
        "thread_id": str(message.thread_id),
        "from": {"address": message.from_address, "name": message.from_name},
        "subject": message.subject[:500],
        "preview": message.preview,
    }
    return NewEvent(EventType.MESSAGE_RECEIVED, message.organization_id, message.mailbox_id, data)
