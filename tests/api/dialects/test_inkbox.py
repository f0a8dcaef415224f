"""Every request of the Inkbox document, and what its SDK of the same time sends besides."""

import json
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from apps.accounts.models import SCOPES, ApiKey, Organization
from apps.accounts.services import create_api_key, revoke_api_key
from apps.api.dialects.inkbox.errors import SHOWN_AS, show_error
from apps.api.dialects.inkbox.outputs import STATUS_OF_MAILBOX
from apps.api.dialects.inkbox.urls import OPERATIONS, SUPPORTED
from apps.api.errors import IdempotencyConflict
from apps.api.native.errors import STATUS_OF
from apps.delivery.errors import RecipientBlocked
from apps.domains.models import Domain
from apps.domains.services import create_domain
from apps.mailboxes.errors import DailyLimitReached
from apps.mailboxes.models import Identity, Mailbox
from apps.mailboxes.services import suspend_mailbox, update_mailbox
from tests.apps.conftest import MakeMailbox

pytestmark = pytest.mark.django_db
BASE = "/dialects/inkbox/api/v1"
MAIL = "/mail/mailboxes"
MAILBOX_FIELDS = {
    *("id", "email_address", "display_name", "webhook_url", "status", "created_at", "updated_at"),
    *("filter_mode", "agent_identity_id"),  # of the SDK, not of the document
}
IDENTITY_FIELDS = {"id", "organization_id", "agent_handle", "email_address", "created_at", "updated_at"}


class Inkbox:
    """A client of the vendor's, with a key."""

    def __init__(self, secret: str | None) -> None:
        self.secret = secret

    def ask(self, method: str, path: str, body: Any = None, raw: bytes | None = None, base: str = BASE) -> Any:
        """One request; the answer with its JSON in `.data`."""
        data = raw if raw is not None else b"" if body is None else json.dumps(body).encode()
        headers = {} if self.secret is None else {"HTTP_X_API_KEY": self.secret}
        answer = Client().generic(method, base + path, data, content_type="application/json", **headers)
        answer.data = json.loads(answer.content) if answer.content else None
        return answer

    def expect(self, status: int, method: str, path: str, body: Any = None, **more: Any) -> Any:
        """One request that answers this status; what is in the answer, of an error its detail."""
        answer = self.ask(method, path, body, **more)
        assert answer.status_code == status, (answer.status_code, answer.content)
        if status == 204:
            assert answer.content == b""
        if status >= 400:
            assert set(answer.data) == {"detail"}
            return answer.data["detail"]
        return answer.data

    def make_identity(self, handle: str, **body: Any) -> dict[str, Any]:
        return dict(self.expect(201, "POST", "/identities", {"agent_handle": handle, **body}))

    def make_mailbox(self, handle: str, **body: Any) -> dict[str, Any]:
        self.make_identity(handle)
        return dict(self.expect(201, "POST", MAIL, {"agent_handle": handle, **body}))


@pytest.fixture
def make_client(now: datetime) -> Any:
    """Makes a client with a key of an organization, narrowed as asked."""

    def make(of: Organization | None, scopes: Any = SCOPES, **narrowing: Any) -> Inkbox:
        return Inkbox(create_api_key(organization=of, name="test", scopes=scopes, now=now, **narrowing)[1])

    return make


@pytest.fixture
def owner(organization: Organization, shared_domain: Domain, make_client: Any) -> Inkbox:
    return make_client(organization)


@pytest.fixture
def outsider(stranger: Organization, shared_domain: Domain, make_client: Any) -> Inkbox:
    return make_client(stranger)


@pytest.fixture
def own_domain(organization: Organization, now: datetime) -> Domain:
    """A domain that Acme has proved."""
    domain = create_domain(organization=organization, name="acme.example", now=now)
    domain.ownership_verified_at = now
    domain.sending_status = domain.status = Domain.Status.VERIFIED
    domain.save()
    return domain


