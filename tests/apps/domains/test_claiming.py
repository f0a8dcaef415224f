"""Claiming a name: who may, what is stored, and how its private keys are kept."""

from datetime import datetime
from typing import Any

import pytest
from django.db import connection, transaction
from pytest_django import DjangoAssertNumQueries

from apps.accounts.models import Organization
from apps.core.errors import Conflict, NotFound, ValidationFailed
from apps.core.secretbox import SecretUnreadable
from apps.domains.models import DkimKey, Domain
from apps.domains.selectors import dns_records, domains_of, get_usable_domain
from apps.domains.services import create_domain, ensure_shared_domain
from mailhost.address import parse_address
from mailhost.auth.dkim import DkimSigner, sign_message, verify_message
from tests.apps.threads import run_together

pytestmark = pytest.mark.django_db


def prove(domain: Domain, now: datetime) -> None:
    Domain.objects.filter(id=domain.id).update(ownership_verified_at=now, sending_status="verified", status="verified")


class TestNames:
    @pytest.mark.parametrize(
        ("name", "key"),
        [
            ("acme.example", "acme.example"),
            ("ACME.Example", "acme.example"),
            ("bücher.example", "xn--bcher-kva.example"),
            ("a.b.c.d.example", "a.b.c.d.example"),
            (".".join(["x" * 63, "x" * 63, "x" * 63, "x" * 61]), ".".join(["x" * 63, "x" * 63, "x" * 63, "x" * 61])),
        ],
    )
    def test_a_name_is_kept_as_a_labels(self, organization: Organization, name: str, key: str, now: datetime) -> None:
        domain = create_domain(organization=organization, name=name, now=now)

        domain.refresh_from_db()
        assert domain.name == key
        assert (domain.status, domain.ownership_verified_at) == ("pending", None)
        assert len(dns_records(domain)) == 6

    @pytest.mark.parametrize(
        "name",
        [
            "", ".", "localhost", "acme", "acme..example", "-acme.example", "acme_x.example", "acme .example",
            "acme.example\0", "acme.example\r\n", "\ud800.example", "1.2.3.4", "[1.2.3.4]", "user@acme.example",
            "https://acme.example", "*.acme.example", "x" * 64 + ".example", "x." * 130 + "example", "x" * 10_000_000,
        ],
    )  # fmt: skip
    def test_what_is_no_mail_domain_is_refused(self, organization: Organization, name: str, now: datetime) -> None:
        with pytest.raises(ValidationFailed) as caught:
            create_domain(organization=organization, name=name, now=now)

        assert caught.value.data["details"][0]["field"] == "domain"
        assert not Domain.objects.exists()


class TestWhoMay:
    @pytest.mark.parametrize("again", ["acme.example", "ACME.example"])
    def test_an_organization_claims_a_name_once(self, domain: Domain, again: str, now: datetime) -> None:
        with pytest.raises(Conflict):
            create_domain(organization=domain.organization, name=again, now=now)

        assert Domain.objects.count() == 1

    def test_others_may_claim_what_is_not_proved_with_tokens_of_their_own(
        self, domain: Domain, stranger: Organization, now: datetime
    ) -> None:
        theirs = create_domain(organization=stranger, name="acme.example", now=now)

        assert theirs.ownership_token != domain.ownership_token
        assert len(theirs.ownership_token) >= 32
        keys = DkimKey.objects.values_list("public_key", flat=True)
        assert len(set(keys)) == 4

    def test_nobody_claims_what_is_proved(self, domain: Domain, stranger: Organization, now: datetime) -> None:
        prove(domain, now)

        with pytest.raises(Conflict):
            create_domain(organization=stranger, name="acme.example", now=now)

    def test_nobody_claims_a_shared_domain(
        self, shared_domain: Domain, organization: Organization, now: datetime
    ) -> None:
        with pytest.raises(Conflict):
            create_domain(organization=organization, name="agents.localhost", now=now)

    def test_an_organization_sees_its_own_domains_and_the_shared_ones(
        self, domain: Domain, shared_domain: Domain, organization: Organization, stranger: Organization, now: datetime
    ) -> None:
        theirs = create_domain(organization=stranger, name="evil.example", now=now)

        assert set(domains_of(organization.id)) == {domain, shared_domain}
        assert set(domains_of(stranger.id)) == {theirs, shared_domain}
        with pytest.raises(NotFound):
            get_usable_domain(organization_id=stranger.id, name="acme.example")
        assert get_usable_domain(organization_id=stranger.id, name="agents.localhost") == shared_domain

    def test_of_two_claims_each_organization_gets_its_own(
        self, domain: Domain, stranger: Organization, now: datetime
    ) -> None:
        theirs = create_domain(organization=stranger, name="acme.example", now=now)

        assert get_usable_domain(organization_id=stranger.id, name="acme.example") == theirs
        assert get_usable_domain(organization_id=domain.organization_id, name="acme.example") == domain


