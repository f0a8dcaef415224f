"""`python -m config.run` (what `make run` does): everything an installation needs, under one supervisor.

Order: check variables, folder and ports; embedded PostgreSQL and Redis unless others are given; migrations and first
organization; then web, smtp, worker and beat. Ctrl-C or SIGTERM ends it all within ten seconds. Whatever an
operator can mend is said in one sentence.
"""

import http.client
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from config.embedded.errors import EmbeddedError
from config.embedded.files import trim_logs
from config.embedded.lock import lock_state, mark_processes
from config.embedded.postgres import EmbeddedPostgres
from config.embedded.redis import EmbeddedRedis
from config.env import BadEnvironment, Environment, read_environment, read_state_folder
from config.processes import build_children, log_path, start_logged
from config.start_checks import CannotStart, check_ports, check_state_folder
from config.supervisor import Child, ChildKeepsDying, Supervisor, kill_group

SERVER_PATIENCE = 60.0
MIGRATION_PATIENCE = 1800.0
READY_PATIENCE = 60.0
# Seconds for the servers and for our own processes to end cleanly: together below ten.
STOP_PATIENCE = (3.0, 6.0)
TRIM_EVERY = 60.0
EXIT_STOPPED, EXIT_CANNOT, EXIT_BAD_VARIABLE = 0, 1, 2


def say(sentence: str) -> None:
    """One line for the person at the console."""
    print(f"mailhost: {sentence}", flush=True)  # noqa: T201 - this is the console's program


def main() -> int:
    """Run until told to stop; returns the exit code."""
    os.umask(0o077)
    supervisor = Supervisor(say)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: supervisor.stopping.set())
    try:
        state = read_state_folder()
        check_state_folder(state)
        with lock_state(state):
            env = read_environment(may_make_secret_key=True)
            with mark_processes(state) as mark:
                check_ports(env)
                return run_to_the_end(env, supervisor, mark)
    except BadEnvironment as error:
        say(str(error))
        return EXIT_BAD_VARIABLE
    except (CannotStart, EmbeddedError) as error:
        say(str(error))
        return EXIT_CANNOT


def run_to_the_end(env: Environment, supervisor: Supervisor, mark: int) -> int:
    """run(), and whatever happened, nothing is left running after it."""
    code = EXIT_CANNOT
    try:
        run(env, supervisor, mark)
        code = EXIT_STOPPED
    except (CannotStart, EmbeddedError, ChildKeepsDying) as error:
        say(str(error))
    except OSError as error:
        say(f"cannot go on: {error.strerror}{f' ({error.filename})' if error.filename else ''}.")
    finally:
        supervisor.stop(STOP_PATIENCE)
        say("stopped.")
    return code


def run(env: Environment, supervisor: Supervisor, mark: int) -> None:
    """Start everything in order, then watch it until `supervisor.stopping`."""
    say(f"starting; everything it keeps is in {env.mailhost_state}.")
    start_servers(env, supervisor)
    if prepare_database(env, supervisor, mark):
        supervisor.add(build_children(env, mark))
        greet(env, supervisor)
    next_trim = 0.0

    def trim_now_and_then() -> bool:
        nonlocal next_trim
        if time.monotonic() >= next_trim:
            trim_logs(env.mailhost_state)
            next_trim = time.monotonic() + TRIM_EVERY
        return False

    supervisor.watch(until=trim_now_and_then)


def start_servers(env: Environment, supervisor: Supervisor) -> None:
    """The embedded servers that the variables do not replace; returns when they answer."""
    state, children, ready = env.mailhost_state, [], []
    if env.redis_is_embedded:  # first: whether there is one is known at once
        redis = EmbeddedRedis(state)
        redis.prepare()
        children.append(Child("redis", redis.start, log_path(state, "redis")))
        ready.append(redis.is_ready)
    if env.database_is_embedded:
        postgres = EmbeddedPostgres(state)
        postgres.prepare()
        children.append(Child("postgres", postgres.start, log_path(state, "postgres"), signal.SIGINT))
        ready.append(postgres.is_ready)
    supervisor.add(children)
    deadline = time.monotonic() + SERVER_PATIENCE
    supervisor.watch(until=lambda: time.monotonic() > deadline or all(is_ready() for is_ready in ready))
    if not supervisor.stopping.is_set() and time.monotonic() > deadline:
        raise CannotStart(f"PostgreSQL or Redis does not answer: see {state / 'log'}.")


