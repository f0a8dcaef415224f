"""Verification: each record found as it is, statuses that follow, and one owner per name."""

from datetime import datetime, timedelta

import pytest
from pytest_django import DjangoAssertNumQueries

from apps.accounts.models import Organization
from apps.core.errors import Conflict, NotFound
from apps.domains.models import Domain
from apps.domains.selectors import dns_records
from apps.domains.services import create_domain, verify_domain
from apps.events.models import Event
from tests.apps.domains.conftest import publish
from tests.apps.threads import run_together
from tests.fakes.dns import FakeDns, Trouble

pytestmark = pytest.mark.django_db
DAY = timedelta(days=1)


def statuses(domain: Domain) -> dict[str, str]:
    """How the last check found each record; the two DKIM keys by their selectors."""
    return {
        record.name.partition(".")[0] if record.purpose == "dkim" else record.purpose: record.status
        for record in dns_records(domain)
    }


def sides(domain: Domain) -> tuple[str, str, str]:
    return domain.status, domain.sending_status, domain.receiving_status


def list_events(domain: Domain) -> list[str]:
    return list(
        Event.objects.filter(organization_id=domain.organization_id).order_by("id").values_list("type", flat=True)
    )


class TestEachRecord:
    def test_all_that_is_published_as_shown_is_valid(self, domain: Domain, dns: FakeDns, now: datetime) -> None:
        publish(dns, domain)

        found = verify_domain(domain=domain, now=now)

        assert set(statuses(found).values()) == {"valid"}
        assert sides(found) == ("verified", "verified", "verified")
        assert (found.ownership_verified_at, found.last_checked_at) == (now, now)
        found.refresh_from_db()
        assert set(statuses(found).values()) == {"valid"}

    def test_long_keys_come_in_several_strings(self, domain: Domain, dns: FakeDns, now: datetime) -> None:
        record = next(record for record in dns_records(domain) if record.name.startswith("mh1r"))
        assert len(record.value) > 255
        publish(dns, domain)

        assert statuses(verify_domain(domain=domain, now=now))["mh1r"] == "valid"

    def test_an_empty_zone_is_all_missing(self, domain: Domain, dns: FakeDns, now: datetime) -> None:
        found = verify_domain(domain=domain, now=now)

        assert set(statuses(found).values()) == {"missing"}
        assert sides(found) == ("pending", "pending", "pending")
        assert all("Publish" in record.fix for record in dns_records(found))

    @pytest.mark.parametrize("purpose", ["ownership", "mx", "spf", "dmarc"])
    def test_one_that_is_missing_is_named_and_the_others_stand(
        self, domain: Domain, dns: FakeDns, purpose: str, now: datetime
    ) -> None:
        publish(dns, domain, without=purpose)

        found = statuses(verify_domain(domain=domain, now=now))
        assert found.pop(purpose) == "missing"
        assert set(found.values()) == {"valid"}

    @pytest.mark.parametrize(
        ("name", "records", "purpose"),
        [
            ("_mailhost.acme.example", [("TXT", "mailhost-verification=" + "0" * 32)], "ownership"),
            ("acme.example", [("MX", "10 mx.elsewhere.example")], "mx"),
            ("acme.example", [("MX", "0 .")], "mx"),
            ("acme.example", [("TXT", "v=spf1 include:elsewhere.example -all")], "spf"),
            ("acme.example", [("TXT", "v=spf1 a:mail.test -all"), ("TXT", "v=spf1 mx -all")], "spf"),
            ("_dmarc.acme.example", [("TXT", "v=DMARC1; rua=mailto:x@acme.example")], "dmarc"),
            ("_dmarc.acme.example", [("TXT", "v=DMARC1; p=none"), ("TXT", "v=DMARC1; p=reject")], "dmarc"),
            ("mh1r._domainkey.acme.example", [("TXT", "v=DKIM1; k=rsa; p=")], "mh1r"),
            ("mh1r._domainkey.acme.example", [("TXT", "v=DKIM1; k=rsa; p=AAAA")], "mh1r"),
            ("mh1r._domainkey.acme.example", [("TXT", "anything else")], "mh1r"),
            ("mh1e._domainkey.acme.example", [("TXT", "v=DKIM1; k=rsa; p=AAAA")], "mh1e"),
        ],
    )
    def test_one_that_is_wrong_is_shown_as_found(
        self, domain: Domain, dns: FakeDns, name: str, records: list[tuple[str, str]], purpose: str, now: datetime
    ) -> None:
        publish(dns, domain)
        dns.zone[name] = records

        found = verify_domain(domain=domain, now=now)

        assert statuses(found)[purpose] == "wrong"
        shown = next(r for r in dns_records(found) if purpose in (r.purpose, r.name.partition(".")[0]))
        assert shown.found
        assert shown.fix

    def test_a_name_server_that_fails_is_not_taken_for_an_empty_zone(
        self, domain: Domain, dns: FakeDns, now: datetime
    ) -> None:
        publish(dns, domain)
        dns.zone["_dmarc.acme.example"] = Trouble.SERVFAIL
        dns.zone["mh1e._domainkey.acme.example"] = Trouble.GARBAGE

        found = verify_domain(domain=domain, now=now)

        assert statuses(found)["dmarc"] == statuses(found)["mh1e"] == "dns_error"
        assert sides(found) == ("verified", "verified", "verified")

    def test_one_that_never_answers_holds_nobody_up_for_long(self, domain: Domain, dns: FakeDns, now: datetime) -> None:
        import time

        for record in dns_records(domain):
            dns.zone[record.name] = Trouble.STALL
        start = time.monotonic()

        found = verify_domain(domain=domain, now=now)

        assert time.monotonic() - start < 8
        assert set(statuses(found).values()) == {"dns_error"}


