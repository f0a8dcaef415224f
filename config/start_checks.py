"""What can be checked before anything is started, so that it fails early and with one sentence."""

import contextlib
import errno
import os
import shutil
import socket
import time
from pathlib import Path

from config.env import Environment

# PostgreSQL's own files and one log segment are 60 MB; below this a first start would end half way.
MIN_FREE_MB = 300
# Processes of a copy that was just killed need a moment to let go of their ports.
PORT_PATIENCE = 3.0


class CannotStart(Exception):
    """Something outside of us must be changed first; the message is one sentence for the operator."""


def check_state_folder(state: Path) -> None:
    """The state folder exists or can be made, can be written, and has room. Raises CannotStart."""
    probe = state / f".write-test.{os.getpid()}"
    try:
        state.mkdir(parents=True, exist_ok=True)
        if os.geteuid() == 0 and not any(state.iterdir()):
            # PostgreSQL runs as nobody then, and has to pass through; what is in it stays closed.
            state.chmod(0o711)
        try:
            with probe.open("wb") as file:
                file.write(b"x" * 4096)
                file.flush()
                os.fsync(file.fileno())
        finally:
            with contextlib.suppress(OSError):
                probe.unlink()
        free = shutil.disk_usage(state).free // 1024 // 1024
    except OSError as error:
        raise CannotStart(
            f"the state folder {state} cannot be written ({error.strerror}): mend that, "
            "or set MAILHOST_STATE to another folder."
        ) from None
    if free < MIN_FREE_MB:
        raise CannotStart(
            f"the disk of the state folder {state} has only {free} MB free and {MIN_FREE_MB} MB are needed: "
            "make room, or set MAILHOST_STATE to a folder on another disk."
        )


def check_ports(env: Environment) -> None:
    """Nobody else listens where we shall. Raises CannotStart naming port and variable."""
    ports = {
        "MAILHOST_HTTP_PORT": env.mailhost_http_port,
        "MAILHOST_SMTP_PORT": env.mailhost_smtp_port,
        "MAILHOST_SUBMISSION_PORT": env.mailhost_submission_port,
        "MAILHOST_SUBMISSIONS_PORT": env.mailhost_submissions_port,
    }
    deadline = time.monotonic() + PORT_PATIENCE
    for variable, port in ports.items():
        while sentence := _try_port(env.mailhost_bind, port, variable):
            if time.monotonic() > deadline:
                raise CannotStart(sentence)
            time.sleep(0.1)


def _try_port(bind: str, port: int, variable: str) -> str:
    """Empty when the port can be had, else the sentence that says why not."""
    family = socket.AF_INET6 if ":" in bind else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((bind, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return f"port {port} of {bind} is taken by another program: set {variable} to a free one."
            if error.errno in (errno.EACCES, errno.EPERM):
                return f"port {port} may not be opened by this user: set {variable} to one above 1023."
            return f"{bind} is not an address of this machine ({error.strerror}): set MAILHOST_BIND."
    return ""
