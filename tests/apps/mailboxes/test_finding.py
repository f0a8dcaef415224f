"""Finding mailboxes by address, and which ones a key may see."""

from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytest_django import DjangoAssertNumQueries

from apps.accounts.models import ApiKey, Organization
from apps.accounts.services import create_api_key
from apps.mailboxes.models import Mailbox
from apps.mailboxes.selectors import RecipientState, find_recipients, visible_mailbox_filter
from apps.mailboxes.services import close_mailbox, suspend_mailbox, update_mailbox
from tests.apps.conftest import MakeMailbox

pytestmark = pytest.mark.django_db


def state_of(address: str) -> RecipientState:
    return find_recipients([address])[0].state


@pytest.mark.parametrize(
    "address",
    [
        "alice@agents.localhost",
        "ALICE@Agents.LocalHost",
        "alice+orders@agents.localhost",
        "alice+@agents.localhost",
        "alice+a+b@agents.localhost",
        '"alice"@agents.localhost',
        '"alice+orders"@agents.localhost',
        '"\\a\\l\\i\\c\\e"@agents.localhost',
        "alice@\uff41gents.localhost",
    ],
)
def test_every_spelling_of_an_address_leads_to_its_mailbox(mailbox: Mailbox, address: str) -> None:
    found = find_recipients([address])[0]

    assert (found.state, found.mailbox) == (RecipientState.ACCEPTS, mailbox)
    assert found.address == address


@pytest.mark.parametrize(
    "address",
    ["bob@agents.localhost", "alice@agents.localhost.example", "alice@elsewhere.example", "+alice@agents.localhost",
     "al.ice@agents.localhost", '"alice "@agents.localhost', "alice@[127.0.0.1]", "alice%agents.localhost@x.example"],
)  # fmt: skip
def test_other_addresses_do_not(mailbox: Mailbox, address: str) -> None:
    assert state_of(address) == RecipientState.UNKNOWN


@pytest.mark.parametrize(
    "address",
    ["", "alice", "@", "alice@", "@agents.localhost", "alice@agents@localhost", "alice @agents.localhost",
     "alice@agents.localhost ", "<alice@agents.localhost>", "alice\0@agents.localhost", "alice@agents.localhost\0",
     "\udc80@agents.localhost", "alice@\udc80", "alice@agents.localhost\r\nRCPT TO:<bob@x>", "a" * 10_000_000,
     "@" * 1_000_000, '"' * 1_000_000, '"alice@agents.localhost'],
)  # fmt: skip
def test_what_is_no_address_is_invalid(mailbox: Mailbox, address: str) -> None:
    assert state_of(address) == RecipientState.INVALID


@given(st.lists(st.text(st.characters(), max_size=30), max_size=5))
def test_nothing_breaks_it(addresses: list[str]) -> None:
    with_at = [text.replace("a", "@") for text in addresses]
    assert [found.address for found in find_recipients(with_at)] == with_at


def test_the_state_is_that_of_the_mailbox(make_mailbox: MakeMailbox, now: datetime) -> None:
    paused, suspended, deleted, purged = (make_mailbox(name) for name in ("paused", "suspended", "deleted", "purged"))
    update_mailbox(mailbox=paused, changes={"status": "paused"}, now=now)
    suspend_mailbox(mailbox=suspended, reason="spam", now=now)
    close_mailbox(mailbox=deleted, release_address=False, now=now)
    close_mailbox(mailbox=purged, release_address=True, now=now)

    states = [found.state for found in find_recipients([paused.address, suspended.address, deleted.address])]
    assert states == [RecipientState.ACCEPTS, RecipientState.SUSPENDED, RecipientState.DELETED]
    assert state_of("purged@agents.localhost") == RecipientState.UNKNOWN


def test_many_are_found_in_order_by_one_query(
    make_mailbox: MakeMailbox, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    for number in range(5):
        make_mailbox(f"agent{number}")
    addresses = [f"agent{number % 7}+{number}@agents.localhost" for number in range(100)]
    with django_assert_num_queries(1):
        found = find_recipients(addresses)

    assert [recipient.address for recipient in found] == addresses
    assert [recipient.mailbox is not None for recipient in found] == [number % 7 < 5 for number in range(100)]


def test_none_are_found_without_a_query(django_assert_num_queries: DjangoAssertNumQueries) -> None:
    with django_assert_num_queries(0):
        assert find_recipients([]) == []
        assert state_of("nonsense") == RecipientState.INVALID


class TestWhatAKeySees:
    def see(self, organization: Organization | None, now: datetime, **narrowing: object) -> set[str]:
        key, _ = create_api_key(organization=organization, name="k", scopes=[], now=now, **narrowing)
        return set(Mailbox.objects.visible_to(key).values_list("username", flat=True))

    def test_only_its_organizations_mailboxes(
        self, mailbox: Mailbox, make_mailbox: MakeMailbox, organization: Organization, stranger: Organization,
        now: datetime,
    ) -> None:  # fmt: skip
        make_mailbox("eve", of=stranger)

        assert self.see(organization, now) == {"alice"}
        assert self.see(stranger, now) == {"eve"}
        assert self.see(None, now) == set()

    def test_its_narrowing_only_ever_takes_away(
        self, mailbox: Mailbox, make_mailbox: MakeMailbox, organization: Organization, stranger: Organization,
        now: datetime,
    ) -> None:  # fmt: skip
        eve = make_mailbox("eve", of=stranger)
        make_mailbox("bob")

        assert self.see(organization, now, inbox_ids=[mailbox.id, eve.id]) == {"alice"}
        assert self.see(organization, now, inbox_ids=[]) == set()
        assert self.see(organization, now, allowed_domains=["agents.localhost"]) == {"alice", "bob"}
        assert self.see(organization, now, allowed_domains=["other.example"]) == set()
        assert self.see(organization, now, allowed_domains=[]) == set()

    @pytest.mark.parametrize("inbox", ["", "alice", "\0", "\ud800@x", "alice@agents.localhost\0", "@" * 100_000])
    def test_a_path_that_names_no_address_finds_none(self, mailbox: Mailbox, key: ApiKey, inbox: str) -> None:
        assert not Mailbox.objects.visible_to(key).filter(**visible_mailbox_filter(inbox)).exists()

    def test_a_path_finds_by_address_in_any_case_also_after_deletion_but_not_after_a_purge(
        self, mailbox: Mailbox, key: ApiKey, now: datetime
    ) -> None:
        mine = Mailbox.objects.visible_to(key)
        close_mailbox(mailbox=mailbox, release_address=False, now=now)
        assert mine.get(**visible_mailbox_filter("Alice@AGENTS.localhost")) == mailbox
        assert not mine.filter(**visible_mailbox_filter("alice+x@agents.localhost")).exists()

        close_mailbox(mailbox=mailbox, release_address=True, now=now)
        assert not mine.filter(**visible_mailbox_filter("alice@agents.localhost")).exists()
