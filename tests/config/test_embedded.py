"""The embedded servers: real ones, in folders of their own."""

import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
import redis

from config.embedded import launch
from config.embedded.errors import EmbeddedError
from config.embedded.files import MAX_LOG, open_log, trim_logs, write_secret
from config.embedded.lock import lock_state, mark_processes
from config.embedded.postgres import EmbeddedPostgres
from config.embedded.redis import EmbeddedRedis

PROJECT = Path(__file__).resolve().parents[2]
ROOT = os.geteuid() == 0


@pytest.fixture
def state() -> Iterator[Path]:
    """A state folder that every user may pass through, as one made by `run` is."""
    folder = Path(tempfile.mkdtemp(prefix="mailhost-embedded-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


def wait_until(check: Callable[[], object], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, check
        time.sleep(0.05)


def start_postgres(state: Path) -> tuple[EmbeddedPostgres, "subprocess.Popen[bytes]"]:
    server = EmbeddedPostgres(state)
    server.prepare()
    process = server.start()
    server.wait_until_ready(process)
    return server, process


def ask(url: str, query: str) -> object:
    with psycopg.connect(url) as connection:
        row = connection.execute(query).fetchone()
        return row[0] if row else None


def test_postgres_is_durable_private_and_keeps_its_data(state):
    server, process = start_postgres(state)
    try:
        for setting, value in (
            ("fsync", "on"),
            ("synchronous_commit", "on"),
            ("full_page_writes", "on"),
            ("password_encryption", "scram-sha-256"),
            ("listen_addresses", ""),
            ("server_encoding", "UTF8"),
            ("TimeZone", "UTC"),
        ):
            assert ask(server.url, f"SHOW {setting}") == value
        assert ask(server.url, "SELECT datlocale FROM pg_database WHERE datname = 'mailhost'") == "C.UTF-8"
        assert ask(server.url, "SELECT lower('ÄÉÑ')") == "äéñ"
        assert ask(server.url, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user") is False
        assert stat.S_IMODE(server.socket_folder.stat().st_mode) == 0o700
        assert stat.S_IMODE((state / "database-url").stat().st_mode) == 0o600
        if ROOT:
            assert server.data.stat().st_uid != 0
            assert Path(f"/proc/{process.pid}").stat().st_uid != 0
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(server.url.replace("mailhost:", "mailhost:x"))
        with psycopg.connect(server.url) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    finally:
        server.stop(process)
    server, process = start_postgres(state)
    try:
        assert ask(server.url, "SELECT answer FROM kept") == 42
    finally:
        server.stop(process)
    assert not (server.data / "postmaster.pid").exists()


def test_the_log_of_postgres_holds_nothing_of_the_row_that_failed(state):
    server, process = start_postgres(state)
    try:
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute("CREATE TABLE mail (subject text PRIMARY KEY)")
            connection.execute("INSERT INTO mail VALUES ('private words')")
            with pytest.raises(psycopg.IntegrityError):
                connection.execute("INSERT INTO mail VALUES ('private words')")
    finally:
        server.stop(process)
    log = (state / "log" / "postgres.log").read_text()
    assert "duplicate key" in log
    assert "private words" not in log


def test_a_cluster_half_made_is_made_anew(state):
    (state / "postgres" / "data.new").mkdir(parents=True)
    (state / "postgres" / "data.new" / "PG_VERSION").write_text("18\n")
    server, process = start_postgres(state)
    server.stop(process)


def test_a_stale_pid_file_that_names_another_program_is_forgotten_and_the_program_left_alone(state):
    server, process = start_postgres(state)
    server.stop(process)
    account = launch.find_server_account()
    other = launch.launch(["/bin/sleep", "60"], account=account)
    try:
        (server.data / "postmaster.pid").write_text(f"{other.pid}\n{server.data}\n")
        server, process = start_postgres(state)
        server.stop(process)
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_a_server_that_outlived_its_supervisor_is_replaced(state):
    server, first = start_postgres(state)
    second_server, second = start_postgres(state)
    try:
        assert first.wait(10) == 0
        assert ask(second_server.url, "SELECT 1") == 1
    finally:
        server.stop(first)
        second_server.stop(second)


def test_after_kill_9_the_server_starts_again_at_the_same_address(state):
    server, process = start_postgres(state)
    process.kill()
    process.wait()
    again, process = start_postgres(state)
    try:
        assert again.url == server.url
        assert ask(again.url, "SELECT 1") == 1
    finally:
        again.stop(process)


def test_a_path_too_long_for_a_socket_works_over_loopback(state):
    deep = state / ("long-" * 12) / ("longer-" * 10)
    server, process = start_postgres(deep)
    try:
        assert urlsplit(server.url).hostname == "127.0.0.1"
        assert ask(server.url, "SELECT 1") == 1
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(server.url.replace("mailhost:", "mailhost:x"))
    finally:
        server.stop(process)


@pytest.mark.skipif(not ROOT, reason="only root gives up rights")
def test_as_root_a_closed_folder_is_no_obstacle_and_stays_closed(state):
    if not launch.can_have_private_view():
        pytest.skip("this machine gives root no mount namespace")
    closed = state / "closed"
    closed.mkdir(mode=0o700)
    server, process = start_postgres(closed / "inner" / "state")
    try:
        assert ask(server.url, "SELECT 1") == 1
        assert stat.S_IMODE(closed.stat().st_mode) == 0o700
        assert sorted(path.name for path in closed.iterdir()) == ["inner"]
    finally:
        server.stop(process)


@pytest.mark.skipif(not ROOT, reason="only root gives up rights")
def test_a_closed_folder_without_mount_namespaces_is_one_sentence(state, monkeypatch):
    monkeypatch.setattr(launch, "can_have_private_view", lambda: False)
    closed = state / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(EmbeddedError) as caught:
        EmbeddedPostgres(closed / "state").prepare()
    assert str(closed) in str(caught.value)
    assert "MAILHOST_STATE" in str(caught.value)


def test_redis_keeps_nothing_on_disk_and_wants_the_password(state):
    server = EmbeddedRedis(state)
    server.prepare()
    process = server.start()
    try:
        server.wait_until_ready(process)
        with redis.Redis.from_url(server.url) as client:
            assert client.config_get("save") == {"save": ""}
            assert client.config_get("appendonly") == {"appendonly": "no"}
        with pytest.raises(redis.AuthenticationError), redis.Redis(port=server.port) as stranger:
            stranger.ping()
        command_line = Path(f"/proc/{process.pid}/cmdline").read_bytes()
        assert server.password.encode() not in command_line
        if ROOT:
            assert Path(f"/proc/{process.pid}").stat().st_uid != 0
    finally:
        server.stop(process)
    again = EmbeddedRedis(state)
    assert again.choose_address() == server.url


def start_command(state: Path) -> tuple["subprocess.Popen[str]", dict[str, str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "config.embedded", "--state", str(state)],
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    lines = [process.stdout.readline().strip() for _ in range(3)]
    return process, dict(line.split("=", 1) for line in lines if line)


def pids_of(state: Path) -> list[int]:
    pid_file = state / "postgres" / "data" / "postmaster.pid"
    return [int(pid_file.read_text().split()[0])] if pid_file.exists() else []


def test_the_command_prints_variables_refuses_a_second_copy_and_ends_with_sigterm(state):
    process, variables = start_command(state)
    try:
        assert list(variables) == ["DATABASE_URL", "REDIS_URL", "MAILHOST_STATE"]
        assert ask(variables["DATABASE_URL"], "SELECT 1") == 1
        second, _ = start_command(state)
        _, words = second.communicate(timeout=20)
        assert second.returncode == 1
        assert str(state) in words and "Another mailhost is running" in words
        assert words.count("\n") == 1
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
        process.communicate()
    assert not pids_of(state)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells children that their parent died")
def test_kill_9_of_the_parent_ends_both_servers(state):
    process, variables = start_command(state)
    server = pids_of(state)[0]
    process.kill()
    process.communicate()
    wait_until(lambda: not Path(f"/proc/{server}").exists())
    with pytest.raises(redis.ConnectionError), redis.Redis.from_url(variables["REDIS_URL"]) as client:
        client.ping()


def test_the_lock_of_a_state_folder_is_for_one(state):
    with lock_state(state), pytest.raises(EmbeddedError, match="MAILHOST_STATE"), lock_state(state):
        pass
    with lock_state(state):
        pass


def test_secret_files_are_private_and_logs_end_somewhere(state):
    write_secret(state / "secret", "one")
    write_secret(state / "secret", "two")
    assert (state / "secret").read_text() == "two\n"
    assert stat.S_IMODE((state / "secret").stat().st_mode) == 0o600
    with open_log(state, "web") as log:
        os.truncate(log.name, MAX_LOG + 1)
        trim_logs(state)
        log.write(b"after")
        log.flush()
        assert Path(log.name).read_bytes() == b"after"
    assert (state / "log" / "web.log.1").stat().st_size == MAX_LOG + 1


def test_a_run_waits_for_the_processes_of_the_last_one_and_kills_who_stays(state, monkeypatch):
    with mark_processes(state) as mark:
        quick = launch.launch(["/bin/sleep", "1"], keep_open=[mark])
    begin = time.monotonic()
    with mark_processes(state) as mark:
        assert time.monotonic() - begin > 0.5
        assert quick.poll() == 0
        stubborn = launch.launch(["/bin/sleep", "60"], keep_open=[mark])
    monkeypatch.setattr("config.embedded.lock.END_PATIENCE", 0.2)
    with mark_processes(state):
        assert stubborn.wait(5) == -signal.SIGKILL
