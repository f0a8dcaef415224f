"""Sending: from a request to a stored message and a queue row per recipient, in one transaction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from django.conf import settings
from django.db import transaction

from apps.accounts.errors import OrganizationSuspended
from apps.core.doorbell import ring_on_commit
from apps.core.errors import NotFound, ValidationFailed
from apps.core.ids import new_id
from apps.core.texts import check_text
from apps.delivery.errors import RecipientSuppressed
from apps.delivery.lanes import find_lanes, make_lanes_due
from apps.delivery.models import Delivery, Lane
from apps.delivery.selectors import find_suppressed
from apps.delivery.services.routing import route_recipients
from apps.delivery.services.unsubscribe import unsubscribe_headers
from apps.delivery.states import DeliveryStatus
from apps.events.models import EventType
from apps.events.services import NewEvent, record_events
from apps.mail.errors import MessageTooLarge
from apps.mail.models import Message
from apps.mail.services import OutboundMail, store_outbound
from apps.mailboxes.errors import InboxDeleted, InboxPaused, InboxSuspended
from apps.mailboxes.models import Mailbox
from apps.mailboxes.services import check_limits, count_sends
from mailhost.address import Address, NamedAddress, parse_address, parse_named_address
from mailhost.errors import InvalidAddress, InvalidHeader
from mailhost.message.compose import OutgoingAttachment, OutgoingMail, compose_message
from mailhost.message.extract import storable

MAX_RECIPIENTS = 50
MAX_ATTACHMENT_OCTETS = 25 * 1024 * 1024
MAX_MESSAGE_OCTETS = 36 * 1024 * 1024
MAX_ATTACHMENTS = 100
MAX_LABELS = 50
MAX_REFERENCES = 50
DELIVER_TASK = "apps.delivery.tasks.deliver"


_Recipients = Mapping[str, tuple[str, Address]]
"""Compare key -> (kind, address)."""


@dataclass(frozen=True, slots=True)
class SendRequest:
    """What a caller asks to send; addresses as text, `Name <addr>` accepted.

    `in_reply_to` is a message of the same mailbox: headers and thread follow from it. `thread_id` alone puts the
    message into a thread, as an answer to its newest message. `is_list` adds one-click unsubscribe, for the only
    recipient that such a mail may have.
    """

    to: Sequence[str] = ()
    cc: Sequence[str] = ()
    bcc: Sequence[str] = ()
    subject: str = ""
    text: str | None = None
    html: str | None = None
    reply_to: Sequence[str] = ()
    headers: Sequence[tuple[str, str]] = ()
    attachments: Sequence[OutgoingAttachment] = ()
    labels: Sequence[str] = ()
    in_reply_to: UUID | None = None
    thread_id: UUID | None = None
    is_list: bool = False


@dataclass(frozen=True, slots=True)
class SentMessage:
    """What was accepted: the stored message and one delivery per recipient."""

    message: Message
    deliveries: list[Delivery]


@dataclass(slots=True)
class _People:
    """The recipients of a request, each address once, with the header it belongs to."""

    to: list[NamedAddress] = field(default_factory=list)
    cc: list[NamedAddress] = field(default_factory=list)
    bcc: list[NamedAddress] = field(default_factory=list)
    reply_to: list[NamedAddress] = field(default_factory=list)

    def unique(self) -> dict[str, tuple[str, Address]]:
        """Compare key -> (kind, address); the first mention of an address counts."""
        found: dict[str, tuple[str, Address]] = {}
        for kind in ("to", "cc", "bcc"):
            for person in getattr(self, kind):
                found.setdefault(person.address.key, (kind, person.address))
        return found


def send_message(*, mailbox: Mailbox, request: SendRequest, now: datetime) -> SentMessage:
    """Accept a message for sending: it is stored, queued and counted when this returns, or nothing is.

    `mailbox` comes with its organization, domain and usage loaded. Raises ValidationFailed, MessageTooLarge,
    NotFound (what it answers), InboxSuspended, InboxPaused, InboxDeleted, OrganizationSuspended, DailyLimitReached,
    RecipientSuppressed (when nobody is left to write to).
    """
    people = _read_people(request)
    recipients = people.unique()
    _check_sizes(request, len(recipients))
    _check_may_send(mailbox)
    suppressed = find_suppressed(organization_id=mailbox.organization_id, keys=recipients, now=now)
    if len(suppressed) == len(recipients):
        raise _all_suppressed(recipients, suppressed)
    count = len(recipients) - len(suppressed)
    check_limits(mailbox=mailbox, count=count, now=now)
    parent = _find_parent(mailbox, request)
    mail = _make_mail(mailbox, request, people, parent, now)
    raw = _compose(mail)
    with transaction.atomic():
        thread_id = parent.thread_id if parent is not None else request.thread_id
        outbound = OutboundMail(mail, raw, people.bcc, request.labels, thread_id)
        message = store_outbound(mailbox=mailbox, outbound=outbound, now=now)
        deliveries = _queue(mailbox, message, recipients, suppressed, now)
        count_sends(mailbox=mailbox, count=count, now=now)
        ring_on_commit(DELIVER_TASK)
    return SentMessage(message, deliveries)


def _all_suppressed(recipients: _Recipients, suppressed: Mapping[str, str]) -> RecipientSuppressed:
    """The error that names each recipient and why it is suppressed."""
    details = [
        {"field": kind, "message": f"{address.text} is suppressed: {suppressed[key]}."}
        for key, (kind, address) in recipients.items()
    ]
    return (
        RecipientSuppressed(details=details)
        if len(details) > 1
        else RecipientSuppressed(details[0]["message"], details=details)
    )


def _read_people(request: SendRequest) -> _People:
    people = _People()
    for kind in ("to", "cc", "bcc", "reply_to"):
        values: Sequence[str] = getattr(request, kind)
        if len(values) > MAX_RECIPIENTS:
            raise ValidationFailed(kind, f"A message has at most {MAX_RECIPIENTS} recipients in all.")
        for value in values:
            try:
                getattr(people, kind).append(parse_named_address(value))
            except InvalidAddress as error:
                raise ValidationFailed(kind, f"{value[:100]!r} is not an address. {error}") from None
    return people


def _check_sizes(request: SendRequest, recipient_count: int) -> None:
    if recipient_count == 0:
        raise ValidationFailed("to", "A message needs at least one recipient in to, cc or bcc.")
    if recipient_count > MAX_RECIPIENTS:
        raise ValidationFailed("to", f"A message has at most {MAX_RECIPIENTS} recipients in all.")
    if len(request.labels) > MAX_LABELS:
        raise ValidationFailed("labels", f"At most {MAX_LABELS} labels of 1 to 100 characters.")
    for label in request.labels:
        check_text("labels", label, least=1, most=100)
    for name in ("text", "html"):
        value: str = getattr(request, name) or ""
        if storable(value) != value:
            raise ValidationFailed(name, "Text cannot hold a NUL character or half of a surrogate pair.")
    if len(request.attachments) > MAX_ATTACHMENTS:
        raise ValidationFailed("attachments", f"A message has at most {MAX_ATTACHMENTS} attachments.")
    octets = sum(len(attachment.content) for attachment in request.attachments)
    if octets > MAX_ATTACHMENT_OCTETS:
        raise MessageTooLarge(f"The attachments are {octets} octets in all; at most {MAX_ATTACHMENT_OCTETS} are taken.")


def _check_may_send(mailbox: Mailbox) -> None:
    """Whether this mailbox's status lets it send now."""
    status = Mailbox.Status(mailbox.status)
    if status == Mailbox.Status.DELETED:
        raise InboxDeleted
    if mailbox.organization.is_suspended:
        raise OrganizationSuspended
    if status == Mailbox.Status.SUSPENDED:
        raise InboxSuspended
    if status == Mailbox.Status.PAUSED:
        raise InboxPaused


