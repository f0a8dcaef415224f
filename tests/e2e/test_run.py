"""`make run` as an operator meets it: it starts, heals, says what is wrong in one sentence, and ends."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from tests.e2e.installation import PROJECT, Installation, children_of, free_ports, is_running

FIELDS = {
    *("api_url", "api_key", "admin_url", "admin_username", "admin_password"),
    *("smtp_host", "smtp_port", "submission_port", "default_domain"),
}


def wait_until(check: Callable[[], object], seconds: float, why: Callable[[], str]) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, why()
        time.sleep(0.05)


@pytest.fixture(scope="module")
def installation() -> Iterator[Installation]:
    installation = Installation()
    try:
        installation.start()
        installation.wait_until_ready()
        yield installation
    finally:
        installation.remove()


def run_briefly(installation: Installation, **variables: str) -> tuple[int, str]:
    """Start it where it cannot start; exit code and what it said."""
    done = subprocess.run(
        [sys.executable, "-m", "config.run"],
        cwd=PROJECT,
        env={**installation.environ, **variables},
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.returncode, done.stdout + done.stderr


def test_the_first_start_writes_what_one_needs_to_know(installation):
    path = installation.state / "first-run.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    facts = installation.first_run()
    assert set(facts) == FIELDS
    assert facts["api_url"] == f"http://127.0.0.1:{installation.http_port}"
    assert facts["smtp_port"] == installation.smtp_port
    assert facts["submission_port"] == installation.submission_port
    assert facts["smtp_host"] == "127.0.0.1"
    assert facts["default_domain"] == "agents.localhost"
    assert facts["api_key"].startswith("mh_")


def test_the_console_says_where_to_go(installation):
    facts = installation.first_run()
    wait_until(lambda: "Ctrl-C" in installation.console(), 10, installation.describe)
    console = installation.console()
    for words in (
        facts["api_key"],
        facts["admin_password"],
        facts["admin_url"],
        f":{installation.smtp_port}",
        "ready.",
    ):
        assert words in console
    assert "Traceback" not in console
    assert len(console.splitlines()) < 15


def test_the_first_key_carries_every_scope(installation):
    facts = installation.first_run()
    status, body = installation.get("/v1/me", Authorization=f"Bearer {facts['api_key']}")
    assert status == 200, body
    assert "admin" in json.dumps(json.loads(body))


def test_admin_and_its_assets_are_served_locally(installation):
    status, page = installation.get("/admin/login/")
    assert status == 200
    assert b"/static/" in page
    assert installation.get("/static/unfold/css/styles.css")[0] == 200
    assert b"https://" not in page.replace(b"https://unfoldadmin.com", b"")


def test_live_and_ready_answer(installation):
    assert installation.get("/health/live") == (200, b'{"status": "live"}')
    assert installation.get("/health/ready") == (200, b'{"status": "ready", "missing": []}')


@pytest.mark.parametrize("words", ["manage.py smtp", "celery -A config --skip-checks --no-color -q worker", "granian"])
def test_a_killed_process_is_back_within_seconds(installation, words):
    before = installation.children(words)
    assert before, installation.describe()
    os.kill(before[0], signal.SIGKILL)
    wait_until(
        lambda: before[0] not in (now := installation.children(words)) and len(now) == len(before),
        5,
        installation.describe,
    )
    installation.wait_until_ready(20)


def test_a_killed_process_below_another_is_replaced_as_well(installation):
    for words in ("manage.py smtp", "granian"):
        (parent,) = installation.children(words)
        victim = children_of(parent)[-1]
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda victim=victim: not is_running(victim), 2, installation.describe)
        wait_until(
            lambda words=words: [pid for above in installation.children(words) for pid in children_of(above)],
            10,
            installation.describe,
        )
        installation.wait_until_ready(20)


@pytest.mark.parametrize("words", ["postgres -D", "redis-server"])
def test_a_killed_server_is_back_with_its_data(installation, words):
    key = installation.first_run()["api_key"]
    (before,) = installation.children(words)
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: installation.children(words) not in ([before], []), 10, installation.describe)
    installation.wait_until_ready(30)
    assert installation.get("/v1/me", Authorization=f"Bearer {key}")[0] == 200


def test_a_second_copy_on_the_same_state_folder_is_refused(installation):
    ports = dict(zip(("HTTP", "SMTP", "SUBMISSION", "SUBMISSIONS"), map(str, free_ports(4)), strict=True))
    code, words = run_briefly(installation, **{f"MAILHOST_{name}_PORT": port for name, port in ports.items()})
    assert code == 1
    assert words == (
        f"mailhost: Another mailhost is running with the state folder {installation.state}: "
        "stop it, or set MAILHOST_STATE.\n"
    )


def test_two_installations_stand_side_by_side(installation):
    other = Installation(MAILHOST_WEB_PROCESSES="1", MAILHOST_SMTP_PROCESSES="1", MAILHOST_WORKER_PROCESSES="1")
    try:
        other.start()
        other.wait_until_ready()
        keys = [copy.first_run()["api_key"] for copy in (installation, other)]
        assert installation.get("/v1/me", Authorization=f"Bearer {keys[0]}")[0] == 200
        assert other.get("/v1/me", Authorization=f"Bearer {keys[1]}")[0] == 200
        assert other.get("/v1/me", Authorization=f"Bearer {keys[0]}")[0] == 401
        everything = other.descendants()
        assert other.stop(signal.SIGINT) < 10
        wait_until(lambda: not any(map(is_running, everything)), 2, other.describe)
        assert installation.get("/health/ready")[0] == 200
    finally:
        other.remove()


def test_it_ends_within_ten_seconds_and_starts_again_with_the_same_data(installation):
    facts, everything = installation.first_run(), installation.descendants()
    assert len(everything) > 8
    assert installation.stop() < 10
    assert installation.process.returncode == 0
    wait_until(lambda: not any(map(is_running, everything)), 2, installation.describe)
    assert not (installation.state / "postgres" / "data" / "postmaster.pid").exists()
    installation.start()
    assert installation.wait_until_ready() < 30
    assert installation.first_run() == facts
    assert installation.get("/v1/me", Authorization=f"Bearer {facts['api_key']}")[0] == 200


def test_kill_9_of_the_supervisor_leaves_nothing_behind_and_a_start_right_after_works(installation):
    everything = installation.descendants()
    installation.stop(signal.SIGKILL)
    wait_until(lambda: not any(map(is_running, everything)), 15, installation.describe)
    installation.start()
    installation.wait_until_ready()
    everything = installation.descendants()
    installation.stop(signal.SIGKILL)
    installation.start()  # while the old processes are still ending
    installation.wait_until_ready()


def test_a_taken_port_is_named_with_its_variable():
    installation = Installation()
    try:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", installation.smtp_port))
            taken.listen()
            code, words = run_briefly(installation)
        assert code == 1
        assert words == (
            f"mailhost: port {installation.smtp_port} of 127.0.0.1 is taken by another program: "
            "set MAILHOST_SMTP_PORT to a free one.\n"
        )
        assert not (installation.state / "postgres").exists()
    finally:
        installation.remove()


@pytest.mark.parametrize(
    ("variables", "code", "words"),
    [
        ({"MAILHOST_DELIVERY": "fax"}, 2, "MAILHOST_DELIVERY must be one of hold, direct, relay, not 'fax'."),
        ({"MAILHOST_STATE": "/dev/null/state"}, 1, "MAILHOST_STATE"),
        ({"MAILHOST_BIND": "192.0.2.1"}, 1, "192.0.2.1 is not an address of this machine"),
    ],
)
def test_what_an_operator_can_mend_is_one_sentence(variables, code, words):
    installation = Installation()
    try:
        returned, said = run_briefly(installation, **variables)
        assert (returned, said.count("\n")) == (code, 1), said
        assert words in said
    finally:
        installation.remove()


def test_a_database_that_does_not_answer_is_said_and_nothing_stays():
    installation = Installation(DATABASE_URL=f"postgresql://u:hunter2@127.0.0.1:{free_ports(1)[0]}/mail")
    try:
        code, words = run_briefly(installation)
        assert code == 1
        assert "the database could not be prepared: connection failed" in words
        assert "hunter2" not in words
        assert "Traceback" not in words
    finally:
        installation.remove()
