"""Making a mailbox, and changing what its owner may change."""

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import IntegrityError, transaction

from apps.accounts.errors import ScopeDenied
from apps.accounts.models import ApiKey, Organization
from apps.accounts.services import spend_inbox_quota
from apps.core.errors import Conflict, NotFound, ValidationFailed
from apps.core.texts import check_json, check_line, check_text
from apps.core.warmup import Ramp
from apps.domains.errors import DomainNotVerified
from apps.domains.models import Domain
from apps.domains.selectors import get_usable_domain
from apps.events.models import EventType
from apps.events.services import set_mailbox_webhook
from apps.mailboxes.errors import AddressTaken, InboxDeleted, NoFreeName, PaymentRequired
from apps.mailboxes.models import (
    DEFAULT_DAILY_SEND_LIMIT,
    AddressReservation,
    Mailbox,
    MailboxUsage,
    PaidProvisioning,
    Pod,
)
from apps.mailboxes.names import RESERVED, generate_username
from apps.mailboxes.services.status import count_status, record_change
from mailhost.address import Address, domain_key, parse_address
from mailhost.errors import InvalidAddress, InvalidDomain

_NAME_TRIES = 8
_RETRY_NAMES = 1
_METADATA_LIMIT = 16 * 1024
_MAX_SEND_LIMIT = 2**31 - 1


@dataclass(frozen=True, slots=True)
class NewMailbox:
    """What a creation may say; everything is optional."""

    username: str | None = None
    domain: str | None = None
    display_name: str = ""
    client_id: str | None = None
    metadata: Mapping[str, Any] | None = None
    webhook_url: str | None = None
    webhook_dialect: str | None = None
    webhook_events: Sequence[str] | None = None
    pod_id: UUID | None = None
    daily_send_limit: int | None = DEFAULT_DAILY_SEND_LIMIT
    status: str = Mailbox.Status.ACTIVE


def create_mailbox(
    *, organization: Organization, wanted: NewMailbox, now: datetime, key: ApiKey | None = None, paid: bool = False
) -> tuple[Mailbox, bool]:
    """A new mailbox and True; or the one that was made with the same client_id, and False.

    `key` is the API key that asks: its allowed_domains and max_inboxes hold, and one that is narrowed to certain
    inboxes makes no others. `paid`: the caller has seen to the payment (apps.mailboxes.provisioning); otherwise a key
    makes nothing where mailboxes are paid for, whichever API it comes through. Raises AddressTaken, ScopeDenied,
    QuotaExhausted, DomainNotVerified, NotFound (domain, pod), ValidationFailed, Conflict, NoFreeName, PaymentRequired.
    """
    if key is not None and key.inbox_ids is not None:
        raise ScopeDenied("This key is narrowed to certain inboxes, so it cannot make others.")
    _check_fields(wanted)
    _check_status(wanted.status)
    domain = _choose_domain(organization, wanted.domain, key)
    pod = _choose_pod(organization, wanted.pod_id)
    for _ in range(_NAME_TRIES):
        known = _find_by_client_id(organization, wanted.client_id, key)
        if known is not None:
            return known, False
        if key is not None and not paid and PaidProvisioning.objects.filter(organization=organization).exists():
            raise PaymentRequired(fix="Use the API of this installation that takes payments by x402.")
        address = _make_address(wanted.username or generate_username(), domain)
        if not _is_free(address, organization, now):
            if wanted.username:
                raise AddressTaken(f"{address.text} is taken.")
            continue
        mailbox = _insert_mailbox(organization, domain, pod, address, wanted, key, now)
        if mailbox is not None:
            return mailbox, True
    raise NoFreeName(retry_after=_RETRY_NAMES)


