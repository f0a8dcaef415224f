"""One request's way through a pool thread: the WSGI call, and its answer back to the event loop.

An answer that Django holds in memory crosses in one step. A streaming one crosses chunk by chunk through a pipe that
holds a bounded number of bytes, so that neither memory nor thread belongs to a slow client for long.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from config.web.errors import INTERNAL_ERROR, TOO_BUSY, FrontError
from config.web.protocol import ClientGone, RawHeaders

logger = logging.getLogger(__name__)

WsgiApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

PIPE_BYTES = 1024 * 1024
"""A stream's thread runs ahead of its client by so much; shorter answers free their thread at once."""
STREAM_GRACE_SECONDS = 30.0
STREAM_BYTES_PER_SECOND = 16 * 1024
"""A client that has kept its thread waiting beyond the grace must have read at this rate, else it is cut off."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What the thread answers: a whole body, or the pipe through which it will come."""

    status: int
    headers: RawHeaders
    body: bytes = b""
    pipe: "ChunkPipe | None" = None


class ChunkPipe:
    """Chunks of one response from a thread to the event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._room = threading.Condition()
        self._unsent = 0
        self._gone = False
        self._written = 0
        self._blocked_seconds = 0.0
        self._chunks: asyncio.Queue[bytes | Exception | None] = asyncio.Queue()

    def write(self, chunk: bytes) -> None:
        """Thread: hand over one chunk, waiting for room. Raises ClientGone when nobody reads any more."""
        with self._room:
            if self._unsent >= PIPE_BYTES:
                self._wait_for_room()
            if self._gone:
                raise ClientGone
            self._unsent += len(chunk)
            self._written += len(chunk)
        self._loop.call_soon_threadsafe(self._chunks.put_nowait, chunk)

    def end(self, error: Exception | None = None) -> None:
        """Thread: no more chunks; with ``error``, because the response broke off."""
        self._loop.call_soon_threadsafe(self._chunks.put_nowait, error)

    async def read(self) -> bytes | None:
        """Loop: the next chunk, None at the end; raises what broke the response off."""
        item = await self._chunks.get()
        if isinstance(item, Exception):
            raise item
        return item

    def confirm(self, size: int) -> None:
        """Loop: ``size`` bytes have left for the client."""
        with self._room:
            self._unsent -= size
            self._room.notify()

    def abandon(self) -> None:
        """Loop: the client is gone; the thread learns it with its next chunk."""
        with self._room:
            self._gone = True
            self._room.notify()

    def _wait_for_room(self) -> None:
        allowed = STREAM_GRACE_SECONDS + self._written / STREAM_BYTES_PER_SECOND - self._blocked_seconds
        began = time.monotonic()
        has_room = self._room.wait_for(lambda: self._gone or self._unsent < PIPE_BYTES, timeout=max(0.0, allowed))
        self._blocked_seconds += time.monotonic() - began
        if not has_room:
            self._gone = True


class Exchange:
    """A WSGI call that a pool thread makes for the event loop.

    ``reply`` is resolved on the loop with the answer; ``on_finish`` is called on the loop when the thread has let go
    of the request, also when nobody waits for the answer any more.
    """

    __slots__ = (
        "_app",
        "_environ",
        "_headers",
        "_loop",
        "_on_finish",
        "_start_by",
        "_status",
        "abandoned",
        "reply",
    )

    def __init__(
        self,
        app: WsgiApp,
        environ: dict[str, Any],
        *,
        start_by: float,
        on_finish: Callable[[], None],
    ) -> None:
        self._app = app
        self._environ = environ
        self._loop = asyncio.get_running_loop()
        self._start_by = start_by
        self._on_finish = on_finish
        self._status = 500
        self._headers: RawHeaders = []
        self.abandoned = False
        """Set by the loop when the client left before a thread took the request."""
        self.reply: asyncio.Future[Reply | FrontError] = self._loop.create_future()

    def run(self) -> None:
        """On a pool thread: call the application and answer. Never raises."""
        answer: Reply | FrontError | None
        if self.abandoned or time.monotonic() > self._start_by:
            answer = TOO_BUSY
        else:
            try:
                answer = self._call()
            except BaseException:  # even SystemExit: the client must have an answer, and the pool its thread
                logger.exception("the WSGI application failed")
                answer = INTERNAL_ERROR
        self._loop.call_soon_threadsafe(self._finish, answer)

    def _call(self) -> Reply | None:
        """The whole reply, or None when it was streamed."""
        response = self._app(self._environ, self._start_response)
        try:
            # Django's HttpResponse says whether it is a stream; anything else may be one.
            if getattr(response, "streaming", True):
                self._stream(response)
                return None
            return Reply(self._status, self._headers, b"".join(response))
        finally:
            _close(response)

    def _stream(self, response: Iterable[bytes]) -> None:
        pipe = ChunkPipe(self._loop)
        self._loop.call_soon_threadsafe(self._answer, Reply(self._status, self._headers, pipe=pipe))
        if self._environ["REQUEST_METHOD"] == "HEAD":
            pipe.end()
            return
        try:
            for chunk in response:
                if chunk:
                    pipe.write(chunk)
        except ClientGone as error:
            pipe.end(error)
        except Exception as error:
            logger.exception("a streaming response broke off")
            pipe.end(error)
        else:
            pipe.end()

    def _start_response(self, status: str, headers: list[tuple[str, str]], _exc_info: object = None) -> None:
        self._status = int(status[:3])
        self._headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]

    def _finish(self, answer: Reply | FrontError | None) -> None:
        if answer is not None:
            self._answer(answer)
        self._on_finish()

    def _answer(self, answer: Reply | FrontError) -> None:
        if not self.reply.done():
            self.reply.set_result(answer)
        elif isinstance(answer, Reply) and answer.pipe is not None:
            answer.pipe.abandon()


def _close(response: Iterable[bytes]) -> None:
    """Close on the thread that made the response: Django ends the request, and its database use, there."""
    close = getattr(response, "close", None)
    if close is None:
        return
    try:
        close()
    except Exception:  # the answer is made and perhaps committed; failing to clean up must not take it back
        logger.exception("closing a response failed")
