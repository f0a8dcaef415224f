"""Our objects in Inkbox's fields."""

from datetime import UTC, datetime
from typing import Any

from apps.accounts.models import ApiKey
from apps.api.dialects.inkbox.inputs import FILTER_MODE
from apps.core.ids import encode_id
from apps.events.models import SigningKey
from apps.mailboxes.models import Identity, Mailbox

STATUS_OF_MAILBOX = {
    Mailbox.Status.ACTIVE: "active",
    Mailbox.Status.PAUSED: "paused",
    Mailbox.Status.SUSPENDED: "paused",
    Mailbox.Status.DELETED: "deleted",
}
"""Ours -> theirs. A suspended mailbox is there and may work again, so of their three words it is paused."""

Json = dict[str, Any]


def show_time(moment: datetime) -> str:
    """As Inkbox's server writes times: ISO 8601 in UTC to the microsecond."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def show_mailbox(mailbox: Mailbox, identity: Identity | None = None) -> Json:
    """A mailbox; it comes with its identity loaded, unless that is given. Made in another dialect it may have no
    identity and no name: both are null then."""
    owner: Identity | None = identity or getattr(mailbox, "identity", None)
    return {
        "id": str(mailbox.id),
        "email_address": mailbox.address,
        "display_name": mailbox.display_name or None,
        "webhook_url": mailbox.webhook_url,
        "filter_mode": FILTER_MODE,
        "status": STATUS_OF_MAILBOX[Mailbox.Status(mailbox.status)],
        "agent_identity_id": None if owner is None else str(owner.id),
        "created_at": show_time(mailbox.created_at),
        "updated_at": show_time(mailbox.updated_at),
    }


def show_identity_summary(identity: Identity) -> Json:
    """An identity as lists show it."""
    mailbox = identity.live_mailbox
    return {
        "id": str(identity.id),
        "organization_id": encode_id("org", identity.organization_id),
        "agent_handle": identity.handle,
        "email_address": None if mailbox is None else mailbox.address,
        "created_at": show_time(identity.created_at),
        "updated_at": show_time(identity.updated_at),
    }


def show_identity(identity: Identity) -> Json:
    """An identity with its channels; a phone number it never has."""
    mailbox = identity.live_mailbox
    shown = None if mailbox is None else show_mailbox(mailbox, identity)
    return {**show_identity_summary(identity), "mailbox": shown, "phone_number": None}


def show_signing_key(key: SigningKey, secret: str) -> Json:
    """A signing key with its secret, in the one answer that makes it."""
    return {"signing_key": secret, "created_at": show_time(key.created_at)}


def show_caller(key: ApiKey) -> Json:
    """Who asks: the key, never its secret. Here times are seconds since 1970."""
    narrowed = key.inbox_ids is not None or key.allowed_domains is not None
    return {
        "auth_type": "api_key",
        "auth_subtype": "api_key.agent_scoped.claimed" if narrowed else "api_key.admin_scoped",
        "organization_id": None if key.organization_id is None else encode_id("org", key.organization_id),
        "created_by": None,
        "creator_type": None,
        "key_id": encode_id("key", key.id),
        "label": key.name,
        "description": None,
        "created_at": key.created_at.timestamp(),
        "last_used_at": None if key.last_used_at is None else key.last_used_at.timestamp(),
        "expires_at": None if key.expires_at is None else key.expires_at.timestamp(),
    }
