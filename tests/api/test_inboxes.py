"""Inboxes through HTTP."""

import tracemalloc
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from apps.accounts.models import SCOPES, Organization
from apps.core.ids import encode_id
from apps.domains.services import create_domain
from apps.mail.models import Message
from apps.mailboxes.models import Mailbox
from apps.mailboxes.services import suspend_mailbox
from tests.api.conftest import Api, MakeApi, error_of
from tests.api.mail import deposit_mail

pytestmark = pytest.mark.django_db


def test_an_inbox_is_made_with_nothing_said(owner: Api) -> None:
    answer = owner.post("/v1/inboxes")
    assert answer.status_code == 201
    inbox = answer.json()
    assert inbox["address"] == f"{inbox['username']}@agents.localhost"
    assert inbox["status"] == "active"
    assert inbox["sends_remaining"] == inbox["daily_send_limit"] == 1000
    assert inbox["limit_resets_at"].endswith("T00:00:00.000Z")
    assert owner.get(f"/v1/inboxes/{inbox['id']}").json() == inbox
    assert owner.get(f"/v1/inboxes/{inbox['address'].upper()}").json() == inbox


def test_an_inbox_is_made_as_asked(owner: Api) -> None:
    wanted = {
        "username": "support",
        "domain": "agents.localhost",
        "display_name": "Süpport",
        "client_id": "agent-7",
        "metadata": {"team": "sales", "n": [1, {"a": None}]},
        "webhook_url": "https://example.com/hook",
    }
    inbox = owner.post("/v1/inboxes", wanted).json()
    assert {name: inbox[name] for name in wanted} == wanted
    assert inbox["address"] == "support@agents.localhost"


def test_the_same_client_id_gives_the_same_inbox(owner: Api, outsider: Api) -> None:
    first = owner.post("/v1/inboxes", {"client_id": "agent-7"})
    second = owner.post("/v1/inboxes", {"client_id": "agent-7", "display_name": "other"})
    assert (first.status_code, second.status_code) == (201, 200)
    assert second.json() == first.json()
    assert outsider.post("/v1/inboxes", {"client_id": "agent-7"}).status_code == 201
    owner.delete(f"/v1/inboxes/{first.json()['id']}")
    assert owner.post("/v1/inboxes", {"client_id": "agent-7"}).status_code == 201


def test_a_client_id_of_an_inbox_that_the_key_may_not_see_tells_nothing(
    owner: Api, organization: Organization, make_api: MakeApi, now: Any
) -> None:
    domain = create_domain(organization=organization, name="acme.example.com", now=now)
    type(domain).objects.filter(id=domain.id).update(ownership_verified_at=now, sending_status="verified")
    owner.post("/v1/inboxes", {"client_id": "agent-7"})
    narrow = make_api(organization, allowed_domains=["acme.example.com"])
    error_of(narrow.post("/v1/inboxes", {"client_id": "agent-7"}), 409, "conflict")
    assert narrow.post("/v1/inboxes").json()["domain"] == "acme.example.com"


def test_a_taken_address_is_refused(owner: Api, outsider: Api) -> None:
    owner.post("/v1/inboxes", {"username": "support"})
    error_of(outsider.post("/v1/inboxes", {"username": "SUPPORT"}), 409, "address_taken")
    error_of(outsider.post("/v1/inboxes", {"username": "postmaster"}), 409, "address_taken")


def test_a_domain_must_be_verified_and_ones_own(owner: Api, outsider: Api) -> None:
    assert owner.post("/v1/domains", {"domain": "acme.example.com"}).status_code == 201
    error_of(owner.post("/v1/inboxes", {"domain": "acme.example.com"}), 403, "domain_not_verified")
    error_of(outsider.post("/v1/inboxes", {"domain": "acme.example.com"}), 404, "not_found")


