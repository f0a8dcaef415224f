"""The table of native routes: paths that asyncio code answers instead of Django on a thread.

A request belongs here when it waits for something other than the database: a mail to come, an event
to happen, the next message of a WebSocket. Such an application must not block. Its scope's ``state``
holds ``run_blocking`` (``await run_blocking(function)`` runs a function, a query perhaps, on one of the
web's threads) and ``stopping`` (an asyncio.Event: answer and end, the process stops).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from django.utils.module_loading import import_string

from config.web.protocol import AsgiApp


@dataclass(frozen=True, slots=True)
class NativeRoute:
    """Paths that a native ASGI application answers.

    ``prefix`` is a path without its closing slash; it matches itself and everything below it. With ``suffix``, only
    paths below the prefix that end in it (``/v1/inboxes`` and ``/wait``). ``app`` may be given by its dotted name,
    to be imported when Django has been set up.
    """

    prefix: str
    app: AsgiApp | str
    suffix: str = ""


class RouteTable:
    """Finds the native application of a path; the first route that matches wins."""

    def __init__(self, routes: Sequence[NativeRoute]) -> None:
        self._apps: list[AsgiApp] = [
            import_string(route.app) if isinstance(route.app, str) else route.app for route in routes
        ]
        # One pattern for all routes: a request that is none of them, which most are, costs one match.
        pattern = "|".join(f"({_route_pattern(route)})" for route in routes)
        self._pattern = re.compile(pattern, re.DOTALL) if routes else None

    def find(self, path: str) -> AsgiApp | None:
        """The application for ``path``, or None when the path is Django's."""
        if self._pattern is None:
            return None
        match = self._pattern.fullmatch(path)
        if match is None or match.lastindex is None:
            return None
        return self._apps[match.lastindex - 1]


def _route_pattern(route: NativeRoute) -> str:
    prefix = re.escape(route.prefix.rstrip("/"))
    if route.suffix:
        return rf"{prefix}/.+{re.escape(route.suffix)}"
    return rf"{prefix}(?:/.*)?"


NATIVE_ROUTES: tuple[NativeRoute, ...] = (
    NativeRoute("/v1/inboxes", "apps.api.native.waiting.wait_for_mail", suffix="/wait"),
    NativeRoute("/v1/events/stream", "apps.api.native.streaming.stream_events"),
)
