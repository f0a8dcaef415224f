"""Every request of the Agentry document, as printed there, at Agentry's mount and at AgentMail's."""

from datetime import datetime
from typing import Any
from uuid import UUID

import pytest
from django.test import Client

from apps.accounts.models import Organization
from apps.api.dialects.agentry.outputs import STATUS_SHOWN
from apps.delivery.models import Delivery
from apps.domains.models import Domain
from apps.domains.services import create_domain
from apps.mail.models import Message
from apps.mailboxes.models import Mailbox, Pod
from apps.mailboxes.services import suspend_mailbox
from tests.api.dialects.agentry import (
    AGENTMAIL,
    REQUIRED,
    Agent,
    check_inbox,
    check_message,
    check_problems,
)
from tests.api.mail import deposit_mail
from tests.apps.conftest import MakeMailbox

pytestmark = pytest.mark.django_db


class TestCreate:
    def test_with_everything_printed(self, agent: Agent) -> None:
        body = {
            "client_id": "agent-7",
            "display_name": "Support Bot",
            "domain": "agents.localhost",
            "username": "support",
        }
        answer = agent.ask("POST", "/v0/inboxes", body)
        assert answer.status_code == 200
        assert answer.headers["Content-Type"] == "application/json"
        inbox = answer.json()
        check_inbox(inbox)
        assert (inbox["email"], inbox["display_name"]) == ("support@agents.localhost", "Support Bot")
        assert inbox["client_id"] == "agent-7"
        assert UUID(inbox["pod_id"]) == Pod.objects.get(is_default=True).id

    @pytest.mark.parametrize("body", [None, b"", {}, {"username": None, "domain": None, "display_name": None}])
    def test_with_nothing_said(self, anywhere: Agent, body: Any) -> None:
        answer = anywhere.ask("POST", "/v0/inboxes", body)
        assert answer.status_code == 200
        check_inbox(answer.json())
        assert set(answer.json()) == REQUIRED
        assert answer.json()["email"].endswith("@agents.localhost")

    def test_the_same_client_id_answers_with_the_same_inbox(
        self, agent: Agent, stranger_agent: Agent, organization: Organization
    ) -> None:
        inbox = agent.create(client_id="agent-7")
        assert agent.create(client_id="agent-7", username="other", display_name="Other") == inbox
        assert agent.at(AGENTMAIL).create(client_id="agent-7") == inbox
        assert stranger_agent.create(client_id="agent-7")["email"] != inbox["email"]
        assert Mailbox.objects.filter(organization=organization).count() == 1
        agent.ask("DELETE", f"/v0/inboxes/{inbox['inbox_id']}")
        assert agent.create(client_id="agent-7")["email"] != inbox["email"]

    def test_unknown_fields_are_ignored(self, agent: Agent) -> None:
        check_inbox(agent.create(color="blue", metadata={"a": 1}, status="paused"))
        assert Mailbox.objects.get().status == Mailbox.Status.ACTIVE
        assert Mailbox.objects.get().metadata == {}

    def test_a_domain_must_be_verified_and_the_organizations(
        self, agent: Agent, organization: Organization, stranger: Organization, now: datetime
    ) -> None:
        create_domain(organization=organization, name="waiting.example", now=now)
        theirs = create_domain(organization=stranger, name="theirs.example", now=now)
        theirs.ownership_verified_at = now
        theirs.sending_status = theirs.status = Domain.Status.VERIFIED
        theirs.save()
        for domain in ("waiting.example", "theirs.example", "nowhere.example", "not a domain"):
            check_problems(agent.ask("POST", "/v0/inboxes", {"domain": domain}), "domain")
        assert not Mailbox.objects.exists()

        mail = agent.at(AGENTMAIL)
        refused = mail.ask("POST", "/v0/inboxes", {"domain": "waiting.example"})
        assert (refused.status_code, refused.json()["code"]) == (403, "domain_not_verified")
        unknown = mail.ask("POST", "/v0/inboxes", {"domain": "theirs.example"})
        assert (unknown.status_code, unknown.json()["errors"][0]["path"]) == (400, "domain")

    def test_a_verified_domain_of_its_own_serves(self, agent: Agent, organization: Organization, now: datetime) -> None:
        domain = create_domain(organization=organization, name="acme.example", now=now)
        domain.ownership_verified_at = now
        domain.sending_status = domain.status = Domain.Status.VERIFIED
        domain.save()
        assert agent.create(username="a", domain="ACME.example")["email"] == "a@acme.example"

    def test_a_taken_username_is_refused(self, agent: Agent, stranger_agent: Agent) -> None:
        agent.create(username="support")
        for asker in (agent, stranger_agent):
            answer = asker.ask("POST", "/v0/inboxes", {"username": "Support"})
            check_problems(answer, "username")
            assert answer.json()["name"] == "IsTakenError"
        answer = agent.at(AGENTMAIL).ask("POST", "/v0/inboxes", {"username": "support"})
        assert (answer.status_code, answer.json()["code"]) == (403, "resource_taken")

    @pytest.mark.parametrize(
        ("body", "field"),
        [
            ({"username": 1}, "username"),
            ({"username": ["a"]}, "username"),
            ({"username": "a b"}, "username"),
            ({"username": "a+b"}, "username"),
            ({"username": "x" * 65}, "username"),
            ({"domain": {}}, "domain"),
            ({"display_name": True}, "display_name"),
            ({"display_name": "a\r\nBcc: x@y.example"}, "display_name"),
            ({"display_name": "x" * 256}, "display_name"),
            ({"display_name": "a\0"}, "display_name"),
            ({"client_id": 7}, "client_id"),
            ({"client_id": ""}, "client_id"),
            ({"client_id": "x" * 257}, "client_id"),
            ({"client_id": "a\0"}, "client_id"),
            (b'{"client_id": "a\\ud800"}', "client_id"),
            (b"[]", "body"),
            (b'"text"', "body"),
            (b"{", "body"),
            (b"\xff", "body"),
            (b"[" * 100_000, "body"),
        ],
    )
    def test_wrong_values_are_named(self, agent: Agent, body: Any, field: str) -> None:
        check_problems(agent.ask("POST", "/v0/inboxes", body), field)
        answer = agent.at(AGENTMAIL).ask("POST", "/v0/inboxes", body)
        assert answer.status_code == 400
        assert set(answer.json()) >= {"name", "code", "message", "errors"}
        assert [set(problem) for problem in answer.json()["errors"]] == [{"path", "message"}]
        assert answer.json()["errors"][0]["path"] == field
        assert not Mailbox.objects.exists()


