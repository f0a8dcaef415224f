"""Every request of the Inkbox document."""

from datetime import datetime
from typing import Any

import pytest
from pytest_django import DjangoAssertNumQueries

from apps.accounts.models import Organization
from apps.domains.models import Domain
from apps.domains.services import create_domain
from apps.mailboxes.models import Identity, Mailbox
from apps.mailboxes.services import suspend_mailbox, update_mailbox
from tests.api.dialects.inkbox import MAIL, Inkbox, MakeInkbox, check_mailbox, fault_of
from tests.apps.conftest import MakeMailbox

pytestmark = pytest.mark.django_db


class TestCreateMailbox:
    def test_with_everything_that_the_document_names(self, inkbox: Inkbox) -> None:
        identity = inkbox.make_identity("sales-agent")
        body = {"agent_handle": "@sales-agent", "display_name": "Sales Team", "email_local_part": "sales.team"}
        mailbox = inkbox.expect(201, "POST", MAIL, body)
        check_mailbox(mailbox)
        assert mailbox["email_address"] == "sales.team@agents.localhost"
        assert (mailbox["display_name"], mailbox["webhook_url"]) == ("Sales Team", None)
        assert (mailbox["status"], mailbox["filter_mode"]) == ("active", "blacklist")
        assert mailbox["agent_identity_id"] == identity["id"]

    @pytest.mark.parametrize("handle", ["sales-agent", "@sales-agent"])
    def test_with_a_handle_alone_the_address_is_generated_and_the_name_is_the_vendors(
        self, inkbox: Inkbox, handle: str
    ) -> None:
        inkbox.make_identity("sales-agent")
        mailbox = inkbox.expect(201, "POST", MAIL, {"agent_handle": handle, "display_name": None})
        check_mailbox(mailbox)
        assert mailbox["email_address"].endswith("@agents.localhost")
        assert mailbox["display_name"] == "Inkbox user"

    def test_a_key_without_an_organization_is_refused_in_the_vendors_words(self, make_inkbox: MakeInkbox) -> None:
        platform = make_inkbox(None)
        for method, path, body in (
            ("POST", MAIL, {"agent_handle": "a"}),
            ("GET", MAIL, None),
            ("GET", f"{MAIL}/a", None),
            ("POST", "/identities", {"agent_handle": "a"}),
            ("GET", f"{MAIL}/a/messages", None),
        ):
            assert platform.expect(403, method, path, body) == "Organization ID missing from token"

    def test_an_unknown_handle_is_404(self, inkbox: Inkbox, stranger_inkbox: Inkbox) -> None:
        stranger_inkbox.make_identity("theirs")
        for handle in ("nobody", "theirs", "@", "a/b"):
            assert "no agent identity" in inkbox.expect(404, "POST", MAIL, {"agent_handle": handle})

    def test_a_second_mailbox_and_a_taken_address_are_409(self, inkbox: Inkbox, stranger_inkbox: Inkbox) -> None:
        inkbox.make_mailbox("one", email_local_part="one")
        detail = inkbox.expect(409, "POST", MAIL, {"agent_handle": "one", "email_local_part": "other"})
        assert "has a mailbox already" in detail
        inkbox.make_identity("two")
        stranger_inkbox.make_identity("two")
        for client in (inkbox, stranger_inkbox):
            detail = client.expect(409, "POST", MAIL, {"agent_handle": "two", "email_local_part": "ONE"})
            assert detail == "ONE@agents.localhost is taken."
        inkbox.expect(409, "POST", MAIL, {"agent_handle": "two", "email_local_part": "postmaster"})
        assert len(inkbox.expect(200, "GET", MAIL)) == 1

    def test_no_free_generated_name_is_503_with_retry_after(self, inkbox: Inkbox, settings: Any) -> None:
        settings.MAILHOST_GENERATED_NAMES = 1
        inkbox.make_mailbox("first")
        inkbox.make_identity("second")
        answer = inkbox.ask("POST", MAIL, {"agent_handle": "second"})
        assert answer.status_code == 503
        assert answer.headers["Retry-After"] == "1"
        assert isinstance(answer.data["detail"], str)
        answer = inkbox.ask("POST", "/identities", {"agent_handle": "third", "mailbox": {}})
        assert answer.status_code == 503
        assert not Identity.objects.filter(handle="third").exists()
        settings.MAILHOST_GENERATED_NAMES = 0
        inkbox.expect(201, "POST", MAIL, {"agent_handle": "second"})

    @pytest.mark.parametrize(
        ("body", "place", "kind"),
        [
            ({}, "agent_handle", "missing"),
            ({"agent_handle": None}, "agent_handle", "string_type"),
            ({"agent_handle": 7}, "agent_handle", "string_type"),
            ({"agent_handle": "a", "display_name": "x" * 256}, "display_name", "string_too_long"),
            ({"agent_handle": "a", "display_name": ["x"]}, "display_name", "string_type"),
            ({"agent_handle": "a", "display_name": "x\r\nBcc: a@b"}, "display_name", "value_error"),
            ({"agent_handle": "a", "email_local_part": ""}, "email_local_part", "string_too_short"),
            ({"agent_handle": "a", "email_local_part": 1}, "email_local_part", "string_type"),
            ({"agent_handle": "a", "email_local_part": "a b"}, "email_local_part", "value_error"),
            ({"agent_handle": "a", "email_local_part": "a@b"}, "email_local_part", "value_error"),
            ({"agent_handle": "a", "email_local_part": "x" * 65}, "email_local_part", "value_error"),
            ({"agent_handle": "a", "filter_mode": "grey"}, "filter_mode", "enum"),
        ],
    )
    def test_a_value_that_is_not_allowed_is_422_and_makes_nothing(
        self, inkbox: Inkbox, body: Any, place: str, kind: str
    ) -> None:
        inkbox.make_identity("a")
        assert fault_of(inkbox.expect(422, "POST", MAIL, body)) == (["body", place], kind)
        assert not Mailbox.objects.exists()

    def test_all_faults_are_told_at_once(self, inkbox: Inkbox) -> None:
        detail = inkbox.expect(422, "POST", MAIL, {"agent_handle": 1, "display_name": 2, "email_local_part": 3})
        assert [row["loc"][1] for row in detail] == ["agent_handle", "display_name", "email_local_part"]

    def test_a_name_has_255_characters_at_most(self, inkbox: Inkbox) -> None:
        assert inkbox.make_mailbox("a", display_name="ü" * 255)["display_name"] == "ü" * 255

    def test_fields_that_nobody_knows_are_ignored(self, inkbox: Inkbox) -> None:
        inkbox.make_mailbox("a", filter_mode="blacklist", mystery={"a": [1]})
        inkbox.make_identity("b")
        detail = inkbox.expect(501, "POST", MAIL, {"agent_handle": "b", "filter_mode": "whitelist"})
        assert detail["error"] == "not_supported"


