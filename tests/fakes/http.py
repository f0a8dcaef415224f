"""A receiver of HTTP requests for tests: a real socket on 127.0.0.1, in a thread of its own, plain or with TLS.

It records what it gets and answers 200, unless it is told otherwise:

    with HttpReceiver() as receiver:
        receiver.answer(500, times=2)
        receiver.answer(307, headers={"Location": "https://elsewhere.test/"})
        receiver.delay(0.5)
        receiver.hang()
        ...
        (request,) = receiver.wait_for(1)

    with HttpReceiver(tls=authority.server_context("hook.test")) as receiver:  # see Authority
"""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
import time
from dataclasses import dataclass, field
from typing import Any, Self

import trustme

from tests.fakes.smtp import LoopbackServer

_REASONS = {200: "OK", 307: "Temporary Redirect", 410: "Gone", 429: "Too Many Requests", 500: "Internal Server Error"}


@dataclass
class ReceivedRequest:
    """One request, as it came; header names in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    connection: int
    to_address: str
    at: float

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class _Rule:
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    delay: float = 0.0
    hang: bool = False
    raw: bytes | None = None
    times: int | None = None
    match: str = ""


class Authority:
    """A certificate authority of the tests'."""

    def __init__(self) -> None:
        self._authority = trustme.CA()

    def server_context(self, *names: str) -> ssl.SSLContext:
        """What a server with a certificate for these names needs."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._authority.issue_cert(*names).configure_cert(context)
        return context

    def client_context(self) -> ssl.SSLContext:
        """What a client that trusts this authority alone needs."""
        context = ssl.create_default_context()
        self._authority.configure_trust(context)
        return context


class HttpReceiver(LoopbackServer):
    """See the module. `requests` are those that were read whole; `most_at_once` how many were being answered."""

    def __init__(self, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> None:
        super().__init__(self._talk, host=host, tls=tls)
        self.requests: list[ReceivedRequest] = []
        self.most_at_once = 0
        self._under_way = 0
        self._rules: list[_Rule] = []
        self._arrived = threading.Condition()
        self._scheme = "https" if tls else "http"

    def __enter__(self) -> Self:
        super().__enter__()
        return self

    # --- what tests call

    def url(self, path: str = "/hook", *, host: str = "127.0.0.1") -> str:
        """A URL of this receiver."""
        return f"{self._scheme}://{host}:{self.port}{path}"

    def answer(
        self,
        status: int,
        body: bytes = b"",
        *,
        headers: dict[str, str] | None = None,
        times: int | None = None,
        match: str = "",
    ) -> None:
        """Answer so, `times` times or always, to paths that contain `match`; the first rule that fits counts."""
        self._rules = [*self._rules, _Rule(status, headers or {}, body, times=times, match=match)]

    def answer_raw(self, octets: bytes, *, times: int | None = None) -> None:
        """Answer these octets and hang up."""
        self._rules = [*self._rules, _Rule(raw=octets, times=times)]

    def delay(self, seconds: float, *, times: int | None = None, match: str = "") -> None:
        """Wait before answering 200."""
        self._rules = [*self._rules, _Rule(200, delay=seconds, times=times, match=match)]

    def hang(self, *, times: int | None = None, match: str = "") -> None:
        """Read the request and never answer."""
        self._rules = [*self._rules, _Rule(hang=True, times=times, match=match)]

    def behave(self) -> None:
        """Forget every rule."""
        self._rules = []

    def wait_for(self, count: int, timeout: float = 10) -> list[ReceivedRequest]:
        """Wait until `count` requests are here; fails with what came."""
        deadline = time.monotonic() + timeout
        with self._arrived:
            while len(self.requests) < count:
                left = deadline - time.monotonic()
                assert left > 0, f"{len(self.requests)} of {count} requests came in {timeout} s"
                self._arrived.wait(left)
            return list(self.requests)

    # --- the conversation

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = self.connections
        while (line := await reader.readline()).strip():
            request = await self._read(line, reader, writer, connection)
            rule = self._find_rule(request.path)
            self._under_way += 1
            self.most_at_once = max(self.most_at_once, self._under_way)
            with self._arrived:
                self.requests.append(request)
                self._arrived.notify_all()
            try:
                if not await self._respond(rule, writer):
                    return
            finally:
                self._under_way -= 1

    async def _read(
        self, line: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: int
    ) -> ReceivedRequest:
        method, path, _ = line.decode("latin-1").split(" ", 2)
        headers: dict[str, str] = {}
        while (header := await reader.readline()).strip():
            name, _, value = header.decode("latin-1").partition(":")
            headers[name.strip().lower()] = value.strip()
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        to_address = writer.get_extra_info("sockname")[0]
        return ReceivedRequest(method, path, headers, body, connection, to_address, time.time())

    def _find_rule(self, path: str) -> _Rule:
        for rule in self._rules:
            if rule.match in path and rule.times != 0:
                if rule.times is not None:
                    rule.times -= 1
                return rule
        return _Rule(200)

    @staticmethod
    async def _respond(rule: _Rule, writer: asyncio.StreamWriter) -> bool:
        """Answer as the rule says; whether the connection goes on."""
        if rule.hang:
            await asyncio.sleep(3600)
        await asyncio.sleep(rule.delay)
        if rule.raw is not None:
            writer.write(rule.raw)
            await writer.drain()
            return False
        headers = {"Content-Length": str(len(rule.body))} | rule.headers
        head = f"HTTP/1.1 {rule.status} {_REASONS.get(rule.status or 0, 'Status')}\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in headers.items()) + "\r\n"
        writer.write(head.encode("latin-1") + rule.body)
        await writer.drain()
        return True
