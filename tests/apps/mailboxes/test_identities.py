"""Identities: one handle, at most one mailbox, and who may see them."""

import threading
from datetime import datetime
from typing import Any

import pytest
from django.db import connection

from apps.accounts.errors import ScopeDenied
from apps.accounts.models import SCOPES, ApiKey, Organization
from apps.accounts.services import create_api_key
from apps.core.errors import NotFound, ValidationFailed
from apps.delivery.services import delete_mailbox
from apps.domains.models import Domain
from apps.mailboxes.errors import AddressTaken, InboxDeleted, NoFreeName
from apps.mailboxes.identities import (
    HandleTaken,
    IdentityHasMailbox,
    MailboxHasIdentity,
    assign_mailbox,
    create_identity,
    delete_identity,
    get_identity,
    give_mailbox,
    unlink_mailbox,
    update_identity,
    visible_identities,
)
from apps.mailboxes.models import Identity, Mailbox
from apps.mailboxes.services import NewMailbox
from tests.apps.conftest import MakeMailbox

pytestmark = pytest.mark.django_db


@pytest.fixture
def identity(organization: Organization, shared_domain: Domain, now: datetime) -> Identity:
    return create_identity(organization=organization, handle="@Sales", now=now)


def narrow(organization: Organization, now: datetime, **narrowing: Any) -> ApiKey:
    return create_api_key(organization=organization, name="narrow", scopes=SCOPES, now=now, **narrowing)[0]


class TestHandles:
    @pytest.mark.parametrize("spelling", ["sales", "@sales", "SALES", " @Sales "])
    def test_a_handle_is_found_in_every_spelling(self, key: ApiKey, identity: Identity, spelling: str) -> None:
        assert get_identity(key=key, handle=spelling) == identity
        assert identity.handle == "sales"

    @pytest.mark.parametrize("handle", ["", "@", "@@a", "a b", "ä", "-a", "a-", "x" * 101, "a/b", "a\0"])
    def test_what_cannot_be_a_handle_is_refused_and_never_found(
        self, organization: Organization, key: ApiKey, now: datetime, handle: str
    ) -> None:
        with pytest.raises(ValidationFailed):
            create_identity(organization=organization, handle=handle, now=now)
        with pytest.raises(NotFound):
            get_identity(key=key, handle=handle)

    def test_a_handle_is_taken_once_in_an_organization_and_not_across_them(
        self, organization: Organization, stranger: Organization, identity: Identity, now: datetime
    ) -> None:
        with pytest.raises(HandleTaken):
            create_identity(organization=organization, handle="sales", now=now)
        other = create_identity(organization=stranger, handle="sales", now=now)
        assert other.handle == "sales"

    def test_it_can_be_changed_to_a_free_one(
        self, organization: Organization, identity: Identity, now: datetime
    ) -> None:
        create_identity(organization=organization, handle="taken", now=now)
        with pytest.raises(HandleTaken):
            update_identity(identity=identity, handle="taken")
        assert update_identity(identity=identity, handle="@Free").handle == "free"
        assert update_identity(identity=identity).handle == "free"