class TestMeaning:
    def check(self, domain: Domain, dns: FakeDns, now: datetime, name: str, *values: str, kind: str = "TXT") -> Domain:
        publish(dns, domain)
        dns.zone[name] = [(kind, value) for value in values]
        return verify_domain(domain=domain, now=now)

    def test_other_txt_records_of_the_name_do_not_matter(self, domain: Domain, dns: FakeDns, now: datetime) -> None:
        own = next(r.value for r in dns_records(domain) if r.purpose == "ownership")
        values = ("google-site-verification=x", "mailhost-verification=old", own, "x" * 2000)
        found = self.check(domain, dns, now, "_mailhost.acme.example", *values)

        assert statuses(found)["ownership"] == "valid"
        assert next(r.found for r in dns_records(found) if r.purpose == "ownership") == own

    @pytest.mark.parametrize(
        "spf",
        [
            "v=spf1 a:mail.test -all",
            "V=SPF1 include:_spf.other.example +A:MAIL.test ~all",
            "v=spf1   ip4:192.0.2.1   a:mail.test   mx   ?all",
        ],
    )
    def test_spf_counts_when_it_names_us(self, domain: Domain, dns: FakeDns, spf: str, now: datetime) -> None:
        publish(dns, domain, without="spf")
        dns.zone["acme.example"] = [*dns.zone["acme.example"], ("TXT", spf), ("TXT", "other=1")]

        assert statuses(verify_domain(domain=domain, now=now))["spf"] == "valid"

    @pytest.mark.parametrize("spf", ["v=spf1 -a:mail.test ~all", "v=spf1 a:mail.test.evil.example ~all", "v=spf10 a:x"])
    def test_spf_does_not_when_it_only_looks_like_it(
        self, domain: Domain, dns: FakeDns, spf: str, now: datetime
    ) -> None:
        publish(dns, domain, without="spf")
        dns.zone["acme.example"] = [*dns.zone["acme.example"], ("TXT", spf)]

        assert statuses(verify_domain(domain=domain, now=now))["spf"] in ("wrong", "missing")

    def test_a_stricter_dmarc_policy_is_as_good(self, domain: Domain, dns: FakeDns, now: datetime) -> None:
        found = self.check(domain, dns, now, "_dmarc.acme.example", "v=DMARC1;p=reject; rua=mailto:d@acme.example")

        assert statuses(found)["dmarc"] == "valid"

    def test_a_key_counts_however_it_is_spaced_and_ordered(self, domain: Domain, dns: FakeDns, now: datetime) -> None:
        key = domain.dkim_keys.get(selector="mh1r").public_key
        value = f"p={key[:100]} {key[100:]} ;\tk = rsa; v=DKIM1; n=note; t=s;"
        found = self.check(domain, dns, now, "mh1r._domainkey.acme.example", value)

        assert statuses(found)["mh1r"] == "valid"

    def test_one_of_several_hosts_that_take_mail_may_be_ours(self, domain: Domain, dns: FakeDns, now: datetime) -> None:
        publish(dns, domain)
        dns.zone["acme.example"] = [*dns.zone["acme.example"], ("MX", "5 backup.elsewhere.example")]

        assert statuses(verify_domain(domain=domain, now=now))["mx"] == "valid"

    def test_octets_that_no_text_may_hold_are_shown_somehow(self, domain: Domain, dns: FakeDns, now: datetime) -> None:
        found = self.check(domain, dns, now, "mh1r._domainkey.acme.example", "a\0b\x01" + "ü" * 300)

        found.refresh_from_db()
        assert statuses(found)["mh1r"] == "wrong"