class TestSharedDomains:
    def test_it_is_ready_from_the_start_and_made_once(self, now: datetime) -> None:
        first = ensure_shared_domain(name="Agents.localhost", now=now)

        assert ensure_shared_domain(name="agents.localhost", now=now) == first
        assert first.is_shared
        assert first.can_send
        assert first.ownership_verified_at == now
        assert first.dkim_keys.count() == 2

    def test_a_restart_costs_one_statement(
        self, shared_domain: Domain, now: datetime, django_assert_num_queries: DjangoAssertNumQueries
    ) -> None:
        with django_assert_num_queries(1):
            ensure_shared_domain(name="agents.localhost", now=now)

    def test_an_organizations_proved_name_cannot_be_shared(self, domain: Domain, now: datetime) -> None:
        prove(domain, now)

        with pytest.raises(Conflict):
            ensure_shared_domain(name="acme.example", now=now)
        assert Domain.objects.count() == 1


class TestPrivateKeys:
    def test_they_are_never_stored_in_the_clear(self, domain: Domain) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT row_to_json(k)::text, private_key_encrypted FROM domains_dkimkey k")
            rows = [(text, bytes(stored)) for text, stored in cursor.fetchall()]
        bodies = [b"".join(key.private_pem.splitlines()[1:-1]) for key in DkimKey.objects.all()]

        assert len(rows) == len(bodies) == 2
        for text, stored in rows:
            assert "PRIVATE" not in text
            assert b"PRIVATE".hex() not in text
            assert b"PRIVATE" not in stored
            assert not any(body[:40] in stored or body[:40].decode() in text for body in bodies)

    def test_they_belong_to_the_public_halves_that_are_published(self, domain: Domain) -> None:
        published = {record.name: record.value for record in dns_records(domain)}
        raw = b"From: a@acme.example\r\nTo: b@x.example\r\nSubject: hi\r\n\r\nbody\r\n"
        for key in domain.dkim_keys.all():
            signer = DkimSigner(domain.name, key.selector, key.dkim_algorithm, key.private_pem)
            assert verify_message(sign_message(raw, [signer]), published.get)

    def test_with_another_secret_key_they_stay_shut(self, domain: Domain, settings: Any) -> None:
        settings.MAILHOST_SECRET_KEY = "another"

        with pytest.raises(SecretUnreadable):
            domain.dkim_keys.first().private_pem  # noqa: B018

    def test_making_them_holds_no_transaction_open(
        self, organization: Organization, now: datetime, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from apps.domains import services

        inside: list[bool] = []
        real = services.generate_dkim_key
        depth = len(connection.savepoint_ids)

        def spy(algorithm: Any) -> Any:
            inside.append(len(connection.savepoint_ids) > depth)
            return real(algorithm)

        monkeypatch.setattr(services, "generate_dkim_key", spy)
        with transaction.atomic():  # of the test itself
            depth = len(connection.savepoint_ids)
            create_domain(organization=organization, name="slow.example", now=now)
        assert inside == [False, False]


class TestRecords:
    def test_each_record_says_what_to_publish(self, domain: Domain, settings: Any) -> None:
        records = {(record.purpose, record.type): record for record in dns_records(domain)}

        assert records["ownership", "TXT"].name == "_mailhost.acme.example"
        assert records["ownership", "TXT"].value.endswith(domain.ownership_token)
        assert (records["mx", "MX"].value, records["mx", "MX"].priority) == (settings.MAILHOST_HOSTNAME, 10)
        assert f"a:{settings.MAILHOST_HOSTNAME}" in records["spf", "TXT"].value
        assert records["dmarc", "TXT"].name == "_dmarc.acme.example"
        assert {record.status for record in records.values()} == {"missing"}
        for record in records.values():
            parse_address(f"x@{record.name.replace('_', '')}")

    def test_with_keys_at_hand_it_asks_nothing(
        self, domain: Domain, django_assert_num_queries: DjangoAssertNumQueries
    ) -> None:
        keys = list(domain.dkim_keys.all())
        with django_assert_num_queries(0):
            assert len(dns_records(domain, keys)) == 6


@pytest.mark.django_db(transaction=True)
class TestAtOnce:
    def test_ten_claims_of_one_organization_are_one(self, organization: Organization, now: datetime) -> None:
        results = run_together(lambda _: create_domain(organization=organization, name="acme.example", now=now), 6)

        assert sum(isinstance(result, Conflict) for result in results) == 5
        assert (Domain.objects.count(), DkimKey.objects.count()) == (1, 2)

    def test_two_machines_that_start_at_once_share_one_domain(self, now: datetime) -> None:
        results = run_together(lambda _: ensure_shared_domain(name="agents.localhost", now=now), 4)

        assert len({result.id for result in results}) == 1
        assert (Domain.objects.count(), DkimKey.objects.count()) == (1, 2)
