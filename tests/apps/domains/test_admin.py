"""Admin pages of domains."""

import pytest
from django.test import Client

from apps.accounts.models import Organization
from apps.domains.models import DkimKey, Domain
from apps.domains.selectors import dns_records
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
from tests.apps.domains.conftest import publish
from tests.fakes.dns import FakeDns

pytestmark = pytest.mark.django_db


@pytest.fixture
def operator() -> Client:
    return sign_in_operator()


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


def test_a_published_domain_verifies_at_the_press_of_a_button(operator: Client, domain: Domain, dns: FakeDns) -> None:
    publish(dns, domain)
    press(operator, domain, "verify")
    domain.refresh_from_db()
    assert domain.status == "verified"
    page = text_of(operator.get(page_url(domain)))
    assert "valid" in page and "missing" not in page


def test_what_is_missing_or_wrong_is_shown_with_what_was_found(operator: Client, domain: Domain, dns: FakeDns) -> None:
    publish(dns, domain)
    records = [record for record in dns.zone["acme.example"] if record[0] != "MX"]
    dns.zone["acme.example"] = [*records, ("MX", "5 mx.elsewhere.example")]
    del dns.zone["_dmarc.acme.example"]
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
    with count_queries() as queries:
        assert len(rows_of(operator.get(list_url(Domain)))) == 20
    assert len(queries) <= MAX_QUERIES


def test_limits_are_set_by_a_dialog_which_shows_what_is_set(organization: Organization, domain: Domain) -> None:
    owner = sign_in("owner", organization)
    numbers = {"daily_send_limit": "500", "ramp_start": "10", "ramp_growth": "50", "ramp_ceiling": "400"}
    press(owner, domain, "limits", **numbers)
    domain.refresh_from_db()
    assert (domain.daily_send_limit, domain.ramp_start, domain.ramp_growth, domain.ramp_ceiling) == (500, 10, 50, 400)
    assert domain.ramp_since is not None
    page = text_of(owner.get(page_url(domain)))
    assert "500 recipients a day" in page and "10 on the first day, 50 % more each day, at most 400" in page
    assert 'value="400"' in owner.get(page_url(domain, "limits")).content.decode()
    press(owner, domain, "limits", daily_send_limit="")
    domain.refresh_from_db()
    assert (domain.daily_send_limit, domain.ramp, domain.ramp_since) == (None, None, None)


@pytest.mark.parametrize(
    "numbers",
    [
        {"daily_send_limit": "-1"},
        {"daily_send_limit": "many"},
        {"ramp_start": "10"},
        {"ramp_start": "10", "ramp_growth": "5000", "ramp_ceiling": "20"},
        {"ramp_start": "10", "ramp_growth": "50", "ramp_ceiling": "9"},
    ],
)
def test_limits_that_make_no_sense_are_not_set(operator: Client, domain: Domain, numbers: dict[str, str]) -> None:
    press(operator, domain, "limits", **numbers)
    domain.refresh_from_db()
    assert (domain.daily_send_limit, domain.ramp) == (None, None)