def test_a_keys_quota_of_inboxes_is_exact_and_not_given_back(
    organization: Organization, owner: Api, make_api: MakeApi
) -> None:
    api = make_api(organization, max_inboxes=2)
    made = [api.post("/v1/inboxes") for _ in range(2)]
    assert [answer.status_code for answer in made] == [201, 201]
    api.delete(f"/v1/inboxes/{made[0].json()['id']}")
    error_of(api.post("/v1/inboxes"), 409, "quota_exhausted")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"username": 5}, "username"),
        ({"username": "a b"}, "username"),
        ({"username": "a+tag"}, "username"),
        ({"username": '"a b"'}, "username"),
        ({"username": "x" * 65}, "username"),
        ({"username": "a\r\nb"}, "username"),
        ({"username": "a\0b"}, "username"),
        ({"domain": "no spaces.example"}, "domain"),
        ({"domain": ["a"]}, "domain"),
        ({"display_name": "a\r\nBcc: x@y"}, "display_name"),
        ({"display_name": "x" * 256}, "display_name"),
        ({"display_name": "a\ud800"}, "display_name"),
        ({"client_id": ""}, "client_id"),
        ({"client_id": "x" * 257}, "client_id"),
        ({"metadata": "text"}, "metadata"),
        ({"metadata": {"a": ["b\0"]}}, "metadata.a[0]"),
        ({"metadata": {"b\0": 1}}, "metadata"),
        ({"metadata": {"a": "x" * 20_000}}, "metadata"),
        ({"pod_id": "inbox_01h455vb4pex5vsknk084sn02q"}, "pod_id"),
        ({"daily_send_limit": "5"}, "daily_send_limit"),
        ({"daily_send_limit": True}, "daily_send_limit"),
        ({"daily_send_limit": -1}, "daily_send_limit"),
        ({"daily_send_limit": 10**30}, "daily_send_limit"),
        ({"usrname": "typo"}, "usrname"),
    ],
)
def test_bad_values_are_named_and_nothing_is_made(owner: Api, body: dict[str, Any], field: str) -> None:
    error = error_of(owner.post("/v1/inboxes", body), 400, "validation_failed")
    assert [detail["field"] for detail in error["details"]] == [field]
    assert not Mailbox.objects.exists()


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"nothing",
        b"\xff\xfe",
        b'{"metadata": NaN}',
        b'{"metadata": {"a": 1e999}}',
        b'{"metadata": {"a": ' + b"1" * 5000 + b"}}",
        b'{"username": "a\x00b"}',
        b'{"metadata": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'\xef\xbb\xbf{"username": "a"}',
    ],
)
def test_what_is_not_json_is_refused(owner: Api, body: bytes) -> None:
    error_of(owner.post("/v1/inboxes", body), 400, "malformed_json")
    assert not Mailbox.objects.exists()


def test_a_body_that_is_no_object_or_of_another_type_is_refused(owner: Api) -> None:
    error_of(owner.post("/v1/inboxes", b"[]"), 400, "validation_failed")
    error_of(
        owner.post("/v1/inboxes", b"username=a", content_type="application/x-www-form-urlencoded"),
        400,
        "malformed_json",
    )
    assert (
        owner.post("/v1/inboxes", b'{"username":"a"}', content_type="application/json; charset=utf-8").status_code
        == 201
    )


def test_deeply_nested_metadata_is_refused_or_stored_but_never_fails(owner: Api) -> None:
    nested: Any = {}
    for _ in range(400):
        nested = {"a": nested}
    assert owner.post("/v1/inboxes", {"metadata": nested}).status_code in (201, 400)


def test_long_names_in_deep_nesting_take_no_more_memory_than_they_are_long(owner: Api) -> None:
    depth, name = 900, b"n" * 2000
    body = b'{"username": "a", "x": ' + (b'{"' + name + b'": ') * depth + b'"\\u0000"' + b"}" * (depth + 1)
    tracemalloc.start()
    try:
        error = error_of(owner.post("/v1/inboxes", body), 400, "validation_failed")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert error["details"][0]["field"].startswith("x.nnn")
    assert len(error["details"][0]["field"]) <= 200
    assert peak < 20 * len(body)


