"""How the web process is started: granian's command line, in one place for every way to run it."""

import sys
from typing import Protocol

BACKLOG = 2048
MAX_CONNECTIONS = 8192
"""Open connections per process. Waiting requests and idle keep-alive connections count, so it is high;
what costs is bounded elsewhere (threads, queue, room for bodies)."""
HEADER_SECONDS = 20
"""A client that takes longer to send its header fields is dropped."""
HEADER_BYTES = 64 * 1024
STOP_SECONDS = 8
"""Requests in flight at a stop have so long to finish."""


class WebSettings(Protocol):
    """The settings the command is made from."""

    MAILHOST_BIND: str
    MAILHOST_HTTP_PORT: int
    MAILHOST_WEB_PROCESSES: int


def web_command(settings: WebSettings) -> list[str]:
    """The command that runs ``web`` in the foreground, all its processes below one parent.

    SIGTERM or SIGINT stops it: requests in flight finish, within STOP_SECONDS. A worker process that
    dies ends the whole, for the supervisor to start again: the workers hold nothing, and only one
    place then counts deaths.
    """
    return [
        sys.executable,
        *("-m", "granian"),
        *("--interface", "asgi"),
        # HTTP/1.1 only: a proxy in front speaks HTTP/2 to the world, and there is less to attack.
        *("--http", "1"),
        *("--host", settings.MAILHOST_BIND),
        *("--port", str(settings.MAILHOST_HTTP_PORT)),
        *("--workers", str(settings.MAILHOST_WEB_PROCESSES)),
        # uvloop where it is installed (a sixth more requests here), asyncio elsewhere.
        *("--loop", "auto"),
        *("--runtime-mode", "st"),
        *("--backlog", str(BACKLOG)),
        *("--backpressure", str(MAX_CONNECTIONS)),
        *("--http1-buffer-size", str(HEADER_BYTES)),
        *("--http1-header-read-timeout", str(HEADER_SECONDS * 1000)),
        *("--workers-kill-timeout", str(STOP_SECONDS)),
        "--no-access-log",
        *("--log-level", "warning"),
        "config.asgi:application",
    ]