class TestList:
    def test_an_empty_list(self, anywhere: Agent) -> None:
        answer = anywhere.get("/v0/inboxes")
        assert (answer.status_code, answer.json()) == (200, {"count": 0, "inboxes": [], "limit": 20})

    @pytest.mark.parametrize(("query", "turned"), [("", False), ("&ascending=false", False), ("&ascending=true", True)])
    def test_pages_follow_one_another(self, anywhere: Agent, query: str, turned: bool) -> None:
        made = [anywhere.create()["inbox_id"] for _ in range(5)]
        seen: list[str] = []
        counts, token = [], ""
        for _ in range(3):
            page = anywhere.get(f"/v0/inboxes?limit=2{query}{token}").json()
            seen += [inbox["inbox_id"] for inbox in page["inboxes"]]
            counts.append(page["count"])
            assert page["limit"] == 2
            for inbox in page["inboxes"]:
                check_inbox(inbox)
            token = f"&page_token={page.get('next_page_token')}"
        assert counts == [2, 2, 1]
        assert seen == (made if turned else made[::-1])
        assert "next_page_token" not in page
        assert anywhere.get("/v0/inboxes?limit=5").json().keys() == {"count", "limit", "inboxes"}

    @pytest.mark.parametrize(
        ("query", "field"),
        [
            ("limit=0", "limit"),
            ("limit=-1", "limit"),
            ("limit=x", "limit"),
            ("limit=1.5", "limit"),
            ("limit=" + "9" * 5000, "limit"),
            ("ascending=perhaps", "ascending"),
            ("page_token=rubbish", "page_token"),
            ("page_token=%00", "page_token"),
            ("page_token=" + "A" * 5000, "page_token"),
        ],
    )
    def test_bad_parameters_are_named(self, agent: Agent, query: str, field: str) -> None:
        check_problems(agent.get(f"/v0/inboxes?{query}"), field)
        assert agent.at(AGENTMAIL).get(f"/v0/inboxes?{query}").json()["errors"][0]["path"] == field

    def test_a_token_serves_its_own_list_only(self, agent: Agent, stranger_agent: Agent) -> None:
        for _ in range(2):
            agent.create()
        token = agent.get("/v0/inboxes?limit=1").json()["next_page_token"]
        assert agent.at(AGENTMAIL).get(f"/v0/inboxes?limit=9&page_token={token}").json()["count"] == 1
        check_problems(agent.get(f"/v0/inboxes?ascending=true&page_token={token}"), "page_token")
        check_problems(stranger_agent.get(f"/v0/inboxes?page_token={token}"), "page_token")
        pod = Pod.objects.get(is_default=True)
        check_problems(agent.get(f"/v0/pods/{pod.id}/inboxes?page_token={token}"), "page_token")

    def test_a_large_limit_is_cut_and_empty_or_unknown_parameters_are_ignored(self, agent: Agent) -> None:
        assert agent.get("/v0/inboxes?limit=5000").json()["limit"] == 100
        assert agent.get("/v0/inboxes?limit=&ascending=&page_token=&color=blue&color=%00").status_code == 200

    def test_it_costs_the_same_for_one_and_for_many(
        self, agent: Agent, make_mailbox: MakeMailbox, django_assert_max_num_queries: Any
    ) -> None:
        for _ in range(20):
            make_mailbox()
        with django_assert_max_num_queries(3):
            assert agent.get("/v0/inboxes").json()["count"] == 20


