"""Settings of a test run: the real ones, on the run's own PostgreSQL and Redis.

The addresses are chosen here, before Django reads its settings; tests/conftest.py starts the servers
behind them when the first test needs one. Workers of pytest-xdist inherit the state folder, and share both.
"""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

from config.embedded.postgres import EmbeddedPostgres
from config.embedded.redis import EmbeddedRedis

if "MAILHOST_TEST_STATE" not in os.environ:
    # Variables of the developer's own shell must not steer a test.
    for name in [name for name in os.environ if name.startswith(("MAILHOST_", "DATABASE_URL", "REDIS_URL"))]:
        del os.environ[name]
    STATE = Path(tempfile.mkdtemp(prefix="mailhost-test-"))
    STATE.chmod(0o711)  # PostgreSQL runs as nobody when the tests run as root
    os.environ.update(MAILHOST_TEST_STATE=str(STATE), MAILHOST_TEST_PID=str(os.getpid()))
    os.environ.update(MAILHOST_STATE=str(STATE), MAILHOST_HOSTNAME="mail.test")
    # Also when the run ends before tests/conftest.py is read, which otherwise removes it.
    atexit.register(lambda pid: shutil.rmtree(STATE, ignore_errors=True) if pid == os.getpid() else None, os.getpid())
    EmbeddedPostgres(STATE).choose_address()
    EmbeddedRedis(STATE).choose_address()

from config.settings import *  # noqa: F403
from config.settings import REDIS_URL as _REDIS_URL

# One Redis database per worker (there are 16), so that a FLUSHDB of one disturbs no other.
_WORKER = os.environ.get("PYTEST_XDIST_WORKER", "").removeprefix("gw")
REDIS_URL = f"{_REDIS_URL.removesuffix('/0')}/{int(_WORKER or 0) % 16}"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
