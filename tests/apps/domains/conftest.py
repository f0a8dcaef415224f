"""A name server of the tests' own, and what an organization would publish there."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from apps.accounts.models import Organization
from apps.domains.models import Domain
from apps.domains.selectors import dns_records
from apps.domains.services import create_domain
from tests.fakes.dns import FakeDns


@pytest.fixture
def dns(settings: Any) -> Iterator[FakeDns]:
    """The name server that verification asks."""
    with FakeDns() as server:
        settings.MAILHOST_DNS_SERVERS = (server.address,)
        yield server


@pytest.fixture
def domain(organization: Organization, now: datetime) -> Domain:
    return create_domain(organization=organization, name="acme.example", now=now)


def publish(dns: FakeDns, domain: Domain, *, without: str = "") -> None:
    """Put every record of a domain into the zone as the API shows it, beside what stands there already."""
    for record in dns_records(domain):
        if record.purpose == without:
            continue
        value = record.value if record.priority is None else f"{record.priority} {record.value}"
        found = list(dns.zone.get(record.name, ()))
        if (record.type, value) not in found:
            dns.zone[record.name] = [*found, (record.type, value)]
