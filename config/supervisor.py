"""Keeps a handful of child processes running; gives up when one cannot stay up.

Why not the `supervisor` package: it cannot end everything because of one child, start one child only when another
is ready, or tie the children's lives to its own when it is killed; and it wants a configuration file.
"""

import os
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

MAX_DEATHS = 5
DEATH_WINDOW = 60.0
FIRST_PAUSE = 0.5
MAX_PAUSE = 8.0
POLL_SECONDS = 0.1

Process = subprocess.Popen[bytes]


class ChildKeepsDying(Exception):
    """A child ended five times within a minute; the message is one sentence for the operator."""


@dataclass(slots=True)
class Child:
    """A process to keep running. `start` makes a new one; `stop_signal` asks it to end cleanly."""

    name: str
    start: Callable[[], Process]
    log: Path
    stop_signal: signal.Signals = signal.SIGTERM
    process: Process | None = None
    deaths: deque[float] = field(default_factory=deque)
    start_at: float = 0.0

    def is_running(self) -> bool:
        """True while the process exists."""
        return self.process is not None and self.process.poll() is None


class Supervisor:
    """Children in groups: a group is stopped as a whole, the last added first."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say = say
        self.groups: list[list[Child]] = []
        self.stopping = threading.Event()

    def add(self, children: Sequence[Child]) -> None:
        """Start a group of children and watch over them from now on."""
        group: list[Child] = []
        self.groups.append(group)
        for child in children:
            child.process = child.start()
            group.append(child)

    def watch(self, until: Callable[[], bool] | None = None) -> None:
        """Restart what dies until `stopping` is set or `until` says so. Raises ChildKeepsDying."""
        while not self.stopping.is_set():
            for child in (child for group in self.groups for child in group):
                self._look_after(child)
            if until is not None and until():
                return
            self.stopping.wait(POLL_SECONDS)

    def stop(self, seconds: Sequence[float]) -> None:
        """End all groups, the last added first; `seconds` is the patience with each before it is killed."""
        self.stopping.set()
        patience = list(reversed(seconds))
        for group in reversed(self.groups):
            _stop_group(group, patience.pop(0) if len(patience) > 1 else patience[0])

    def _look_after(self, child: Child) -> None:
        if child.process is None:
            if time.monotonic() >= child.start_at:
                self._start_again(child)
        elif (code := child.process.poll()) is not None:
            kill_group(child.process)  # what the child itself had started
            child.process = None
            self._count_death(child, f"ended ({describe_exit(code)})")

    def _start_again(self, child: Child) -> None:
        try:
            child.process = child.start()
        except OSError as error:  # no room for its log, no memory, no process left: perhaps soon again
            self._count_death(child, f"could not be started ({error.strerror})")

    def _count_death(self, child: Child, what: str) -> None:
        now = time.monotonic()
        child.deaths.append(now)
        while child.deaths[0] < now - DEATH_WINDOW:
            child.deaths.popleft()
        if len(child.deaths) >= MAX_DEATHS:
            raise ChildKeepsDying(
                f"{child.name} {what} for the {MAX_DEATHS}th time within a minute, so everything stops: "
                f"see {child.log}."
            )
        pause = min(MAX_PAUSE, FIRST_PAUSE * 2 ** (len(child.deaths) - 1))
        child.start_at = now + pause
        self.say(f"{child.name} {what}; starting it again in {pause:g} s.")


def describe_exit(code: int) -> str:
    """An exit code in words."""
    if code < 0:
        try:
            return f"killed by {signal.Signals(-code).name}"
        except ValueError:
            return f"killed by signal {-code}"
    return f"exit code {code}"


def kill_group(process: Process) -> None:
    """Kill whatever is left of a child's process group; a child is started in a session of its own."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


def _stop_group(group: Sequence[Child], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    running = [child.process for child in group if child.process is not None]
    for child in group:
        if child.process is not None and child.process.poll() is None:
            child.process.send_signal(child.stop_signal)
    for process in running:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        kill_group(process)