def test_a_change_merges_metadata_and_leaves_the_rest(owner: Api) -> None:
    inbox = owner.post("/v1/inboxes", {"display_name": "A", "metadata": {"a": 1, "b": 2}}).json()
    changed = owner.patch(f"/v1/inboxes/{inbox['id']}", {"metadata": {"b": None, "c": 3}}).json()
    assert changed["metadata"] == {"a": 1, "c": 3}
    assert changed["display_name"] == "A"
    assert owner.patch(f"/v1/inboxes/{inbox['id']}", {"status": "paused"}).json()["status"] == "paused"
    assert owner.patch(f"/v1/inboxes/{inbox['id']}", {"status": "active"}).json()["status"] == "active"
    assert owner.patch(f"/v1/inboxes/{inbox['id']}", {"display_name": None}).json()["display_name"] == ""


def test_only_active_and_paused_can_be_set(owner: Api, mailbox: Mailbox, now: Any) -> None:
    path = f"/v1/inboxes/{encode_id('inbox', mailbox.id)}"
    error_of(owner.patch(path, {"status": "deleted"}), 400, "validation_failed")
    suspend_mailbox(mailbox=mailbox, reason="bounces", now=now)
    error_of(owner.patch(path, {"status": "active"}), 409, "conflict")
    assert owner.get(path).json()["suspended_reason"] == "bounces"


def test_a_daily_limit_is_set_with_the_scope_admin_only(
    owner: Api, organization: Organization, make_api: MakeApi
) -> None:
    agent = make_api(organization, scopes=[scope for scope in SCOPES if scope != "admin"])
    error_of(agent.post("/v1/inboxes", {"daily_send_limit": 5}), 403, "scope_denied")
    inbox = owner.post("/v1/inboxes", {"daily_send_limit": 5}).json()
    assert (inbox["daily_send_limit"], inbox["sends_remaining"]) == (5, 5)
    error_of(agent.patch(f"/v1/inboxes/{inbox['id']}", {"daily_send_limit": 6}), 403, "scope_denied")
    unlimited = owner.patch(f"/v1/inboxes/{inbox['id']}", {"daily_send_limit": None}).json()
    assert (unlimited["daily_send_limit"], unlimited["sends_remaining"]) == (None, None)
    assert owner.post("/v1/inboxes", {"daily_send_limit": None}).json()["daily_send_limit"] is None


def test_deleting_keeps_the_mail_and_the_address(owner: Api, mailbox: Mailbox) -> None:
    message = deposit_mail(mailbox)
    path = f"/v1/inboxes/{encode_id('inbox', mailbox.id)}"
    assert owner.delete(path).status_code == 204
    assert owner.get(path).json()["status"] == "deleted"
    assert owner.get(f"/v1/inboxes/{mailbox.address}").json()["status"] == "deleted"
    assert owner.get(f"/v1/messages/{encode_id('msg', message.id)}").status_code == 200
    error_of(owner.patch(path, {"display_name": "x"}), 410, "inbox_deleted")
    error_of(owner.post(f"{path}/messages", {"to": "a@b.example", "text": "x"}), 410, "inbox_deleted")
    error_of(owner.delete(path), 410, "inbox_deleted")
    error_of(owner.post("/v1/inboxes", {"username": mailbox.username}), 409, "address_taken")


def test_purging_erases_the_mail_and_frees_the_address_for_the_organization(
    owner: Api, outsider: Api, mailbox: Mailbox
) -> None:
    deposit_mail(mailbox)
    path = f"/v1/inboxes/{encode_id('inbox', mailbox.id)}"
    assert owner.delete(f"{path}?purge=true").status_code == 204
    assert not Message.objects.exists()
    error_of(owner.get(f"/v1/inboxes/{mailbox.address}"), 404, "not_found")
    error_of(outsider.post("/v1/inboxes", {"username": mailbox.username}), 409, "address_taken")
    assert owner.post("/v1/inboxes", {"username": mailbox.username}).status_code == 201
    error_of(owner.delete(f"{path}?purge=yes"), 400, "validation_failed")


def test_lists_page_without_gap_or_repeat_in_both_directions(owner: Api, outsider: Api) -> None:
    made = [owner.post("/v1/inboxes", {"username": f"u{number}"}).json()["id"] for number in range(7)]
    outsider.post("/v1/inboxes")
    for ascending in (False, True):
        seen: list[str] = []
        cursor = None
        for _ in range(5):
            path = f"/v1/inboxes?limit=3&ascending={str(ascending).lower()}" + (f"&cursor={cursor}" if cursor else "")
            page = owner.get(path).json()
            seen += [row["id"] for row in page["data"]]
            cursor = page["next_cursor"]
            if cursor is None:
                break
        assert seen == (made if ascending else made[::-1])


