"""The client's end of a connection to an SMTP server: bytes out, replies in, every wait and size bounded.

Below `client`: knows replies and timeouts, not the order of commands. RFC 5321 4.5.3.2 (timeouts).
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl

from mailhost.smtp.replies import BadReply, Reply, ReplyParser

# A body is handed to the socket in pieces of this size; each must make headway within its own time.
_PIECE = 256 * 1024


class ConnectionClosed(Exception):
    """The server hung up, or the network did."""


class Wire(asyncio.Protocol):
    """One connection. All waiting is done by one task at a time."""

    def __init__(self) -> None:
        self._parser = ReplyParser()
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._error: Exception | None = None
        self._is_paused = False

    # --- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed(data)
        except BadReply as error:
            self.abort(error)
        self._wake()

    def eof_received(self) -> bool:
        self._fail(ConnectionClosed("the server closed the connection"))
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(ConnectionClosed(str(exc) if exc else "the connection was lost"))

    def pause_writing(self) -> None:
        self._is_paused = True

    def resume_writing(self) -> None:
        self._is_paused = False
        self._wake()

    # --- for the client

    @property
    def is_open(self) -> bool:
        """Whether the connection was still up when last heard of."""
        return self._error is None and self._transport is not None and not self._transport.is_closing()

    @property
    def has_unread(self) -> bool:
        """Whether the server said something that nobody asked for yet."""
        return self._parser.has_leftover

    @property
    def remote_ip(self) -> str:
        """The address of the other side, empty when unknown."""
        peer = self._transport.get_extra_info("peername") if self._transport else None
        return str(peer[0]) if peer else ""

    @property
    def tls(self) -> ssl.SSLObject | None:
        """The TLS layer, when there is one."""
        found = self._transport.get_extra_info("ssl_object") if self._transport else None
        return found if isinstance(found, ssl.SSLObject) else None

    def write(self, data: bytes | memoryview) -> None:
        """Send commands: short, so without waiting. Raises ConnectionClosed."""
        if self._error is not None:
            raise self._error
        # A transport that failed tells the protocol a turn of the loop later, and swallows writes till then.
        if self._transport is None or self._transport.is_closing():
            raise ConnectionClosed("the connection was lost")
        self._transport.write(data)

    async def write_body(self, data: bytes, seconds: float) -> None:
        """Send `data`; when it returns, the last piece of it may still wait in the socket's buffer.

        Each piece may take `seconds`. Raises ConnectionClosed or TimeoutError while something is unsent.
        """
        view = memoryview(data)
        for start in range(0, len(data), _PIECE):
            while self._is_paused and self._error is None:
                await self._wait(seconds)
            self.write(view[start : start + _PIECE])

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

    async def start_tls(self, context: ssl.SSLContext, server_name: str, seconds: float) -> None:
        """Begin TLS on this connection. Raises OSError (ssl.SSLError is one), BadReply or ConnectionClosed.

        Bytes that came in the clear behind the server's 220 would be taken for its encrypted answers
        (CVE-2011-0411 and its kin): their presence ends the connection.
        """
        if self.has_unread:
            error = BadReply("the server sent more in the clear after its answer to STARTTLS")
            self.abort(error)
            raise error
        if self._error is not None:
            raise self._error
        assert self._transport is not None
        loop = asyncio.get_running_loop()
        transport = await loop.start_tls(
            self._transport, self, context, server_hostname=server_name, ssl_handshake_timeout=seconds
        )
        if transport is None:
            raise ConnectionClosed("the server closed the connection")
        self._transport = transport

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
