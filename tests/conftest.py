"""Every test that needs a database or a Redis gets real ones: one pair per run, started on first need.

The servers live in a folder of their own under the system's temporary folder and end with the run,
also when the run is killed: the process that holds them watches for that.
"""

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

# CI tries the same generated examples each time, so that a commit is judged by itself; elsewhere they are new ones.
hypothesis.settings.register_profile("mailhost", deadline=None, database=None, derandomize=bool(os.environ.get("CI")))
hypothesis.settings.load_profile("mailhost")

PROJECT = Path(__file__).resolve().parent.parent
START_TIMEOUT = 60


def start_servers(state: Path) -> None:
    """Start both servers unless another worker of this run has done so."""
    with (state / "start.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        pid_file = state / "servers.pid"
        if pid_file.exists():
            return
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "config.embedded", "--state", str(state)),
                *("--until-exit", os.environ["MAILHOST_TEST_PID"]),
            ],
            cwd=PROJECT,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(3)]
        process.stdout.close()
        if not lines[-1]:
            pytest.exit(f"The servers for the tests did not start (exit code {process.wait()}).", 3)
        pid_file.write_text(str(process.pid))
        # It outlives this worker on purpose, and the controller ends it: nobody here waits for it.
        process.returncode = 0


def stop_servers(state: Path) -> None:
    """End the servers, wait until they are gone, and remove their folder."""
    pid_file = state / "servers.pid"
    if pid_file.exists():
        pid = int(pid_file.read_text())
        os.kill(pid, signal.SIGTERM)
        with (state / "lock").open("w") as lock:
            for _ in range(200):
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    time.sleep(0.05)
        with contextlib.suppress(ChildProcessError):  # a worker started it
            os.waitpid(pid, 0)
    shutil.rmtree(state, ignore_errors=True)


def pytest_unconfigure(config: pytest.Config) -> None:
    """The controller (or the only process) ends the servers."""
    state = os.environ.get("MAILHOST_TEST_STATE", "")
    if state and os.environ.get("MAILHOST_TEST_PID") == str(os.getpid()):
        stop_servers(Path(state))


@pytest.fixture(scope="session")
def servers() -> Path:
    """PostgreSQL and Redis are up; the value is their state folder."""
    state = Path(os.environ["MAILHOST_TEST_STATE"])
    start_servers(state)
    return state


@pytest.fixture(scope="session")
def django_db_modify_db_settings(servers: Path, django_db_modify_db_settings_parallel_suffix: None) -> None:
    """pytest-django's hook before it makes the test database: the server must be up by then."""


@pytest.fixture
def redis_url(servers: Path) -> Iterator[str]:
    """The URL of this worker's Redis database, emptied before and after."""
    import redis
    from django.conf import settings

    with redis.Redis.from_url(settings.REDIS_URL) as client:
        client.flushdb()
        yield settings.REDIS_URL
        client.flushdb()