def check_mailbox(shown: dict[str, Any]) -> None:
    """Every documented field, each of its documented type."""
    assert set(shown) == MAILBOX_FIELDS
    assert str(UUID(shown["id"])) == shown["id"]
    assert "@" in shown["email_address"]
    assert shown["display_name"] is None or isinstance(shown["display_name"], str)
    assert shown["webhook_url"] is None or shown["webhook_url"].startswith("https://")
    assert shown["status"] in ("active", "paused", "deleted")
    for name in ("created_at", "updated_at"):
        assert shown[name].endswith("Z")
        assert datetime.fromisoformat(shown[name]).tzinfo is not None


def fault_of(detail: Any) -> tuple[list[str], str]:
    """Place and kind of the only fault in a 422."""
    assert isinstance(detail, list) and len(detail) == 1, detail
    assert set(detail[0]) == {"type", "loc", "msg"}
    return detail[0]["loc"], detail[0]["type"]


class TestCreateMailbox:
    def test_with_everything_that_the_document_names(self, owner: Inkbox) -> None:
        identity = owner.make_identity("sales-agent")
        body = {"agent_handle": "@sales-agent", "display_name": "Sales Team", "email_local_part": "sales.team"}
        mailbox = owner.expect(201, "POST", MAIL, body)
        check_mailbox(mailbox)
        assert mailbox["email_address"] == "sales.team@agents.localhost"
        assert (mailbox["display_name"], mailbox["webhook_url"]) == ("Sales Team", None)
        assert (mailbox["status"], mailbox["filter_mode"]) == ("active", "blacklist")
        assert mailbox["agent_identity_id"] == identity["id"]

    @pytest.mark.parametrize("handle", ["sales-agent", "@sales-agent"])
    def test_with_a_handle_alone_the_address_is_generated_and_the_name_is_the_vendors(
        self, owner: Inkbox, handle: str
    ) -> None:
        owner.make_identity("sales-agent")
        mailbox = owner.expect(201, "POST", MAIL, {"agent_handle": handle, "display_name": None})
        check_mailbox(mailbox)
        assert mailbox["email_address"].endswith("@agents.localhost")
        assert mailbox["display_name"] == "Inkbox user"

    def test_a_key_without_an_organization_is_refused_in_the_vendors_words(self, make_client: Any) -> None:
        platform = make_client(None)
        for method, path, body in (
            ("POST", MAIL, {"agent_handle": "a"}),
            ("GET", MAIL, None),
            ("GET", f"{MAIL}/a", None),
            ("POST", "/identities", {"agent_handle": "a"}),
            ("GET", f"{MAIL}/a/messages", None),
        ):
            assert platform.expect(403, method, path, body) == "Organization ID missing from token"

    def test_an_unknown_handle_is_404(self, owner: Inkbox, outsider: Inkbox) -> None:
        outsider.make_identity("theirs")
        for handle in ("nobody", "theirs", "@", "a/b"):
            assert "no agent identity" in owner.expect(404, "POST", MAIL, {"agent_handle": handle})

    def test_a_second_mailbox_and_a_taken_address_are_409(self, owner: Inkbox, outsider: Inkbox) -> None:
        owner.make_mailbox("one", email_local_part="one")
        detail = owner.expect(409, "POST", MAIL, {"agent_handle": "one", "email_local_part": "other"})
        assert "has a mailbox already" in detail
        owner.make_identity("two")
        outsider.make_identity("two")
        for client in (owner, outsider):
            detail = client.expect(409, "POST", MAIL, {"agent_handle": "two", "email_local_part": "ONE"})
            assert detail == "ONE@agents.localhost is taken."
        owner.expect(409, "POST", MAIL, {"agent_handle": "two", "email_local_part": "postmaster"})
        assert len(owner.expect(200, "GET", MAIL)) == 1

    def test_no_free_generated_name_is_503_with_retry_after(self, owner: Inkbox, settings: Any) -> None:
        settings.MAILHOST_GENERATED_NAMES = 1
        owner.make_mailbox("first")
        owner.make_identity("second")
        answer = owner.ask("POST", MAIL, {"agent_handle": "second"})
        assert answer.status_code == 503
        assert answer.headers["Retry-After"] == "1"
        assert isinstance(answer.data["detail"], str)
        answer = owner.ask("POST", "/identities", {"agent_handle": "third", "mailbox": {}})
        assert answer.status_code == 503
        assert not Identity.objects.filter(handle="third").exists()
        settings.MAILHOST_GENERATED_NAMES = 0
        owner.expect(201, "POST", MAIL, {"agent_handle": "second"})

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
        self, owner: Inkbox, body: Any, place: str, kind: str
    ) -> None:
        owner.make_identity("a")
        assert fault_of(owner.expect(422, "POST", MAIL, body)) == (["body", place], kind)
        assert not Mailbox.objects.exists()

    def test_all_faults_are_told_at_once(self, owner: Inkbox) -> None:
        detail = owner.expect(422, "POST", MAIL, {"agent_handle": 1, "display_name": 2, "email_local_part": 3})
        assert [row["loc"][1] for row in detail] == ["agent_handle", "display_name", "email_local_part"]

    def test_a_name_has_255_characters_at_most(self, owner: Inkbox) -> None:
        assert owner.make_mailbox("a", display_name="ü" * 255)["display_name"] == "ü" * 255

    def test_fields_that_nobody_knows_are_ignored(self, owner: Inkbox) -> None:
        owner.make_mailbox("a", filter_mode="blacklist", mystery={"a": [1]})
        owner.make_identity("b")
        detail = owner.expect(501, "POST", MAIL, {"agent_handle": "b", "filter_mode": "whitelist"})
        assert detail["error"] == "not_supported"