def _find_parent(mailbox: Mailbox, request: SendRequest) -> Message | None:
    """The message that this one answers, in the same mailbox; raises NotFound."""
    messages = Message.objects.filter(mailbox_id=mailbox.id)
    if request.in_reply_to is not None:
        parent = messages.filter(id=request.in_reply_to).first()
        if parent is None:
            raise NotFound("in_reply_to names no message of this inbox.")
        if request.thread_id is not None and parent.thread_id != request.thread_id:
            raise ValidationFailed("thread_id", "The message in in_reply_to belongs to another thread.")
        return parent
    if request.thread_id is None:
        return None
    parent = messages.filter(thread_id=request.thread_id).order_by("-id").first()
    if parent is None:
        raise NotFound("thread_id names no thread of this inbox.")
    return parent


def _make_mail(
    mailbox: Mailbox, request: SendRequest, people: _People, parent: Message | None, now: datetime
) -> OutgoingMail:
    references: list[str] = []
    if parent is not None and parent.rfc_message_id:
        # RFC 5322, section 3.6.4: the parent's References, then its Message-ID; the first one names the root.
        earlier = list(parent.references) or ([parent.in_reply_to] if parent.in_reply_to else [])
        references = [*earlier[:1], *earlier[1:][-MAX_REFERENCES:], parent.rfc_message_id]
    return OutgoingMail(
        sender=NamedAddress(parse_address(mailbox.address), mailbox.display_name),
        to=people.to,
        cc=people.cc,
        reply_to=people.reply_to,
        subject=request.subject,
        text=request.text,
        html=request.html,
        headers=[*request.headers, *_list_headers(mailbox, request, people)],
        attachments=list(request.attachments),
        message_id=f"<{new_id().hex}@{mailbox.domain.name}>",
        date=now,
        in_reply_to=parent.rfc_message_id if parent is not None and parent.rfc_message_id else None,
        references=list(dict.fromkeys(references)),
    )


