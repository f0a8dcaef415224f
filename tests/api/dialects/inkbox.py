"""A client of Inkbox's, and what its document says of answers."""

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any
from uuid import UUID

import pytest
from django.test import Client

from apps.accounts.models import SCOPES, Organization
from apps.accounts.services import create_api_key
from apps.domains.models import Domain
from apps.domains.services import create_domain

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


MakeInkbox = Callable[..., Inkbox]


@pytest.fixture
def make_inkbox(now: datetime) -> MakeInkbox:
    """Makes a client with a key of an organization, narrowed as asked."""

    def make(of: Organization | None, scopes: Any = SCOPES, **narrowing: Any) -> Inkbox:
        return Inkbox(create_api_key(organization=of, name="test", scopes=scopes, now=now, **narrowing)[1])

    return make


@pytest.fixture
def inkbox(organization: Organization, shared_domain: Domain, make_inkbox: MakeInkbox) -> Inkbox:
    return make_inkbox(organization)


@pytest.fixture
def stranger_inkbox(stranger: Organization, shared_domain: Domain, make_inkbox: MakeInkbox) -> Inkbox:
    return make_inkbox(stranger)


@pytest.fixture
def inkbox_domain(organization: Organization, now: datetime) -> Domain:
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
