"""The API as programs meet it: every answer is held against the OpenAPI document as it comes by."""

import json
import re
from collections.abc import Callable
from functools import cache
from typing import Any

import jsonschema
import pytest
from django.test import Client

from apps.accounts.models import SCOPES, Organization
from apps.accounts.services import create_api_key
from apps.api.native.openapi import read_schema_file
from apps.domains import services as domain_services
from mailhost.auth.dkim import generate_dkim_key
from tests.apps.conftest import (  # noqa: F401
    MakeMailbox,
    key,
    mailbox,
    make_mailbox,
    now,
    organization,
    shared_domain,
    stranger,
)

DOCUMENT: dict[str, Any] = json.loads(read_schema_file())


def _close_objects(node: Any) -> None:
    """Here nothing undocumented may be in an answer; clients must tolerate it, so the document does not say so."""
    if isinstance(node, dict):
        if "properties" in node and "additionalProperties" not in node:
            node["additionalProperties"] = False
        for child in node.values():
            _close_objects(child)
    elif isinstance(node, list):
        for child in node:
            _close_objects(child)


_close_objects(DOCUMENT["components"]["schemas"])
_PATHS = [
    (re.compile(re.sub(r"\\{(\w+)\\}", r"(?:[^/]+|[^@]+@[^/@]+)", re.escape(address))), operations)
    for address, operations in DOCUMENT["paths"].items()
]


def check_documented(method: str, path: str, answer: Any) -> None:
    """The status is documented for the operation, and the body is of the documented shape."""
    assert answer.headers["X-Request-Id"]
    is_json = answer.headers.get("Content-Type", "") == "application/json"
    operation = next((found for pattern, found in _PATHS if pattern.fullmatch(path)), {}).get(
        method.lower().replace("head", "get")
    )
    if operation is None:
        assert answer.status_code in (404, 405)
        schema = {"$ref": "#/components/schemas/Error"}
    else:
        documented = operation["responses"].get(str(answer.status_code))
        assert documented is not None, (
            f"{method} {path}: {answer.status_code} is not documented: {answer.content[:500]}"
        )
        schema = documented.get("content", {}).get("application/json", {}).get("schema", {})
    if is_json and method != "HEAD":
        jsonschema.Draft202012Validator({**schema, "components": DOCUMENT["components"]}).validate(answer.json())


class Api:
    """A client with a key."""

    def __init__(self, secret: str | None) -> None:
        self.secret = secret
        self._client = Client()

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        """One request; `body` is JSON, or bytes as they are."""
        content_type = headers.pop("content_type", "application/json")
        extra: dict[str, Any] = {f"HTTP_{name.upper()}": value for name, value in headers.items()}
        if self.secret is not None:
            extra.setdefault("HTTP_AUTHORIZATION", f"Bearer {self.secret}")
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        answer = self._client.generic(method, path, data, content_type, **extra)
        check_documented(method, path.partition("?")[0], answer)
        return answer

    def get(self, path: str, **headers: str) -> Any:
        return self.ask("GET", path, **headers)

    def post(self, path: str, body: Any = None, **headers: str) -> Any:
        return self.ask("POST", path, body, **headers)

    def patch(self, path: str, body: Any = None) -> Any:
        return self.ask("PATCH", path, body)

    def delete(self, path: str) -> Any:
        return self.ask("DELETE", path)


MakeApi = Callable[..., Api]


def error_of(answer: Any, status: int, code: str) -> dict[str, Any]:
    """The error of an answer, which has this status and code."""
    assert answer.status_code == status, answer.content[:500]
    error: dict[str, Any] = answer.json()["error"]
    assert error["code"] == code
    assert error["request_id"] == answer.headers["X-Request-Id"]
    assert error["message"]
    return error


@pytest.fixture(autouse=True)
def _one_signing_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Generating RSA keys is tested elsewhere, and would take most of the time of these tests."""
    monkeypatch.setattr(domain_services, "generate_dkim_key", _make_pair)


_make_pair = cache(generate_dkim_key)


@pytest.fixture
def make_api(now: Any) -> MakeApi:  # noqa: F811
    """Makes a client with a key of an organization, narrowed as asked."""

    def make(of: Organization | None, scopes: Any = SCOPES, **narrowing: Any) -> Api:
        return Api(create_api_key(organization=of, name="test", scopes=scopes, now=now, **narrowing)[1])

    return make


@pytest.fixture
def owner(organization: Organization, shared_domain: Any, make_api: MakeApi) -> Api:  # noqa: F811
    """A key of Acme's with every scope."""
    return make_api(organization)


@pytest.fixture
def outsider(stranger: Organization, shared_domain: Any, make_api: MakeApi) -> Api:  # noqa: F811
    """A key of another organization with every scope."""
    return make_api(stranger)
