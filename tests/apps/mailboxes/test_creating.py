"""Making mailboxes: names, domains and rights."""

from contextlib import suppress
from datetime import datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pytest_django import DjangoAssertNumQueries

from apps.accounts.errors import QuotaExhausted, ScopeDenied
from apps.accounts.models import ApiKey, Organization
from apps.accounts.services import create_api_key
from apps.core.errors import Conflict, DomainError, NotFound, ValidationFailed
from apps.core.ids import new_id
from apps.domains.errors import DomainNotVerified
from apps.domains.models import Domain
from apps.domains.services import create_domain
from apps.events.models import Event
from apps.mailboxes.errors import AddressTaken, NoFreeName
from apps.mailboxes.models import Mailbox, MailboxUsage, Pod
from apps.mailboxes.names import RESERVED, generate_username
from apps.mailboxes.services import NewMailbox, close_mailbox, create_mailbox, ensure_default_pod
from apps.mailboxes.services import manage as services
from tests.apps.conftest import MakeMailbox

pytestmark = pytest.mark.django_db


def create(organization: Organization, now: datetime, key: ApiKey | None = None, **fields: Any) -> Mailbox:
    mailbox, created = create_mailbox(organization=organization, wanted=NewMailbox(**fields), now=now, key=key)
    assert created
    return mailbox


@pytest.fixture
def own_domain(organization: Organization, now: datetime) -> Domain:
    """A domain that Acme has proved."""
    domain = create_domain(organization=organization, name="acme.example", now=now)
    domain.ownership_verified_at = now
    domain.sending_status = domain.status = Domain.Status.VERIFIED
    domain.save()
    return domain


