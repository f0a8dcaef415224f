"""Webhooks: making, changing and ending them. Their secrets are given to their owner once, when they are made."""

import base64
import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models import F, Func, Value

from apps.accounts.errors import ScopeDenied
from apps.accounts.models import ApiKey, Organization
from apps.core.doorbell import ring_on_commit
from apps.core.errors import Conflict, NotFound, ValidationFailed
from apps.core.ids import new_id
from apps.core.texts import check_text
from apps.events.models import NATIVE, PING, Event, EventType, Webhook, WebhookCall
from apps.events.services.facts import CALL_TASK
from apps.events.webhooks.formats import has_format
from apps.events.webhooks.targets import check_url

SECRET_PREFIX = "whsec_"  # noqa: S105 - a prefix
SECRET_OVERLAP = timedelta(hours=24)
"""How long requests are signed with the old secret too after a rotation."""
MAX_WEBHOOKS = 100
"""An organization's webhooks; those that belong to a mailbox are not counted."""
MAX_MAILBOXES = 1000
_SECRET_BYTES = 32


def create_webhook(
    *,
    organization: Organization,
    url: str,
    now: datetime,
    event_types: Sequence[str] | None = None,
    mailbox_ids: Sequence[UUID] | None = None,
    dialect: str = NATIVE,
    client_id: str | None = None,
    key: ApiKey | None = None,
) -> tuple[Webhook, str | None]:
    """A new webhook and its secret; or the one that was made with the same client_id, and None.

    `event_types` None: every type. `mailbox_ids` None: what concerns any mailbox or none; that they are the
    organization's own is for the caller to say, who would else only learn nothing of a stranger's. `key` is the API
    key that asks: where it is narrowed to mailboxes, the webhook tells of no others. Raises ValidationFailed,
    ScopeDenied, NotFound (a mailbox that the key may not see), Conflict (too many).
    """
    mailbox_ids = _narrow(mailbox_ids, key)
    if client_id is not None:
        check_text("client_id", client_id, least=1, most=256)
    webhook = Webhook(organization=organization, client_id=client_id)
    _set_url(webhook, url, "url")
    webhook.dialect = _check_dialect(dialect)
    webhook.event_types = _check_event_types(event_types)
    webhook.mailbox_ids = _check_mailboxes(mailbox_ids)
    webhook.secret = secret = _make_secret()
    known = _find_by_client_id(organization, client_id)
    if known is not None:
        return known, None
    if Webhook.objects.filter(organization=organization, for_mailbox__isnull=True).count() >= MAX_WEBHOOKS:
        raise Conflict(f"An organization has at most {MAX_WEBHOOKS} webhooks.", fix="Delete one that you do not need.")
    try:
        with transaction.atomic():
            webhook.save(force_insert=True)
    except IntegrityError:  # a parallel request with the same client_id was first
        known = _find_by_client_id(organization, client_id)
        if known is None:
            raise
        return known, None
    return webhook, secret


def update_webhook(*, webhook: Webhook, changes: Mapping[str, Any], now: datetime) -> Webhook:
    """Change `url`, `event_types`, `mailbox_ids`, `enabled`; what `changes` does not name stays.

    Enabling forgets its past failures. Raises NotFound (deleted meanwhile), ValidationFailed, and Conflict for the
    URL of a webhook that belongs to a mailbox.
    """
    with transaction.atomic():
        locked = _lock(webhook)
        if "url" in changes:
            _refuse_owned(locked)
            _set_url(locked, changes["url"], "url")
        if "event_types" in changes:
            locked.event_types = _check_event_types(changes["event_types"])
        if "mailbox_ids" in changes:
            locked.mailbox_ids = _check_mailboxes(changes["mailbox_ids"])
        if "enabled" in changes:
            _set_enabled(locked, bool(changes["enabled"]), now)
        locked.save()
    return locked


def delete_webhook(*, webhook: Webhook) -> None:
    """Remove it; calls that wait are canceled when their turn comes. Raises NotFound, Conflict."""
    with transaction.atomic():
        locked = _lock(webhook)
        _refuse_owned(locked)
        locked.delete()


def rotate_webhook_secret(*, webhook: Webhook, now: datetime) -> tuple[Webhook, str]:
    """Give it a new secret, returned this once; for a day requests carry signatures of both. Raises NotFound."""
    with transaction.atomic():
        locked = _lock(webhook)
        locked.previous_secret_encrypted = locked.secret_encrypted
        locked.previous_secret_until = now + SECRET_OVERLAP
        locked.secret = secret = _make_secret()
        locked.save()
    return locked, secret


def test_webhook(*, webhook: Webhook, now: datetime) -> WebhookCall:
    """Send a `ping` to this webhook only; the call's attempts show what came of it. Raises Conflict when disabled."""
    _refuse_disabled(webhook)
    call = WebhookCall.objects.create(
        organization_id=webhook.organization_id,
        webhook_id=webhook.id,
        event_id=new_id(),
        event_type=PING,
        next_attempt_at=now,
        created_at=now,
    )
    ring_on_commit(CALL_TASK)
    return call


test_webhook.__test__ = False  # type: ignore[attr-defined]  # for pytest, which would take it for a test


