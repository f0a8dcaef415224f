"""A whole installation for a test: what `make run` starts, in a folder of its own, on free ports."""

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[2]
PORT_VARIABLES = ("HTTP_PORT", "SMTP_PORT", "SUBMISSION_PORT", "SUBMISSIONS_PORT")


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now, all different."""
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


class Installation:
    """`python -m config.run` with a state folder and ports of its own.

    `variables` are set on top of them. Call start() and wait_until_ready(); remove() at the end, always.
    """

    def __init__(self, **variables: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="mailhost-e2e-"))
        self.folder.chmod(0o711)
        self.state = self.folder / "state"
        ports = dict(zip(PORT_VARIABLES, free_ports(len(PORT_VARIABLES)), strict=True))
        self.http_port, self.smtp_port = ports["HTTP_PORT"], ports["SMTP_PORT"]
        self.submission_port = ports["SUBMISSION_PORT"]
        self.environ = {
            "PATH": os.environ["PATH"],
            "MAILHOST_STATE": str(self.state),
            "MAILHOST_HOSTNAME": "mail.test",
            **{f"MAILHOST_{name}": str(port) for name, port in ports.items()},
            **variables,
        }
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the supervisor; its words go to console.log in the folder."""
        with (self.folder / "console.log").open("ab") as console:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "config.run"],
                cwd=PROJECT,
                env=self.environ,
                stdout=console,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait_until_ready(self, seconds: float = 60.0) -> float:
        """Wait for 200 of /health/ready; returns how long it took."""
        begin = time.monotonic()
        while True:
            status, answer = self.get("/health/ready")
            if status == 200:
                return time.monotonic() - begin
            assert self.process is not None
            assert self.process.poll() is None, self.describe()
            assert time.monotonic() - begin < seconds, f"{answer}\n{self.describe()}"
            time.sleep(0.1)

    def get(self, path: str, **headers: str) -> tuple[int, bytes]:
        """GET over HTTP: status and body; status 0 when nobody answers."""
        connection = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=10)
        try:
            connection.request("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})
            response = connection.getresponse()
            return response.status, response.read()
        except (OSError, http.client.HTTPException) as error:
            return 0, str(error).encode()
        finally:
            connection.close()

    def first_run(self) -> dict[str, Any]:
        """The content of first-run.json."""
        facts: dict[str, Any] = json.loads((self.state / "first-run.json").read_text())
        return facts

    def children(self, words: str) -> list[int]:
        """Direct children of the supervisor with `words` in their command line."""
        assert self.process is not None
        return [pid for pid in children_of(self.process.pid) if words in _command_line(pid)]

    def descendants(self) -> list[int]:
        """Every process below the supervisor."""
        assert self.process is not None
        found = children_of(self.process.pid)
        for pid in found:
            found += children_of(pid)
        return found

    def stop(self, number: signal.Signals = signal.SIGTERM) -> float:
        """End it with a signal, wait for it; returns how long it took."""
        assert self.process is not None
        begin = time.monotonic()
        self.process.send_signal(number)
        self.process.wait(30)
        return time.monotonic() - begin

    def console(self) -> str:
        """What it has said so far."""
        path = self.folder / "console.log"
        return path.read_text() if path.exists() else ""

    def describe(self) -> str:
        """The console and the ends of all logs, for the message of a failed test."""
        logs = sorted((self.state / "log").glob("*.log"))
        return "\n".join([self.console(), *(f"== {log.name}\n{log.read_text()[-1500:]}" for log in logs)])

    def remove(self) -> None:
        """End it if need be, and remove its folder."""
        if self.process is not None and self.process.poll() is None:
            self.stop()
        shutil.rmtree(self.folder)


def is_running(pid: int) -> bool:
    """True unless the process is gone, or dead and only not yet waited for."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def children_of(pid: int) -> list[int]:
    """The processes that this one has started."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except (FileNotFoundError, ProcessLookupError):
        return ""
