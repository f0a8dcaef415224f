"""Keys, and every error in the vendors' shape, at Agentry's mount and at AgentMail's."""

import json
from datetime import datetime
from typing import Any

import pytest
from django.db import OperationalError
from django.test import Client

from apps.accounts.errors import Unauthorized
from apps.accounts.models import ApiKey
from apps.accounts.services import create_api_key, revoke_api_key
from apps.api.dialects.agentry import views
from apps.api.dialects.agentry.errors import SHOWN_AS, show_error
from apps.api.errors import InternalError
from apps.api.native.errors import STATUS_OF
from apps.core.errors import DomainError
from apps.mailboxes.models import Mailbox
from tests.api.dialects.agentry import (
    AGENTMAIL,
    MOUNTS,
    Agent,
    MakeAgent,
    check_message,
)
from tests.apps.conftest import MakeMailbox

pytestmark = pytest.mark.django_db


class TestKeys:
    @pytest.mark.parametrize("path", ["/v0/inboxes", "/v0/inboxes/a@b.example", "/v0/pods", "/v0/threads", "/v0/x"])
    @pytest.mark.parametrize("base", MOUNTS)
    def test_every_address_asks_for_one(self, base: str, path: str, db: None) -> None:
        answer = Client().get(base + path)
        assert (answer.status_code, answer.json()["name"]) == (401, "UnauthorizedError")
        assert answer.headers["WWW-Authenticate"] == "Bearer"

    def test_agentmail_tells_none_from_unknown(self, agent: Agent) -> None:
        ask = agent.at(AGENTMAIL).ask
        for header in ("", "Bearer", "Bearer ", "Basic abc"):
            assert ask("GET", "/v0/inboxes", HTTP_AUTHORIZATION=header).json()["code"] == "missing_authorization"
        for header in ("Bearer mh_wrong", "bearer am_x", "Bearer \xff"):
            assert ask("GET", "/v0/inboxes", HTTP_AUTHORIZATION=header).json()["code"] == "unknown_api_key"

    def test_a_revoked_one_is_401(self, agent: Agent, now: datetime) -> None:
        revoke_api_key(key=ApiKey.objects.get(), now=now)
        check_message(agent.get("/v0/inboxes"), 401, "UnauthorizedError")

    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("POST", "/v0/inboxes"),
            ("PATCH", "/v0/inboxes/alice@agents.localhost"),
            ("DELETE", "/v0/inboxes/alice@agents.localhost"),
            ("POST", "/v0/pods"),
            ("DELETE", "/v0/pods/x"),
        ],
    )
    def test_one_that_may_only_read_changes_nothing(
        self, make_agent: MakeAgent, mailbox: Mailbox, method: str, path: str
    ) -> None:
        reader = make_agent(scopes=["inboxes:read"])
        assert reader.get("/v0/inboxes").json()["count"] == 1
        check_message(reader.ask(method, path, {"display_name": "x"}), 403, "ForbiddenError")

    def test_one_without_the_scope_reads_nothing(self, make_agent: MakeAgent) -> None:
        check_message(make_agent(scopes=["messages:read"]).get("/v0/inboxes"), 403, "ForbiddenError")

    def test_one_narrowed_to_inboxes_sees_these_only(self, make_agent: MakeAgent, make_mailbox: MakeMailbox) -> None:
        mine, other = make_mailbox("mine"), make_mailbox("other")
        narrow = make_agent(inbox_ids=[mine.id])
        assert [inbox["email"] for inbox in narrow.get("/v0/inboxes").json()["inboxes"]] == [mine.address]
        check_message(narrow.get(f"/v0/inboxes/{other.address}"), 404, "NotFoundError")
        check_message(narrow.ask("POST", "/v0/inboxes"), 403, "ForbiddenError")
        check_message(narrow.ask("POST", "/v0/pods"), 403, "ForbiddenError")
        assert narrow.get("/v0/pods").json()["count"] == 1

    def test_a_platform_key_has_no_inboxes(self, now: datetime, db: None) -> None:
        platform = Agent(create_api_key(organization=None, name="platform", scopes=["admin"], now=now)[1])
        check_message(platform.get("/v0/inboxes"), 403, "ForbiddenError")

    def test_one_that_has_made_its_inboxes_makes_no_more(self, make_agent: MakeAgent) -> None:
        agent = make_agent(max_inboxes=1)
        agent.create()
        check_message(agent.ask("POST", "/v0/inboxes"), 403, "LimitExceededError")