class TestReadMailboxes:
    def test_the_list_is_a_bare_array_newest_first_of_what_is_active(
        self, inkbox: Inkbox, stranger_inkbox: Inkbox, make_mailbox: MakeMailbox, now: datetime
    ) -> None:
        assert inkbox.expect(200, "GET", MAIL) == []
        first = inkbox.make_mailbox("first")
        second = inkbox.make_mailbox("second")
        stranger_inkbox.make_mailbox("theirs")
        update_mailbox(mailbox=make_mailbox("paused"), changes={"status": "paused"}, now=now)
        suspend_mailbox(mailbox=make_mailbox("suspended"), reason="spam", now=now)
        third = inkbox.make_mailbox("third")
        inkbox.expect(204, "DELETE", f"{MAIL}/{second['email_address']}")
        shown = inkbox.expect(200, "GET", MAIL)
        assert shown == [third, first]

    def test_the_list_costs_the_same_at_any_length(
        self, inkbox: Inkbox, make_mailbox: MakeMailbox, django_assert_max_num_queries: DjangoAssertNumQueries
    ) -> None:
        for number in range(25):
            make_mailbox(f"m{number}")
        inkbox.expect(200, "GET", MAIL)
        with django_assert_max_num_queries(2):
            assert len(inkbox.expect(200, "GET", MAIL)) == 25

    @pytest.mark.parametrize(
        "spelling", ["sales.team@agents.localhost", "sales.team", "SALES.Team", "Sales.Team@AGENTS.localhost"]
    )
    def test_a_mailbox_is_found_by_its_address_or_local_part(self, inkbox: Inkbox, spelling: str) -> None:
        mailbox = inkbox.make_mailbox("sales-agent", email_local_part="sales.team")
        assert inkbox.expect(200, "GET", f"{MAIL}/{spelling}") == mailbox
        assert inkbox.expect(200, "GET", f"{MAIL}/{spelling.replace('@', '%40')}/") == mailbox

    def test_a_local_part_may_hold_a_slash(self, inkbox: Inkbox) -> None:
        mailbox = inkbox.make_mailbox("a", email_local_part="a/b")
        for spelling in ("a%2Fb@agents.localhost", "a/b@agents.localhost"):
            assert inkbox.expect(200, "GET", f"{MAIL}/{spelling}") == mailbox

    def test_a_local_part_means_the_default_domain_then_the_only_one_that_has_it(
        self,
        inkbox: Inkbox,
        inkbox_domain: Domain,
        organization: Organization,
        make_mailbox: MakeMailbox,
        now: datetime,
    ) -> None:
        other = create_domain(organization=organization, name="other.example", now=now)
        Domain.objects.filter(id=other.id).update(ownership_verified_at=now, sending_status="verified")
        own = make_mailbox("sales", domain="acme.example")
        assert inkbox.expect(200, "GET", f"{MAIL}/sales")["id"] == str(own.id)
        make_mailbox("sales", domain="other.example")
        assert "Several" in inkbox.expect(409, "GET", f"{MAIL}/sales")
        shared = make_mailbox("sales")
        assert inkbox.expect(200, "GET", f"{MAIL}/sales")["id"] == str(shared.id)
        assert inkbox.expect(200, "GET", f"{MAIL}/sales@acme.example")["id"] == str(own.id)

    @pytest.mark.parametrize(
        "text", ["nobody", "nobody@agents.localhost", "a b", "%00", "x" * 300, "@", "%25", "_lice"]
    )
    def test_what_is_not_there_is_404(self, inkbox: Inkbox, mailbox: Mailbox, text: str) -> None:
        assert inkbox.expect(404, "GET", f"{MAIL}/{text}") == "Mailbox not found"

    def test_a_mailbox_made_elsewhere_has_neither_identity_nor_name(
        self, inkbox: Inkbox, make_mailbox: MakeMailbox, now: datetime
    ) -> None:
        mailbox = make_mailbox("bare")
        shown = inkbox.expect(200, "GET", f"{MAIL}/bare")
        check_mailbox(shown)
        assert (shown["id"], shown["display_name"], shown["agent_identity_id"]) == (str(mailbox.id), None, None)
        suspend_mailbox(mailbox=mailbox, reason="spam", now=now)
        assert inkbox.expect(200, "GET", f"{MAIL}/bare")["status"] == "paused"


