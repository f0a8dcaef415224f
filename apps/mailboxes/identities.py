"""Identities: an agent's handle, and the one mailbox that it may have."""

import re
from dataclasses import replace
from datetime import datetime

from django.db import IntegrityError, transaction
from django.db.models import QuerySet

from apps.accounts.models import ApiKey, Organization
from apps.core.errors import Conflict, NotFound, ValidationFailed
from apps.core.texts import check_line
from apps.mailboxes.models import Identity, Mailbox
from apps.mailboxes.services import NewMailbox, create_mailbox

_HANDLE = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,98}[a-z0-9])?")


class HandleTaken(Conflict):
    """An identity with this handle exists in your organization."""

    fix = "Choose another agent_handle, or use the identity that there is."


class IdentityHasMailbox(Conflict):
    """The identity has a mailbox already; it can have one."""

    fix = "Use the mailbox that it has, or delete it first."


def read_handle(text: str) -> str:
    """A handle as it is stored: without its leading @, lower case. Raises ValidationFailed."""
    handle = text.strip().removeprefix("@").lower()
    if not _HANDLE.fullmatch(handle):
        raise ValidationFailed(
            "agent_handle", "A handle has 1 to 100 letters, digits, dots, dashes and underscores, no others."
        )
    return handle


def identities_of(organization: Organization) -> QuerySet[Identity]:
    """The organization's identities with their mailboxes loaded."""
    return Identity.objects.filter(organization=organization).select_related("mailbox")


def get_identity(*, organization: Organization, handle: str) -> Identity:
    """The identity of this handle, with or without its leading @; raises NotFound."""
    try:
        known = identities_of(organization).filter(handle=read_handle(handle)).first()
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
    """A new identity, and its mailbox with it when one is asked for: both or neither. Raises HandleTaken, and what
    create_mailbox raises."""
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
        locked = Identity.objects.select_for_update(of=("self",)).select_related("mailbox").get(id=identity.id)
        if locked.mailbox is not None and locked.mailbox.deleted_at is None:
            raise IdentityHasMailbox
        mailbox, _ = create_mailbox(
            organization=identity.organization, wanted=replace(wanted, client_id=None), key=key, now=now
        )
        locked.mailbox = mailbox
        locked.save(update_fields=["mailbox", "updated_at"])
    identity.mailbox = mailbox
    return mailbox


def update_identity(*, identity: Identity, handle: str | None = None, display_name: str | None = None) -> Identity:
    """Change what is given. Raises HandleTaken."""
    if handle is not None:
        identity.handle = read_handle(handle)
    if display_name is not None:
        identity.display_name = check_line("display_name", display_name, most=255)
    try:
        with transaction.atomic():
            identity.save(update_fields=["handle", "display_name", "updated_at"])
    except IntegrityError:
        raise HandleTaken from None
    return identity
