"""The processes of one SMTP server: they share a port, and one that dies is replaced at once.

The parent holds the listening sockets, one per process, and hands them on: while a process is being replaced, its
connections wait in the kernel instead of being refused. The parent itself does nothing else: no threads, no database,
so that it can fork at any time.
"""

import ctypes
import os
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog

log = structlog.get_logger(__name__)

# A child that ends sooner than this has a fault, and is started more and more slowly.
_QUICK_DEATH_SECONDS = 5.0
_FIRST_PAUSE_SECONDS = 0.1
_MAX_PAUSE_SECONDS = 5.0
_POLL_SECONDS = 1.0
_PR_SET_PDEATHSIG = 1
_SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGCHLD}


@dataclass(slots=True)
class _Slot:
    """A socket and the process that serves it."""

    sock: socket.socket
    pid: int = 0
    started_at: float = 0.0
    start_at: float = 0.0
    pause: float = 0.0


class ProcessPool:
    """Runs `serve(sock)` in a process of its own for each socket, until SIGTERM or SIGINT."""

    def __init__(self, sockets: list[socket.socket], serve: Callable[[socket.socket], None], *, grace: float) -> None:
        self._slots = [_Slot(sock) for sock in sockets]
        self._serve = serve
        self._grace = grace
        self._is_stopping = False

    def run(self) -> None:
        """Blocks until every process has ended."""
        old_mask = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            while True:
                self._start_missing(old_mask)
                caught = signal.sigtimedwait(_SIGNALS, self._next_wait())
                self._reap()
                if caught is not None and caught.si_signo != signal.SIGCHLD:
                    break
            self._stop()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, old_mask)

    def _next_wait(self) -> float:
        now = time.monotonic()
        pauses = [slot.start_at - now for slot in self._slots if not slot.pid]
        return max(0.0, min([_POLL_SECONDS, *pauses]))

    def _start_missing(self, mask: set[int | signal.Signals]) -> None:
        for slot in self._slots:
            if not slot.pid and time.monotonic() >= slot.start_at:
                slot.started_at = time.monotonic()
                slot.pid = self._fork(slot, mask)

    def _fork(self, slot: _Slot, mask: set[int | signal.Signals]) -> int:
        parent = os.getpid()
        pid = os.fork()
        if pid:
            return pid
        code = 1
        try:
            _die_with(parent)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            for other in self._slots:
                if other is not slot:
                    other.sock.close()
            self._serve(slot.sock)
            code = 0
        except Exception:  # said here, or nowhere: a forked child must not return into its parent's code
            log.exception("smtp.process_failed")
        finally:
            os._exit(code)

    def _reap(self) -> None:
        """Note which children have ended, and when their places may be filled again."""
        for slot in self._slots:
            if not slot.pid or os.waitpid(slot.pid, os.WNOHANG)[0] == 0:
                continue
            now = time.monotonic()
            is_quick = now - slot.started_at < _QUICK_DEATH_SECONDS
            slot.pause = min(_MAX_PAUSE_SECONDS, slot.pause * 2 or _FIRST_PAUSE_SECONDS) if is_quick else 0.0
            if not self._is_stopping:
                log.warning("smtp.process_ended", pid=slot.pid, pause=slot.pause)
            slot.pid, slot.start_at = 0, now + slot.pause

    def _stop(self) -> None:
        """Close the sockets, ask the children to end, and end those that do not."""
        self._is_stopping = True
        for slot in self._slots:
            slot.sock.close()
            if slot.pid:
                os.kill(slot.pid, signal.SIGTERM)
        deadline = time.monotonic() + self._grace
        while any(slot.pid for slot in self._slots):
            left = deadline - time.monotonic()
            for slot in self._slots:
                if slot.pid and left <= 0:
                    os.kill(slot.pid, signal.SIGKILL)
            signal.sigtimedwait({signal.SIGCHLD}, max(0.05, min(0.5, left)))
            self._reap()


def _die_with(parent: int) -> None:
    """Linux: end when the parent does, however it ends; elsewhere an orphan would have to be ended by hand."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "prctl"):
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)
