"""Keys, domains and the event log through HTTP."""

import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.utils import timezone

from apps.accounts.models import SCOPES, ApiKey, Organization
from apps.core.ids import encode_id
from apps.domains.models import Domain
from apps.events.models import EventType
from apps.events.services import NewEvent, record_events
from apps.mailboxes.models import Mailbox
from tests.api.conftest import Api, MakeApi, error_of
from tests.api.mail import deposit_mail

pytestmark = pytest.mark.django_db


def test_a_new_key_is_shown_once_and_works(owner: Api, mailbox: Mailbox) -> None:
    answer = owner.post(
        "/v1/api-keys",
        {
            "name": "agent 7",
            "scopes": ["messages:read", "messages:read"],
            "inbox_ids": [encode_id("inbox", mailbox.id)],
            "allowed_domains": ["AGENTS.localhost"],
            "max_inboxes": 0,
            "expires_at": "2099-01-01T00:00:00+02:00",
        },
    )
    assert answer.status_code == 201
    made = answer.json()
    assert made["scopes"] == ["messages:read"]
    assert made["allowed_domains"] == ["agents.localhost"]
    assert made["expires_at"] == "2098-12-31T22:00:00.000Z"
    assert made["key"].startswith(made["prefix"])
    assert Api(made["key"]).get("/v1/messages").status_code == 200
    listed = owner.get("/v1/api-keys").json()["data"]
    assert made["id"] in [row["id"] for row in listed]
    assert all("key" not in row for row in listed)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": None}, "name"),
        ({"name": "x" * 201}, "name"),
        ({"name": "a\0"}, "name"),
        ({"scopes": []}, "scopes"),
        ({"scopes": "messages:read"}, "scopes"),
        ({"scopes": ["everything"]}, "scopes[0]"),
        ({"scopes": [5]}, "scopes[0]"),
        ({"allowed_domains": ["no domain"]}, "allowed_domains"),
        ({"inbox_ids": ["inbox_x"]}, "inbox_ids[0]"),
        ({"inbox_ids": ["inbox_01h455vb4pex5vsknk084sn02q"]}, "inbox_ids"),
        ({"max_inboxes": -1}, "max_inboxes"),
        ({"max_inboxes": 1.5}, "max_inboxes"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
        ({"expires_at": "tomorrow"}, "expires_at"),
        ({"expires_at": "2030-13-45T99:00:00Z"}, "expires_at"),
        ({"key": "mh_mine"}, "key"),
    ],
)
def test_bad_values_of_a_key_are_named(owner: Api, changes: dict[str, Any], field: str) -> None:
    before = ApiKey.objects.count()
    body = {"name": "x", "scopes": ["events:read"], **changes}
    error = error_of(owner.post("/v1/api-keys", body), 400, "validation_failed")
    assert [detail["field"] for detail in error["details"]] == [field]
    assert ApiKey.objects.count() == before


def test_no_key_makes_a_stronger_key(organization: Organization, make_api: MakeApi, mailbox: Mailbox, now: Any) -> None:
    body: dict[str, Any] = {"name": "x", "scopes": ["events:read"]}
    weak = make_api(organization, scopes=["keys:write", "events:read"])
    error_of(weak.post("/v1/api-keys", {**body, "scopes": ["admin"]}), 403, "scope_denied")
    assert weak.post("/v1/api-keys", body).status_code == 201
    for narrowing in (
        {"inbox_ids": [mailbox.id]},
        {"allowed_domains": ["agents.localhost"]},
        {"max_inboxes": 1},
        {"expires_at": now + timedelta(days=1)},
    ):
        narrow = make_api(organization, scopes=SCOPES, **narrowing)
        error_of(narrow.post("/v1/api-keys", body), 403, "scope_denied")


def test_a_revoked_key_ends_at_once_and_keys_of_others_cannot_be_touched(owner: Api, outsider: Api) -> None:
    made = owner.post("/v1/api-keys", {"name": "x", "scopes": ["events:read"]}).json()
    error_of(outsider.delete(f"/v1/api-keys/{made['id']}"), 404, "not_found")
    assert Api(made["key"]).get("/v1/events").status_code == 200
    assert owner.delete(f"/v1/api-keys/{made['id']}").status_code == 204
    error_of(Api(made["key"]).get("/v1/events"), 401, "key_revoked")
    assert owner.delete(f"/v1/api-keys/{made['id']}").status_code == 204
    assert made["id"] not in [row["id"] for row in outsider.get("/v1/api-keys").json()["data"]]


