"""Whom an organization does not write to any more: written with the facts, by a person, or by a recipient's click."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connection, transaction

from apps.accounts.models import Organization
from apps.core.errors import NotFound, ValidationFailed
from apps.core.ids import new_id
from apps.core.texts import check_line
from apps.delivery.models import Suppression
from mailhost.address import parse_address
from mailhost.errors import InvalidAddress

MAX_IMPORTED = 1000
MAX_SOURCE = 500
_MAX_DETAILS = 20
_FORGET_BATCH = 1000


@dataclass(frozen=True, slots=True)
class NewSuppression:
    """An address that mail must not go to; `source` says how that is known, `expires_at` None means for good."""

    address: str
    reason: str = Suppression.Reason.MANUAL
    source: str = ""
    expires_at: datetime | None = None


# What stands already gives way when it is over, when the new entry holds longer, when the recipient has spoken since
# (a complaint or an unsubscribe must outlive the clearing up of bounces), and when both are by hand: it is edited.
_SUPPRESS = """
INSERT INTO delivery_suppression AS known
       (id, organization_id, address, address_key, reason, source, expires_at, created_at)
SELECT entry.*, %(now)s
  FROM unnest(%(ids)s::uuid[], %(organizations)s::uuid[], %(addresses)s::text[], %(keys)s::text[], %(reasons)s::text[],
              %(sources)s::text[], %(expiries)s::timestamptz[])
       AS entry(id, organization_id, address, address_key, reason, source, expires_at)
 ORDER BY entry.organization_id, entry.address_key
    ON CONFLICT (organization_id, address_key) DO UPDATE
   SET (id, created_at) = (
         SELECT CASE WHEN is_another THEN excluded.id ELSE known.id END,
                CASE WHEN is_another THEN excluded.created_at ELSE known.created_at END
           FROM (SELECT known.expires_at <= excluded.created_at OR known.reason <> excluded.reason) AS it(is_another)
       ),
       address = excluded.address, reason = excluded.reason, source = excluded.source, expires_at = excluded.expires_at
 WHERE known.expires_at <= excluded.created_at
    OR known.expires_at < coalesce(excluded.expires_at, 'infinity')
    OR known.reason = 'manual' AND excluded.reason = 'manual'
    OR known.reason IN ('manual', 'hard_bounce') AND excluded.reason IN ('complaint', 'unsubscribe')
       AND excluded.expires_at IS NULL
"""


def suppress_addresses(*, entries: Iterable[tuple[UUID, NewSuppression]], now: datetime) -> int:
    """Keep organizations from writing to addresses; how many entries are new or changed. One statement.

    Call it in the transaction of the fact that it follows from, before the counters. What is no address is left out:
    nothing could be sent there.
    """
    rows: dict[tuple[UUID, str], NewSuppression] = {}
    for organization_id, entry in entries:
        key = _key_of(entry.address)
        if key:
            rows.setdefault((organization_id, key), entry)
    if not rows:
        return 0
    values: dict[str, Any] = {
        "now": now,
        "ids": [new_id() for _ in rows],
        "organizations": [organization_id for organization_id, _ in rows],
        "keys": [key for _, key in rows],
        "addresses": [entry.address for entry in rows.values()],
        "reasons": [str(entry.reason) for entry in rows.values()],
        "sources": [entry.source[:MAX_SOURCE] for entry in rows.values()],
        "expiries": [entry.expires_at for entry in rows.values()],
    }
    with connection.cursor() as cursor:
        cursor.execute(_SUPPRESS, values)
        return int(cursor.rowcount)


def _key_of(address: str) -> str:
    try:
        return parse_address(address).key
    except InvalidAddress:
        return ""


def create_suppression(
    *, organization: Organization, wanted: NewSuppression, now: datetime
) -> tuple[Suppression, bool]:
    """The entry of an address, and whether this call made it. One that stands already and weighs more stays as it is;
    one made by hand is changed. Raises ValidationFailed."""
    _check(wanted, "", now)
    with transaction.atomic():
        suppress_addresses(entries=[(organization.id, wanted)], now=now)
        entry = Suppression.objects.get(organization=organization, address_key=_key_of(wanted.address))
    return entry, entry.created_at == now


def import_suppressions(*, organization: Organization, wanted: Sequence[NewSuppression], now: datetime) -> int:
    """As create_suppression for up to 1,000 at once, all or none; how many entries are new or changed."""
    if len(wanted) > MAX_IMPORTED:
        raise ValidationFailed("suppressions", f"At most {MAX_IMPORTED} entries are taken at once.")
    details: list[dict[str, str]] = []
    for index, entry in enumerate(wanted):
        try:
            _check(entry, f"suppressions[{index}].", now)
        except ValidationFailed as error:
            details += error.data["details"]
    if details:
        refusal = ValidationFailed("suppressions", f"{len(details)} of {len(wanted)} entries cannot be taken.")
        refusal.data["details"] = details[:_MAX_DETAILS]
        raise refusal
    return suppress_addresses(entries=((organization.id, entry) for entry in wanted), now=now)


def _check(wanted: NewSuppression, place: str, now: datetime) -> None:
    if wanted.reason not in Suppression.Reason.values:
        raise ValidationFailed(f"{place}reason", f"The reason is one of: {', '.join(Suppression.Reason.values)}.")
    check_line(f"{place}source", wanted.source, most=MAX_SOURCE)
    if wanted.expires_at is not None and wanted.expires_at <= now:
        raise ValidationFailed(f"{place}expires_at", "The time lies in the past.")
    try:
        parse_address(wanted.address)
    except InvalidAddress as error:
        raise ValidationFailed(f"{place}address", f"{wanted.address[:100]!r} is not an address. {error}") from None


def remove_suppression(*, suppression: Suppression) -> None:
    """Let the organization write to the address again. Raises NotFound when it is gone already."""
    if not Suppression.objects.filter(id=suppression.id).delete()[0]:
        raise NotFound("There is no such suppression in your organization.")


def forget_expired(*, now: datetime) -> int:
    """Delete entries that are over, in batches; how many. Only tidiness: they suppress nothing any more."""
    total = 0
    while True:
        batch = Suppression.objects.filter(expires_at__lte=now).order_by("id").values_list("id", flat=True)
        deleted, _ = Suppression.objects.filter(id__in=list(batch[:_FORGET_BATCH]), expires_at__lte=now).delete()
        total += deleted
        if deleted < _FORGET_BATCH:
            return total