class TestReadMailboxes:
    def test_the_list_is_a_bare_array_newest_first_of_what_is_active(
        self, owner: Inkbox, outsider: Inkbox, make_mailbox: MakeMailbox, now: datetime
    ) -> None:
        assert owner.expect(200, "GET", MAIL) == []
        first = owner.make_mailbox("first")
        second = owner.make_mailbox("second")
        outsider.make_mailbox("theirs")
        update_mailbox(mailbox=make_mailbox("paused"), changes={"status": "paused"}, now=now)
        suspend_mailbox(mailbox=make_mailbox("suspended"), reason="spam", now=now)
        third = owner.make_mailbox("third")
        owner.expect(204, "DELETE", f"{MAIL}/{second['email_address']}")
        shown = owner.expect(200, "GET", MAIL)
        assert shown == [third, first]

    def test_the_list_costs_the_same_at_any_length(
        self, owner: Inkbox, make_mailbox: MakeMailbox, django_assert_max_num_queries: DjangoAssertNumQueries
    ) -> None:
        for number in range(25):
            make_mailbox(f"m{number}")
        owner.expect(200, "GET", MAIL)
        with django_assert_max_num_queries(2):
            assert len(owner.expect(200, "GET", MAIL)) == 25

    @pytest.mark.parametrize(
        "spelling", ["sales.team@agents.localhost", "sales.team", "SALES.Team", "Sales.Team@AGENTS.localhost"]
    )
    def test_a_mailbox_is_found_by_its_address_or_local_part(self, owner: Inkbox, spelling: str) -> None:
        mailbox = owner.make_mailbox("sales-agent", email_local_part="sales.team")
        assert owner.expect(200, "GET", f"{MAIL}/{spelling}") == mailbox
        assert owner.expect(200, "GET", f"{MAIL}/{spelling.replace('@', '%40')}/") == mailbox

    def test_a_local_part_may_hold_a_slash(self, owner: Inkbox) -> None:
        mailbox = owner.make_mailbox("a", email_local_part="a/b")
        for spelling in ("a%2Fb@agents.localhost", "a/b@agents.localhost"):
            assert owner.expect(200, "GET", f"{MAIL}/{spelling}") == mailbox

    def test_a_local_part_means_the_default_domain_then_the_only_one_that_has_it(
        self, owner: Inkbox, own_domain: Domain, organization: Organization, make_mailbox: MakeMailbox, now: datetime
    ) -> None:
        other = create_domain(organization=organization, name="other.example", now=now)
        Domain.objects.filter(id=other.id).update(ownership_verified_at=now, sending_status="verified")
        own = make_mailbox("sales", domain="acme.example")
        assert owner.expect(200, "GET", f"{MAIL}/sales")["id"] == str(own.id)
        make_mailbox("sales", domain="other.example")
        assert "Several" in owner.expect(409, "GET", f"{MAIL}/sales")
        shared = make_mailbox("sales")
        assert owner.expect(200, "GET", f"{MAIL}/sales")["id"] == str(shared.id)
        assert owner.expect(200, "GET", f"{MAIL}/sales@acme.example")["id"] == str(own.id)

    @pytest.mark.parametrize(
        "text", ["nobody", "nobody@agents.localhost", "a b", "%00", "x" * 300, "@", "%25", "_lice"]
    )
    def test_what_is_not_there_is_404(self, owner: Inkbox, mailbox: Mailbox, text: str) -> None:
        assert owner.expect(404, "GET", f"{MAIL}/{text}") == "Mailbox not found"

    def test_a_mailbox_made_elsewhere_has_neither_identity_nor_name(
        self, owner: Inkbox, make_mailbox: MakeMailbox, now: datetime
    ) -> None:
        mailbox = make_mailbox("bare")
        shown = owner.expect(200, "GET", f"{MAIL}/bare")
        check_mailbox(shown)
        assert (shown["id"], shown["display_name"], shown["agent_identity_id"]) == (str(mailbox.id), None, None)
        suspend_mailbox(mailbox=mailbox, reason="spam", now=now)
        assert owner.expect(200, "GET", f"{MAIL}/bare")["status"] == "paused"


