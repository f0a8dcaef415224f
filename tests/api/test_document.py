"""The error table, the OpenAPI document, its page, and the whole behind a real server."""

import json
import re
import urllib.request
from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest
from django.core.management import call_command
from django.db import OperationalError
from django.test import Client
from django.urls import get_resolver

from apps.api.native import auth
from apps.api.native.errors import STATUS_OF
from apps.api.native.openapi import generate_schema, read_schema_file, render_schema
from apps.api.native.views.base import NativeView
from apps.core.errors import DomainError
from tests.api.conftest import DOCUMENT, Api, error_of


def all_errors(kind: type[DomainError] = DomainError) -> Iterator[type[DomainError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from all_errors(child)


@pytest.mark.parametrize("error", sorted(all_errors(), key=lambda kind: kind.__name__))
def test_every_error_has_a_status_a_sentence_and_a_fix(error: type[DomainError]) -> None:
    assert error.code in STATUS_OF
    assert error.__doc__
    if error is not DomainError:
        assert error.fix


def test_the_document_is_current() -> None:
    assert read_schema_file().decode() == render_schema(generate_schema()), "run manage.py check_openapi --write"
    call_command("check_openapi", stdout=mock.Mock())


def test_every_view_is_documented_and_every_operation_described() -> None:
    documented = {
        (method.upper(), re.sub(r"\{\w+\}", "{}", address))
        for address, operations in DOCUMENT["paths"].items()
        for method in operations
    }
    served = set()
    for pattern in get_resolver("apps.api.native.urls").url_patterns:
        view = getattr(pattern.callback, "cls", None)
        if isinstance(view, type) and issubclass(view, NativeView) and view.scopes:
            address = "/v1/" + re.sub(r"<[^>]+>", "{}", str(pattern.pattern))
            served |= {(method, address) for method in view.scopes}
    assert documented == served
    for operations in DOCUMENT["paths"].values():
        for operation in operations.values():
            assert operation["summary"]
            assert {"401", "500", "503"} <= operation["responses"].keys()


def test_operations_have_names_of_their_own() -> None:
    names = [operation["operationId"] for item in DOCUMENT["paths"].values() for operation in item.values()]
    assert len(names) == len(set(names)) == 30
    assert DOCUMENT["openapi"].startswith("3.1")


def test_the_document_and_its_page_are_served_without_outside_assets(db: None) -> None:
    assert Client().get("/v1/openapi.json").json()["info"]["title"] == "Mailhost"
    page = Client().get("/docs")
    text = page.content.decode()
    assert not re.search(r"""(?:src|href)=["'](?:https?:)?//""", text)
    for asset in re.findall(r"""(?:src|href)=["']([^"']+)["']""", text):
        answer = Client().get(asset)
        assert answer.status_code == 200, asset
        answer.close()


def test_what_nobody_expected_is_an_internal_error_that_tells_nothing(
    owner: Api, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(**_: Any) -> None:
        raise ZeroDivisionError("secret inside")

    monkeypatch.setattr(auth, "authenticate_key", fail)
    answer = owner.get("/v1/me")
    error_of(answer, 500, "internal_error")
    assert b"secret inside" not in answer.content
    assert "secret inside" in caplog.text


def test_a_database_that_is_away_is_told_with_retry_after(owner: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: Any) -> None:
        raise OperationalError("connection refused")

    monkeypatch.setattr(auth, "authenticate_key", fail)
    answer = owner.get("/v1/me")
    error_of(answer, 503, "unavailable")
    assert answer.headers["Retry-After"] == "2"


@pytest.mark.django_db(transaction=True)
def test_it_works_behind_a_real_server(live_server: Any, owner: Api) -> None:
    def ask(method: str, path: str, body: Any = None) -> tuple[int, Any]:
        request = urllib.request.Request(
            live_server.url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {owner.secret}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            content = answer.read()
            return answer.status, json.loads(content) if content else None

    status, inbox = ask("POST", "/v1/inboxes", {"username": "agent"})
    assert status == 201
    status, sent = ask("POST", f"/v1/inboxes/{inbox['id']}/messages", {"to": inbox["address"], "text": "x"})
    assert status == 202
    assert ask("GET", f"/v1/messages/{sent['id']}")[1]["text"] == "x"
    assert ask("DELETE", f"/v1/inboxes/{inbox['address']}") == (204, None)
