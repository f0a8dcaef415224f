"""Who may do what: no key, a wrong key, a narrower key, a stranger's key."""

from datetime import timedelta
from typing import Any
from urllib.parse import quote

import pytest

from apps.accounts.models import ApiKey, Organization
from apps.accounts.services import create_api_key, revoke_api_key
from apps.core.ids import encode_id, new_id
from apps.delivery.services import NewSuppression, create_suppression
from apps.domains.services import create_domain
from apps.mailboxes.models import Mailbox
from tests.api.conftest import Api, MakeApi, error_of
from tests.api.mail import deposit_mail

pytestmark = pytest.mark.django_db

SEND = {"to": "ann@example.com", "subject": "Hello", "text": "Hello."}
ENDPOINTS: list[tuple[str, str, Any, str]] = [
    ("GET", "/v1/inboxes", None, "inboxes:read"),
    ("POST", "/v1/inboxes", {}, "inboxes:write"),
    ("GET", "/v1/inboxes/{inbox}", None, "inboxes:read"),
    ("PATCH", "/v1/inboxes/{inbox}", {"display_name": "x"}, "inboxes:write"),
    ("DELETE", "/v1/inboxes/{inbox}", None, "inboxes:write"),
    ("GET", "/v1/inboxes/{inbox}/messages", None, "messages:read"),
    ("POST", "/v1/inboxes/{inbox}/messages", SEND, "messages:send"),
    ("GET", "/v1/messages", None, "messages:read"),
    ("GET", "/v1/messages/{message}", None, "messages:read"),
    ("GET", "/v1/messages/{message}/raw", None, "messages:read"),
    ("GET", "/v1/messages/{message}/deliveries", None, "messages:read"),
    ("GET", "/v1/messages/{message}/attachments/{attachment}", None, "messages:read"),
    ("POST", "/v1/messages/{message}/reply", {"text": "x"}, "messages:send"),
    ("GET", "/v1/domains", None, "domains:read"),
    ("POST", "/v1/domains", {"domain": "new.example.com"}, "domains:write"),
    ("GET", "/v1/domains/{domain}", None, "domains:read"),
    ("POST", "/v1/domains/{domain}/verify", None, "domains:write"),
    ("GET", "/v1/events", None, "events:read"),
    ("GET", "/v1/suppressions", None, "suppressions:read"),
    ("POST", "/v1/suppressions", {"address": "a@example.com"}, "suppressions:write"),
    ("GET", "/v1/suppressions/export", None, "suppressions:read"),
    ("POST", "/v1/suppressions/import", {"suppressions": [{"address": "a@example.com"}]}, "suppressions:write"),
    ("GET", "/v1/suppressions/{suppression}", None, "suppressions:read"),
    ("DELETE", "/v1/suppressions/{suppression}", None, "suppressions:write"),
    ("GET", "/v1/api-keys", None, "keys:write"),
    ("POST", "/v1/api-keys", {"name": "x", "scopes": ["events:read"]}, "keys:write"),
    ("DELETE", "/v1/api-keys/{key}", None, "keys:write"),
]
OF_ONE = [endpoint for endpoint in ENDPOINTS if "{" in endpoint[1]]


@pytest.fixture
def ids(organization: Organization, mailbox: Mailbox, now: Any) -> dict[str, str]:
    """Things of Acme's, by what stands for them in a path."""
    message = deposit_mail(mailbox, attachment=b"hello")
    key, _ = create_api_key(organization=organization, name="other", scopes=["events:read"], now=now)
    domain = create_domain(organization=organization, name="acme.example.com", now=now)
    entry, _ = create_suppression(organization=organization, wanted=NewSuppression("gone@example.com"), now=now)
    return {
        "inbox": encode_id("inbox", mailbox.id),
        "message": encode_id("msg", message.id),
        "attachment": encode_id("att", message.attachments.get().id),
        "domain": encode_id("dom", domain.id),
        "key": encode_id("key", key.id),
        "suppression": encode_id("sup", entry.id),
    }


@pytest.mark.parametrize(("method", "path", "body", "scope"), ENDPOINTS)
def test_a_key_without_the_scope_is_refused_and_told_which_it_needs(
    method: str, path: str, body: Any, scope: str, ids: dict[str, str], organization: Organization, make_api: MakeApi
) -> None:
    api = make_api(organization, scopes=sorted({"webhooks:read", "inboxes:read", "admin"} - {scope}))
    assert scope in error_of(api.ask(method, path.format(**ids), body), 403, "scope_denied")["message"]


@pytest.mark.parametrize(("method", "path", "body", "scope"), OF_ONE)
def test_what_belongs_to_someone_else_is_not_there(
    method: str, path: str, body: Any, scope: str, ids: dict[str, str], outsider: Api
) -> None:
    error_of(outsider.ask(method, path.format(**ids), body), 404, "not_found")


@pytest.mark.parametrize(("method", "path", "body", "scope"), OF_ONE)
def test_an_id_that_was_never_given_is_not_there(
    method: str, path: str, body: Any, scope: str, ids: dict[str, str], owner: Api
) -> None:
    prefixes = {"inbox": "inbox", "message": "msg", "attachment": "att", "domain": "dom", "key": "key"}
    prefixes["suppression"] = "sup"
    unknown = {name: encode_id(prefix, new_id()) for name, prefix in prefixes.items()}
    error_of(owner.ask(method, path.format(**unknown), body), 404, "not_found")
    rubbish = dict.fromkeys(prefixes, "rubbish")
    error_of(owner.ask(method, path.format(**rubbish), body), 404, "not_found")