class TestUpdateMailbox:
    def test_only_what_is_sent_is_changed(self, owner: Inkbox) -> None:
        mailbox = owner.make_mailbox("a", display_name="Old", email_local_part="a")
        changed = owner.expect(200, "PATCH", f"{MAIL}/a", {"display_name": "New"})
        check_mailbox(changed)
        assert changed == {**mailbox, "display_name": "New", "updated_at": changed["updated_at"]}
        assert changed["updated_at"] > mailbox["updated_at"]
        hooked = owner.expect(200, "PATCH", f"{MAIL}/a", {"webhook_url": "https://example.com/webhook"})
        assert (hooked["display_name"], hooked["webhook_url"]) == ("New", "https://example.com/webhook")
        assert owner.expect(200, "PATCH", f"{MAIL}/a", {}) == hooked
        assert owner.expect(200, "PATCH", f"{MAIL}/a") == hooked
        assert owner.expect(200, "GET", f"{MAIL}/a@agents.localhost") == hooked
        unhooked = owner.expect(200, "PATCH", f"{MAIL}/a@agents.localhost", {"webhook_url": None})
        assert (unhooked["display_name"], unhooked["webhook_url"]) == ("New", None)

    @pytest.mark.parametrize("name", [None, ""])
    def test_a_name_can_be_taken_away(self, owner: Inkbox, name: str | None) -> None:
        owner.make_mailbox("a", display_name="Old", email_local_part="a")
        assert owner.expect(200, "PATCH", f"{MAIL}/a", {"display_name": name})["display_name"] is None

    @pytest.mark.parametrize(
        "url",
        [
            "http://example.com/", "ftp://example.com/", "example.com", "", "https://", "https:///x", "https://[::1",
            "https://a:99999/", "javascript:alert(1)", "https://example.com/" + "x" * 2000, 7, ["https://example.com"],
        ],
    )  # fmt: skip
    def test_a_webhook_is_an_https_address(self, owner: Inkbox, url: Any) -> None:
        owner.make_mailbox("a", email_local_part="a")
        place, _ = fault_of(owner.expect(422, "PATCH", f"{MAIL}/a", {"webhook_url": url, "display_name": "New"}))
        assert place == ["body", "webhook_url"]
        shown = owner.expect(200, "GET", f"{MAIL}/a")
        assert (shown["webhook_url"], shown["display_name"]) == (None, "Inkbox user")

    def test_a_name_that_is_not_allowed_is_422(self, owner: Inkbox) -> None:
        owner.make_mailbox("a", email_local_part="a")
        for name in ("x" * 256, 5, "a\nb", "a\0b"):
            place, _ = fault_of(owner.expect(422, "PATCH", f"{MAIL}/a", {"display_name": name}))
            assert place == ["body", "display_name"]
        assert owner.expect(501, "PATCH", f"{MAIL}/a", {"filter_mode": "whitelist"})["error"] == "not_supported"