def _check_fields(wanted: NewMailbox) -> None:
    check_line("display_name", wanted.display_name, most=255)
    if wanted.client_id is not None:
        check_text("client_id", wanted.client_id, least=1, most=256)
    if wanted.webhook_url is not None:
        check_line("webhook_url", wanted.webhook_url, most=2000)
    if wanted.daily_send_limit is not None and not 0 <= wanted.daily_send_limit <= _MAX_SEND_LIMIT:
        raise ValidationFailed("daily_send_limit", f"The limit lies between 0 and {_MAX_SEND_LIMIT}.")
    check_json("metadata", wanted.metadata or {}, most=_METADATA_LIMIT)


def _choose_domain(organization: Organization, name: str | None, key: ApiKey | None) -> Domain:
    allowed = None if key is None else key.allowed_domains
    if not name:
        name = settings.MAILHOST_DEFAULT_DOMAIN
        if allowed and name not in allowed:
            name = allowed[0]
    try:
        name = domain_key(name)
    except InvalidDomain as error:
        raise ValidationFailed("domain", str(error)) from None
    if allowed is not None and name not in allowed:
        raise ScopeDenied(f"This key may make inboxes on {', '.join(allowed)} only, not on {name}.")
    domain = get_usable_domain(organization_id=organization.id, name=name)
    if domain.ownership_verified_at is None or not domain.can_send:
        raise DomainNotVerified(f"{name} is not verified yet.")
    return domain


def _choose_pod(organization: Organization, pod_id: UUID | None) -> Pod:
    if pod_id is None:
        return ensure_default_pod(organization=organization)
    pod = Pod.objects.filter(organization=organization, id=pod_id).first()
    if pod is None:
        raise NotFound("There is no such pod in your organization.")
    return pod


def ensure_default_pod(*, organization: Organization) -> Pod:
    """The organization's default pod, made at first use."""
    pod = Pod.objects.filter(organization=organization, is_default=True).first()
    if pod is not None:
        return pod
    pod, _ = Pod.objects.get_or_create(organization=organization, is_default=True, defaults={"name": "Default"})
    return pod


def _find_by_client_id(organization: Organization, client_id: str | None, key: ApiKey | None) -> Mailbox | None:
    if client_id is None:
        return None
    mailboxes = Mailbox.objects.filter(organization=organization, client_id=client_id, deleted_at__isnull=True)
    known = mailboxes.select_related("usage", "domain").first()
    if known is not None and key is not None and not mailboxes.visible_to(key).exists():
        raise Conflict("This client_id belongs to an inbox that the key may not see.", fix="Use another client_id.")
    return known


def _make_address(username: str, domain: Domain) -> Address:
    """The address of a username on a domain, checked for what our own mailboxes allow."""
    try:
        address = parse_address(f"{username}@{domain.name}")
    except InvalidAddress as error:
        raise ValidationFailed("username", str(error)) from None
    if "+" in address.local or address.local.startswith('"'):
        raise ValidationFailed("username", "A username has no + and no quotes: +tags are added by senders.")
    if not _looks_like_itself(address.local):
        raise ValidationFailed("username", "A username has no invisible letters, and none that stand for others.")
    if address.key.partition("@")[0] in RESERVED:
        raise AddressTaken(f"{username} is reserved for the domain's operator.")
    return address


def _looks_like_itself(local: str) -> bool:
    """Whether nothing in it is invisible or a mere form of other letters (a ligature, full-width letters): on a shared
    domain that would be somebody else's name, or a reserved one, to the eye (RFC 8264, section 9.17)."""
    plain = unicodedata.normalize("NFKC", local) == unicodedata.normalize("NFC", local)
    return plain and local.isprintable() and not any("\ufe00" <= char <= "\ufe0f" or char == "\u034f" for char in local)


def _is_free(address: Address, organization: Organization, now: datetime) -> bool:
    if Mailbox.objects.filter(address_key=address.key).exists():
        return False
    reserved = AddressReservation.objects.filter(address_key=address.key, until__gt=now)
    return not reserved.exclude(organization=organization).exists()