@pytest.mark.parametrize("kind", ["inbox_ids", "allowed_domains"])
def test_a_narrowed_key_sees_and_revokes_only_keys_that_lie_within_it(
    organization: Organization, owner: Api, make_api: MakeApi, mailbox: Mailbox, kind: str
) -> None:
    narrowing = {"inbox_ids": [mailbox.id]} if kind == "inbox_ids" else {"allowed_domains": ["agents.localhost"]}
    agent = make_api(organization, ["keys:write", "inboxes:read"], **narrowing)
    inner: dict[str, Any] = {"inbox_ids": [encode_id("inbox", mailbox.id)]} if kind == "inbox_ids" else narrowing
    made = agent.post("/v1/api-keys", {"name": "inner", "scopes": ["inboxes:read"], **inner}).json()
    wide = owner.post("/v1/api-keys", {"name": "wide", "scopes": ["inboxes:read"]}).json()

    assert {key["name"] for key in agent.get("/v1/api-keys").json()["data"]} == {"inner", "test"}
    error_of(agent.ask("DELETE", f"/v1/api-keys/{wide['id']}"), 404, "not_found")
    assert agent.ask("DELETE", f"/v1/api-keys/{made['id']}").status_code == 204


def test_a_domain_comes_with_the_records_to_publish(owner: Api) -> None:
    answer = owner.post("/v1/domains", {"domain": "Mail.BÜCHER.example"})
    assert answer.status_code == 201
    domain = answer.json()
    assert domain["domain"] == "mail.xn--bcher-kva.example"
    assert (domain["status"], domain["shared"]) == ("pending", False)
    assert {"ownership", "mx", "spf", "dmarc", "dkim"} == {record["purpose"] for record in domain["records"]}
    assert next(record for record in domain["records"] if record["type"] == "MX")["priority"] == 10
    assert owner.get(f"/v1/domains/{domain['id']}").json() == domain


def test_a_domain_that_is_none_or_known_is_refused(owner: Api) -> None:
    for name in ("", "localhost", "a b.example", "-a.example", "x" * 300, "a..b", "example.com\0"):
        error_of(owner.post("/v1/domains", {"domain": name}), 400, "validation_failed")
    assert owner.post("/v1/domains", {"domain": "acme.example.com"}).status_code == 201
    error_of(owner.post("/v1/domains", {"domain": "acme.example.com"}), 409, "conflict")
    error_of(owner.post("/v1/domains", {"domain": "agents.localhost"}), 409, "conflict")
    error_of(owner.post("/v1/domains", {}), 400, "validation_failed")


def test_domains_are_listed_with_the_shared_ones_by_constant_queries(
    owner: Api, outsider: Api, django_assert_num_queries: Any
) -> None:
    for number in range(3):
        owner.post("/v1/domains", {"domain": f"d{number}.example.com"})
    with django_assert_num_queries(3):  # the key, the list, the DKIM keys
        listed = owner.get("/v1/domains").json()["data"]
    assert [row["domain"] for row in listed][:3] == ["d2.example.com", "d1.example.com", "d0.example.com"]
    assert [row["domain"] for row in listed if row["shared"]] == ["agents.localhost"]
    assert [row["domain"] for row in outsider.get("/v1/domains").json()["data"]] == ["agents.localhost"]


def test_verifying_a_shared_domain_changes_nothing(owner: Api) -> None:
    shared = Domain.objects.get(name="agents.localhost")
    answer = owner.post(f"/v1/domains/{encode_id('dom', shared.id)}/verify")
    assert (answer.status_code, answer.json()["status"]) == (200, "verified")


@pytest.fixture
def facts(transactional_db: None, organization: Organization, mailbox: Mailbox) -> list[str]:
    """Six events of Acme's inbox, beside the one of its making; each committed by itself."""
    for number in range(6):
        kind = EventType.MESSAGE_RECEIVED if number % 2 else EventType.MESSAGE_SENT
        record_events(
            events=[NewEvent(kind, organization.id, mailbox.id, {"message_id": str(mailbox.id), "n": number})],
            now=timezone.now(),
        )
    return []


def eventually(look: Callable[[], Any], expected: Any) -> None:
    """Events show when every older transaction of the whole server has ended, other tests' too."""
    for _ in range(200):
        if look() == expected:
            return
        time.sleep(0.1)
    assert look() == expected


def numbers(answer: Any) -> list[int]:
    return [row["data"]["n"] for row in answer.json()["data"] if "n" in row["data"]]


def kinds(answer: Any) -> list[str]:
    return [row["type"] for row in answer.json()["data"]]


def last_event(api: Api) -> str:
    """The id of the newest event, once all facts show."""
    eventually(lambda: numbers(api.get("/v1/events")), [5, 4, 3, 2, 1, 0])
    return str(api.get("/v1/events?limit=1").json()["data"][0]["id"])