class TestUpdateMailbox:
    def test_only_what_is_sent_is_changed(self, inkbox: Inkbox) -> None:
        mailbox = inkbox.make_mailbox("a", display_name="Old", email_local_part="a")
        changed = inkbox.expect(200, "PATCH", f"{MAIL}/a", {"display_name": "New"})
        check_mailbox(changed)
        assert changed == {**mailbox, "display_name": "New", "updated_at": changed["updated_at"]}
        assert changed["updated_at"] > mailbox["updated_at"]
        hooked = inkbox.expect(200, "PATCH", f"{MAIL}/a", {"webhook_url": "https://example.com/webhook"})
        assert (hooked["display_name"], hooked["webhook_url"]) == ("New", "https://example.com/webhook")
        assert inkbox.expect(200, "PATCH", f"{MAIL}/a", {}) == hooked
        assert inkbox.expect(200, "PATCH", f"{MAIL}/a") == hooked
        assert inkbox.expect(200, "GET", f"{MAIL}/a@agents.localhost") == hooked
        unhooked = inkbox.expect(200, "PATCH", f"{MAIL}/a@agents.localhost", {"webhook_url": None})
        assert (unhooked["display_name"], unhooked["webhook_url"]) == ("New", None)

    @pytest.mark.parametrize("name", [None, ""])
    def test_a_name_can_be_taken_away(self, inkbox: Inkbox, name: str | None) -> None:
        inkbox.make_mailbox("a", display_name="Old", email_local_part="a")
        assert inkbox.expect(200, "PATCH", f"{MAIL}/a", {"display_name": name})["display_name"] is None

    @pytest.mark.parametrize(
        "url",
        [
            "http://example.com/", "ftp://example.com/", "example.com", "", "https://", "https:///x", "https://[::1",
            "https://a:99999/", "javascript:alert(1)", "https://example.com/" + "x" * 2000, 7, ["https://example.com"],
        ],
    )  # fmt: skip
    def test_a_webhook_is_an_https_address(self, inkbox: Inkbox, url: Any) -> None:
        inkbox.make_mailbox("a", email_local_part="a")
        place, _ = fault_of(inkbox.expect(422, "PATCH", f"{MAIL}/a", {"webhook_url": url, "display_name": "New"}))
        assert place == ["body", "webhook_url"]
        shown = inkbox.expect(200, "GET", f"{MAIL}/a")
        assert (shown["webhook_url"], shown["display_name"]) == (None, "Inkbox user")

    def test_a_name_that_is_not_allowed_is_422(self, inkbox: Inkbox) -> None:
        inkbox.make_mailbox("a", email_local_part="a")
        for name in ("x" * 256, 5, "a\nb", "a\0b"):
            place, _ = fault_of(inkbox.expect(422, "PATCH", f"{MAIL}/a", {"display_name": name}))
            assert place == ["body", "display_name"]
        assert inkbox.expect(501, "PATCH", f"{MAIL}/a", {"filter_mode": "whitelist"})["error"] == "not_supported"