def replay_call(*, call: WebhookCall, now: datetime) -> WebhookCall:
    """Make a finished call again, with the same event id and as many tries as a new one.

    Raises Conflict while it waits, when its webhook is disabled or gone, and when its event is no longer kept.
    """
    webhook = Webhook.objects.filter(id=call.webhook_id).first()
    if webhook is None:
        raise Conflict("The webhook was deleted.", fix="Create it again.")
    _refuse_disabled(webhook)
    if call.event_type != PING and not Event.objects.filter(id=call.event_id).exists():
        raise Conflict("The event is no longer kept.", fix="Read what there is from GET /v1/events.")
    with transaction.atomic():
        changed = (
            WebhookCall.objects.filter(id=call.id)
            .exclude(status=WebhookCall.Status.PENDING)
            .update(
                status=WebhookCall.Status.PENDING,
                attempt_count=0,
                first_attempt_at=None,
                next_attempt_at=now,
                lease_token=None,
                finished_at=None,
            )
        )
        if not changed:
            raise Conflict("The call is still being tried.", fix="Wait until it is delivered or failed.")
        ring_on_commit(CALL_TASK)
    call.refresh_from_db()
    return call


def set_mailbox_webhook(
    *,
    organization_id: UUID,
    mailbox_id: UUID,
    url: str | None,
    now: datetime,
    dialect: str | None = None,
    event_types: Sequence[str] | None = None,
) -> Webhook | None:
    """Make, change or (None) remove the webhook behind a mailbox's `webhook_url`; the webhook if there is one now.

    Giving a URL enables it again. `dialect` None keeps the webhook's dialect and event types; a new one is native and
    told everything. Call it in the mailbox's transaction, its row locked. A door that shows the secret reads
    `webhook.secret` once, in the answer that makes it. Raises ValidationFailed.
    """
    mine = Webhook.objects.filter(for_mailbox=mailbox_id, organization_id=organization_id)
    if url is None:
        mine.delete()
        return None
    webhook = mine.select_for_update().first()
    if webhook is None:
        webhook = Webhook(organization_id=organization_id, for_mailbox=mailbox_id)
        webhook.secret = _make_secret()
        dialect = dialect or NATIVE
    if dialect is not None:
        webhook.dialect = _check_dialect(dialect)
        webhook.event_types = _check_event_types(event_types)
    _set_url(webhook, url, "webhook_url")
    _set_enabled(webhook, True, now)
    webhook.save()
    return webhook


def forget_mailbox(*, organization_id: UUID, mailbox_id: UUID) -> None:
    """Remove the webhooks that tell of this mailbox alone, and the mailbox from those that tell of others too."""
    webhooks = Webhook.objects.filter(organization_id=organization_id)
    webhooks.filter(for_mailbox=mailbox_id).delete()
    named = webhooks.filter(mailbox_ids__contains=[mailbox_id])
    named.update(mailbox_ids=Func(F("mailbox_ids"), Value(mailbox_id), function="array_remove"))
    webhooks.filter(mailbox_ids=[]).delete()


def _narrow(mailbox_ids: Sequence[UUID] | None, key: ApiKey | None) -> Sequence[UUID] | None:
    """Whose events a webhook may tell that this key makes."""
    if key is not None and key.allowed_domains is not None:
        raise ScopeDenied("A webhook may tell of inboxes on any domain, so a key narrowed to domains cannot make one.")
    if key is None or key.inbox_ids is None:
        return mailbox_ids
    wanted = key.inbox_ids if mailbox_ids is None else mailbox_ids
    if not set(wanted) <= set(key.inbox_ids):
        raise NotFound("There is no such inbox in your organization.")
    return wanted


def _make_secret() -> str:
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()


def _lock(webhook: Webhook) -> Webhook:
    locked = Webhook.objects.select_for_update().filter(id=webhook.id).first()
    if locked is None:
        raise NotFound("There is no such webhook in your organization.")
    return locked


def _find_by_client_id(organization: Organization, client_id: str | None) -> Webhook | None:
    if client_id is None:
        return None
    return Webhook.objects.filter(organization=organization, client_id=client_id).first()


def _refuse_owned(webhook: Webhook) -> None:
    if webhook.for_mailbox is not None:
        raise Conflict("This webhook belongs to an inbox.", fix="Change the webhook_url of the inbox.")


def _refuse_disabled(webhook: Webhook) -> None:
    if not webhook.enabled:
        raise Conflict("The webhook is disabled.", fix="Enable it first.")


def _set_url(webhook: Webhook, url: str, field: str) -> None:
    webhook.host = check_url(url=url, field=field).authority
    webhook.url = url


def _set_enabled(webhook: Webhook, enabled: bool, now: datetime) -> None:
    if webhook.enabled and enabled:
        return
    webhook.enabled = enabled
    webhook.disabled_at = None if enabled else now
    webhook.disabled_reason = "" if enabled else "Disabled by its organization."
    webhook.failing_since = None


def _check_dialect(dialect: str) -> str:
    if not has_format(dialect):
        raise ValidationFailed("dialect", "There is no such dialect of webhooks.")
    return dialect


def _check_event_types(types: Sequence[str] | None) -> list[str] | None:
    if types is None:
        return None
    wanted = list(dict.fromkeys(types))
    unknown = [name for name in wanted if name not in EventType.values]
    if unknown:
        raise ValidationFailed("events", f"There is no event type {str(unknown[0])[:40]!r}.")
    if not wanted:
        raise ValidationFailed("events", "Name at least one event type, or leave events out to be told of all.")
    return wanted


def _check_mailboxes(mailbox_ids: Sequence[UUID] | None) -> list[UUID] | None:
    if mailbox_ids is None:
        return None
    wanted = list(dict.fromkeys(mailbox_ids))
    if not 1 <= len(wanted) <= MAX_MAILBOXES:
        raise ValidationFailed("inbox_ids", f"Name 1 to {MAX_MAILBOXES} inboxes, or leave inbox_ids out for all.")
    return wanted