class TestDeleteMailbox:
    def test_it_answers_204_and_the_mailbox_is_gone(self, owner: Inkbox, outsider: Inkbox) -> None:
        mailbox = owner.make_mailbox("a", email_local_part="a")
        owner.expect(204, "DELETE", f"{MAIL}/{mailbox['email_address']}")
        for method, body in (("GET", None), ("PATCH", {"display_name": "x"}), ("DELETE", None)):
            for name in ("a", "a@agents.localhost"):
                assert owner.expect(404, method, f"{MAIL}/{name}", body) == "Mailbox not found"
        assert owner.expect(200, "GET", MAIL) == []
        assert Mailbox.objects.get().status == Mailbox.Status.DELETED

    def test_its_address_stays_its_own_and_the_identity_may_have_another(self, owner: Inkbox) -> None:
        owner.make_mailbox("a", email_local_part="a")
        owner.expect(204, "DELETE", f"{MAIL}/a")
        assert owner.expect(200, "GET", "/identities/a")["mailbox"] is None
        owner.expect(409, "POST", MAIL, {"agent_handle": "a", "email_local_part": "a"})
        again = owner.expect(201, "POST", MAIL, {"agent_handle": "a", "email_local_part": "b"})
        assert owner.expect(200, "GET", "/identities/@a")["mailbox"]["id"] == again["id"]


