"""Domains: claiming a name, making its keys, and checking what its DNS says."""

import asyncio
import secrets
from datetime import UTC, datetime

from django.conf import settings
from django.db import IntegrityError, transaction

from apps.accounts.models import Organization
from apps.core.errors import Conflict, NotFound, ValidationFailed
from apps.core.warmup import MAX_RECIPIENTS, Ramp
from apps.domains.checks import Finding, check_records
from apps.domains.models import DkimKey, Domain
from apps.domains.selectors import dns_records
from apps.events.models import EventType
from apps.events.services import NewEvent, record_events
from mailhost.address import domain_key
from mailhost.auth.dkim import generate_dkim_key
from mailhost.dns.resolver import Resolver
from mailhost.errors import InvalidDomain

_Status = Domain.Status


def create_domain(*, organization: Organization, name: str, now: datetime) -> Domain:
    """Claim a name and generate its signing keys; pending until its records are found.

    Raises ValidationFailed for a name that is none, Conflict when it is claimed already.
    """
    key = _read_name(name)
    if Domain.objects.filter(name=key, organization__isnull=True).exists():
        raise Conflict(f"{key} belongs to this installation.", fix="Use it as it is, or add a name of your own.")
    if Domain.objects.filter(name=key, ownership_verified_at__isnull=False).exists():
        raise Conflict(
            f"{key} is already a verified domain here.",
            fix="If it is yours, find it in GET /v1/domains; else ask the organization that holds it to remove it.",
        )
    signing_keys = _generate_keys()
    try:
        with transaction.atomic():
            domain = Domain.objects.create(organization=organization, name=key, ownership_token=secrets.token_hex(16))
            _save_keys(domain, signing_keys)
    except IntegrityError:
        raise Conflict(f"Your organization has added {key} already.", fix="Find it in GET /v1/domains.") from None
    return domain


def ensure_shared_domain(*, name: str, now: datetime) -> Domain:
    """The installation's shared domain of this name, made when absent; it is its operator's, so it needs no proof.

    Raises ValidationFailed, Conflict when an organization has proved it.
    """
    key = _read_name(name)
    known = Domain.objects.filter(organization__isnull=True, name=key).first()
    if known is not None:
        return known
    signing_keys = _generate_keys()
    proved = {
        "ownership_token": secrets.token_hex(16),
        "ownership_verified_at": now,
        "status": _Status.VERIFIED,
        "sending_status": _Status.VERIFIED,
        "receiving_status": _Status.VERIFIED,
    }
    try:
        with transaction.atomic():
            domain, created = Domain.objects.get_or_create(organization=None, name=key, defaults=proved)
            if created:
                _save_keys(domain, signing_keys)
    except IntegrityError:
        raise Conflict(
            f"{key} is the domain of an organization here.", fix="Share another domain, or remove it there first."
        ) from None
    return domain


def _read_name(name: str) -> str:
    try:
        key = domain_key(name)
    except InvalidDomain as error:
        raise ValidationFailed("domain", str(error)) from None
    if "." not in key:
        raise ValidationFailed("domain", "A mail domain has at least two labels, such as mail.example.com.")
    return key


def _generate_keys() -> list[DkimKey]:
    """One RSA-2048 key, which every receiver verifies, and one Ed25519 key (RFC 8463).

    Made before the transaction: it takes long, and readers of the event log wait for every open transaction.
    """
    keys: list[DkimKey] = []
    for algorithm, selector in ((DkimKey.Algorithm.RSA, "mh1r"), (DkimKey.Algorithm.ED25519, "mh1e")):
        key = DkimKey(selector=selector, algorithm=algorithm.value)
        pair = generate_dkim_key(key.dkim_algorithm)
        key.public_key = pair.public_key
        key.private_pem = pair.private_pem
        keys.append(key)
    return keys


def _save_keys(domain: Domain, keys: list[DkimKey]) -> None:
    for key in keys:
        key.domain = domain
    DkimKey.objects.bulk_create(keys)


