"""Organizations and API keys: making, finding and ending them."""

import hashlib
import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from django.db import transaction
from django.db.models import F, Q

from apps.accounts.errors import KeyExpired, KeyRevoked, QuotaExhausted, ScopeDenied, Unauthorized
from apps.accounts.models import SCOPES, ApiKey, Organization
from apps.core.errors import ValidationFailed
from apps.core.rows import JoinedRow
from apps.core.texts import check_line, check_text
from mailhost.address import domain_key
from mailhost.errors import InvalidDomain

KEY_PREFIX = "mh_"
_SECRET_BYTES = 32
_SHOWN_CHARACTERS = 10
_LAST_USED_STEP = timedelta(minutes=1)
_KEY_BY_HASH = JoinedRow(ApiKey, '"row".key_hash = %s', {"organization": Organization})
_MAX_NARROWING = 1000
_MAX_COUNT = 2**31 - 1


def create_organization(*, name: str, now: datetime) -> Organization:
    """A new tenant."""
    return Organization.objects.create(name=check_line("name", name.strip(), least=1, most=200))


def suspend_organization(*, organization: Organization, reason: str, now: datetime) -> None:
    """Stop all sending of an organization; what waits stays in the queue."""
    organization.suspended_at = organization.suspended_at or now
    organization.suspended_reason = check_text("reason", reason, most=500)
    organization.save(update_fields=["suspended_at", "suspended_reason", "updated_at"])


def reinstate_organization(*, organization: Organization) -> None:
    """Let a suspended organization send again."""
    organization.suspended_at = None
    organization.suspended_reason = ""
    organization.save(update_fields=["suspended_at", "suspended_reason", "updated_at"])


def limit_organization(*, organization: Organization, daily_send_limit: int | None) -> None:
    """How many recipients a UTC day all its mailboxes together may write to; None: no limit. Raises ValidationFailed.

    What they have sent today counts from the first send on that meets the limit.
    """
    if daily_send_limit is not None and not 0 <= daily_send_limit <= _MAX_COUNT:
        raise ValidationFailed("daily_send_limit", f"The limit lies between 0 and {_MAX_COUNT}.")
    organization.daily_send_limit = daily_send_limit
    organization.save(update_fields=["daily_send_limit", "updated_at"])


def create_api_key(
    *,
    organization: Organization | None,
    name: str,
    scopes: Sequence[str],
    now: datetime,
    allowed_domains: Sequence[str] | None = None,
    inbox_ids: Sequence[UUID] | None = None,
    max_inboxes: int | None = None,
    expires_at: datetime | None = None,
    maker: ApiKey | None = None,
) -> tuple[ApiKey, str]:
    """A new key and its secret, which is shown this once and never stored.

    `organization` None makes a platform key. `maker` is the key that asks, if one does: what it makes is never
    stronger than itself, and inboxes that the new key may make are taken from its own number. Raises
    ValidationFailed, ScopeDenied.
    """
    _check_key_fields(name, scopes, max_inboxes, expires_at, now)
    if len(inbox_ids or ()) > _MAX_NARROWING:
        raise ValidationFailed("inbox_ids", f"A key names at most {_MAX_NARROWING} inboxes.")
    key = ApiKey(
        organization=organization,
        name=name,
        scopes=[scope for scope in SCOPES if scope in scopes],
        allowed_domains=None if allowed_domains is None else _read_domains(allowed_domains),
        inbox_ids=None if inbox_ids is None else list(inbox_ids),
        max_inboxes=max_inboxes,
        expires_at=expires_at,
    )
    secret = KEY_PREFIX + secrets.token_urlsafe(_SECRET_BYTES)
    key.prefix = secret[:_SHOWN_CHARACTERS]
    key.key_hash = hash_key(secret)
    with transaction.atomic():
        if maker is not None:
            _refuse_stronger(key, maker)
            _hand_over_quota(key, maker)
        key.save(force_insert=True)
    return key, secret


def _check_key_fields(
    name: str, scopes: Sequence[str], max_inboxes: int | None, expires_at: datetime | None, now: datetime
) -> None:
    check_line("name", name, least=1, most=200)
    unknown = sorted(set(scopes) - set(SCOPES))
    if unknown:
        raise ValidationFailed("scopes", f"Unknown scope {unknown[0][:40]!r}; known are: {', '.join(SCOPES)}.")
    if max_inboxes is not None and not 0 <= max_inboxes <= _MAX_COUNT:
        raise ValidationFailed("max_inboxes", f"The number lies between 0 and {_MAX_COUNT}.")
    if expires_at is not None and expires_at <= now:
        raise ValidationFailed("expires_at", "The time lies in the past.")