class TestGet:
    @pytest.mark.parametrize(
        "form", ["agent-7@agents.localhost", "agent-7%40agents.localhost", "AGENT-7@Agents.Localhost"]
    )
    def test_by_address_escaped_or_not(self, anywhere: Agent, form: str) -> None:
        inbox = anywhere.create(username="agent-7")
        for path in (f"/v0/inboxes/{form}", f"/v0/inboxes/{form}/"):
            assert anywhere.get(path).json() == inbox

    def test_a_local_part_with_a_slash(self, agent: Agent) -> None:
        inbox = agent.create(username="a/b")
        assert agent.get("/v0/inboxes/a%2Fb%40agents.localhost").json() == inbox
        assert agent.ask("DELETE", "/v0/inboxes/a/b@agents.localhost").status_code == 200

    @pytest.mark.parametrize(
        "inbox_id", ["no-one@agents.localhost", "no-one", "a@b@c", "%00@agents.localhost", "%FF%FE", "x" * 3000]
    )
    @pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
    def test_what_is_not_there_is_404(self, agent: Agent, method: str, inbox_id: str) -> None:
        body = {"display_name": "x"} if method == "PATCH" else None
        check_message(agent.ask(method, f"/v0/inboxes/{inbox_id}", body), 404, "NotFoundError")

    @pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
    def test_a_stranger_finds_nothing(self, agent: Agent, stranger_agent: Agent, method: str) -> None:
        inbox = agent.create(username="support")
        answer = stranger_agent.ask(method, "/v0/inboxes/support@agents.localhost", {"display_name": "x"})
        check_message(answer, 404, "NotFoundError")
        assert stranger_agent.get("/v0/inboxes").json()["count"] == 0
        assert agent.get("/v0/inboxes/support@agents.localhost").json() == inbox


class TestUpdate:
    def test_with_everything_printed(self, anywhere: Agent) -> None:
        inbox = anywhere.create(username="support", client_id="c", display_name="Before")
        answer = anywhere.ask("PATCH", "/v0/inboxes/support@agents.localhost", {"display_name": "Süpport"})
        assert answer.status_code == 200
        changed = answer.json()
        check_inbox(changed)
        assert changed == inbox | {"display_name": "Süpport", "updated_at": changed["updated_at"]}
        assert changed["updated_at"] > inbox["updated_at"]
        assert anywhere.get("/v0/inboxes/support@agents.localhost").json() == changed

    def test_an_empty_name_takes_it_away(self, anywhere: Agent) -> None:
        inbox = anywhere.create(display_name="Before")
        answer = anywhere.ask("PATCH", f"/v0/inboxes/{inbox['inbox_id']}", {"display_name": ""})
        assert "display_name" not in answer.json()

    @pytest.mark.parametrize(
        "body", [None, {}, {"display_name": None}, {"display_name": 5}, {"display_name": "a\nb"}, {"status": "paused"}]
    )
    def test_agentrys_needs_a_display_name(self, agent: Agent, body: Any) -> None:
        inbox = agent.create(display_name="Before")
        check_problems(agent.ask("PATCH", f"/v0/inboxes/{inbox['inbox_id']}", body), "display_name")
        assert agent.get(f"/v0/inboxes/{inbox['inbox_id']}").json() == inbox


class TestDelete:
    def test_it_answers_200_and_is_gone_with_its_mail(self, anywhere: Agent) -> None:
        inbox = anywhere.create(username="support")
        mailbox = Mailbox.objects.get()
        deposit_mail(mailbox)
        answer = anywhere.ask("DELETE", "/v0/inboxes/support@agents.localhost")
        assert (answer.status_code, answer.content) == (200, b"")
        assert "Content-Type" not in answer.headers
        for method in ("GET", "DELETE"):
            assert anywhere.ask(method, "/v0/inboxes/support@agents.localhost").status_code == 404
        assert anywhere.get("/v0/inboxes").json()["count"] == 0
        assert not Message.objects.exists()
        assert anywhere.create(username="support")["email"] == inbox["email"]

    def test_one_that_another_surface_only_closed_is_gone_too(self, agent: Agent, mailbox: Mailbox) -> None:
        Client().delete(f"/v1/inboxes/{mailbox.address}", headers={"authorization": f"Bearer {agent.secret}"})
        check_message(agent.get(f"/v0/inboxes/{mailbox.address}"), 404, "NotFoundError")
        assert agent.get("/v0/inboxes").json()["count"] == 0


