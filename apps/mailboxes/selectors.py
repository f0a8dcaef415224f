"""Finding mailboxes: by the addresses that mail is sent to, by what an API key may see, and how many there are."""

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

from django.db.models import Model, Sum

from apps.accounts.models import ApiKey, Organization
from apps.core.errors import NotFound
from apps.core.rows import JoinedRow
from apps.domains.models import Domain
from apps.mailboxes.models import Mailbox, MailboxCount, MailboxUsage
from mailhost.address import Address, parse_address
from mailhost.errors import InvalidAddress


class RecipientState(enum.StrEnum):
    """Whether an address takes mail."""

    ACCEPTS = "accepts"
    UNKNOWN = "unknown"
    SUSPENDED = "suspended"
    DELETED = "deleted"
    INVALID = "invalid"


@dataclass(frozen=True, slots=True)
class Recipient:
    """An address as it was given, and the mailbox behind it if there is one."""

    address: str
    state: RecipientState
    mailbox: Mailbox | None = None


_STATES = {
    Mailbox.Status.ACTIVE: RecipientState.ACCEPTS,
    Mailbox.Status.PAUSED: RecipientState.ACCEPTS,  # paused: receives, does not send
    Mailbox.Status.SUSPENDED: RecipientState.SUSPENDED,
    Mailbox.Status.DELETED: RecipientState.DELETED,
}


def find_recipients(addresses: Iterable[str]) -> list[Recipient]:
    """What stands behind each address, in order, by one query. A `+tag` leads to the mailbox without it."""
    parsed: list[tuple[str, Address | None]] = [(text, _read(text)) for text in addresses]
    keys = {address.untagged_key for _, address in parsed if address is not None}
    mailboxes = {mailbox.address_key: mailbox for mailbox in Mailbox.objects.filter(address_key__in=keys)}
    found: list[Recipient] = []
    for text, address in parsed:
        if address is None:
            found.append(Recipient(text, RecipientState.INVALID))
            continue
        mailbox = mailboxes.get(address.untagged_key)
        if mailbox is None:
            found.append(Recipient(text, RecipientState.UNKNOWN))
        else:
            found.append(Recipient(text, _STATES[Mailbox.Status(mailbox.status)], mailbox))
    return found


def _read(text: str) -> Address | None:
    try:
        address = parse_address(text)
    except InvalidAddress:
        return None
    return address


def visible_mailbox_filter(inbox: str) -> dict[str, str]:
    """The filter for an address that stands in a path in place of an id."""
    try:
        return {"address_key": parse_address(inbox).key}
    except InvalidAddress:
        return {"address_key": ""}


_PARTS: dict[str, type[Model]] = {"organization": Organization, "domain": Domain, "usage": MailboxUsage}
_BY_ID = JoinedRow(Mailbox, '"row".id = %s', _PARTS)
_BY_ADDRESS = JoinedRow(Mailbox, '"row".address_key = %s', _PARTS)


def get_visible_mailbox(*, key: ApiKey, mailbox_id: UUID | None = None, address: str = "") -> Mailbox:
    """A mailbox that the key may see, by its id or else by its address, a deleted one too; its organization, domain
    and usage are loaded with it. Raises NotFound, also for what belongs to someone else."""
    if mailbox_id is not None:
        found = _BY_ID.load([mailbox_id])
    else:
        found = _BY_ADDRESS.load([visible_mailbox_filter(address)["address_key"]])
    if found is None or not _may_see(key, found):
        raise NotFound("There is no such inbox in your organization.")
    return found


def _may_see(key: ApiKey, mailbox: Mailbox) -> bool:
    """What MailboxQuerySet.visible_to says of many, of one."""
    return (
        mailbox.organization_id == key.organization_id
        and (key.inbox_ids is None or mailbox.id in key.inbox_ids)
        and (key.allowed_domains is None or mailbox.domain.name in key.allowed_domains)
    )


def count_mailboxes(*, organization_id: UUID, statuses: Iterable[str]) -> int:
    """How many mailboxes of these statuses an organization has, from counters: the same cost at any number."""
    counts = MailboxCount.objects.filter(organization_id=organization_id, status__in=list(statuses))
    return int(counts.aggregate(total=Sum("count"))["total"] or 0)


def count_visible_mailboxes(*, key: ApiKey, statuses: Iterable[str]) -> int:
    """How many mailboxes of these statuses a key may see; one that is narrowed has them counted one by one."""
    if key.organization_id is None:
        return 0
    if key.inbox_ids is None and key.allowed_domains is None:
        return count_mailboxes(organization_id=key.organization_id, statuses=statuses)
    return Mailbox.objects.visible_to(key).filter(status__in=list(statuses)).count()
