"""Answering a message: who gets the reply, and under which subject."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from apps.core.errors import ValidationFailed
from apps.delivery.services.send import MAX_RECIPIENTS, SendRequest, SentMessage, send_message
from apps.mail.models import Message
from apps.mailboxes.models import Mailbox
from mailhost.address import NamedAddress, parse_address, parse_named_address
from mailhost.errors import InvalidAddress
from mailhost.message.compose import OutgoingAttachment

_IS_REPLY = re.compile(r"re\s*(?:\[\d+\])?\s*:", re.IGNORECASE)
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_MAX_SUBJECT = 900


@dataclass(frozen=True, slots=True)
class ReplyRequest:
    """What a caller says in a reply; without `to` it goes to whom people expect."""

    to: Sequence[str] = ()
    cc: Sequence[str] = ()
    bcc: Sequence[str] = ()
    text: str | None = None
    html: str | None = None
    attachments: Sequence[OutgoingAttachment] = ()
    labels: Sequence[str] = ()


def reply_message(*, mailbox: Mailbox, message: Message, reply: ReplyRequest, now: datetime) -> SentMessage:
    """Answer a message of the mailbox, in its thread; raises what send_message raises.

    It goes to the message's Reply-To, else its From (RFC 5322, section 3.6.2); an answer to our own mail goes to
    those whom that was written to. The mailbox's own address is left out.
    """
    request = SendRequest(
        to=reply.to or reply_recipients(mailbox=mailbox, message=message),
        cc=reply.cc,
        bcc=reply.bcc,
        subject=reply_subject(message.subject),
        text=reply.text,
        html=reply.html,
        attachments=reply.attachments,
        labels=reply.labels,
        in_reply_to=message.id,
    )
    return send_message(mailbox=mailbox, request=request, now=now)


def reply_recipients(*, mailbox: Mailbox, message: Message) -> list[str]:
    """Whom an answer goes to; raises ValidationFailed when nobody is left that mail can be written to."""
    if message.direction == Message.Direction.OUTBOUND:
        people = message.to
    else:
        people = message.reply_to or [{"address": message.from_address, "name": message.from_name}]
    own = parse_address(mailbox.address).untagged_key
    found: dict[str, str] = {}
    for person in people:
        named = _read_person(person["address"], person.get("name", ""))
        if named is not None and named.address.untagged_key != own:
            found.setdefault(named.address.key, named.text)
    if not found:
        raise ValidationFailed("to", "The message names nobody that an answer could go to; give recipients in to.")
    return list(found.values())[:MAX_RECIPIENTS]


def reply_subject(subject: str) -> str:
    """`Re: ` once, and one line."""
    line = _CONTROLS.sub(" ", subject).strip()[:_MAX_SUBJECT]
    return line if _IS_REPLY.match(line) else f"Re: {line}"


def _read_person(address: str, name: str) -> NamedAddress | None:
    """A stranger's address as we may write it into a mail: without a name that cannot be written."""
    try:
        bare = parse_address(address)
    except InvalidAddress:
        return None
    try:
        return parse_named_address(NamedAddress(bare, name).text)
    except InvalidAddress:
        return NamedAddress(bare)