class TestIdentities:
    def test_with_a_mailbox_to_be_made_with_it(self, owner: Inkbox, organization: Organization) -> None:
        nested = {"display_name": "Sales Team", "email_local_part": "sales.team"}
        identity = owner.make_identity("@sales-agent", mailbox=nested)
        assert set(identity) == {*IDENTITY_FIELDS, "mailbox", "phone_number"}
        assert identity["agent_handle"] == "sales-agent"
        assert identity["organization_id"].startswith("org_")
        assert identity["email_address"] == "sales.team@agents.localhost"
        check_mailbox(identity["mailbox"])
        assert identity["mailbox"]["display_name"] == "Sales Team"
        assert identity["mailbox"]["agent_identity_id"] == identity["id"]
        assert identity["phone_number"] is None
        assert owner.expect(200, "GET", "/identities/sales-agent") == identity
        assert owner.expect(200, "GET", f"{MAIL}/sales.team") == identity["mailbox"]

    def test_an_empty_nested_mailbox_gets_an_address_and_the_vendors_name(self, owner: Inkbox) -> None:
        mailbox = owner.make_identity("a", mailbox={})["mailbox"]
        assert mailbox["display_name"] == "Inkbox user"
        assert mailbox["email_address"].endswith("@agents.localhost")

    @pytest.mark.parametrize("body", [{}, {"mailbox": None, "phone_number": None, "vault_secret_ids": None}])
    def test_without_one_it_has_none(self, owner: Inkbox, body: dict[str, Any]) -> None:
        identity = owner.make_identity("a", **body)
        assert (identity["mailbox"], identity["email_address"]) == (None, None)

    def test_the_list_is_a_bare_array_newest_first(
        self, owner: Inkbox, outsider: Inkbox, django_assert_max_num_queries: DjangoAssertNumQueries
    ) -> None:
        outsider.make_identity("theirs")
        made = [owner.make_identity(handle, mailbox={}) for handle in ("a", "b", "c")]
        with django_assert_max_num_queries(2):
            shown = owner.expect(200, "GET", "/identities/")
        assert shown == [{name: row[name] for name in IDENTITY_FIELDS} for row in reversed(made)]

    def test_it_is_renamed_to_a_free_handle(self, owner: Inkbox) -> None:
        owner.make_identity("a")
        owner.make_identity("taken")
        renamed = owner.expect(200, "PATCH", "/identities/@a", {"agent_handle": "@b"})
        assert renamed["agent_handle"] == "b"
        owner.expect(404, "GET", "/identities/a")
        assert owner.expect(200, "PATCH", "/identities/b", {})["agent_handle"] == "b"
        assert "handle exists" in owner.expect(409, "PATCH", "/identities/b", {"agent_handle": "taken"})
        assert fault_of(owner.expect(422, "PATCH", "/identities/b", {"agent_handle": "a b"}))[0][1] == "agent_handle"

    def test_a_taken_handle_is_409_and_a_taken_address_makes_no_identity(self, owner: Inkbox) -> None:
        owner.make_identity("a", mailbox={"email_local_part": "a"})
        assert "handle exists" in owner.expect(409, "POST", "/identities", {"agent_handle": "@A"})
        owner.expect(409, "POST", "/identities", {"agent_handle": "b", "mailbox": {"email_local_part": "a"}})
        owner.expect(404, "GET", "/identities/b")

    def test_a_deleted_one_leaves_its_mailbox_and_frees_its_handle(self, owner: Inkbox) -> None:
        owner.make_identity("a", mailbox={"email_local_part": "a"})
        owner.expect(204, "DELETE", "/identities/a")
        owner.expect(404, "GET", "/identities/a")
        owner.expect(404, "DELETE", "/identities/a")
        assert owner.expect(200, "GET", f"{MAIL}/a")["agent_identity_id"] is None
        owner.make_identity("a")

    def test_a_mailbox_that_there_is_can_be_given_to_it_and_taken_from_it(
        self, owner: Inkbox, outsider: Inkbox, mailbox: Mailbox
    ) -> None:
        owner.make_identity("a")
        owner.make_identity("b")
        outsider.make_identity("theirs")
        body = {"mailbox_id": str(mailbox.id)}
        identity = owner.expect(200, "POST", "/identities/a/mailbox", body)
        assert identity["mailbox"]["email_address"] == identity["email_address"] == "alice@agents.localhost"
        assert "another identity" in owner.expect(409, "POST", "/identities/b/mailbox", body)
        outsider.expect(404, "POST", "/identities/theirs/mailbox", body)
        owner.expect(204, "DELETE", "/identities/a/mailbox")
        assert owner.expect(200, "GET", "/identities/a")["mailbox"] is None
        owner.expect(200, "POST", "/identities/b/mailbox", body)
        owner.expect(404, "POST", "/identities/a/mailbox", {"mailbox_id": str(uuid4())})
        for wrong in ({}, {"mailbox_id": 5}, {"mailbox_id": "x"}):
            assert fault_of(owner.expect(422, "POST", "/identities/a/mailbox", wrong))[0] == ["body", "mailbox_id"]

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
        self, owner: Inkbox, body: Any, place: list[str]
    ) -> None:
        assert fault_of(owner.expect(422, "POST", "/identities", body))[0] == ["body", *place]
        assert not Identity.objects.exists()

    @pytest.mark.parametrize("name", ["phone_number", "vault_secret_ids"])
    def test_what_this_server_does_not_have_is_refused_and_not_dropped(self, owner: Inkbox, name: str) -> None:
        detail = owner.expect(501, "POST", "/identities", {"agent_handle": "a", name: {"type": "local"}})
        assert detail["error"] == "not_supported"
        assert name in detail["message"]
        assert not Identity.objects.exists()


ENDPOINTS: list[tuple[str, str, Any, str]] = [
    ("POST", MAIL, {"agent_handle": "bare"}, "inboxes:write"),
    ("GET", MAIL, None, "inboxes:read"),
    ("GET", f"{MAIL}/acme", None, "inboxes:read"),
    ("PATCH", f"{MAIL}/acme", {"display_name": "x"}, "inboxes:write"),
    ("DELETE", f"{MAIL}/acme", None, "inboxes:write"),
    ("POST", "/identities", {"agent_handle": "new"}, "inboxes:write"),
    ("GET", "/identities", None, "inboxes:read"),
    ("GET", "/identities/acme", None, "inboxes:read"),
    ("PATCH", "/identities/acme", {"agent_handle": "x"}, "inboxes:write"),
    ("DELETE", "/identities/acme", None, "inboxes:write"),
    ("POST", "/identities/bare/mailbox", {"mailbox_id": "{mailbox}"}, "inboxes:write"),
    ("DELETE", "/identities/acme/mailbox", None, "inboxes:write"),
]
OF_ONE = [row for row in ENDPOINTS if row[1].count("/") > 1 and row[1] != MAIL]