class TestDeleteMailbox:
    def test_it_answers_204_and_the_mailbox_is_gone(self, inkbox: Inkbox, stranger_inkbox: Inkbox) -> None:
        mailbox = inkbox.make_mailbox("a", email_local_part="a")
        inkbox.expect(204, "DELETE", f"{MAIL}/{mailbox['email_address']}")
        for method, body in (("GET", None), ("PATCH", {"display_name": "x"}), ("DELETE", None)):
            for name in ("a", "a@agents.localhost"):
                assert inkbox.expect(404, method, f"{MAIL}/{name}", body) == "Mailbox not found"
        assert inkbox.expect(200, "GET", MAIL) == []
        assert Mailbox.objects.get().status == Mailbox.Status.DELETED

    def test_its_address_stays_its_own_and_the_identity_may_have_another(self, inkbox: Inkbox) -> None:
        inkbox.make_mailbox("a", email_local_part="a")
        inkbox.expect(204, "DELETE", f"{MAIL}/a")
        assert inkbox.expect(200, "GET", "/identities/a")["mailbox"] is None
        inkbox.expect(409, "POST", MAIL, {"agent_handle": "a", "email_local_part": "a"})
        again = inkbox.expect(201, "POST", MAIL, {"agent_handle": "a", "email_local_part": "b"})
        assert inkbox.expect(200, "GET", "/identities/@a")["mailbox"]["id"] == again["id"]
