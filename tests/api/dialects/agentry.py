"""A client of Agentry's and AgentMail's, and what their documents say of answers."""

import json
import re
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from django.test import Client

from apps.accounts.models import SCOPES, Organization
from apps.accounts.services import create_api_key
from apps.domains.models import Domain

AGENTRY, AGENTMAIL = "/dialects/agentry/agent", "/dialects/agentmail"
MOUNTS = (AGENTRY, AGENTMAIL)
REQUIRED = {"created_at", "email", "inbox_id", "pod_id", "updated_at"}
ANY_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


class Agent:
    """A client of the vendor's, with a key, at one of the mounts."""

    def __init__(self, secret: str, base: str = AGENTRY) -> None:
        self.secret, self.base = secret, base

    def at(self, base: str) -> "Agent":
        return Agent(self.secret, base)

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        extra = {"HTTP_AUTHORIZATION": f"Bearer {self.secret}"} | headers
        return Client().generic(method, self.base + path, data, "application/json", **extra)

    def get(self, path: str) -> Any:
        return self.ask("GET", path)

    def create(self, **body: Any) -> dict[str, Any]:
        answer = self.ask("POST", "/v0/inboxes", body)
        assert answer.status_code == 200, answer.content
        return answer.json()


def check_inbox(inbox: dict[str, Any]) -> None:
    """The fields and types of the document, and no others."""
    assert REQUIRED <= set(inbox) <= REQUIRED | {"client_id", "display_name"}
    assert all(isinstance(value, str) and value for value in inbox.values())
    assert inbox["inbox_id"] == inbox["email"]
    assert ANY_TIME.fullmatch(inbox["created_at"])
    assert ANY_TIME.fullmatch(inbox["updated_at"])


def check_problems(answer: Any, field: str) -> None:
    """400 as the document shows it."""
    assert answer.status_code == 400, answer.content
    body = answer.json()
    assert set(body) == {"name", "errors"}
    assert isinstance(body["name"], str)
    assert list(body["errors"]) == [field]
    assert all(isinstance(problem, str) for problem in body["errors"][field])


def check_message(answer: Any, status: int, name: str) -> None:
    """Every other error, as the document shows it."""
    assert answer.status_code == status, answer.content
    assert set(answer.json()) == {"name", "message"}
    assert answer.json()["name"] == name
    assert answer.json()["message"]


MakeAgent = Callable[..., Agent]


@pytest.fixture
def make_agent(organization: Organization, shared_domain: Domain, now: datetime) -> MakeAgent:
    def make(of: Organization | None = None, scopes: Any = SCOPES, **narrowing: Any) -> Agent:
        key = create_api_key(organization=of or organization, name="agent", scopes=scopes, now=now, **narrowing)
        return Agent(key[1])

    return make


@pytest.fixture
def agent(make_agent: MakeAgent) -> Agent:
    return make_agent()


@pytest.fixture
def stranger_agent(make_agent: MakeAgent, stranger: Organization) -> Agent:
    return make_agent(of=stranger)


@pytest.fixture(params=MOUNTS, ids=["agentry", "agentmail"])
def anywhere(request: pytest.FixtureRequest, agent: Agent) -> Agent:
    """The same at both mounts."""
    return agent.at(request.param)