@pytest.mark.django_db(transaction=True)
def test_events_page_in_commit_order_both_ways(facts: Any, owner: Api, outsider: Api) -> None:
    eventually(lambda: numbers(owner.get("/v1/events")), [5, 4, 3, 2, 1, 0])
    assert numbers(owner.get("/v1/events?ascending=true")) == [0, 1, 2, 3, 4, 5]
    assert numbers(outsider.get("/v1/events")) == []
    seen: list[int] = []
    cursor = ""
    for _ in range(10):
        page = owner.get(f"/v1/events?limit=2&ascending=true{cursor}")
        seen += numbers(page)
        if page.json()["next_cursor"] is None:
            break
        cursor = f"&cursor={page.json()['next_cursor']}"
    assert seen == [0, 1, 2, 3, 4, 5]


@pytest.mark.django_db(transaction=True)
def test_a_reader_goes_on_after_the_event_it_saw_last(facts: Any, owner: Api, outsider: Api, mailbox: Mailbox) -> None:
    last = last_event(owner)
    assert owner.get(f"/v1/events?after={last}").json() == {"data": [], "next_cursor": None}
    deposit_mail(mailbox)
    deposit_mail(mailbox)
    eventually(lambda: len(owner.get(f"/v1/events?after={last}").json()["data"]), 2)
    page = owner.get(f"/v1/events?after={last}&limit=1").json()
    assert [row["type"] for row in page["data"]] == ["message.received"]
    rest = owner.get(f"/v1/events?after={last}&limit=1&cursor={page['next_cursor']}").json()
    assert len(rest["data"]) == 1
    assert rest["data"] != page["data"]
    assert rest["next_cursor"] is None
    error_of(outsider.get(f"/v1/events?after={last}"), 400, "validation_failed")


@pytest.mark.django_db(transaction=True)
def test_events_filter_by_type_and_inbox(facts: Any, owner: Api, mailbox: Mailbox, make_mailbox: Any) -> None:
    eventually(lambda: numbers(owner.get("/v1/events?type=message.sent")), [4, 2, 0])
    assert len(numbers(owner.get("/v1/events?type=message.sent,message.received"))) == 6
    assert len(numbers(owner.get("/v1/events?type=message.sent&type=message.received"))) == 6
    other = make_mailbox("bob")
    eventually(lambda: kinds(owner.get(f"/v1/events?inbox={other.address}")), ["inbox.created"])
    error_of(owner.get("/v1/events?type=message.eaten"), 400, "validation_failed")
    error_of(owner.get("/v1/events?inbox=nobody@agents.localhost"), 404, "not_found")
    error_of(owner.get("/v1/events?after=evt_x"), 400, "validation_failed")


@pytest.mark.django_db(transaction=True)
def test_ids_inside_events_are_the_apis_ids(facts: Any, owner: Api, mailbox: Mailbox) -> None:
    last_event(owner)
    row = owner.get("/v1/events?limit=1").json()["data"][0]
    assert row["data"]["message_id"] == encode_id("msg", mailbox.id)
    assert row["inbox_id"] == encode_id("inbox", mailbox.id)


@pytest.mark.django_db(transaction=True)
def test_a_narrowed_key_sees_the_events_of_its_inboxes_only(
    facts: Any, organization: Organization, make_api: MakeApi, make_mailbox: Any
) -> None:
    other = make_mailbox("bob")
    api = make_api(organization, inbox_ids=[other.id])
    eventually(lambda: kinds(api.get("/v1/events")), ["inbox.created"])


@pytest.mark.django_db(transaction=True)
def test_two_writers_that_commit_in_the_other_order_leave_no_gap(
    facts: Any, owner: Api, organization: Organization, mailbox: Mailbox
) -> None:
    began, may_commit = threading.Event(), threading.Event()

    def write_slowly() -> None:
        with transaction.atomic():
            record_events(
                events=[NewEvent(EventType.MESSAGE_SENT, organization.id, mailbox.id, {"n": 100})], now=timezone.now()
            )
            began.set()
            may_commit.wait(10)
        connection.close()

    last = last_event(owner)
    slow = threading.Thread(target=write_slowly)
    slow.start()
    began.wait(10)
    record_events(
        events=[NewEvent(EventType.MESSAGE_SENT, organization.id, mailbox.id, {"n": 101})], now=timezone.now()
    )
    # The later one is committed, but shown only when nothing can come before it any more.
    assert numbers(owner.get(f"/v1/events?after={last}")) == []
    may_commit.set()
    slow.join(10)
    eventually(lambda: numbers(owner.get(f"/v1/events?after={last}")), [100, 101])