@pytest.fixture
def acme(owner: Inkbox) -> dict[str, Any]:
    """Acme's: an identity with a mailbox, and one without."""
    owner.make_identity("bare")
    return owner.make_identity("acme", mailbox={"email_local_part": "acme"})


class TestWhoMayDoWhat:
    @pytest.mark.parametrize(("method", "path", "body", "scope"), ENDPOINTS)
    def test_a_key_without_the_scope_is_told_which_it_needs(
        self, method: str, path: str, body: Any, scope: str, acme: Any, organization: Organization, make_client: Any
    ) -> None:
        client = make_client(organization, scopes=sorted({"inboxes:read", "inboxes:write", "admin"} - {scope}))
        assert scope in client.expect(403, method, path, body)

    @pytest.mark.parametrize(("method", "path", "body", "scope"), OF_ONE)
    def test_what_belongs_to_someone_else_is_not_there(
        self, method: str, path: str, body: Any, scope: str, acme: dict[str, Any], outsider: Inkbox, owner: Inkbox
    ) -> None:
        if body and "mailbox_id" in body:
            body = {"mailbox_id": acme["mailbox"]["id"]}
        outsider.expect(404, method, path, body)
        assert owner.expect(200, "GET", "/identities/acme") == acme

    @pytest.mark.parametrize(("method", "path", "body", "scope"), ENDPOINTS)
    def test_without_a_key_nothing_is_answered(self, method: str, path: str, body: Any, scope: str, acme: Any) -> None:
        answer = Inkbox(None).ask(method, path, body)
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"] == "ApiKey"
        assert answer.data == {"detail": "The X-API-Key header is missing."}

    def test_a_key_that_is_wrong_revoked_or_in_another_vendors_header_is_401(
        self, owner: Inkbox, organization: Organization, now: datetime
    ) -> None:
        Inkbox("ApiKey_1").expect(401, "GET", MAIL)
        answer = Client().get(BASE + MAIL, headers={"authorization": f"Bearer {owner.secret}"})
        assert answer.status_code == 401
        revoke_api_key(key=ApiKey.objects.get(organization=organization), now=now)
        owner.expect(401, "GET", MAIL)

    def test_a_key_narrowed_to_an_inbox_sees_no_other_and_makes_none(
        self, owner: Inkbox, acme: dict[str, Any], organization: Organization, make_client: Any
    ) -> None:
        other = owner.make_identity("other", mailbox={"email_local_part": "other"})
        client = make_client(organization, inbox_ids=[UUID(acme["mailbox"]["id"])])
        assert client.expect(200, "GET", MAIL) == [acme["mailbox"]]
        assert [row["agent_handle"] for row in client.expect(200, "GET", "/identities")] == ["acme"]
        client.expect(404, "GET", f"{MAIL}/other")
        client.expect(404, "DELETE", f"{MAIL}/{other['email_address']}")
        client.expect(404, "GET", "/identities/other")
        client.expect(404, "POST", MAIL, {"agent_handle": "bare"})
        client.expect(403, "POST", "/identities", {"agent_handle": "new", "mailbox": {}})
        client.expect(403, "POST", "/identities", {"agent_handle": "new"})

    def test_a_key_narrowed_to_a_domain_makes_its_mailboxes_there(
        self, acme: dict[str, Any], own_domain: Domain, organization: Organization, make_client: Any
    ) -> None:
        client = make_client(organization, allowed_domains=["acme.example"])
        client.expect(404, "GET", f"{MAIL}/acme")
        mailbox = client.expect(201, "POST", MAIL, {"agent_handle": "bare", "email_local_part": "acme"})
        assert mailbox["email_address"] == "acme@acme.example"
        assert client.expect(200, "GET", f"{MAIL}/acme") == mailbox

    def test_a_key_that_has_made_all_its_inboxes_is_409(
        self, owner: Inkbox, organization: Organization, make_client: Any
    ) -> None:
        client = make_client(organization, max_inboxes=1)
        client.make_identity("a", mailbox={})
        client.expect(409, "POST", "/identities", {"agent_handle": "b", "mailbox": {}})
        owner.expect(404, "GET", "/identities/b")

    def test_whoami_tells_about_the_key_and_never_the_key(
        self, owner: Inkbox, organization: Organization, make_client: Any
    ) -> None:
        shown = owner.expect(200, "GET", "/whoami", base="/dialects/inkbox/api")
        assert (shown["auth_type"], shown["auth_subtype"]) == ("api_key", "api_key.admin_scoped")
        assert shown["organization_id"].startswith("org_")
        assert isinstance(shown["created_at"], float)
        assert owner.secret is not None and owner.secret not in json.dumps(shown)
        assert owner.expect(200, "GET", "/whoami")["key_id"] == shown["key_id"]
        narrow = make_client(organization, allowed_domains=["agents.localhost"])
        assert narrow.expect(200, "GET", "/whoami")["auth_subtype"] == "api_key.agent_scoped.claimed"
        assert make_client(None).expect(200, "GET", "/whoami")["organization_id"] is None


