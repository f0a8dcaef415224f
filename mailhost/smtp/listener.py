"""An SMTP server: takes mail from strangers and asks a `Receiver` what to do with it.

Everything a client influences is bounded by `Limits`. Knows no database and no policy. The conversation is in
`session`; README.md says why it is ours and not aiosmtpd's.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl

from mailhost.smtp.receiving import Limits, ReceivedMail, Receiver, SessionInfo, received_header
from mailhost.smtp.replies import Reply
from mailhost.smtp.session import Session, Shared
from mailhost.smtp.wire import CommandConnection, ConnectionClosed

__all__ = ["Limits", "Listener", "ReceivedMail", "Receiver", "SessionInfo", "bind_socket", "received_header"]

# Connections that the kernel keeps waiting while we are busy, or while a process of ours is being replaced.
BACKLOG = 512

_TOO_MANY = Reply(421, "4.3.2", "Too many connections, please try again later")


def bind_socket(host: str, port: int, *, is_shared: bool = False) -> socket.socket:
    """A listening socket on an IP address. Raises OSError when the port is taken.

    With `is_shared` other such sockets of the same user may listen on it too, and the kernel deals the connections
    out among them (SO_REUSEPORT). The IPv6 address `::` takes IPv4 as well.
    """
    is_ipv6 = ":" in host
    return socket.create_server(
        (host, port),
        family=socket.AF_INET6 if is_ipv6 else socket.AF_INET,
        backlog=BACKLOG,
        reuse_port=is_shared,
        dualstack_ipv6=host == "::" and socket.has_dualstack_ipv6(),
    )


class Listener:
    """Listens on one address: `start`, then `stop`, both in the same event loop."""

    def __init__(
        self,
        receiver: Receiver,
        *,
        hostname: str,
        tls: ssl.SSLContext | None = None,
        limits: Limits | None = None,
    ) -> None:
        self.port = 0
        self._shared = Shared(receiver, hostname, tls, limits or Limits())
        self._server: asyncio.Server | None = None
        self._sessions: dict[Session, asyncio.Task[None]] = {}

    async def start(self, host: str, port: int) -> None:
        """Begin to accept on an address of our own. Raises OSError when it is taken."""
        await self.start_on(bind_socket(host, port))

    async def start_on(self, sock: socket.socket) -> None:
        """Begin to accept on a listening socket; closed by `stop`."""
        self._server = await asyncio.get_running_loop().create_server(
            lambda: _ClientConnection(self), sock=sock, backlog=BACKLOG
        )
        self.port = sock.getsockname()[1]

    def replace_tls(self, context: ssl.SSLContext) -> None:
        """Offer another certificate from now on."""
        self._shared.tls = context

    async def stop(self, grace: float) -> None:
        """Accept no more; mails under way may finish within `grace` seconds, then every connection is cut."""
        self._shared.is_stopping = True
        if self._server is not None:
            self._server.close()
        for session in list(self._sessions):
            session.stop_waiting()
        tasks = list(self._sessions.values())
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=grace)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    def open_session(self, connection: CommandConnection) -> None:
        """A client has connected."""
        if self._shared.is_stopping or len(self._sessions) >= self._shared.limits.connections:
            with contextlib.suppress(ConnectionClosed):
                connection.write(_TOO_MANY.encode())
            connection.close()
            return
        session = Session(self._shared, connection)
        task = asyncio.get_running_loop().create_task(session.run())
        self._sessions[session] = task
        task.add_done_callback(lambda _: self._sessions.pop(session, None))


class _ClientConnection(CommandConnection):
    def __init__(self, listener: Listener) -> None:
        super().__init__()
        self._listener = listener

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._listener.open_session(self)
