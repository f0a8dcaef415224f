"""The first start fills an empty database once, whatever happens on the way."""

import json
import stat
from datetime import UTC, datetime

import pytest
from django.db import NotSupportedError

from apps.accounts.models import SCOPES, ApiKey, Organization, User
from apps.accounts.services import authenticate_key
from apps.core.heartbeat import list_living_processes, start_heartbeat, write_heartbeat
from apps.domains.models import Domain
from config import first_run

NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)


@pytest.fixture
def state(tmp_path, settings):
    settings.MAILHOST_STATE = tmp_path
    return tmp_path


@pytest.mark.django_db
def test_the_first_start_makes_organization_key_administrator_and_domain(state, settings, client):
    first_run.prepare_installation(now=NOW)
    path = state / "first-run.json"
    facts = json.loads(path.read_text())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    key = authenticate_key(secret=facts["api_key"], now=NOW)
    assert tuple(key.scopes) == SCOPES
    assert key.organization == Organization.objects.get()
    assert client.login(username=facts["admin_username"], password=facts["admin_password"])
    assert User.objects.get().is_superuser
    assert Domain.objects.filter(name=settings.MAILHOST_DEFAULT_DOMAIN).exists()


@pytest.mark.django_db
def test_a_second_start_changes_nothing(state):
    first_run.prepare_installation(now=NOW)
    before = (state / "first-run.json").read_text()
    first_run.prepare_installation(now=NOW)
    assert (state / "first-run.json").read_text() == before
    assert (Organization.objects.count(), ApiKey.objects.count(), User.objects.count()) == (1, 1, 1)


@pytest.mark.django_db
def test_a_later_start_with_other_ports_says_so_and_keeps_the_secrets(state, settings):
    first_run.prepare_installation(now=NOW)
    before = json.loads((state / "first-run.json").read_text())
    settings.MAILHOST_SMTP_PORT = 26
    first_run.prepare_installation(now=NOW)
    assert json.loads((state / "first-run.json").read_text()) == {**before, "smtp_port": 26}
    (state / "first-run.json").unlink()
    first_run.prepare_installation(now=NOW)
    assert not (state / "first-run.json").exists()


@pytest.mark.django_db
def test_an_old_server_is_refused(monkeypatch):
    monkeypatch.setattr(first_run, "MIN_SERVER", 99)
    with pytest.raises(NotSupportedError, match="DATABASE_URL"):
        first_run.check_server()


@pytest.mark.django_db(transaction=True)
def test_a_start_that_could_not_write_its_file_leaves_nothing_half_made(state, monkeypatch):
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(first_run, "write_secret", fail)
        with pytest.raises(OSError, match="No space"):
            first_run.prepare_installation(now=NOW)
    assert not Organization.objects.exists()
    assert not User.objects.exists()
    first_run.prepare_installation(now=NOW)
    assert Organization.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_a_file_written_before_a_lost_commit_is_written_anew(state):
    (state / "first-run.json").write_text('{"api_key": "of a transaction that never committed"}')
    first_run.prepare_installation(now=NOW)
    facts = json.loads((state / "first-run.json").read_text())
    assert authenticate_key(secret=facts["api_key"], now=NOW)


@pytest.mark.django_db
def test_signs_of_life_of_an_earlier_start_are_forgotten(state):
    write_heartbeat(process="smtp")
    assert list_living_processes() == {"smtp"}
    first_run.prepare_installation(now=NOW)
    assert list_living_processes() == set()


@pytest.mark.django_db(transaction=True)
def test_a_process_that_ends_on_purpose_takes_its_sign_of_life_along():
    heartbeat = start_heartbeat("worker")
    for _ in range(100):
        if list_living_processes() == {"worker"}:
            break
        heartbeat.join(0.05)
    assert list_living_processes() == {"worker"}
    heartbeat.stop()
    assert list_living_processes() == set()
