"""One request of a webhook: to the very address that was checked, bounded in time and size.

The check stands where the connection is made, below HTTP: whatever a URL, a redirect or a name server comes up with,
there is no other way out. TLS and the Host header keep the name.
"""

import asyncio
import re
import ssl
import time
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

import httpcore
from django.conf import settings

from apps.events.webhooks.formats import JSON_TYPE, HttpCall
from apps.events.webhooks.targets import Target, TargetRefused, find_addresses, follow_redirect, read_target
from mailhost.dns.resolver import Resolver

TIMEOUT = 15.0
"""Seconds for a call in all: name servers, connection, TLS, redirects, answer."""
MAX_RESPONSE = 64 * 1024
MAX_REDIRECTS = 3
USER_AGENT = "Mailhost-Webhooks/1"
_CONNECT_SECONDS = 5.0
_IDLE_SECONDS = 5.0
_CONNECTIONS = 100
_LOGGED = 2048
_KEEP_POST = (307, 308)
_RETRY_AFTER = (429, 503)
# What a format must not set: it belongs to the connection.
_OURS = ("host", "content-length", "transfer-encoding", "connection", "accept-encoding")


_FAILURES = (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError, OSError)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: a status and the beginning of the body, or in words why nothing did."""

    status_code: int | None = None
    body: str = ""
    error: str = ""
    retry_after: timedelta | None = None
    duration_ms: int = 0


class GuardedBackend(httpcore.AnyIOBackend):
    """Connects to addresses that are allowed, and looks a name up exactly once per connection."""

    def __init__(self, resolver: Resolver, *, plain: bool) -> None:
        self._resolver = resolver
        self._plain = plain

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's interface
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """A connection to one of the host's addresses; raises TargetRefused, or what the last of them raised."""
        failure: Exception | None = None
        for address in await find_addresses(host.strip("[]"), plain=self._plain, resolver=self._resolver):
            try:
                return await super().connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure or TargetRefused("The host has no address.")

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's interface
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Never: there is no URL for one."""
        raise TargetRefused("This is not a URL.")


class Poster:
    """Makes requests over connections that are kept for a few seconds; one per event loop. Knows no cookies."""

    def __init__(self, ssl_context: ssl.SSLContext | None = None) -> None:
        resolver = Resolver(settings.MAILHOST_DNS_SERVERS or None, timeout=5.0)
        context = ssl_context or httpcore.default_ssl_context()
        self._pools = {
            scheme: httpcore.AsyncConnectionPool(
                ssl_context=context,
                max_connections=_CONNECTIONS,
                max_keepalive_connections=_CONNECTIONS // 2,
                keepalive_expiry=_IDLE_SECONDS,
                network_backend=GuardedBackend(resolver, plain=scheme == "http"),
            )
            for scheme in ("https", "http")
        }

    async def post(self, url: str, call: HttpCall) -> Answer:
        """Make the request and follow redirects that keep a POST. Raises nothing but cancellation."""
        began = time.monotonic()
        try:
            async with asyncio.timeout(TIMEOUT):
                answer = await self._follow(read_target(url), call)
        except TimeoutError:
            answer = Answer(error=f"There was no complete answer within {TIMEOUT:.0f} seconds.")
        except TargetRefused as error:
            answer = Answer(error=str(error))
        except _FAILURES as error:
            answer = Answer(error=_explain(error))
        spent = int((time.monotonic() - began) * 1000)
        return Answer(answer.status_code, answer.body, answer.error, answer.retry_after, spent)

    async def close(self) -> None:
        """Close all connections."""
        for pool in self._pools.values():
            await pool.aclose()

    async def _follow(self, target: Target, call: HttpCall) -> Answer:
        for _ in range(MAX_REDIRECTS + 1):
            answer, location = await self._request(target, call)
            if answer.status_code not in _KEEP_POST or not location:
                return _judge(answer)
            target = follow_redirect(target, location)
        return Answer(answer.status_code, answer.body, f"More than {MAX_REDIRECTS} redirects.")

    async def _request(self, target: Target, call: HttpCall) -> tuple[Answer, str]:
        """One request and its answer; where it redirects to, if it does."""
        url = httpcore.URL(scheme=target.scheme, host=target.host, port=target.port, target=target.path)
        timeouts = {"connect": _CONNECT_SECONDS, "read": TIMEOUT, "write": TIMEOUT, "pool": TIMEOUT}
        headers = _make_headers(target, call)
        pool = self._pools[target.scheme]
        async with pool.stream(
            "POST", url, headers=headers, content=call.body, extensions={"timeout": timeouts}
        ) as response:
            body = await _read_beginning(response)
            received = {name.lower(): value for name, value in response.headers}
        shown = body[:_LOGGED].decode("utf-8", "replace")
        answer = Answer(response.status, shown, retry_after=_read_retry_after(response.status, received))
        return answer, received.get(b"location", b"").decode("latin-1")


def _make_headers(target: Target, call: HttpCall) -> list[tuple[str, str]]:
    given = {name: value for name, value in call.headers.items() if name.lower() not in _OURS}
    known = {name.lower() for name in given}
    ours = {"Host": target.authority, "Accept": "*/*", "Accept-Encoding": "identity"}
    defaults = {"User-Agent": USER_AGENT, "Content-Type": JSON_TYPE}
    ours |= {name: value for name, value in defaults.items() if name.lower() not in known}
    return [*ours.items(), *given.items(), ("Content-Length", str(len(call.body)))]


async def _read_beginning(response: httpcore.Response) -> bytes:
    """At most 64 KB; leaving the rest unread closes the connection."""
    pieces: list[bytes] = []
    size = 0
    stream: AsyncGenerator[bytes, None] = response.aiter_stream()  # type: ignore[assignment]
    async with aclosing(stream):
        async for piece in stream:
            pieces.append(piece)
            size += len(piece)
            if size >= MAX_RESPONSE:
                break
    return b"".join(pieces)[:MAX_RESPONSE]


def _judge(answer: Answer) -> Answer:
    """Words for a status that does not count."""
    status = answer.status_code or 0
    if 200 <= status < 300:
        return answer
    words = f"The answer was {status}."
    if 300 <= status < 400:
        words = f"The answer was {status}; only redirects with 307 or 308 are followed."
    return Answer(answer.status_code, answer.body, words, answer.retry_after)


def _read_retry_after(status: int, headers: Mapping[bytes, bytes]) -> timedelta | None:
    """RFC 9110, section 10.2.3: seconds, or a date."""
    text = headers.get(b"retry-after", b"").decode("latin-1").strip()
    if status not in _RETRY_AFTER or not text:
        return None
    if re.fullmatch("[0-9]{1,9}", text):
        return timedelta(seconds=int(text))
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return max(timedelta(), moment - datetime.now(UTC))


def _explain(error: BaseException) -> str:
    """What went wrong, for the webhook's owner: what TLS or HTTP says, else only the kind of failure."""
    cause = error.__cause__ or error.__context__
    for one in (error, cause):
        if isinstance(one, ssl.SSLCertVerificationError):
            return f"The certificate cannot be trusted: {one.verify_message}."
        if isinstance(one, ssl.SSLError):
            return f"TLS failed: {one.reason or 'no reason given'}."
    if isinstance(error, httpcore.ConnectTimeout):
        return f"No connection within {_CONNECT_SECONDS:.0f} seconds."
    if isinstance(error, httpcore.ConnectError):
        return "The connection was refused, or the host cannot be reached."
    if isinstance(error, httpcore.LocalProtocolError):
        return "The request could not be written."
    if isinstance(error, httpcore.ProtocolError):
        return f"The answer is no HTTP: {error}"
    return "The connection broke before there was an answer."
