"""The two ends of an SMTP connection as sockets see them: bytes out, lines or replies in, all bounded.

Below `client` and `listener`: knows nothing of the order of commands. One task at a time waits on a connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from abc import ABC, abstractmethod
from typing import cast

from mailhost.smtp.replies import BadReply, Reply, ReplyParser

# A body is handed to the socket in pieces of this size; each must make headway within its own time.
_PIECE = 256 * 1024
# What a client may have sent ahead before we stop reading; commands pipelined for 100 recipients fit well.
_READ_AHEAD = 64 * 1024
_CLOSE_SECONDS = 5.0


class ConnectionClosed(Exception):
    """The other side hung up, or the network did."""


class Connection(asyncio.Protocol, ABC):
    """What both ends share: waiting with a time limit, writing with back-pressure, TLS, closing."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._error: Exception | None = None
        self._is_paused = False

    # --- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are none by inheritance

    def eof_received(self) -> bool:
        self._fail(ConnectionClosed("the other side closed the connection"))
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(ConnectionClosed(str(exc) if exc else "the connection was lost"))

    def pause_writing(self) -> None:
        self._is_paused = True

    def resume_writing(self) -> None:
        self._is_paused = False
        self._wake()

    # --- for client and listener

    @property
    def is_open(self) -> bool:
        """Whether the connection was still up when last heard of."""
        return self._error is None and self._transport is not None and not self._transport.is_closing()

    @property
    @abstractmethod
    def has_unread(self) -> bool:
        """Whether the other side said something that nobody has taken yet."""

    @property
    def remote(self) -> tuple[str, int]:
        """Address and port of the other side; empty and 0 when unknown."""
        peer = self._transport.get_extra_info("peername") if self._transport else None
        return (str(peer[0]), int(peer[1])) if peer else ("", 0)

    @property
    def tls(self) -> ssl.SSLObject | None:
        """The TLS layer, when there is one."""
        found = self._transport.get_extra_info("ssl_object") if self._transport else None
        return found if isinstance(found, ssl.SSLObject) else None

    def write(self, data: bytes | memoryview) -> None:
        """Send something short, without waiting. Raises ConnectionClosed."""
        if self._error is not None:
            raise self._error
        # A transport that failed tells the protocol a turn of the loop later, and swallows writes till then.
        if self._transport is None or self._transport.is_closing():
            raise ConnectionClosed("the connection was lost")
        self._transport.write(data)

    async def drain(self, seconds: float) -> None:
        """Wait until what was written is nearly gone. Raises ConnectionClosed, TimeoutError."""
        while self._is_paused:
            if self._error is not None:
                raise self._error
            await self._wait(seconds)

    async def write_body(self, data: bytes, seconds: float) -> None:
        """Send `data`; when it returns, the last piece of it may still wait in the socket's buffer.

        Each piece may take `seconds`. Raises ConnectionClosed or TimeoutError while something is unsent.
        """
        view = memoryview(data)
        for start in range(0, len(data), _PIECE):
            await self.drain(seconds)
            self.write(view[start : start + _PIECE])

    async def upgrade(
        self, context: ssl.SSLContext, seconds: float, *, server_name: str | None = None, is_server: bool = False
    ) -> None:
        """Begin TLS. Raises OSError (ssl.SSLError is one) or ConnectionClosed; then the connection is gone.

        Nothing may be unread: bytes that came in the clear would pass for encrypted ones (CVE-2011-0411).
        """
        if self._error is not None:
            raise self._error
        assert self._transport is not None
        assert not self.has_unread
        loop = asyncio.get_running_loop()
        transport = await loop.start_tls(
            self._transport,
            self,
            context,
            server_side=is_server,
            server_hostname=server_name,
            ssl_handshake_timeout=seconds,
            ssl_shutdown_timeout=_CLOSE_SECONDS,
        )
        if transport is None:
            raise ConnectionClosed("the other side closed the connection")
        self._transport = transport

    def close(self) -> None:
        """Close once what was written is sent; a peer that has let it pile up loses it."""
        self._fail(ConnectionClosed("the connection is closed"))
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if self._is_paused:
            transport.abort()
            return
        transport.close()
        if transport.get_write_buffer_size():
            asyncio.get_running_loop().call_later(_CLOSE_SECONDS, transport.abort)

    def abort(self, error: Exception | None = None) -> None:
        """Close at once, without the goodbye of TLS: the peer could take its time over the answer."""
        self._error = self._error or error or ConnectionClosed("the connection is closed")
        if self._transport is not None:
            self._transport.abort()

    # --- inside

    async def _wait(self, seconds: float) -> None:
        """Until something happens. Raises TimeoutError."""
        if seconds <= 0:
            raise TimeoutError
        loop = asyncio.get_running_loop()
        waiter = self._waiter = loop.create_future()
        timer = loop.call_later(seconds, _expire, waiter)
        try:
            await waiter
        finally:
            timer.cancel()
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _fail(self, error: Exception) -> None:
        self._error = self._error or error
        self._wake()


