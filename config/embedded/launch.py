"""Starts a program so that it cannot outlive us, and, when we are root, with the rights of nobody.

PostgreSQL refuses to run as root. When a folder on the way to its files cannot be entered by the
unprivileged user (a clone in /root, a folder from mktemp), the program gets a private view of the
file system (a mount namespace): the closed folder looks empty there but for the folders it needs, at their
usual paths. Nothing outside the state folder is changed for anyone else.
"""

import ctypes
import os
import pwd
import signal
import stat
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from config.embedded.errors import EmbeddedError

UNPRIVILEGED_USER = "nobody"
_PR_SET_PDEATHSIG = 1
_CLONE_NEWNS = 0x00020000
_MS_NOSUID, _MS_NODEV, _MS_BIND, _MS_REC, _MS_PRIVATE = 0x2, 0x4, 0x1000, 0x4000, 0x40000
_LIBC = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Account:
    """A user and a group by number."""

    uid: int
    gid: int


def find_server_account() -> Account | None:
    """The account servers run under: nobody when we are root, else None (our own). Raises EmbeddedError."""
    if os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwnam(UNPRIVILEGED_USER)
    except KeyError:
        raise EmbeddedError(
            f"PostgreSQL refuses to run as root and there is no user {UNPRIVILEGED_USER}: "
            "run as an ordinary user, or set DATABASE_URL to a server of your own."
        ) from None
    return Account(uid=entry.pw_uid, gid=entry.pw_gid)


def find_closed_folders(paths: Sequence[Path], account: Account | None) -> list[Path]:
    """The outermost folder on the way to each path that `account` cannot enter, each once."""
    closed: list[Path] = []
    for path in paths:
        for folder in reversed(path.resolve().parents):
            if account is not None and not _may_enter(folder, account):
                if folder not in closed:
                    closed.append(folder)
                break
    return closed


def can_have_private_view() -> bool:
    """True when this process may make a mount namespace (tried in a child, so nothing changes here)."""
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if _LIBC.unshare(_CLONE_NEWNS) == 0 and _make_mounts_private() == 0 else 1)
        except BaseException:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def launch(
    arguments: Sequence[str],
    *,
    account: Account | None = None,
    needs: Sequence[Path] = (),
    death_signal: int = signal.SIGTERM,
    log: IO[bytes] | int | None = None,
    stdin: IO[bytes] | int = subprocess.DEVNULL,
    env: dict[str, str] | None = None,
    cwd: Path | None = None,
    keep_open: Sequence[int] = (),
) -> "subprocess.Popen[bytes]":
    """Start a program in a session of its own.

    `account` is whom it runs as, `needs` the folders it must reach by their paths, `death_signal` what
    the kernel sends it when our process ends, however it ends (Linux). Call from the main thread:
    the kernel counts the death of the calling thread. `keep_open` are file descriptors it inherits.
    Raises EmbeddedError, OSError.
    """
    closed = find_closed_folders(needs, account)
    if closed and not can_have_private_view():
        raise EmbeddedError(
            f"{closed[0]} cannot be entered by the user {UNPRIVILEGED_USER}, whom PostgreSQL runs as because "
            "it refuses to run as root: put the project and MAILHOST_STATE where every user may enter, "
            "run as an ordinary user, or set DATABASE_URL."
        )
    parent = os.getpid()

    def prepare_child() -> None:
        if closed:
            _enter_private_view(closed, needs)
        if account is not None:
            os.setgroups([])
            os.setgid(account.gid)
            os.setuid(account.uid)
        # After setuid, which clears it. PID 1 adopting us means the parent died before the call.
        _LIBC.prctl(_PR_SET_PDEATHSIG, death_signal, 0, 0, 0) if hasattr(_LIBC, "prctl") else None
        if os.getppid() != parent:
            os._exit(1)

    return subprocess.Popen(
        list(arguments),
        stdin=stdin,
        stdout=log,
        stderr=subprocess.STDOUT if log is not None else None,
        env=env,
        cwd=cwd,
        start_new_session=True,
        pass_fds=keep_open,
        preexec_fn=prepare_child,
    )


def _may_enter(folder: Path, account: Account) -> bool:
    status = folder.stat()
    if status.st_uid == account.uid:
        return bool(status.st_mode & stat.S_IXUSR)
    if status.st_gid == account.gid:
        return bool(status.st_mode & stat.S_IXGRP)
    return bool(status.st_mode & stat.S_IXOTH)


def _make_mounts_private() -> int:
    return int(_LIBC.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None))


def _enter_private_view(closed: Sequence[Path], needs: Sequence[Path]) -> None:
    """In the child, as root: cover each closed folder with an empty one that holds only what is needed."""
    _check(_LIBC.unshare(_CLONE_NEWNS))
    _check(_make_mounts_private())
    kept = [(folder, os.open(folder, os.O_PATH | os.O_DIRECTORY)) for folder in (n.resolve() for n in needs)]
    for folder in closed:
        _check(_LIBC.mount(b"tmpfs", bytes(folder), b"tmpfs", _MS_NOSUID | _MS_NODEV, b"mode=0755,size=64k"))
    os.umask(0o022)
    for folder, descriptor in kept:
        if any(top in folder.parents for top in closed):
            folder.mkdir(parents=True, exist_ok=True)
            source = f"/proc/self/fd/{descriptor}".encode()
            _check(_LIBC.mount(source, bytes(folder), None, _MS_BIND | _MS_REC, None))
        os.close(descriptor)


def _check(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