def _read_domains(names: Sequence[str]) -> list[str]:
    """Domains by the names that they are compared by, each once."""
    if len(names) > _MAX_NARROWING:
        raise ValidationFailed("allowed_domains", f"A key names at most {_MAX_NARROWING} domains.")
    try:
        return list(dict.fromkeys(map(domain_key, names)))
    except InvalidDomain as error:
        raise ValidationFailed("allowed_domains", error.message) from None


def _refuse_stronger(key: ApiKey, maker: ApiKey) -> None:
    """No key makes a key that may do more, see more, make more, or live longer than itself."""
    if maker.organization_id is not None and key.organization_id != maker.organization_id:
        raise ScopeDenied("A key makes keys of its own organization only.")
    excess = sorted(set(key.scopes) - set(maker.scopes))
    if excess:
        raise ScopeDenied(f"This key does not carry the scope {excess[0]!r}, so it cannot give it to another.")
    for field in ("allowed_domains", "inbox_ids"):
        limit, wanted = getattr(maker, field), getattr(key, field)
        if limit is not None and (wanted is None or not set(wanted) <= set(limit)):
            raise ScopeDenied(f"This key is narrowed by {field}; a key that it makes has to lie within them.")
    if maker.max_inboxes is not None:
        left = maker.max_inboxes - maker.used_count
        if key.max_inboxes is None or key.max_inboxes > left:
            raise ScopeDenied(f"This key may still make {left} inboxes; give max_inboxes of at most that.")
    if maker.expires_at is not None and (key.expires_at is None or key.expires_at > maker.expires_at):
        raise ScopeDenied(f"This key ends at {maker.expires_at:%Y-%m-%dT%H:%M:%SZ}; give an expires_at before that.")


def _hand_over_quota(key: ApiKey, maker: ApiKey) -> None:
    """Take the new key's number of inboxes from its maker's: else one key of ten could make keys of ten for ever."""
    if maker.max_inboxes is None or not key.max_inboxes:
        return
    handed = ApiKey.objects.filter(id=maker.id, used_count__lte=F("max_inboxes") - key.max_inboxes).update(
        used_count=F("used_count") + key.max_inboxes
    )
    if not handed:
        raise ScopeDenied("This key may no longer make that many inboxes; get it again to see its used_count.")


def hash_key(secret: str) -> bytes:
    """What a key is found by: its secret has 256 random bits, so a plain SHA-256 cannot be searched."""
    return hashlib.sha256(secret.encode()).digest()


def authenticate_key(*, secret: str, now: datetime) -> ApiKey:
    """The key of this secret with its organization; raises Unauthorized, KeyExpired or KeyRevoked."""
    if not secret.startswith(KEY_PREFIX) or len(secret) > 200 or not secret.isascii():
        raise Unauthorized
    key = _KEY_BY_HASH.load([hash_key(secret)])
    if key is None:
        raise Unauthorized
    if key.revoked_at is not None:
        raise KeyRevoked
    if key.is_expired(now):
        raise KeyExpired
    if key.last_used_at is None or now - key.last_used_at >= _LAST_USED_STEP:
        stale = Q(last_used_at__isnull=True) | Q(last_used_at__lte=now - _LAST_USED_STEP)
        ApiKey.objects.filter(stale, id=key.id).update(last_used_at=now)
    return key


def revoke_api_key(*, key: ApiKey, now: datetime) -> None:
    """End a key at once, everywhere."""
    ApiKey.objects.filter(id=key.id, revoked_at__isnull=True).update(revoked_at=now)
    key.refresh_from_db(fields=["revoked_at"])


def spend_inbox_quota(*, key: ApiKey) -> None:
    """Count one inbox against the key's lifetime number, exactly under concurrency; raises QuotaExhausted.

    A key without a number is not touched. Call it in the transaction that makes the inbox.
    """
    if key.max_inboxes is None:
        return
    spent = ApiKey.objects.filter(id=key.id, used_count__lt=F("max_inboxes")).update(used_count=F("used_count") + 1)
    if not spent:
        raise QuotaExhausted(f"This key has made all of the {key.max_inboxes} inboxes that it may make.")