def limit_domain(*, domain: Domain, daily_send_limit: int | None, ramp: Ramp | None, now: datetime) -> None:
    """How many recipients a UTC day all mailboxes of the domain together may write to; None: no limit.

    `ramp` lets it grow from a small number, beginning today. What was sent today counts from the first send on that
    meets the limit. Raises ValidationFailed.
    """
    if daily_send_limit is not None and not 0 <= daily_send_limit <= MAX_RECIPIENTS:
        raise ValidationFailed("daily_send_limit", f"The limit lies between 0 and {MAX_RECIPIENTS}.")
    domain.daily_send_limit = daily_send_limit
    fields = domain.set_ramp(ramp, today=now.astimezone(UTC).date())
    domain.save(update_fields=[*fields, "daily_send_limit", "updated_at"])


def verify_domain(*, domain: Domain, now: datetime) -> Domain:
    """Look every record up, write down what was found, and move the domain's statuses accordingly.

    Sending needs ownership and a DKIM key; receiving needs ownership and the MX. The look-ups happen before the
    transaction. Raises Conflict when another organization proved the name first, NotFound when it was removed.
    """
    if domain.is_shared:
        return domain
    findings = asyncio.run(
        check_records(dns_records(domain), Resolver(settings.MAILHOST_DNS_SERVERS or None, timeout=5.0))
    )
    try:
        with transaction.atomic():
            locked = Domain.objects.select_for_update().filter(id=domain.id).first()
            if locked is None:
                raise NotFound("The domain was removed meanwhile.")
            _apply_findings(locked, findings, now)
    except IntegrityError:
        raise Conflict(f"{domain.name} was verified by another organization.") from None
    return locked


def _apply_findings(domain: Domain, findings: list[Finding], now: datetime) -> None:
    before = domain.status
    domain.record_checks = {
        finding.key: {"status": finding.status, "found": finding.found, "fix": finding.fix} for finding in findings
    }
    domain.last_checked_at = now
    # The RSA key decides: many receivers cannot verify Ed25519 yet (RFC 8463, section 5).
    rsa = {f"dkim:{key.selector}" for key in domain.dkim_keys.all() if key.algorithm == DkimKey.Algorithm.RSA}
    decisive = [finding for finding in findings if finding.purpose != "dkim" or finding.key in rsa]
    valid = {finding.purpose for finding in decisive if finding.status == "valid"}
    unknown = {finding.purpose for finding in decisive if finding.status == "dns_error"}
    if "ownership" in valid and domain.ownership_verified_at is None:
        domain.ownership_verified_at = now
    proved = domain.ownership_verified_at is not None
    domain.sending_status = _judge(domain.sending_status, proved and "dkim" in valid, "dkim" in unknown)
    domain.receiving_status = _judge(domain.receiving_status, proved and "mx" in valid, "mx" in unknown)
    domain.status = _overall(domain)
    domain.save()
    events = {
        _Status.VERIFIED: EventType.DOMAIN_VERIFIED,
        _Status.DEGRADED: EventType.DOMAIN_DEGRADED,
        _Status.FAILED: EventType.DOMAIN_FAILED,
    }
    event = events.get(_Status(domain.status))
    if domain.status != before and event is not None and domain.organization_id is not None:
        data = {"domain": domain.name, "status": domain.status}
        record_events(events=[NewEvent(event, domain.organization_id, data=data)], now=now)


def _judge(before: str, stands: bool, unknown: bool) -> str:
    """One side's new status: a DNS server that does not answer changes nothing."""
    if stands:
        return _Status.VERIFIED
    if unknown or before == _Status.PENDING:
        return before
    return _Status.FAILED


def _overall(domain: Domain) -> str:
    sides = {domain.sending_status, domain.receiving_status}
    if sides == {_Status.VERIFIED}:
        return _Status.VERIFIED
    if domain.sending_status == _Status.VERIFIED:
        # Sending works, receiving is not (or no longer) set up: usable, and worth a look.
        return _Status.DEGRADED if domain.receiving_status == _Status.FAILED else _Status.VERIFIED
    return _Status.FAILED if _Status.FAILED in sides else _Status.PENDING
