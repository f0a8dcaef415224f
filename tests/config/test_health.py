"""Health: alive needs nothing, ready names what is missing."""

import pytest
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder
from django.test import Client

from apps.core.heartbeat import write_heartbeat
from apps.core.models import Heartbeat
from config import health


@pytest.fixture(autouse=True)
def forget_migrations(monkeypatch):
    monkeypatch.setattr(health, "_migrations_seen", set())


def show_all_alive() -> None:
    for process in health.PROCESSES:
        write_heartbeat(process=process)


def test_live_asks_nobody(client):
    response = client.get("/health/live")  # no database is allowed in this test
    assert (response.status_code, response.json()) == (200, {"status": "live"})


@pytest.mark.parametrize("path", ["/health/live", "/health/ready", "/docs", "/v1/openapi.json"])
def test_what_is_only_read_says_so_to_a_post(path):
    response = Client(enforce_csrf_checks=True).post(path)
    assert (response.status_code, response["Allow"]) == (405, "GET, HEAD")


@pytest.mark.django_db
def test_ready_when_everything_is_there(client, redis_url):
    show_all_alive()
    response = client.get("/health/ready")
    assert (response.status_code, response.json()) == (200, {"status": "ready", "missing": []})
    assert "no-cache" in response["Cache-Control"]


@pytest.mark.django_db
def test_each_missing_process_is_named(client, redis_url):
    show_all_alive()
    Heartbeat.objects.filter(process__in=["worker", "beat"]).delete()
    response = client.get("/health/ready")
    assert (response.status_code, response.json()["missing"]) == (503, ["worker", "beat"])
    assert response["Retry-After"] == "1"


@pytest.mark.django_db
def test_a_process_silent_for_15_seconds_is_missing(client, redis_url):
    show_all_alive()
    with connection.cursor() as cursor:
        cursor.execute("UPDATE core_heartbeat SET at = now() - interval '16 seconds' WHERE process = 'smtp'")
    assert client.get("/health/ready").json()["missing"] == ["smtp"]


@pytest.mark.django_db
def test_a_migration_that_waits_is_named(client, redis_url):
    show_all_alive()
    MigrationRecorder(connection).record_unapplied("core", "0001_initial")
    assert client.get("/health/ready").json()["missing"] == ["migrations"]


@pytest.mark.django_db
def test_a_redis_that_does_not_answer_is_named(client, settings):
    show_all_alive()
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    assert client.get("/health/ready").json()["missing"] == ["redis"]


@pytest.mark.django_db
def test_a_database_that_does_not_answer_is_named(client, redis_url, monkeypatch):
    from django.db import OperationalError

    def fail() -> None:
        raise OperationalError("gone")

    monkeypatch.setattr(connection, "ensure_connection", fail)
    assert client.get("/health/ready").json()["missing"] == ["database"]