class TestMailboxes:
    def test_both_are_made_or_neither(self, organization: Organization, shared_domain: Domain, now: datetime) -> None:
        made = create_identity(organization=organization, handle="a", mailbox=NewMailbox(username="a"), now=now)
        assert made.mailbox is not None and made.mailbox.address == "a@agents.localhost"
        with pytest.raises(AddressTaken):
            create_identity(organization=organization, handle="b", mailbox=NewMailbox(username="a"), now=now)
        with pytest.raises(HandleTaken):
            create_identity(organization=organization, handle="a", mailbox=NewMailbox(username="c"), now=now)
        assert (Identity.objects.count(), Mailbox.objects.count()) == (1, 1)

    def test_it_has_at_most_one_that_lives(self, identity: Identity, now: datetime) -> None:
        first = give_mailbox(identity=identity, wanted=NewMailbox(username="one"), now=now)
        with pytest.raises(IdentityHasMailbox):
            give_mailbox(identity=identity, wanted=NewMailbox(username="two"), now=now)
        assert not Mailbox.objects.filter(username="two").exists()
        delete_mailbox(mailbox=first, purge=False, now=now)
        identity.refresh_from_db()
        assert identity.live_mailbox is None
        second = give_mailbox(identity=identity, wanted=NewMailbox(username="two"), now=now)
        identity.refresh_from_db()
        assert identity.live_mailbox == second

    def test_when_no_name_is_free_nothing_is_made(
        self, organization: Organization, identity: Identity, now: datetime, settings: Any
    ) -> None:
        settings.MAILHOST_GENERATED_NAMES = 1
        give_mailbox(identity=identity, wanted=NewMailbox(), now=now)
        with pytest.raises(NoFreeName):
            create_identity(organization=organization, handle="b", mailbox=NewMailbox(), now=now)
        assert not Identity.objects.filter(handle="b").exists()

    def test_one_that_there_is_can_be_given_and_taken(
        self, organization: Organization, identity: Identity, mailbox: Mailbox, make_mailbox: MakeMailbox, now: datetime
    ) -> None:
        other = create_identity(organization=organization, handle="other", now=now)
        assert assign_mailbox(identity=identity, mailbox=mailbox).live_mailbox == mailbox
        assign_mailbox(identity=identity, mailbox=mailbox)
        with pytest.raises(MailboxHasIdentity):
            assign_mailbox(identity=other, mailbox=mailbox)
        with pytest.raises(IdentityHasMailbox):
            assign_mailbox(identity=identity, mailbox=make_mailbox("second"))
        unlink_mailbox(identity=identity)
        unlink_mailbox(identity=identity)
        assert assign_mailbox(identity=other, mailbox=mailbox).live_mailbox == mailbox
        delete_mailbox(mailbox=mailbox, purge=False, now=now)
        with pytest.raises(InboxDeleted):
            assign_mailbox(identity=identity, mailbox=mailbox)

    def test_its_mailbox_outlives_it(self, identity: Identity, mailbox: Mailbox) -> None:
        assign_mailbox(identity=identity, mailbox=mailbox)
        delete_identity(identity=identity)
        mailbox.refresh_from_db()
        assert mailbox.status == Mailbox.Status.ACTIVE

    def test_one_that_was_deleted_meanwhile_is_not_found(
        self, identity: Identity, mailbox: Mailbox, now: datetime
    ) -> None:
        Identity.objects.filter(id=identity.id).delete()
        for act in (
            lambda: give_mailbox(identity=identity, wanted=NewMailbox(), now=now),
            lambda: assign_mailbox(identity=identity, mailbox=mailbox),
            lambda: unlink_mailbox(identity=identity),
            lambda: update_identity(identity=identity, handle="other"),
        ):
            with pytest.raises(NotFound):
                act()


class TestWhoSeesThem:
    def test_strangers_and_platform_keys_see_none(
        self, stranger: Organization, identity: Identity, now: datetime
    ) -> None:
        keys = [
            create_api_key(organization=stranger, name="stranger", scopes=SCOPES, now=now)[0],
            create_api_key(organization=None, name="platform", scopes=SCOPES, now=now)[0],
        ]
        for key in keys:
            assert not visible_identities(key).exists()
            with pytest.raises(NotFound):
                get_identity(key=key, handle="sales")

    def test_a_key_narrowed_to_inboxes_sees_those_of_its_inboxes_and_makes_none(
        self, organization: Organization, identity: Identity, mailbox: Mailbox, now: datetime
    ) -> None:
        key = narrow(organization, now, inbox_ids=[mailbox.id])
        assert not visible_identities(key).exists()
        assign_mailbox(identity=identity, mailbox=mailbox)
        assert list(visible_identities(key)) == [identity]
        with pytest.raises(ScopeDenied):
            create_identity(organization=organization, handle="new", key=key, now=now)

    def test_a_key_narrowed_to_domains_sees_those_on_them_and_those_without_a_mailbox(
        self, organization: Organization, identity: Identity, mailbox: Mailbox, now: datetime
    ) -> None:
        inside, outside = (
            narrow(organization, now, allowed_domains=[name]) for name in ("agents.localhost", "other.example")
        )
        assert list(visible_identities(outside)) == [identity]
        assign_mailbox(identity=identity, mailbox=mailbox)
        assert list(visible_identities(inside)) == [identity]
        assert not visible_identities(outside).exists()
        delete_mailbox(mailbox=mailbox, purge=False, now=now)
        assert list(visible_identities(outside)) == [identity]


@pytest.mark.django_db(transaction=True)
def test_two_hands_at_once_give_it_one_mailbox(identity: Identity, now: datetime) -> None:
    results: list[str] = []
    together = threading.Barrier(4)

    def give() -> None:
        try:
            together.wait(10)
            give_mailbox(identity=identity, wanted=NewMailbox(), now=now)
            results.append("given")
        except IdentityHasMailbox:
            results.append("has one")
        finally:
            connection.close()

    hands = [threading.Thread(target=give) for _ in range(4)]
    for hand in hands:
        hand.start()
    for hand in hands:
        hand.join(30)
    assert sorted(results) == ["given", "has one", "has one", "has one"]
    assert Mailbox.objects.count() == 1
