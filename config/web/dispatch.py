"""The ASGI application of the web process: native routes on the event loop, everything else to Django on threads.

Why not Django's own ASGI handler: with sync views it costs more than half of the throughput, and it runs one sync
view at a time per context. Why not a WSGI server: a request that waits for mail would hold a thread for minutes.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from config.web.bodies import Body, BodyLimits, BodyStore, BodyStoreFull, BodyTooLarge, BodyTooSlow
from config.web.environ import build_environ
from config.web.errors import (
    BODY_BROKEN,
    BODY_TOO_LARGE,
    BODY_TOO_SLOW,
    NO_ROOM_FOR_BODY,
    TOO_BUSY,
    FrontError,
    send_error,
)
from config.web.exchange import ChunkPipe, Exchange, Reply, WsgiApp
from config.web.pool import PoolFull, ThreadPool
from config.web.process import StopSignal
from config.web.protocol import ClientGone, Receive, Scope, Send
from config.web.proxies import TrustedProxies
from config.web.routes import RouteTable

logger = logging.getLogger(__name__)

Lifespan = Callable[[], AbstractAsyncContextManager[None]]


@asynccontextmanager
async def no_lifespan() -> AsyncIterator[None]:
    """Nothing to start, nothing to stop."""
    yield


@dataclass(frozen=True, slots=True)
class FrontLimits:
    """Bounds of the front; times in seconds."""

    bodies: BodyLimits
    queue_seconds: float = 10.0
    """A request that no thread took for so long is refused: its client has most likely given up."""
    stop_seconds: float = 8.0
    """How long a stopping process waits for its threads."""


class Dispatcher:
    """ASGI 3.0 application over a WSGI application and a table of native routes."""

    def __init__(
        self,
        wsgi_app: WsgiApp,
        *,
        routes: RouteTable,
        pool: ThreadPool,
        proxies: TrustedProxies,
        limits: FrontLimits,
        stop: StopSignal | None = None,
        lifespan: Lifespan = no_lifespan,
        mounted_hosts: Mapping[str, str] | None = None,
    ) -> None:
        """``mounted_hosts``: host names at whose root stands what is else below a path, for native routes to know."""
        self._wsgi_app = wsgi_app
        self._routes = routes
        self._pool = pool
        self._proxies = proxies
        self._limits = limits
        self._stop = stop or StopSignal()
        self._lifespan = lifespan
        self._mounted = {host.lower().encode("latin-1"): path for host, path in (mounted_hosts or {}).items()}
        self._bodies = BodyStore(limits.bodies)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._serve_lifespan(receive, send)
            return
        self._proxies.apply(scope)
        native = self._routes.find(self._mount(scope) + scope["path"])
        if native is not None:
            scope.setdefault("state", {}).update(run_blocking=self._pool.run, stopping=self._stop.event)
            await native(scope, receive, send)
        elif scope["type"] == "http":
            await self._serve_django(scope, receive, send)
        else:
            await receive()
            await send({"type": "websocket.close", "code": 1000})

    def _mount(self, scope: Scope) -> str:
        """The path that stands at the root of the host that was asked; empty for all but a few hosts."""
        if not self._mounted:
            return ""
        host = next((value for name, value in scope["headers"] if name == b"host"), b"").lower()
        return self._mounted.get(host) or self._mounted.get(host.partition(b":")[0]) or ""

    async def _serve_django(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_head = scope["method"] == "HEAD"
        try:
            body = await self._bodies.read(scope, receive)
        except (ClientGone, BodyTooLarge, BodyTooSlow, BodyStoreFull) as error:
            await send_error(send, _body_error(error), is_head=is_head)
            return
        answer = await self._call_wsgi(scope, body, receive)
        if isinstance(answer, Reply):
            await _send_reply(answer, receive, send, is_head=is_head)
        elif answer is not None:
            await send_error(send, answer, is_head=is_head)

    async def _call_wsgi(self, scope: Scope, body: Body, receive: Receive) -> Reply | FrontError | None:
        """The answer of a thread; None when the client left while the request was still queued."""
        exchange = Exchange(
            self._wsgi_app,
            build_environ(scope, body.file, body.length),
            start_by=time.monotonic() + self._limits.queue_seconds,
            on_finish=body.close,
        )
        try:
            self._pool.submit(exchange.run)
        except PoolFull:
            body.close()
            return TOO_BUSY
        if self._pool.is_crowded:
            return await _await_or_abandon(exchange, receive)
        return await exchange.reply

    async def _serve_lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            async with self._lifespan():
                self._pool.start()
                await send({"type": "lifespan.startup.complete"})
                await receive()
                await self._stop_pool()
        except Exception as error:  # the server wants to hear of it in its own words, then it ends the process
            logger.exception("the web process could not start or stop cleanly")
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        await send({"type": "lifespan.shutdown.complete"})

    async def _stop_pool(self) -> None:
        if not await asyncio.to_thread(self._pool.stop, self._limits.stop_seconds):
            logger.warning("requests were still running after %s seconds", self._limits.stop_seconds)


def _body_error(error: Exception) -> FrontError:
    if isinstance(error, BodyTooLarge):
        return BODY_TOO_LARGE
    if isinstance(error, ClientGone):
        # Told even so: a body that is not chunked as announced looks the same from here, and its sender listens.
        return BODY_BROKEN
    if isinstance(error, BodyTooSlow):
        return BODY_TOO_SLOW
    return NO_ROOM_FOR_BODY


async def _send_reply(reply: Reply, receive: Receive, send: Send, *, is_head: bool) -> None:
    headers = reply.headers
    if is_head and reply.pipe is None and not any(name == b"content-length" for name, _ in headers):
        headers = [*headers, (b"content-length", b"%d" % len(reply.body))]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    if reply.pipe is not None:
        await _send_stream(reply.pipe, receive, send)
    else:
        await send({"type": "http.response.body", "body": b"" if is_head else reply.body})


async def _send_stream(pipe: ChunkPipe, receive: Receive, send: Send) -> None:
    # The server swallows what is sent to a client that left, so leaving has to be watched for.
    watcher = asyncio.ensure_future(_wait_for_disconnect(receive))
    watcher.add_done_callback(lambda _: pipe.abandon())
    try:
        while (chunk := await pipe.read()) is not None:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
            pipe.confirm(len(chunk))
        await send({"type": "http.response.body", "body": b""})
    except ClientGone:
        return
    finally:
        pipe.abandon()
        watcher.cancel()


async def _wait_for_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _await_or_abandon(exchange: Exchange, receive: Receive) -> Reply | FrontError | None:
    """Wait for the reply or for the client's leaving; a request of a client that left is not begun."""
    watcher = asyncio.ensure_future(_wait_for_disconnect(receive))
    waits: list[asyncio.Future[Any]] = [exchange.reply, watcher]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        if not exchange.reply.done():
            exchange.abandoned = True
            return None
        return exchange.reply.result()
    finally:
        watcher.cancel()
        with suppress(asyncio.CancelledError):
            await watcher