class TestAgentMailsOwnFields:
    def test_status_and_metadata_at_creation(self, agent: Agent) -> None:
        mail = agent.at(AGENTMAIL)
        inbox = mail.create(status="paused", metadata={"team": "sales", "n": 1.5, "vip": True})
        assert (inbox["status"], inbox["metadata"]) == ("paused", {"team": "sales", "n": 1.5, "vip": True})
        assert mail.get("/v0/inboxes").json()["inboxes"] == [inbox]
        check_inbox(agent.get(f"/v0/inboxes/{inbox['inbox_id']}").json())
        assert "status" not in mail.create(status="active")

    def test_update_of_one_field_leaves_the_others(self, agent: Agent) -> None:
        mail = agent.at(AGENTMAIL)
        path = f"/v0/inboxes/{mail.create(display_name='A', metadata={'a': 1, 'b': 2})['inbox_id']}"
        assert mail.ask("PATCH", path, {"status": "paused"}).json()["status"] == "paused"
        changed = mail.ask("PATCH", path, {"metadata": {"a": None, "c": "x"}}).json()
        assert (changed["metadata"], changed["status"]) == ({"b": 2, "c": "x"}, "paused")
        changed = mail.ask("PATCH", path, {"status": "active", "metadata": None, "display_name": None}).json()
        assert (changed.keys() & {"status", "metadata"}, changed["display_name"]) == (set(), "A")

    @pytest.mark.parametrize(
        ("body", "path"),
        [
            ({}, "body"),
            ({"color": "blue"}, "body"),
            ({"metadata": {}}, "metadata"),
            ({"metadata": []}, "metadata"),
            ({"metadata": {"a": {}}}, "metadata.a"),
            ({"metadata": {"a": [1]}}, "metadata.a"),
            ({"metadata": {"a": "x" * 20_000}}, "metadata"),
            ({"status": "deleted"}, "status"),
            ({"status": ["paused"]}, "status"),
            ({"status": {}}, "status"),
        ],
    )
    def test_wrong_changes_are_named(self, agent: Agent, body: Any, path: str) -> None:
        mail = agent.at(AGENTMAIL)
        inbox = mail.create(metadata={"a": 1})
        answer = mail.ask("PATCH", f"/v0/inboxes/{inbox['inbox_id']}", body)
        assert (answer.status_code, answer.json()["errors"][0]["path"]) == (400, path)
        assert mail.get(f"/v0/inboxes/{inbox['inbox_id']}").json() == inbox

    def test_a_suspended_inbox_shows_as_paused_and_stays_so(self, agent: Agent, mailbox: Mailbox, now: Any) -> None:
        suspend_mailbox(mailbox=mailbox, reason="abuse", now=now)
        mail = agent.at(AGENTMAIL)
        assert mail.get(f"/v0/inboxes/{mailbox.address}").json()["status"] == "paused"
        answer = mail.ask("PATCH", f"/v0/inboxes/{mailbox.address}", {"status": "active"})
        assert (answer.status_code, answer.json()["name"]) == (409, "ConflictError")

    def test_every_status_of_ours_has_its_word(self) -> None:
        assert set(STATUS_SHOWN) == set(Mailbox.Status.values)


class TestHostsOfTheirOwn:
    def test_both_names_can_have_one(self, settings: Any, agent: Agent) -> None:
        settings.MAILHOST_DIALECT_HOSTS = {"agentry.example": "agentry", "agentmail.example": "agentmail"}
        agent.create(username="support")
        paths = {"agentry.example": "/agent/v0/inboxes", "agentmail.example": "/v0/inboxes"}
        for host, path in paths.items():
            client = Client(headers={"host": host, "authorization": f"Bearer {agent.secret}"})
            assert client.get(path).json()["count"] == 1
            assert client.get(f"{path}/support@agents.localhost").status_code == 200


def test_the_inbox_is_the_same_in_the_native_api_and_sends(agent: Agent) -> None:
    inbox = agent.create(username="support", display_name="Support Bot")
    native = Client(headers={"authorization": f"Bearer {agent.secret}"})
    assert native.get(f"/v1/inboxes/{inbox['email']}").json()["display_name"] == "Support Bot"
    sent = native.post(
        f"/v1/inboxes/{inbox['email']}/messages",
        {"to": "a@b.example", "subject": "s", "text": "t"},
        content_type="application/json",
    )
    assert sent.status_code == 202
    assert agent.ask("DELETE", f"/v0/inboxes/{inbox['email']}").status_code == 200
    assert not Delivery.objects.filter(status__in=["queued", "held", "scheduled"]).exists()