@pytest.mark.parametrize(("method", "path", "body", "scope"), ENDPOINTS)
def test_a_platform_key_manages_organizations_only(
    method: str, path: str, body: Any, scope: str, ids: dict[str, str], make_api: MakeApi
) -> None:
    error_of(make_api(None).ask(method, path.format(**ids), body), 403, "scope_denied")


@pytest.mark.parametrize(("method", "path", "body", "scope"), ENDPOINTS)
def test_without_a_key_nothing_is_answered(method: str, path: str, body: Any, scope: str, ids: dict[str, str]) -> None:
    answer = Api(None).ask(method, path.format(**ids), body)
    error_of(answer, 401, "unauthorized")
    assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_a_key_narrowed_to_an_inbox_sees_no_other(
    owner: Api, organization: Organization, make_api: MakeApi, make_mailbox: Any, ids: dict[str, str]
) -> None:
    own = make_mailbox("narrow")
    api = make_api(organization, inbox_ids=[own.id])
    assert [row["id"] for row in api.get("/v1/inboxes").json()["data"]] == [encode_id("inbox", own.id)]
    error_of(api.get(f"/v1/inboxes/{ids['inbox']}"), 404, "not_found")
    error_of(api.get(f"/v1/messages/{ids['message']}"), 404, "not_found")
    assert api.get("/v1/messages").json()["data"] == []
    error_of(api.post("/v1/inboxes", {}), 403, "scope_denied")


def test_a_key_narrowed_to_a_domain_sees_no_other_domain(
    organization: Organization, make_api: MakeApi, ids: dict[str, str]
) -> None:
    api = make_api(organization, allowed_domains=["acme.example.com"])
    assert [row["domain"] for row in api.get("/v1/domains").json()["data"]] == ["acme.example.com"]
    error_of(api.get(f"/v1/inboxes/{ids['inbox']}"), 404, "not_found")
    error_of(api.post("/v1/inboxes", {"domain": "agents.localhost"}), 403, "scope_denied")
    error_of(api.post("/v1/domains", {"domain": "other.example.com"}), 403, "scope_denied")


def test_the_key_comes_as_bearer_or_x_api_key(owner: Api) -> None:
    assert owner.get("/v1/me").status_code == 200
    assert Api(None).get("/v1/me", x_api_key=owner.secret or "").status_code == 200
    error_of(Api(None).get("/v1/me", authorization=f"Basic {owner.secret}"), 401, "unauthorized")
    error_of(Api("mh_" + "x" * 43).get("/v1/me"), 401, "unauthorized")
    error_of(Api("mh_\x80" + "x" * 500).get("/v1/me"), 401, "unauthorized")


def test_expired_and_revoked_keys_say_so(organization: Organization, make_api: MakeApi, now: Any) -> None:
    api = make_api(organization)
    key = ApiKey.objects.get(name="test")
    ApiKey.objects.filter(id=key.id).update(expires_at=now - timedelta(seconds=1))
    error_of(api.get("/v1/me"), 401, "key_expired")
    revoke_api_key(key=key, now=now)
    error_of(api.get("/v1/me"), 401, "key_revoked")


def test_me_tells_key_organization_and_limits(owner: Api, organization: Organization, make_api: MakeApi) -> None:
    me = owner.get("/v1/me").json()
    assert me["organization"]["id"] == encode_id("org", organization.id)
    assert "messages:send" in me["scopes"]
    assert me["limits"]["recipients_per_message"] == 50
    assert "key" not in me["key"]
    assert make_api(None).get("/v1/me").json()["organization"] is None


def test_every_answer_carries_the_callers_request_id_or_one_of_ours(owner: Api) -> None:
    assert owner.get("/v1/me", x_request_id="abc-123").headers["X-Request-Id"] == "abc-123"
    ours = owner.get("/v1/me", x_request_id="a b\x00").headers["X-Request-Id"]
    assert ours.startswith("req_")
    assert owner.get("/v1/nothing").json()["error"]["request_id"].startswith("req_")


@pytest.mark.parametrize("path", ["/v1", "/v1/", "/v1/nothing", "/v1/inboxes/a/b/c", "/v1/messages/x/y/z/w", "/v1/me/"])
def test_unknown_addresses_answer_the_envelope(path: str, owner: Api) -> None:
    error_of(owner.get(path), 404, "not_found")


def test_a_method_that_an_address_does_not_take_is_refused(owner: Api) -> None:
    for method in ("PUT", "DELETE", "OPTIONS"):
        answer = owner.ask(method, "/v1/inboxes")
        error_of(answer, 405, "method_not_allowed")
        assert answer.headers["Allow"] == "GET, POST, HEAD"


def test_head_is_answered_like_get(owner: Api) -> None:
    assert owner.ask("HEAD", "/v1/inboxes").status_code == 200


def test_an_inbox_is_found_by_its_address_in_every_spelling(owner: Api, make_mailbox: Any) -> None:
    mailbox = make_mailbox("a/b")
    for spelling in ("a/b@agents.localhost", quote("a/b@agents.localhost", safe=""), "A%2FB@AGENTS.localhost"):
        shown = owner.get(f"/v1/inboxes/{spelling}")
        assert shown.json()["id"] == encode_id("inbox", mailbox.id)
        assert owner.get(f"/v1/inboxes/{spelling}/messages").json()["data"] == []