class TestErrors:
    def test_every_code_of_ours_has_a_place(self) -> None:
        assert set(SHOWN_AS) == set(STATUS_OF)

    @pytest.mark.parametrize("code", sorted(STATUS_OF))
    def test_every_error_has_the_documented_fields(self, code: str) -> None:
        error = type("Made", (DomainError,), {"code": code, "__doc__": "It went wrong.", "fix": "Do it right."})()
        for is_agentmail in (False, True):
            answer = show_error(error, is_agentmail=is_agentmail)
            body = json.loads(answer.content)
            assert 400 <= answer.status_code < 600
            wanted = {"name", "errors"} if answer.status_code == 400 else {"name", "message"}
            assert set(body) == wanted | ({"code", "message", "fix"} if is_agentmail else set())
            assert ("Retry-After" in answer.headers) == (answer.status_code in (429, 503))

    def test_retry_after_is_what_the_error_says(self) -> None:
        error = Unauthorized(retry_after=77)
        error.code = "rate_limited"  # type: ignore[misc]
        assert show_error(error, is_agentmail=False).headers["Retry-After"] == "77"

    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("GET", "/v0/threads"),
            ("POST", "/v0/inboxes/a@b.example/messages/send"),
            ("GET", "/v0/inboxes/search"),
            ("GET", "/v0/inboxes/a@b.example/messages/%3Cx@y.example%3E"),
            ("PATCH", "/v0/pods/x/webhooks/y/headers"),
        ],
    )
    def test_what_is_known_and_not_supported_says_so(self, anywhere: Agent, method: str, path: str) -> None:
        answer = anywhere.ask(method, path)
        assert (answer.status_code, answer.json()["name"]) == (501, "NotSupportedError")

    @pytest.mark.parametrize("path", ["/", "/v0", "/v0/", "/v0/nothing", "/v1/inboxes", "/v0/inboxes/a@b/c/d"])
    def test_what_is_nowhere_is_404(self, anywhere: Agent, path: str) -> None:
        answer = anywhere.get(path)
        assert (answer.status_code, answer.json()["name"]) == (404, "NotFoundError")

    def test_agentrys_mount_begins_with_agent(self, agent: Agent) -> None:
        check_message(agent.at("/dialects/agentry").get("/v0/inboxes"), 404, "NotFoundError")

    @pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "OPTIONS"])
    def test_other_methods_are_405(self, agent: Agent, method: str) -> None:
        answer = agent.ask(method, "/v0/inboxes")
        check_message(answer, 405, "MethodNotAllowedError")
        assert answer.headers["Allow"] == "GET, POST"

    @pytest.mark.parametrize(
        ("failure", "status", "name"),
        [
            (OperationalError("gone"), 503, "ServiceUnavailableError"),
            (RuntimeError("secret words"), 500, "InternalServerError"),
        ],
    )
    def test_what_nobody_expected_is_told_in_the_vendors_shape(
        self, agent: Agent, monkeypatch: pytest.MonkeyPatch, failure: Exception, status: int, name: str
    ) -> None:
        def fail(*args: Any, **kwargs: Any) -> None:
            raise failure

        monkeypatch.setattr(views, "create_mailbox", fail)
        answer = agent.ask("POST", "/v0/inboxes")
        check_message(answer, status, name)
        assert b"secret words" not in answer.content
        assert InternalError.code in SHOWN_AS