def _expire(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_exception(TimeoutError())


class ReplyConnection(Connection):
    """The client's end: replies come in."""

    def __init__(self) -> None:
        super().__init__()
        self._parser = ReplyParser()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed(data)
        except BadReply as error:
            self.abort(error)
        self._wake()

    @property
    def has_unread(self) -> bool:
        """Whether the server said something that nobody asked for yet."""
        return self._parser.has_leftover

    async def read_reply(self, seconds: float) -> Reply:
        """The next reply, whole within `seconds` however slowly it drips.

        A reply that came before the connection ended is still given. Raises BadReply, ConnectionClosed,
        TimeoutError.
        """
        deadline = asyncio.get_running_loop().time() + seconds
        while True:
            reply = self._parser.next_reply()
            if reply is not None:
                return reply
            if self._error is not None:
                raise self._error
            await self._wait(deadline - asyncio.get_running_loop().time())

    def read_waiting_reply(self) -> Reply | None:
        """A reply that is here already, or None."""
        with contextlib.suppress(BadReply):
            return self._parser.next_reply()
        return None


class CommandConnection(Connection):
    """The server's end: lines of commands come in, and the body of a mail.

    When nobody reads, at most `_READ_AHEAD` and one piece of the socket's are kept; then TCP holds the client back.
    """

    def __init__(self) -> None:
        super().__init__()
        self._buffer = bytearray()
        self._is_reading = True
        self._is_eof = False

    def eof_received(self) -> bool:
        """A client may close its half and still want the answers (netcat does); TLS cannot be half closed."""
        self._is_eof = True
        self._wake()
        return self.tls is None

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if len(self._buffer) > _READ_AHEAD and self._is_reading and self._transport is not None:
            self._transport.pause_reading()
            self._is_reading = False
        self._wake()

    @property
    def has_unread(self) -> bool:
        """Whether the client sent something that was not read yet."""
        return bool(self._buffer)

    @property
    def has_line(self) -> bool:
        """Whether a whole line is here already."""
        return b"\n" in self._buffer

    async def read_line(self, limit: int, seconds: float) -> bytes | None:
        """The next line with its end, within `seconds` however slowly it drips; None when longer than `limit`.

        A line that is too long is skipped up to its end; the time limit holds for that too. Raises
        ConnectionClosed, TimeoutError.
        """
        deadline = asyncio.get_running_loop().time() + seconds
        is_too_long = False
        while True:
            end = self._buffer.find(b"\n") + 1
            if end:
                line = bytes(self._buffer[:end])
                self._consume(end)
                return None if is_too_long or end > limit else line
            if len(self._buffer) > limit:
                is_too_long = True
                self._consume(len(self._buffer))
            self._check_input()
            await self._wait(deadline - asyncio.get_running_loop().time())

    async def read_some(self, seconds: float) -> bytearray:
        """Whatever is here, at least one byte. Raises ConnectionClosed, TimeoutError."""
        while not self._buffer:
            self._check_input()
            await self._wait(seconds)
        data, self._buffer = self._buffer, bytearray()
        self._resume()
        return data

    def unread(self, data: bytes | bytearray) -> None:
        """Put back what belongs to the next reader."""
        self._buffer[:0] = data

    def _check_input(self) -> None:
        if self._error is not None:
            raise self._error
        if self._is_eof:
            raise ConnectionClosed("the client closed the connection")

    def _consume(self, count: int) -> None:
        del self._buffer[:count]
        self._resume()

    def _resume(self) -> None:
        if not self._is_reading and len(self._buffer) <= _READ_AHEAD and self._transport is not None:
            self._is_reading = True
            if not self._transport.is_closing():
                self._transport.resume_reading()