def test_a_full_last_page_has_no_next_one(owner: Api) -> None:
    for _ in range(3):
        owner.post("/v1/inboxes")
    assert owner.get("/v1/inboxes?limit=3").json()["next_cursor"] is None
    assert owner.get("/v1/inboxes?limit=2").json()["next_cursor"] is not None


def test_cursors_of_other_lists_and_rubbish_are_refused(owner: Api, outsider: Api, mailbox: Mailbox) -> None:
    for _ in range(3):
        owner.post("/v1/inboxes")
        outsider.post("/v1/inboxes")
        deposit_mail(mailbox)
    cursor = owner.get("/v1/inboxes?limit=1").json()["next_cursor"]
    assert owner.get(f"/v1/inboxes?limit=2&cursor={cursor}").status_code == 200
    for path in (
        f"/v1/inboxes?status=active&cursor={cursor}",
        f"/v1/inboxes?ascending=true&cursor={cursor}",
        f"/v1/messages?cursor={cursor}",
        f"/v1/events?cursor={cursor}",
        f"/v1/inboxes?cursor={cursor[:-2]}",
        f"/v1/inboxes?cursor={cursor}AAAA",
        "/v1/inboxes?cursor=rubbish",
        "/v1/inboxes?cursor=%00",
        "/v1/inboxes?cursor=" + "A" * 1000,
    ):
        answer = owner.get(path)
        assert answer.status_code == 400
        assert answer.json()["error"]["code"] in ("invalid_cursor", "validation_failed")
    error_of(outsider.get(f"/v1/inboxes?limit=2&cursor={cursor}"), 400, "invalid_cursor")


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=101",
        "limit=-1",
        "limit=x",
        "limit=1.5",
        "ascending=maybe",
        "status=gone",
        "nothing=1",
        "q=%00",
    ],
)
def test_bad_parameters_are_named(owner: Api, query: str) -> None:
    error = error_of(owner.get(f"/v1/inboxes?{query}"), 400, "validation_failed")
    assert error["details"][0]["field"] == query.partition("=")[0]


def test_lists_filter_by_status_domain_and_words(owner: Api, mailbox: Mailbox) -> None:
    paused = owner.post("/v1/inboxes", {"username": "paused", "display_name": "100% Sales_Team"}).json()
    owner.patch(f"/v1/inboxes/{paused['id']}", {"status": "paused"})
    gone = owner.post("/v1/inboxes", {"username": "gone"}).json()
    owner.delete(f"/v1/inboxes/{gone['id']}")

    def names(query: str) -> list[str]:
        return [row["username"] for row in owner.get(f"/v1/inboxes?{query}").json()["data"]]

    assert names("") == ["paused", "alice"]
    assert names("status=paused") == ["paused"]
    assert names("status=deleted") == ["gone"]
    assert names("domain=AGENTS.localhost") == ["paused", "alice"]
    assert names("domain=other.example") == []
    assert names("q=100%25") == ["paused"]
    assert names("q=_t") == ["paused"]
    assert names("q=ALICE@") == ["alice"]


def test_a_list_costs_the_same_queries_at_any_length(owner: Api, django_assert_num_queries: Any) -> None:
    owner.post("/v1/inboxes")
    with django_assert_num_queries(2):  # the key, the list
        owner.get("/v1/inboxes")
    for _ in range(10):
        owner.post("/v1/inboxes")
    with django_assert_num_queries(2):
        assert len(owner.get("/v1/inboxes").json()["data"]) == 11


def test_sends_of_yesterday_do_not_count_today(owner: Api, mailbox: Mailbox) -> None:
    type(mailbox.usage).objects.filter(mailbox=mailbox).update(
        day=timezone.now().date() - timedelta(days=1), sends_today=1000
    )
    shown = owner.get(f"/v1/inboxes/{mailbox.address}").json()
    assert (shown["sends_today"], shown["sends_remaining"]) == (0, 1000)