def _insert_mailbox(
    organization: Organization,
    domain: Domain,
    pod: Pod,
    address: Address,
    wanted: NewMailbox,
    key: ApiKey | None,
    now: datetime,
) -> Mailbox | None:
    """Insert it with its counters and its event; None when another request took the name or the client_id first."""
    mailbox = Mailbox(
        organization=organization,
        pod=pod,
        domain=domain,
        username=address.local,
        address=address.text,
        address_key=address.key,
        display_name=wanted.display_name,
        status=wanted.status,
        daily_send_limit=wanted.daily_send_limit,
        client_id=wanted.client_id,
        metadata=dict(wanted.metadata or {}),
        webhook_url=wanted.webhook_url,
    )
    try:
        with transaction.atomic():
            mailbox.save(force_insert=True)
            today = now.astimezone(UTC).date()
            mailbox.usage = MailboxUsage.objects.create(mailbox=mailbox, day=today, judged_since=today)
            if wanted.webhook_url is not None:
                _hook(mailbox, now, wanted.webhook_dialect, wanted.webhook_events)
            record_change(mailbox, EventType.INBOX_CREATED, now)
            count_status(mailbox, before=None)
            if key is not None:
                spend_inbox_quota(key=key)
    except IntegrityError:
        return None
    return mailbox


def _hook(mailbox: Mailbox, now: datetime, dialect: str | None, events: Sequence[str] | None) -> None:
    """Let the webhook that belongs to the mailbox be what its webhook_url says."""
    set_mailbox_webhook(
        organization_id=mailbox.organization_id,
        mailbox_id=mailbox.id,
        url=mailbox.webhook_url,
        dialect=dialect,
        event_types=events,
        now=now,
    )


def update_mailbox(
    *,
    mailbox: Mailbox,
    changes: Mapping[str, Any],
    now: datetime,
    webhook_dialect: str | None = None,
    webhook_events: Sequence[str] | None = None,
) -> Mailbox:
    """Change `display_name`, `metadata` (merged; a null removes its key, None all of them), `status` (active, paused),
    `webhook_url`, `daily_send_limit`; what `changes` does not name stays. A new webhook_url is told `webhook_events`
    (all) in the format of `webhook_dialect` (native). Raises InboxDeleted, Conflict, ValidationFailed."""
    with transaction.atomic():
        locked = Mailbox.objects.select_for_update(of=("self",)).select_related("usage", "domain").get(id=mailbox.id)
        if locked.status == Mailbox.Status.DELETED:
            raise InboxDeleted
        before = locked.status
        if "status" in changes:
            _change_status(locked, changes["status"])
        if "metadata" in changes:
            merged = {} if changes["metadata"] is None else {**locked.metadata, **changes["metadata"]}
            locked.metadata = {name: value for name, value in merged.items() if value is not None}
        for field in ("display_name", "webhook_url", "daily_send_limit"):
            if field in changes:
                setattr(locked, field, changes[field])
        locked.display_name = locked.display_name or ""
        _check_fields(
            NewMailbox(
                display_name=locked.display_name,
                metadata=locked.metadata,
                webhook_url=locked.webhook_url,
                daily_send_limit=locked.daily_send_limit,
            )
        )
        locked.save()
        if "webhook_url" in changes:
            _hook(locked, now, webhook_dialect, webhook_events)
        count_status(locked, before=before)
    return locked


def _change_status(mailbox: Mailbox, status: str) -> None:
    if mailbox.status == Mailbox.Status.SUSPENDED:
        raise Conflict("The inbox is suspended.", fix="An administrator of your organization has to reinstate it.")
    _check_status(status)
    mailbox.status = status


def _check_status(status: str) -> None:
    if status not in (Mailbox.Status.ACTIVE, Mailbox.Status.PAUSED):
        raise ValidationFailed("status", "The status can be set to active or paused.")


def warm_up_mailbox(*, mailbox: Mailbox, ramp: Ramp | None, now: datetime) -> None:
    """Let the mailbox's daily limit grow from a small one, beginning today; None ends it. Raises ValidationFailed."""
    fields = mailbox.set_ramp(ramp, today=now.astimezone(UTC).date())
    mailbox.save(update_fields=[*fields, "updated_at"])
