"""Identities: an agent's handle, and the one mailbox that it may have."""

import re
from dataclasses import replace
from datetime import datetime

from django.db import IntegrityError, transaction
from django.db.models import Q, QuerySet

from apps.accounts.errors import ScopeDenied
from apps.accounts.models import ApiKey, Organization
from apps.core.errors import Conflict, NotFound, ValidationFailed
from apps.core.texts import check_line
from apps.mailboxes.errors import InboxDeleted
from apps.mailboxes.models import Identity, Mailbox
from apps.mailboxes.services import NewMailbox, create_mailbox

_HANDLE = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,98}[a-z0-9])?")


class HandleTaken(Conflict):
    """An identity with this handle exists in your organization."""

    fix = "Choose another agent_handle, or use the identity that there is."


class IdentityHasMailbox(Conflict):
    """The identity has a mailbox already; it can have one."""

    fix = "Use the mailbox that it has, or delete it first."


class MailboxHasIdentity(Conflict):
    """The mailbox belongs to another identity already."""

    fix = "Take it from the identity that has it first."


def read_handle(text: str) -> str:
    """A handle as it is stored: without its leading @, lower case. Raises ValidationFailed."""
    handle = text.strip().removeprefix("@").lower()
    if not _HANDLE.fullmatch(handle):
        raise ValidationFailed(
            "agent_handle", "A handle has 1 to 100 letters, digits, dots, dashes and underscores, no others."
        )
    return handle


def visible_identities(key: ApiKey) -> QuerySet[Identity]:
    """The identities of the key's organization that its narrowing leaves, with their mailboxes loaded.

    A key narrowed to inboxes sees those that have one of them; a key narrowed to domains also those that have no
    mailbox yet, so that it can give them one. A platform key sees none.
    """
    if key.organization_id is None:
        return Identity.objects.none()
    identities = Identity.objects.filter(organization_id=key.organization_id)
    if key.inbox_ids is not None:
        identities = identities.filter(mailbox_id__in=key.inbox_ids)
    if key.allowed_domains is not None:
        without = Q(mailbox__isnull=True) | Q(mailbox__deleted_at__isnull=False)
        identities = identities.filter(without | Q(mailbox__domain__name__in=key.allowed_domains))
    return identities.select_related("mailbox")


def get_identity(*, key: ApiKey, handle: str) -> Identity:
    """The identity of this handle, with or without its leading @, that the key may see; raises NotFound."""
    try:
        known = visible_identities(key).filter(handle=read_handle(handle)).first()
    except ValidationFailed:
        known = None
    if known is None:
        raise NotFound(f"There is no agent identity {handle[:100]!r} in your organization.")
    return known


def create_identity(
    *,
    organization: Organization,
    handle: str,
    display_name: str = "",
    mailbox: NewMailbox | None = None,
    key: ApiKey | None = None,
    now: datetime,
) -> Identity:
    """A new identity, and its mailbox with it when one is asked for: both or neither.

    `key` is the API key that asks; one that is narrowed to certain inboxes could not see what it makes. Raises
    HandleTaken, ScopeDenied, and what create_mailbox raises.
    """
    if key is not None and key.inbox_ids is not None:
        raise ScopeDenied("This key is narrowed to certain inboxes, so it cannot make identities.")
    check_line("display_name", display_name, most=255)
    try:
        with transaction.atomic():
            identity = Identity.objects.create(
                organization=organization, handle=read_handle(handle), display_name=display_name
            )
            if mailbox is not None:
                give_mailbox(identity=identity, wanted=mailbox, key=key, now=now)
    except IntegrityError:
        raise HandleTaken from None
    return identity


def give_mailbox(*, identity: Identity, wanted: NewMailbox, key: ApiKey | None = None, now: datetime) -> Mailbox:
    """Make a mailbox and link it to the identity: both or neither. Raises IdentityHasMailbox, and what
    create_mailbox raises."""
    with transaction.atomic():
        locked = _lock_identity(identity)
        if locked.live_mailbox is not None:
            raise IdentityHasMailbox
        mailbox, _ = create_mailbox(
            organization=identity.organization, wanted=replace(wanted, client_id=None), key=key, now=now
        )
        locked.mailbox = mailbox
        locked.save(update_fields=["mailbox", "updated_at"])
    identity.mailbox, identity.updated_at = mailbox, locked.updated_at
    return mailbox


def assign_mailbox(*, identity: Identity, mailbox: Mailbox) -> Identity:
    """Link a mailbox that there is to the identity; the identity as it is then. Raises IdentityHasMailbox,
    MailboxHasIdentity, InboxDeleted."""
    try:
        with transaction.atomic():
            locked = _lock_identity(identity)
            if locked.live_mailbox is not None and locked.mailbox_id != mailbox.id:
                raise IdentityHasMailbox
            if mailbox.deleted_at is not None:
                raise InboxDeleted
            locked.mailbox = mailbox
            locked.save(update_fields=["mailbox", "updated_at"])
    except IntegrityError:
        raise MailboxHasIdentity from None
    return locked


def unlink_mailbox(*, identity: Identity) -> None:
    """Take the identity's mailbox from it; the mailbox goes on without an identity. Nothing when it has none."""
    with transaction.atomic():
        locked = _lock_identity(identity)
        locked.mailbox = None
        locked.save(update_fields=["mailbox", "updated_at"])
    identity.mailbox, identity.updated_at = None, locked.updated_at


def delete_identity(*, identity: Identity) -> None:
    """Remove the identity and free its handle; its mailbox goes on without one."""
    identity.delete()


def update_identity(*, identity: Identity, handle: str | None = None, display_name: str | None = None) -> Identity:
    """Change what is given. Raises HandleTaken."""
    try:
        with transaction.atomic():
            locked = _lock_identity(identity)
            if handle is not None:
                locked.handle = read_handle(handle)
            if display_name is not None:
                locked.display_name = check_line("display_name", display_name, most=255)
            locked.save(update_fields=["handle", "display_name", "updated_at"])
    except IntegrityError:
        raise HandleTaken from None
    return locked


def _lock_identity(identity: Identity) -> Identity:
    """The identity as it is now, locked until the transaction ends; raises NotFound when it was deleted meanwhile.

    Its mailbox is read by a statement of its own, not joined: a statement that waited for the lock sees the newest
    version of the row that it locks, but of a joined table only what was there when it began, so that a mailbox that
    another request has just linked would look like none.
    """
    locked = Identity.objects.select_for_update().filter(id=identity.id).first()
    if locked is None:
        raise NotFound(f"There is no agent identity {identity.handle!r} in your organization.")
    return locked