class TestWithNothingSaid:
    def test_it_gets_a_readable_address_on_the_default_domain(
        self, organization: Organization, shared_domain: Domain, now: datetime
    ) -> None:
        mailbox = create(organization, now)

        mailbox.refresh_from_db()
        assert mailbox.address == f"{mailbox.username}@agents.localhost"
        assert mailbox.address_key == mailbox.address
        assert mailbox.status == Mailbox.Status.ACTIVE
        assert mailbox.pod == ensure_default_pod(organization=organization)
        assert mailbox.daily_send_limit == 1000

    def test_counters_and_event_are_there_from_the_start(
        self, organization: Organization, shared_domain: Domain, now: datetime
    ) -> None:
        mailbox = create(organization, now)

        assert MailboxUsage.objects.get(mailbox=mailbox).sends_today == 0
        event = Event.objects.get()
        assert (event.type, event.mailbox_id, event.organization_id) == ("inbox.created", mailbox.id, organization.id)

    def test_it_costs_few_statements(
        self, make_mailbox: MakeMailbox, organization: Organization, now: datetime,
        django_assert_max_num_queries: DjangoAssertNumQueries,
    ) -> None:  # fmt: skip
        make_mailbox()
        with django_assert_max_num_queries(10):
            create(organization, now)

    def test_a_generated_name_that_is_taken_is_generated_anew(
        self, make_mailbox: MakeMailbox, organization: Organization, now: datetime, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        make_mailbox("calm-fox-0001")
        names = iter(["calm-fox-0001", "calm-fox-0001", "calm-fox-0002"])
        monkeypatch.setattr(services, "generate_username", lambda: next(names))

        assert create(organization, now).username == "calm-fox-0002"

    def test_when_no_name_is_free_it_gives_up_in_the_end(
        self, make_mailbox: MakeMailbox, organization: Organization, now: datetime, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        make_mailbox("calm-fox-0001")
        monkeypatch.setattr(services, "generate_username", lambda: "calm-fox-0001")
        with pytest.raises(NoFreeName) as caught:
            create(organization, now)
        assert (caught.value.code, caught.value.data["retry_after"]) == ("unavailable", 1)

    def test_a_setting_says_from_how_many_names_it_is_chosen(
        self, organization: Organization, shared_domain: Domain, now: datetime, settings: Any
    ) -> None:
        assert len({generate_username() for _ in range(50)}) > 1
        settings.MAILHOST_GENERATED_NAMES = 1
        assert create(organization, now).username == generate_username()
        with pytest.raises(NoFreeName):
            create(organization, now)


class TestUsernames:
    @pytest.mark.parametrize(
        ("username", "key"),
        [
            ("Support", "support"),
            ("first.last", "first.last"),
            ("o'brien", "o'brien"),
            ("a/b=c{d}", "a/b=c{d}"),
            ("jürgen", "jürgen"),
            ("JU\u0308RGEN", "jürgen"),
            ("почта", "почта"),
            ("x" * 64, "x" * 64),
            ("-", "-"),
            ("%s%(x)s", None),
        ],
    )
    def test_the_address_is_kept_as_given_and_compared_by_its_key(
        self, organization: Organization, shared_domain: Domain, username: str, key: str | None, now: datetime
    ) -> None:
        if key is None:
            with pytest.raises(ValidationFailed):
                create(organization, now, username=username)
            return
        mailbox = create(organization, now, username=username)

        mailbox.refresh_from_db()
        assert mailbox.address == f"{username}@agents.localhost"
        assert mailbox.address_key == f"{key}@agents.localhost"

    @pytest.mark.parametrize(
        "username",
        [
            " ", "a b", "a@b", "a+b", "+", "+tag", '"quoted"', '"a b"', "a..b", ".a", "a.", "a\0b", "a\r\nb", "<a>",
            "a,b", "a;b", "a:b", "a(b)", "a\\b", "x" * 65, "ü" * 33, "a\ud800", "a\u202eb", "a\u00a0b",
            "x" * 10_000_000, "\u200badmin", "ad\u00admin", "admin\ufe0f", "\ufb01rst", "\uff41dmin", "ad\u034fmin",
            "\u3164",
        ],
    )  # fmt: skip
    def test_what_cannot_be_a_local_part_is_refused(
        self, organization: Organization, shared_domain: Domain, username: str, now: datetime
    ) -> None:
        with pytest.raises(ValidationFailed) as caught:
            create(organization, now, username=username)

        assert caught.value.data["details"][0]["field"] == "username"
        assert not Mailbox.objects.exists()

    @pytest.mark.parametrize("username", [*sorted(RESERVED), "PostMaster", "ABUSE"])
    def test_names_that_stand_for_the_domain_stay_with_its_operator(
        self, organization: Organization, shared_domain: Domain, username: str, now: datetime
    ) -> None:
        with pytest.raises(AddressTaken):
            create(organization, now, username=username)

    @pytest.mark.parametrize("second", ["alice", "ALICE", "Alice"])
    def test_an_address_is_taken_whatever_its_case_and_whoever_asks(
        self, mailbox: Mailbox, organization: Organization, stranger: Organization, second: str, now: datetime
    ) -> None:
        for who in (organization, stranger):
            with pytest.raises(AddressTaken):
                create(who, now, username=second)

    @hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
    @given(username=st.text(st.characters(), min_size=1, max_size=20))
    def test_no_username_at_all_breaks_it(
        self, organization: Organization, shared_domain: Domain, now: datetime, username: str
    ) -> None:
        with suppress(DomainError):
            create(organization, now, username=username)


class TestDomains:
    def test_a_domain_of_ones_own_serves(self, organization: Organization, own_domain: Domain, now: datetime) -> None:
        mailbox = create(organization, now, username="sales", domain="ACME.example")

        assert mailbox.address == "sales@acme.example"

    def test_an_unproved_one_does_not(self, organization: Organization, now: datetime) -> None:
        create_domain(organization=organization, name="acme.example", now=now)

        with pytest.raises(DomainNotVerified):
            create(organization, now, domain="acme.example")

    def test_one_that_cannot_send_any_more_does_not(
        self, organization: Organization, own_domain: Domain, now: datetime
    ) -> None:
        Domain.objects.update(sending_status=Domain.Status.FAILED)

        with pytest.raises(DomainNotVerified):
            create(organization, now, domain="acme.example")

    @pytest.mark.parametrize("name", ["acme.example", "nobody.example"])
    def test_a_strangers_domain_is_not_there(
        self, stranger: Organization, own_domain: Domain, name: str, now: datetime
    ) -> None:
        with pytest.raises(NotFound):
            create(stranger, now, domain=name)

    @pytest.mark.parametrize(
        "name", ["a b", "a\0.example", "x" * 300, "..", "[127.0.0.1]", "\ud800.example", "1.2.3.4"]
    )
    def test_what_is_no_domain_is_refused(self, organization: Organization, name: str, now: datetime) -> None:
        with pytest.raises(ValidationFailed):
            create(organization, now, domain=name)

    def test_the_same_name_on_two_domains_is_two_addresses(
        self, mailbox: Mailbox, organization: Organization, own_domain: Domain, now: datetime
    ) -> None:
        assert create(organization, now, username="alice", domain="acme.example").id != mailbox.id


class TestKeys:
    def make_key(self, organization: Organization, now: datetime, **fields: Any) -> ApiKey:
        return create_api_key(organization=organization, name="k", scopes=["inboxes:write"], now=now, **fields)[0]

    def test_a_key_narrowed_to_domains_makes_none_elsewhere(
        self, organization: Organization, shared_domain: Domain, own_domain: Domain, now: datetime
    ) -> None:
        key = self.make_key(organization, now, allowed_domains=["acme.example"])

        with pytest.raises(ScopeDenied):
            create(organization, now, key, domain="agents.localhost")
        assert create(organization, now, key).domain == own_domain

    def test_a_key_narrowed_to_no_domain_makes_none(
        self, organization: Organization, shared_domain: Domain, now: datetime
    ) -> None:
        with pytest.raises(ScopeDenied):
            create(organization, now, self.make_key(organization, now, allowed_domains=[]))

    def test_a_client_id_does_not_show_a_narrowed_key_what_it_may_not_see(
        self, make_mailbox: MakeMailbox, organization: Organization, own_domain: Domain, now: datetime
    ) -> None:
        make_mailbox("alice", client_id="agent-7")
        key = self.make_key(organization, now, allowed_domains=["acme.example"])

        with pytest.raises(Conflict):
            create(organization, now, key, client_id="agent-7")

    def test_the_number_of_inboxes_is_for_life_and_failures_cost_nothing(
        self, organization: Organization, shared_domain: Domain, now: datetime
    ) -> None:
        key = self.make_key(organization, now, max_inboxes=2)
        create(organization, now, key, username="one")
        for bad in ({"username": "one"}, {"username": "a b"}, {"metadata": {"a": "\0"}}, {"domain": "no.example"}):
            with pytest.raises(DomainError):
                create(organization, now, key, **bad)
        close_mailbox(mailbox=Mailbox.objects.get(), release_address=True, now=now)
        create(organization, now, key, username="two")

        with pytest.raises(QuotaExhausted):
            create(organization, now, key, username="three")
        key.refresh_from_db()
        assert key.used_count == 2
        assert Mailbox.objects.count() == MailboxUsage.objects.count() == 2

    def test_the_same_client_id_again_costs_nothing_even_when_all_is_spent(
        self, organization: Organization, shared_domain: Domain, now: datetime
    ) -> None:
        key = self.make_key(organization, now, max_inboxes=1)
        first = create(organization, now, key, client_id="agent-7")

        again, created = create_mailbox(
            organization=organization, wanted=NewMailbox(client_id="agent-7"), now=now, key=key
        )
        assert (again.id, created) == (first.id, False)


class TestFields:
    @pytest.mark.parametrize(
        ("fields", "field"),
        [
            ({"display_name": "a\0b"}, "display_name"),
            ({"display_name": "a\r\nBcc: x@y.example"}, "display_name"),
            ({"display_name": "a\ud800"}, "display_name"),
            ({"display_name": "x" * 256}, "display_name"),
            ({"client_id": ""}, "client_id"),
            ({"client_id": "x" * 257}, "client_id"),
            ({"client_id": "a\0"}, "client_id"),
            ({"webhook_url": "https://x.example/\0"}, "webhook_url"),
            ({"webhook_url": "https://x.example/" + "x" * 2000}, "webhook_url"),
            ({"daily_send_limit": -1}, "daily_send_limit"),
            ({"daily_send_limit": 2**31}, "daily_send_limit"),
            ({"metadata": {"a": "\0"}}, "metadata"),
            ({"metadata": {"a\ud800": 1}}, "metadata"),
            ({"metadata": {"a": float("nan")}}, "metadata"),
            ({"metadata": {"a": "x" * 16384}}, "metadata"),
        ],
    )
    def test_what_cannot_be_stored_is_refused_by_name(
        self, organization: Organization, shared_domain: Domain, fields: dict[str, Any], field: str, now: datetime
    ) -> None:
        with pytest.raises(ValidationFailed) as caught:
            create(organization, now, **fields)

        assert caught.value.data["details"][0]["field"] == field
        assert not Mailbox.objects.exists()

    def test_odd_but_honest_values_are_kept(
        self, organization: Organization, shared_domain: Domain, now: datetime
    ) -> None:
        fields = {"display_name": 'Ünï "Q" <x> 🐟', "metadata": {"regex": r"\x00", "n": None, "deep": [{"a": [1.5]}]}}
        mailbox = create(organization, now, client_id="id with spaces/ü", daily_send_limit=0, **fields)

        mailbox.refresh_from_db()
        assert mailbox.display_name == fields["display_name"]
        assert mailbox.metadata == fields["metadata"]
        assert mailbox.daily_send_limit == 0

    def test_a_mailbox_may_begin_paused_but_not_suspended(
        self, organization: Organization, shared_domain: Domain, now: datetime
    ) -> None:
        assert create(organization, now, status="paused").status == Mailbox.Status.PAUSED
        for status in ("suspended", "deleted", "odd"):
            with pytest.raises(ValidationFailed):
                create(organization, now, status=status)

    def test_a_key_narrowed_to_inboxes_makes_no_others(
        self, organization: Organization, mailbox: Mailbox, now: datetime
    ) -> None:
        key, _ = create_api_key(
            organization=organization, name="one", scopes=["inboxes:write"], inbox_ids=[mailbox.id], now=now
        )
        with pytest.raises(ScopeDenied):
            create(organization, now, key)

    def test_a_strangers_pod_is_not_there(
        self, organization: Organization, stranger: Organization, shared_domain: Domain, now: datetime
    ) -> None:
        pod = Pod.objects.create(organization=stranger, name="Theirs")
        for pod_id in (pod.id, new_id()):
            with pytest.raises(NotFound):
                create(organization, now, pod_id=pod_id)

    def test_one_client_id_serves_each_organization_once(
        self, make_mailbox: MakeMailbox, organization: Organization, stranger: Organization, now: datetime
    ) -> None:
        first = make_mailbox(client_id="agent-7")
        theirs = make_mailbox(client_id="agent-7", of=stranger)

        again, created = create_mailbox(
            organization=organization, wanted=NewMailbox(client_id="agent-7", username="other"), now=now
        )
        assert (again.id, created) == (first.id, False)
        assert theirs.id != first.id
