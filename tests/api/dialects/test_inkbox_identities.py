"""Identities in the dialect of Inkbox, as its SDK of the time of its document asks for them."""

from typing import Any
from uuid import uuid4

import pytest
from pytest_django import DjangoAssertNumQueries

from apps.accounts.models import Organization
from apps.mailboxes.models import Identity, Mailbox
from tests.api.dialects.inkbox import IDENTITY_FIELDS, MAIL, Inkbox, check_mailbox, fault_of

pytestmark = pytest.mark.django_db


class TestIdentities:
    def test_with_a_mailbox_to_be_made_with_it(self, inkbox: Inkbox, organization: Organization) -> None:
        nested = {"display_name": "Sales Team", "email_local_part": "sales.team"}
        identity = inkbox.make_identity("@sales-agent", mailbox=nested)
        assert set(identity) == {*IDENTITY_FIELDS, "mailbox", "phone_number"}
        assert identity["agent_handle"] == "sales-agent"
        assert identity["organization_id"].startswith("org_")
        assert identity["email_address"] == "sales.team@agents.localhost"
        check_mailbox(identity["mailbox"])
        assert identity["mailbox"]["display_name"] == "Sales Team"
        assert identity["mailbox"]["agent_identity_id"] == identity["id"]
        assert identity["phone_number"] is None
        assert inkbox.expect(200, "GET", "/identities/sales-agent") == identity
        assert inkbox.expect(200, "GET", f"{MAIL}/sales.team") == identity["mailbox"]

    def test_an_empty_nested_mailbox_gets_an_address_and_the_vendors_name(self, inkbox: Inkbox) -> None:
        mailbox = inkbox.make_identity("a", mailbox={})["mailbox"]
        assert mailbox["display_name"] == "Inkbox user"
        assert mailbox["email_address"].endswith("@agents.localhost")

    @pytest.mark.parametrize("body", [{}, {"mailbox": None, "phone_number": None, "vault_secret_ids": None}])
    def test_without_one_it_has_none(self, inkbox: Inkbox, body: dict[str, Any]) -> None:
        identity = inkbox.make_identity("a", **body)
        assert (identity["mailbox"], identity["email_address"]) == (None, None)

    def test_the_list_is_a_bare_array_newest_first(
        self, inkbox: Inkbox, stranger_inkbox: Inkbox, django_assert_max_num_queries: DjangoAssertNumQueries
    ) -> None:
        stranger_inkbox.make_identity("theirs")
        made = [inkbox.make_identity(handle, mailbox={}) for handle in ("a", "b", "c")]
        with django_assert_max_num_queries(2):
            shown = inkbox.expect(200, "GET", "/identities/")
        assert shown == [{name: row[name] for name in IDENTITY_FIELDS} for row in reversed(made)]

    def test_it_is_renamed_to_a_free_handle(self, inkbox: Inkbox) -> None:
        inkbox.make_identity("a")
        inkbox.make_identity("taken")
        renamed = inkbox.expect(200, "PATCH", "/identities/@a", {"agent_handle": "@b"})
        assert renamed["agent_handle"] == "b"
        inkbox.expect(404, "GET", "/identities/a")
        assert inkbox.expect(200, "PATCH", "/identities/b", {})["agent_handle"] == "b"
        assert "handle exists" in inkbox.expect(409, "PATCH", "/identities/b", {"agent_handle": "taken"})
        assert fault_of(inkbox.expect(422, "PATCH", "/identities/b", {"agent_handle": "a b"}))[0][1] == "agent_handle"

    def test_a_taken_handle_is_409_and_a_taken_address_makes_no_identity(self, inkbox: Inkbox) -> None:
        inkbox.make_identity("a", mailbox={"email_local_part": "a"})
        assert "handle exists" in inkbox.expect(409, "POST", "/identities", {"agent_handle": "@A"})
        inkbox.expect(409, "POST", "/identities", {"agent_handle": "b", "mailbox": {"email_local_part": "a"}})
        inkbox.expect(404, "GET", "/identities/b")

    def test_a_deleted_one_leaves_its_mailbox_and_frees_its_handle(self, inkbox: Inkbox) -> None:
        inkbox.make_identity("a", mailbox={"email_local_part": "a"})
        inkbox.expect(204, "DELETE", "/identities/a")
        inkbox.expect(404, "GET", "/identities/a")
        inkbox.expect(404, "DELETE", "/identities/a")
        assert inkbox.expect(200, "GET", f"{MAIL}/a")["agent_identity_id"] is None
        inkbox.make_identity("a")

    def test_a_mailbox_that_there_is_can_be_given_to_it_and_taken_from_it(
        self, inkbox: Inkbox, stranger_inkbox: Inkbox, mailbox: Mailbox
    ) -> None:
        inkbox.make_identity("a")
        inkbox.make_identity("b")
        stranger_inkbox.make_identity("theirs")
        body = {"mailbox_id": str(mailbox.id)}
        identity = inkbox.expect(200, "POST", "/identities/a/mailbox", body)
        assert identity["mailbox"]["email_address"] == identity["email_address"] == "alice@agents.localhost"
        assert "another identity" in inkbox.expect(409, "POST", "/identities/b/mailbox", body)
        stranger_inkbox.expect(404, "POST", "/identities/theirs/mailbox", body)
        inkbox.expect(204, "DELETE", "/identities/a/mailbox")
        assert inkbox.expect(200, "GET", "/identities/a")["mailbox"] is None
        inkbox.expect(200, "POST", "/identities/b/mailbox", body)
        inkbox.expect(404, "POST", "/identities/a/mailbox", {"mailbox_id": str(uuid4())})
        for wrong in ({}, {"mailbox_id": 5}, {"mailbox_id": "x"}):
            assert fault_of(inkbox.expect(422, "POST", "/identities/a/mailbox", wrong))[0] == ["body", "mailbox_id"]

    @pytest.mark.parametrize(
        ("body", "place"),
        [
            ({}, ["agent_handle"]),
            ({"agent_handle": ""}, ["agent_handle"]),
            ({"agent_handle": "x" * 101}, ["agent_handle"]),
            ({"agent_handle": "a", "mailbox": "x"}, ["mailbox"]),
            ({"agent_handle": "a", "mailbox": []}, ["mailbox"]),
            ({"agent_handle": "a", "mailbox": {"display_name": "x" * 256}}, ["mailbox", "display_name"]),
            ({"agent_handle": "a", "mailbox": {"email_local_part": 1}}, ["mailbox", "email_local_part"]),
        ],
    )
    def test_a_value_that_is_not_allowed_is_422_and_makes_nothing(
        self, inkbox: Inkbox, body: Any, place: list[str]
    ) -> None:
        assert fault_of(inkbox.expect(422, "POST", "/identities", body))[0] == ["body", *place]
        assert not Identity.objects.exists()

    @pytest.mark.parametrize("name", ["phone_number", "vault_secret_ids"])
    def test_what_this_server_does_not_have_is_refused_and_not_dropped(self, inkbox: Inkbox, name: str) -> None:
        detail = inkbox.expect(501, "POST", "/identities", {"agent_handle": "a", name: {"type": "local"}})
        assert detail["error"] == "not_supported"
        assert name in detail["message"]
        assert not Identity.objects.exists()
