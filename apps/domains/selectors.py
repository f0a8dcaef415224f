"""What an organization may use as a domain, and what has to be published for it."""

from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

from django.conf import settings
from django.db.models import Q, QuerySet

from apps.core.errors import NotFound
from apps.domains.models import DkimKey, Domain
from mailhost.auth.dkim import dkim_record

OWNERSHIP_LABEL = "_mailhost"
OWNERSHIP_PREFIX = "mailhost-verification="


@dataclass(frozen=True, slots=True)
class DnsRecord:
    """A record to publish, and how the last check found it."""

    purpose: str
    type: str
    name: str
    value: str
    priority: int | None = None
    status: str = "missing"
    found: str = ""
    fix: str = ""


def domains_of(organization_id: UUID) -> QuerySet[Domain]:
    """The organization's own domains and the installation's shared ones."""
    return Domain.objects.filter(Q(organization_id=organization_id) | Q(organization__isnull=True))


def get_usable_domain(*, organization_id: UUID, name: str) -> Domain:
    """A domain by name that the organization may put mailboxes on, proved or not; raises NotFound."""
    domain = domains_of(organization_id).filter(name=name).order_by("organization_id").first()
    if domain is None:
        raise NotFound(f"{name} is not a domain of your organization.", fix="Add it by POST /v1/domains first.")
    return domain


def dns_records(domain: Domain, keys: Iterable[DkimKey] | None = None) -> list[DnsRecord]:
    """Every record to publish for a domain, with the findings of its last check.

    `keys` spares a query where they are at hand.
    """
    host = settings.MAILHOST_HOSTNAME
    wanted = [
        (
            "ownership",
            "TXT",
            f"{OWNERSHIP_LABEL}.{domain.name}",
            OWNERSHIP_PREFIX + domain.ownership_token,
            None,
        ),
        ("mx", "MX", domain.name, host, 10),
        ("spf", "TXT", domain.name, f"v=spf1 a:{host} mx ~all", None),
        ("dmarc", "TXT", f"_dmarc.{domain.name}", "v=DMARC1; p=quarantine", None),
    ]
    for key in domain.dkim_keys.all() if keys is None else keys:
        name = f"{key.selector}._domainkey.{domain.name}"
        record = dkim_record(key.public_key, key.dkim_algorithm)
        wanted.append((f"dkim:{key.selector}", "TXT", name, record, None))
    records = []
    for purpose, record_type, name, value, priority in wanted:
        found = domain.record_checks.get(purpose, {})
        records.append(
            DnsRecord(
                purpose=purpose.partition(":")[0],
                type=record_type,
                name=name,
                value=value,
                priority=priority,
                status=found.get("status", "missing"),
                found=found.get("found", ""),
                fix=found.get("fix", ""),
            )
        )
    return records