class TestErrors:
    def test_every_code_of_ours_has_a_status_of_theirs(self) -> None:
        assert set(SHOWN_AS) == set(STATUS_OF)
        assert all(400 <= status < 600 for status, _ in SHOWN_AS.values())

    def test_every_status_of_ours_has_a_word_of_theirs(self) -> None:
        assert set(STATUS_OF_MAILBOX) == set(Mailbox.Status)
        assert set(STATUS_OF_MAILBOX.values()) == {"active", "paused", "deleted"}

    @pytest.mark.parametrize(
        "raw", [b"{", b"nope", b'{"agent_handle": NaN}', b"\xff", b"[" * 100_000, b'{"a": 1e999}', b'{"a":1}x']
    )
    def test_malformed_json_is_400(self, owner: Inkbox, raw: bytes) -> None:
        for method, path in (("POST", MAIL), ("POST", "/identities")):
            assert isinstance(owner.expect(400, method, path, raw=raw), str)

    def test_a_body_that_is_no_object_or_holds_nul_is_422(self, owner: Inkbox) -> None:
        for raw in (b"[]", b'"x"', b"7", b"null"):
            assert fault_of(owner.expect(422, "POST", MAIL, raw=raw))[0] == ["body"]
        for text in ("\\u0000", "\\ud800"):
            raw = b'{"agent_handle": "a", "mailbox": {"display_name": "%s"}}' % text.encode()
            place, _ = fault_of(owner.expect(422, "POST", "/identities", raw=raw))
            assert place == ["body", "mailbox", "display_name"]

    def test_what_the_sdk_has_exceptions_for_is_told_as_an_object(self) -> None:
        blocked = json.loads(show_error(RecipientBlocked()).content)["detail"]
        assert blocked["error"] == "recipient_blocked" and blocked["reason"]
        reused = show_error(IdempotencyConflict())
        assert reused.status_code == 409
        assert json.loads(reused.content)["detail"]["error"] == "idempotency_key_reused"

    def test_429_carries_retry_after(self) -> None:
        answer = show_error(DailyLimitReached(retry_after=77))
        assert (answer.status_code, answer.headers["Retry-After"]) == (429, "77")
        assert show_error(DailyLimitReached()).headers["Retry-After"]

    def test_unknown_addresses_and_methods_answer_in_the_vendors_shape(self, owner: Inkbox) -> None:
        owner.expect(404, "GET", "/nothing")
        owner.expect(404, "GET", "/", base="/dialects/inkbox")
        owner.expect(405, "PUT", MAIL, {})
        owner.expect(405, "POST", f"{MAIL}/a", {})

    def test_an_empty_body_with_a_json_content_type_is_fine_where_none_is_needed(self, owner: Inkbox) -> None:
        owner.make_identity("a", mailbox={"email_local_part": "a"})
        owner.expect(204, "DELETE", f"{MAIL}/a", raw=b"")

    def test_what_is_not_supported_says_so(self, owner: Inkbox, acme: Any) -> None:
        for operation in OPERATIONS:
            if operation in SUPPORTED:
                assert operation.view is not None and not operation.why_not
                continue
            assert operation.why_not
            path = "/".join("acme" if part.startswith("<") else part for part in operation.path.split("/"))
            detail = owner.expect(501, operation.method, f"/{path}", base="/dialects/inkbox")
            assert detail["error"] == "not_supported"
