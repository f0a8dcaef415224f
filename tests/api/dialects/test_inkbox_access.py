"""Inkbox: who may do what, and how every error is told."""

import json
from datetime import datetime
from typing import Any
from uuid import UUID

import pytest
from django.test import Client

from apps.accounts.models import ApiKey, Organization
from apps.accounts.services import revoke_api_key
from apps.api.dialects.inkbox.errors import SHOWN_AS, show_error
from apps.api.dialects.inkbox.outputs import STATUS_OF_MAILBOX
from apps.api.dialects.inkbox.urls import OPERATIONS, SUPPORTED
from apps.api.errors import IdempotencyConflict
from apps.api.native.errors import STATUS_OF
from apps.delivery.errors import RecipientBlocked
from apps.domains.models import Domain
from apps.mailboxes.errors import DailyLimitReached
from apps.mailboxes.models import Mailbox
from tests.api.dialects.inkbox import BASE, MAIL, Inkbox, MakeInkbox, fault_of

pytestmark = pytest.mark.django_db


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
def acme(inkbox: Inkbox) -> dict[str, Any]:
    """Acme's: an identity with a mailbox, and one without."""
    inkbox.make_identity("bare")
    return inkbox.make_identity("acme", mailbox={"email_local_part": "acme"})


class TestWhoMayDoWhat:
    @pytest.mark.parametrize(("method", "path", "body", "scope"), ENDPOINTS)
    def test_a_key_without_the_scope_is_told_which_it_needs(
        self,
        method: str,
        path: str,
        body: Any,
        scope: str,
        acme: Any,
        organization: Organization,
        make_inkbox: MakeInkbox,
    ) -> None:
        client = make_inkbox(organization, scopes=sorted({"inboxes:read", "inboxes:write", "admin"} - {scope}))
        assert scope in client.expect(403, method, path, body)

    @pytest.mark.parametrize(("method", "path", "body", "scope"), OF_ONE)
    def test_what_belongs_to_someone_else_is_not_there(
        self,
        method: str,
        path: str,
        body: Any,
        scope: str,
        acme: dict[str, Any],
        stranger_inkbox: Inkbox,
        inkbox: Inkbox,
    ) -> None:
        if body and "mailbox_id" in body:
            body = {"mailbox_id": acme["mailbox"]["id"]}
        stranger_inkbox.expect(404, method, path, body)
        assert inkbox.expect(200, "GET", "/identities/acme") == acme

    @pytest.mark.parametrize(("method", "path", "body", "scope"), ENDPOINTS)
    def test_without_a_key_nothing_is_answered(self, method: str, path: str, body: Any, scope: str, acme: Any) -> None:
        answer = Inkbox(None).ask(method, path, body)
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"] == "ApiKey"
        assert answer.data == {"detail": "The X-API-Key header is missing."}

    def test_a_key_that_is_wrong_revoked_or_in_another_vendors_header_is_401(
        self, inkbox: Inkbox, organization: Organization, now: datetime
    ) -> None:
        Inkbox("ApiKey_1").expect(401, "GET", MAIL)
        answer = Client().get(BASE + MAIL, headers={"authorization": f"Bearer {inkbox.secret}"})
        assert answer.status_code == 401
        revoke_api_key(key=ApiKey.objects.get(organization=organization), now=now)
        inkbox.expect(401, "GET", MAIL)

    def test_a_key_narrowed_to_an_inbox_sees_no_other_and_makes_none(
        self, inkbox: Inkbox, acme: dict[str, Any], organization: Organization, make_inkbox: MakeInkbox
    ) -> None:
        other = inkbox.make_identity("other", mailbox={"email_local_part": "other"})
        client = make_inkbox(organization, inbox_ids=[UUID(acme["mailbox"]["id"])])
        assert client.expect(200, "GET", MAIL) == [acme["mailbox"]]
        assert [row["agent_handle"] for row in client.expect(200, "GET", "/identities")] == ["acme"]
        client.expect(404, "GET", f"{MAIL}/other")
        client.expect(404, "DELETE", f"{MAIL}/{other['email_address']}")
        client.expect(404, "GET", "/identities/other")
        client.expect(404, "POST", MAIL, {"agent_handle": "bare"})
        client.expect(403, "POST", "/identities", {"agent_handle": "new", "mailbox": {}})
        client.expect(403, "POST", "/identities", {"agent_handle": "new"})

    def test_a_key_narrowed_to_a_domain_makes_its_mailboxes_there(
        self, acme: dict[str, Any], inkbox_domain: Domain, organization: Organization, make_inkbox: MakeInkbox
    ) -> None:
        client = make_inkbox(organization, allowed_domains=["acme.example"])
        client.expect(404, "GET", f"{MAIL}/acme")
        mailbox = client.expect(201, "POST", MAIL, {"agent_handle": "bare", "email_local_part": "acme"})
        assert mailbox["email_address"] == "acme@acme.example"
        assert client.expect(200, "GET", f"{MAIL}/acme") == mailbox

    def test_a_key_that_has_made_all_its_inboxes_is_409(
        self, inkbox: Inkbox, organization: Organization, make_inkbox: MakeInkbox
    ) -> None:
        client = make_inkbox(organization, max_inboxes=1)
        client.make_identity("a", mailbox={})
        client.expect(409, "POST", "/identities", {"agent_handle": "b", "mailbox": {}})
        inkbox.expect(404, "GET", "/identities/b")

    def test_whoami_tells_about_the_key_and_never_the_key(
        self, inkbox: Inkbox, organization: Organization, make_inkbox: MakeInkbox
    ) -> None:
        shown = inkbox.expect(200, "GET", "/whoami", base="/dialects/inkbox/api")
        assert (shown["auth_type"], shown["auth_subtype"]) == ("api_key", "api_key.admin_scoped")
        assert shown["organization_id"].startswith("org_")
        assert isinstance(shown["created_at"], float)
        assert inkbox.secret is not None and inkbox.secret not in json.dumps(shown)
        assert inkbox.expect(200, "GET", "/whoami")["key_id"] == shown["key_id"]
        narrow = make_inkbox(organization, allowed_domains=["agents.localhost"])
        assert narrow.expect(200, "GET", "/whoami")["auth_subtype"] == "api_key.agent_scoped.claimed"
        assert make_inkbox(None).expect(200, "GET", "/whoami")["organization_id"] is None


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
    def test_malformed_json_is_400(self, inkbox: Inkbox, raw: bytes) -> None:
        for method, path in (("POST", MAIL), ("POST", "/identities")):
            assert isinstance(inkbox.expect(400, method, path, raw=raw), str)

    def test_a_body_that_is_no_object_or_holds_nul_is_422(self, inkbox: Inkbox) -> None:
        for raw in (b"[]", b'"x"', b"7", b"null"):
            assert fault_of(inkbox.expect(422, "POST", MAIL, raw=raw))[0] == ["body"]
        for text in ("\\u0000", "\\ud800"):
            raw = b'{"agent_handle": "a", "mailbox": {"display_name": "%s"}}' % text.encode()
            place, _ = fault_of(inkbox.expect(422, "POST", "/identities", raw=raw))
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

    def test_unknown_addresses_and_methods_answer_in_the_vendors_shape(self, inkbox: Inkbox) -> None:
        inkbox.expect(404, "GET", "/nothing")
        inkbox.expect(404, "GET", "/", base="/dialects/inkbox")
        inkbox.expect(405, "PUT", MAIL, {})
        assert inkbox.ask("PUT", MAIL, {}).headers["Allow"] == "GET, POST, HEAD"
        inkbox.expect(405, "POST", f"{MAIL}/a", {})

    def test_an_empty_body_with_a_json_content_type_is_fine_where_none_is_needed(self, inkbox: Inkbox) -> None:
        inkbox.make_identity("a", mailbox={"email_local_part": "a"})
        inkbox.expect(204, "DELETE", f"{MAIL}/a", raw=b"")

    def test_what_is_not_supported_says_so(self, inkbox: Inkbox, acme: Any) -> None:
        for operation in OPERATIONS:
            if operation in SUPPORTED:
                assert operation.view is not None and not operation.why_not
                continue
            assert operation.why_not
            path = "/".join("acme" if part.startswith("<") else part for part in operation.path.split("/"))
            detail = inkbox.expect(501, operation.method, f"/{path}", base="/dialects/inkbox")
            assert detail["error"] == "not_supported"
