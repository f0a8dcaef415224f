"""The supervisor, with children that die in every way."""

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from config.embedded.launch import launch
from config.supervisor import Child, ChildKeepsDying, Supervisor, describe_exit

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]
DEAF = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)",
]


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def supervisor(said):
    supervisor = Supervisor(said.append)
    yield supervisor
    supervisor.stop([0.1])


def child(name: str, command: list[str], tmp_path: Path) -> Child:
    return Child(name=name, start=lambda: launch(command), log=tmp_path / f"{name}.log")


def after(seconds: float):
    deadline = time.monotonic() + seconds
    return lambda: time.monotonic() > deadline


def test_a_killed_child_is_started_again_and_said_once(supervisor, said, tmp_path):
    one = child("one", SLEEP, tmp_path)
    supervisor.add([one])
    assert one.process is not None
    first = one.process.pid
    one.process.kill()
    supervisor.watch(until=lambda: one.is_running() and one.process.pid != first)
    assert said == ["one ended (killed by SIGKILL); starting it again in 0.5 s."]


def test_five_deaths_in_a_minute_are_the_end(supervisor, said, tmp_path, monkeypatch):
    monkeypatch.setattr("config.supervisor.FIRST_PAUSE", 0.01)
    supervisor.add([child("steady", SLEEP, tmp_path), child("broken", [sys.executable, "-c", "exit(3)"], tmp_path)])
    with pytest.raises(ChildKeepsDying) as caught:
        supervisor.watch(until=after(30))
    assert str(caught.value).startswith("broken ended (exit code 3) for the 5th time within a minute")
    assert str(tmp_path / "broken.log") in str(caught.value)
    assert len(said) == 4


def test_a_child_that_cannot_be_started_for_now_is_tried_again(supervisor, said, tmp_path):
    one = child("one", SLEEP, tmp_path)
    supervisor.add([one])
    start, failures = one.start, iter([OSError(28, "No space left on device")])

    def start_later():
        for failure in failures:
            raise failure
        return start()

    one.start = start_later
    assert one.process is not None
    one.process.kill()
    supervisor.watch(until=lambda: len(said) == 2 and one.is_running())
    assert one.is_running()
    assert said[-1] == "one could not be started (No space left on device); starting it again in 1 s."


def test_deaths_long_ago_do_not_count(supervisor, tmp_path, monkeypatch):
    monkeypatch.setattr("config.supervisor.FIRST_PAUSE", 0.05)
    monkeypatch.setattr("config.supervisor.MAX_PAUSE", 0.05)
    monkeypatch.setattr("config.supervisor.DEATH_WINDOW", 0.3)
    supervisor.add([child("now and then", ["/bin/sleep", "0.2"], tmp_path)])
    supervisor.watch(until=after(3))


def test_what_a_dead_child_had_started_goes_with_it(supervisor, tmp_path):
    pid_file = tmp_path / "pid"
    script = (
        "import os, pathlib, subprocess, time\n"
        f"p = subprocess.Popen(['/bin/sleep', '60'])\npathlib.Path({str(pid_file)!r}).write_text(str(p.pid))\n"
        "time.sleep(60)"
    )
    parent = child("parent", [sys.executable, "-c", script], tmp_path)
    supervisor.add([parent])
    supervisor.watch(until=lambda: pid_file.exists() and pid_file.read_text() != "")
    orphan = int(pid_file.read_text())
    assert parent.process is not None
    parent.process.kill()
    supervisor.watch(until=lambda: not is_alive(orphan))


def test_stop_is_quick_even_with_a_child_that_does_not_listen(supervisor, tmp_path):
    deaf, polite = child("deaf", DEAF, tmp_path), child("polite", SLEEP, tmp_path)
    supervisor.add([polite])
    supervisor.add([deaf])
    time.sleep(0.5)
    begin = time.monotonic()
    supervisor.stop([5.0, 0.5])
    assert time.monotonic() - begin < 2
    assert deaf.process is not None and deaf.process.returncode == -signal.SIGKILL
    assert polite.process is not None and polite.process.returncode == -signal.SIGTERM


def test_watching_ends_when_told_to_stop(supervisor, tmp_path):
    supervisor.add([child("one", SLEEP, tmp_path)])
    threading.Timer(0.2, supervisor.stopping.set).start()
    begin = time.monotonic()
    supervisor.watch()
    assert time.monotonic() - begin < 2


def test_exits_are_said_in_words():
    assert describe_exit(-9) == "killed by SIGKILL"
    assert describe_exit(-250) == "killed by signal 250"
    assert describe_exit(2) == "exit code 2"


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # An orphan that nobody has waited for yet is dead all the same.
    return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