class TestStatuses:
    def test_sending_needs_no_mx(self, domain: Domain, dns: FakeDns, now: datetime) -> None:
        publish(dns, domain, without="mx")

        found = verify_domain(domain=domain, now=now)

        assert sides(found) == ("verified", "verified", "pending")
        assert found.can_send

    @pytest.mark.parametrize("without", ["ownership", "dkim"])
    def test_sending_needs_ownership_and_a_key(self, domain: Domain, dns: FakeDns, without: str, now: datetime) -> None:
        publish(dns, domain, without=without)

        assert not verify_domain(domain=domain, now=now).can_send

    def test_the_rsa_key_decides(self, domain: Domain, dns: FakeDns, now: datetime) -> None:
        publish(dns, domain)
        del dns.zone["mh1r._domainkey.acme.example"]
        assert not verify_domain(domain=domain, now=now).can_send

        publish(dns, domain)
        del dns.zone["mh1e._domainkey.acme.example"]
        assert verify_domain(domain=domain, now=now).can_send

    def test_each_change_is_told_once(self, domain: Domain, dns: FakeDns, now: datetime) -> None:
        verify_domain(domain=domain, now=now)
        assert list_events(domain) == []
        publish(dns, domain)
        for _ in range(2):
            verify_domain(domain=domain, now=now)
        assert list_events(domain) == ["domain.verified"]

        dns.zone["acme.example"] = [("MX", "10 elsewhere.example")]
        for _ in range(2):
            assert sides(verify_domain(domain=domain, now=now)) == ("degraded", "verified", "failed")
        dns.zone["mh1r._domainkey.acme.example"] = [("TXT", "v=DKIM1; p=")]
        for _ in range(2):
            assert sides(verify_domain(domain=domain, now=now)) == ("failed", "failed", "failed")
        dns.zone.clear()
        publish(dns, domain)
        assert sides(verify_domain(domain=domain, now=now)) == ("verified", "verified", "verified")
        assert list_events(domain) == ["domain.verified", "domain.degraded", "domain.failed", "domain.verified"]

    def test_a_name_server_that_is_away_changes_no_status(self, domain: Domain, dns: FakeDns, now: datetime) -> None:
        publish(dns, domain)
        verify_domain(domain=domain, now=now)
        for name in list(dns.zone):
            dns.zone[name] = Trouble.SERVFAIL

        found = verify_domain(domain=domain, now=now + DAY)

        assert sides(found) == ("verified", "verified", "verified")
        assert found.last_checked_at == now + DAY
        assert list_events(domain) == ["domain.verified"]

    def test_what_was_proved_once_stays_proved_without_its_record(
        self, domain: Domain, dns: FakeDns, now: datetime
    ) -> None:
        publish(dns, domain)
        verify_domain(domain=domain, now=now)
        del dns.zone["_mailhost.acme.example"]

        found = verify_domain(domain=domain, now=now + DAY)

        assert found.ownership_verified_at == now
        assert found.can_send

    def test_a_shared_domain_is_not_looked_up(self, shared_domain: Domain, dns: FakeDns, now: datetime) -> None:
        assert verify_domain(domain=shared_domain, now=now).can_send
        assert dns.queries == []

    def test_a_domain_removed_meanwhile_is_not_found(self, domain: Domain, dns: FakeDns, now: datetime) -> None:
        stale = Domain.objects.get(id=domain.id)
        domain.delete()

        with pytest.raises(NotFound):
            verify_domain(domain=stale, now=now)

    def test_it_costs_few_statements(
        self, domain: Domain, dns: FakeDns, now: datetime, django_assert_max_num_queries: DjangoAssertNumQueries
    ) -> None:
        publish(dns, domain)
        with django_assert_max_num_queries(7):
            verify_domain(domain=domain, now=now)


class TestOneOwner:
    def test_who_proves_it_first_owns_it(
        self, domain: Domain, stranger: Organization, dns: FakeDns, now: datetime
    ) -> None:
        theirs = create_domain(organization=stranger, name="acme.example", now=now)
        publish(dns, domain)
        publish(dns, theirs)
        verify_domain(domain=domain, now=now)

        with pytest.raises(Conflict):
            verify_domain(domain=theirs, now=now)
        theirs.refresh_from_db()
        assert (theirs.ownership_verified_at, theirs.can_send) == (None, False)
        assert list_events(theirs) == []

    def test_anothers_token_proves_nothing(
        self, domain: Domain, stranger: Organization, dns: FakeDns, now: datetime
    ) -> None:
        theirs = create_domain(organization=stranger, name="acme.example", now=now)
        publish(dns, domain)

        found = verify_domain(domain=theirs, now=now)

        assert statuses(found)["ownership"] == "wrong"
        assert not found.can_send

    @pytest.mark.django_db(transaction=True)
    def test_of_several_at_the_same_moment_one_wins(
        self, domain: Domain, stranger: Organization, dns: FakeDns, now: datetime
    ) -> None:
        theirs = create_domain(organization=stranger, name="acme.example", now=now)
        publish(dns, domain)
        publish(dns, theirs)

        results = run_together(lambda number: verify_domain(domain=(domain, theirs)[number % 2], now=now), 6)

        winners = {result.organization_id for result in results if isinstance(result, Domain)}
        assert len(winners) == 1
        assert sum(isinstance(result, Conflict) for result in results) == 3
        assert Domain.objects.filter(ownership_verified_at__isnull=False).count() == 1
        assert Event.objects.filter(type="domain.verified").count() == 1
