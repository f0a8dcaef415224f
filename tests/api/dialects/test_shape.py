"""What holds for every dialect: coverage tables are current, the same files in each, a host name of its own works."""

import json
from importlib import import_module
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import call_command
from django.test import Client

from apps.api.dialect_urls import ROOTS
from config.env import DIALECTS

FILES = {"__init__.py", "urls.py", "auth.py", "inputs.py", "outputs.py", "views.py", "errors.py", "README.md"}


def test_the_coverage_tables_are_current() -> None:
    call_command("dialect_coverage", stdout=StringIO())


@pytest.mark.parametrize("name", sorted(ROOTS))
def test_every_dialect_has_the_same_files(name: str) -> None:
    folder = Path(str(import_module(ROOTS[name]).__file__)).parent
    assert {path.name for path in folder.iterdir()} >= FILES


@pytest.mark.parametrize("name", sorted(ROOTS))
def test_every_address_asks_for_a_key_and_answers_json(name: str, db: None) -> None:
    for operation in import_module(ROOTS[name]).OPERATIONS:
        path = "/".join("x" if part.startswith("<") else part for part in operation.path.split("/"))
        answer = Client().generic(operation.method, f"/dialects/{name}/{path}", b"", content_type="application/json")
        assert answer.status_code == 401, (operation, answer.content)
        assert isinstance(json.loads(answer.content), dict)


def test_every_dialect_can_have_a_host_of_its_own(settings, db: None) -> None:
    assert set(ROOTS) >= set(DIALECTS)
    settings.MAILHOST_DIALECT_HOSTS = {"mail.example.com": "postern"}
    answer = Client(headers={"host": "mail.example.com"}).get("/v1/inboxes")
    assert answer.headers["X-Postern-Request-Id"]
    assert Client(headers={"host": "Mail.Example.Com:8000"}).get("/v1/inboxes").headers["X-Postern-Request-Id"]
    assert "X-Postern-Request-Id" not in Client(headers={"host": "other.example"}).get("/v1/inboxes").headers
