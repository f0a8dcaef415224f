"""Admin pages of domains."""

from collections.abc import Iterator
from datetime import datetime

import pytest
from django.test import Client
from dnslib import RR
from dnslib.server import BaseResolver, DNSServer

from apps.accounts.models import Organization
from apps.domains.models import DkimKey, Domain
from apps.domains.selectors import dns_records
from apps.domains.services import create_domain
from tests.apps.admin_people import (
    MAX_QUERIES,
    add_url,
    count_queries,
    list_url,
    page_url,
    press,
    rows_of,
    run_action,
    sign_in,
    sign_in_operator,
    text_of,
)

pytestmark = pytest.mark.django_db


class Zone(BaseResolver):
    """Answers what was published, and nothing else."""

    def __init__(self) -> None:
        self.records: dict[tuple[str, str], str] = {}

    def publish(self, domain: Domain) -> None:
        for record in dns_records(domain):
            value = f"{record.priority} {record.value}" if record.type == "MX" else _quote(record.value)
            self.records[record.name, record.type] = f"{record.name} 60 IN {record.type} {value}"

    def resolve(self, request, handler):  # type: ignore[no-untyped-def]
        reply = request.reply()
        kind = {1: "A", 15: "MX", 16: "TXT"}.get(request.q.qtype, "")
        zone = self.records.get((str(request.q.qname).rstrip("."), kind))
        if zone is not None:
            reply.add_answer(*RR.fromZone(zone))
        return reply


def _quote(text: str) -> str:
    return " ".join(f'"{text[start : start + 200]}"' for start in range(0, len(text), 200))


@pytest.fixture
def zone(settings) -> Iterator[Zone]:  # type: ignore[no-untyped-def]
    zone = Zone()
    servers = [DNSServer(zone, address="127.0.0.1", port=0, tcp=tcp) for tcp in (False,)]
    servers[0].start_thread()
    settings.MAILHOST_DNS_SERVERS = [f"127.0.0.1:{servers[0].server.server_address[1]}"]
    yield zone
    servers[0].stop()
    servers[0].server.server_close()


@pytest.fixture
def operator() -> Client:
    return sign_in_operator()


@pytest.fixture
def domain(organization: Organization, now: datetime) -> Domain:
    return create_domain(organization=organization, name="acme.example", now=now)


def test_an_owner_adds_a_domain_and_is_told_what_to_publish(organization: Organization) -> None:
    owner = sign_in("owner", organization)
    page = owner.post(
        add_url(Domain), {"name": "Müller.Example", "organization": str(organization.id), "_continue": "1"}, follow=True
    )
    domain = Domain.objects.get()
    assert (domain.organization, domain.name, domain.status) == (organization, "xn--mller-kva.example", "pending")
    for record in dns_records(domain):
        assert record.name in text_of(page)
        assert record.value in text_of(page)


def test_a_domain_without_an_organization_is_shared(operator: Client) -> None:
    operator.post(add_url(Domain), {"name": "shared.example", "organization": ""})
    assert Domain.objects.get().is_shared


@pytest.mark.parametrize("name", ["no domain", "localhost", "acme.example"])
def test_what_the_service_refuses_stands_on_the_form(
    operator: Client, organization: Organization, domain: Domain, name: str
) -> None:
    response = operator.post(add_url(Domain), {"name": name, "organization": str(organization.id)})
    assert response.status_code == 200
    assert response.context["adminform"].form.errors
    assert Domain.objects.count() == 1


def test_a_published_domain_verifies_at_the_press_of_a_button(operator: Client, domain: Domain, zone: Zone) -> None:
    zone.publish(domain)
    press(operator, domain, "verify")
    domain.refresh_from_db()
    assert domain.status == "verified"
    page = text_of(operator.get(page_url(domain)))
    assert "valid" in page and "missing" not in page


def test_what_is_missing_or_wrong_is_shown_with_what_was_found(operator: Client, domain: Domain, zone: Zone) -> None:
    zone.publish(domain)
    zone.records["acme.example", "MX"] = "acme.example 60 IN MX 5 mx.elsewhere.example"
    del zone.records["_dmarc.acme.example", "TXT"]
    run_action(operator, Domain, "verify_selected", domain)
    page = text_of(operator.get(page_url(domain)))
    assert "mx.elsewhere.example" in page
    assert "Put this value in place of what is there." in page
    assert "Publish this record." in page


def test_the_private_key_is_on_no_page(operator: Client, domain: Domain) -> None:
    key = domain.dkim_keys.get(algorithm=DkimKey.Algorithm.RSA)
    page = operator.get(page_url(domain)).content.decode()
    assert key.selector in page
    assert key.private_pem.decode().splitlines()[1] not in page
    assert "PRIVATE" not in page


def test_the_list_costs_the_same_for_more_rows(operator: Client, organization: Organization) -> None:
    Domain.objects.bulk_create(
        Domain(organization=organization, name=f"d{number}.example", ownership_token="x") for number in range(20)
    )
    with count_queries() as counted:
        assert len(rows_of(operator.get(list_url(Domain)))) == 20
    assert counted[0] <= MAX_QUERIES
