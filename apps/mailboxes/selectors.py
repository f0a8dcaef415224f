"""Finding mailboxes by the addresses that mail is sent to."""

import enum
from collections.abc import Iterable
from dataclasses import dataclass

from apps.mailboxes.models import Mailbox
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
