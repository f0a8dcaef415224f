"""The processes of an installation and the commands that start them; deployments use the same ones."""

import os
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from config.embedded.files import open_log
from config.embedded.launch import launch
from config.env import PROJECT, Environment
from config.supervisor import Child, Process
from config.web.command import web_command

WORKER_THREADS = 2


def build_environ(env: Environment) -> dict[str, str]:
    """The variables of every child: ours, with what was found out once (paths, names) filled in."""
    return {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "MAILHOST_STATE": str(env.mailhost_state),
        "MAILHOST_HOSTNAME": env.mailhost_hostname,
        "PYTHONUNBUFFERED": "1",
    }


def build_children(env: Environment, mark: int) -> list[Child]:
    """web, smtp, worker and beat, as many of each as the variables say; `mark` is what they hold open."""
    web = _WebSettings(env.mailhost_bind, env.mailhost_http_port, env.mailhost_web_processes)
    commands = {"web": web_command(web), "beat": [*_celery("beat"), "--pidfile="]}
    commands["smtp"] = [sys.executable, "manage.py", "smtp"]  # which serves in processes of its own, and watches them
    for number in _numbers(env.mailhost_worker_processes):
        commands[f"worker{number}"] = _worker_command(number)
    return [_build_child(env, name, command, mark) for name, command in commands.items()]


def start_logged(env: Environment, name: str, command: list[str], mark: int) -> Process:
    """Start a command of ours whose output goes to log/`name`.log."""
    with open_log(env.mailhost_state, name) as log:
        return launch(command, log=log, env=build_environ(env), cwd=PROJECT, keep_open=[mark])


def log_path(state: Path, name: str) -> Path:
    """Where a process's output goes."""
    return state / "log" / f"{name}.log"


def _build_child(env: Environment, name: str, command: list[str], mark: int) -> Child:
    start = partial(start_logged, env, name, command, mark)
    return Child(name=name, start=start, log=log_path(env.mailhost_state, name))


def _numbers(count: int) -> list[str]:
    """'' for a single process, else '-1', '-2' and so on."""
    return [""] if count == 1 else [f"-{number}" for number in range(1, count + 1)]


@dataclass(slots=True)
class _WebSettings:
    """What web_command() reads, without Django: the supervisor stays small."""

    MAILHOST_BIND: str
    MAILHOST_HTTP_PORT: int
    MAILHOST_WEB_PROCESSES: int


def _worker_command(number: str) -> list[str]:
    return [
        *_celery("worker"),
        *("-P", "threads", "-c", str(WORKER_THREADS), "-n", f"worker{number}@%h"),
        *("--without-gossip", "--without-mingle", "--without-heartbeat"),
    ]


def _celery(command: str) -> list[str]:
    return [sys.executable, "-m", "celery", "-A", "config", "--skip-checks", "--no-color", "-q", command]