def prepare_database(env: Environment, supervisor: Supervisor, mark: int) -> bool:
    """Migrations and the first organization; False when told to stop meanwhile."""
    process = start_logged(env, "first-run", [sys.executable, "-m", "config.first_run"], mark)
    deadline = time.monotonic() + MIGRATION_PATIENCE
    try:
        supervisor.watch(until=lambda: process.poll() is not None or time.monotonic() > deadline)
    finally:
        if process.poll() is None:
            process.terminate()
            kill_group(process)
    if supervisor.stopping.is_set():
        return False
    if process.wait() != 0:
        path = log_path(env.mailhost_state, "first-run")
        raise CannotStart(f"the database could not be prepared: {last_line(path)} (see {path}).")
    return True


def greet(env: Environment, supervisor: Supervisor) -> None:
    """Wait until everything is up, and say where to go and with which key."""
    deadline = time.monotonic() + READY_PATIENCE
    supervisor.watch(until=slow_check(lambda: time.monotonic() > deadline or not ask_missing(env)))
    if supervisor.stopping.is_set():
        return
    if missing := ask_missing(env):
        say(f"after {READY_PATIENCE:.0f} s there is still no {', '.join(missing)}: see {env.mailhost_state / 'log'}.")
        return
    base, path = env.mailhost_public_url, env.mailhost_state / "first-run.json"
    facts = json.loads(path.read_text()) if path.exists() else {}
    say("ready.")
    for name, value in (
        ("API", f"{base}/v1 (documented at {base}/docs)"),
        ("API key", facts.get("api_key", "")),
        ("Admin", f"{base}/admin/"),
        ("Admin login", f"{facts.get('admin_username', '')} / {facts.get('admin_password', '')}"),
        ("SMTP", f"{env.mailhost_bind}:{env.mailhost_smtp_port}"),
        ("Outgoing mail", DELIVERY_WORDS[env.mailhost_delivery]),
        ("Stop", "Ctrl-C"),
    ):
        if value:
            say(f"  {name:<13} {value}")


DELIVERY_WORDS = {
    "hold": "held, but for local mailboxes (MAILHOST_DELIVERY=direct or relay lets it out)",
    "direct": "sent to the recipients' servers",
    "relay": "sent through MAILHOST_RELAY_URL",
}
"""MAILHOST_DELIVERY, said to a newcomer."""


def slow_check(check: Callable[[], bool], seconds: float = 0.3) -> Callable[[], bool]:
    """The same check, made at most every `seconds`."""
    next_time = 0.0

    def check_if_due() -> bool:
        nonlocal next_time
        if time.monotonic() < next_time:
            return False
        answer = check()
        next_time = time.monotonic() + seconds
        return answer

    return check_if_due


def ask_missing(env: Environment) -> list[str]:
    """What `/health/ready` says is missing; `web` when it does not answer."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(env.mailhost_bind, env.mailhost_bind)  # noqa: S104 - compared
    connection = http.client.HTTPConnection(host, env.mailhost_http_port, timeout=3)
    try:
        connection.request("GET", "/health/ready")
        answer = json.loads(connection.getresponse().read(65536))
        return [str(name) for name in answer["missing"]]
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
        return ["web"]
    finally:
        connection.close()


def last_line(path: Path) -> str:
    """The last line of a log, shortened: usually the error itself."""
    lines = path.read_text(errors="replace").strip().splitlines() if path.exists() else []
    return lines[-1][:300] if lines else "it gave no reason"


if __name__ == "__main__":
    sys.exit(main())