def _list_headers(mailbox: Mailbox, request: SendRequest, people: _People) -> list[tuple[str, str]]:
    """For mail of a list, the way off it: a link that is the recipient's own, so there can be only one recipient."""
    if not request.is_list:
        return []
    recipients = people.unique()
    if len(recipients) != 1:
        raise ValidationFailed(
            "list",
            "A mail with list: true goes to one recipient, whose own unsubscribe link it carries; send one to each.",
        )
    if any(name.lower().startswith("list-unsubscribe") for name, _ in request.headers):
        raise ValidationFailed("headers", "With list: true the List-Unsubscribe headers are written by the server.")
    ((_, recipient),) = recipients.values()
    return unsubscribe_headers(mailbox=mailbox, recipient=recipient)


def _compose(mail: OutgoingMail) -> bytes:
    try:
        raw = compose_message(mail).raw
    except InvalidHeader as error:
        raise ValidationFailed("headers", str(error)) from None
    if len(raw) > MAX_MESSAGE_OCTETS:
        raise MessageTooLarge(f"The message is {len(raw)} octets; at most {MAX_MESSAGE_OCTETS} are taken.")
    return raw


def _queue(
    mailbox: Mailbox, message: Message, recipients: _Recipients, suppressed: Mapping[str, str], now: datetime
) -> list[Delivery]:
    """A delivery per recipient, in its lane; those that must not be written to have ended already."""
    destinations = route_recipients([address for _, address in recipients.values()])
    lanes = find_lanes(organization_id=mailbox.organization_id, destinations=destinations)
    deliveries = []
    for (key, (kind, address)), destination in zip(recipients.items(), destinations, strict=True):
        delivery = Delivery(
            organization_id=mailbox.organization_id,
            mailbox_id=mailbox.id,
            message=message,
            lane_id=lanes[destination],
            kind=kind,
            address=address.text,
            created_at=now,
        )
        _set_out(delivery, destination, suppressed.get(key), now)
        deliveries.append(delivery)
    Delivery.objects.bulk_create(deliveries)
    record_events(events=_accepted_events(message, deliveries), now=now)
    waiting = {delivery.lane_id: now for delivery in deliveries if delivery.status == DeliveryStatus.QUEUED}
    if waiting:
        make_lanes_due(due=waiting)
    return deliveries


def _set_out(delivery: Delivery, destination: str, suppressed: str | None, now: datetime) -> None:
    """The state that a delivery begins in: in hold mode what would leave the machine is held."""
    if suppressed is not None:
        delivery.status, delivery.reason, delivery.finished_at = DeliveryStatus.SUPPRESSED, suppressed, now
    elif settings.MAILHOST_DELIVERY == "hold" and destination != Lane.LOCAL:
        delivery.status, delivery.reason = DeliveryStatus.HELD, "hold_mode"
    else:
        delivery.next_attempt_at = now


def _accepted_events(message: Message, deliveries: list[Delivery]) -> list[NewEvent]:
    """message.queued, message.held, or one of each: which recipients each is about."""
    events = []
    for status, event in (
        (DeliveryStatus.QUEUED, EventType.MESSAGE_QUEUED),
        (DeliveryStatus.HELD, EventType.MESSAGE_HELD),
    ):
        addresses = [delivery.address for delivery in deliveries if delivery.status == status]
        if addresses:
            data = {
                "message_id": str(message.id),
                "thread_id": str(message.thread_id),
                "subject": message.subject[:500],
                "recipients": addresses,
            }
            events.append(NewEvent(event, message.organization_id, message.mailbox_id, data))
    return events
