"""Opening a client connection: connect, read the greeting, say EHLO, encrypt, log in.

RFC 5321 3.1, 3.2 and 4.1.1.1 (greeting, EHLO and HELO), 3207 (STARTTLS), 8314 (TLS from the first byte),
4954 (AUTH), 4616 (PLAIN). Part of `client`, which uses the connection afterwards.
"""

from __future__ import annotations

import asyncio
import base64
import ipaddress
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from mailhost.errors import MailError
from mailhost.smtp.replies import BadReply, Reply, Stage, clean_text
from mailhost.smtp.tls import TlsInfo, TlsMode, client_context, read_tls_info
from mailhost.smtp.wire import ConnectionClosed, ReplyConnection


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long to wait for the server, in seconds; the defaults are the minimums of RFC 5321 4.5.3.2."""

    connect: float = 30
    greeting: float = 300
    helo: float = 300
    starttls: float = 60  # the reply, and then the handshake
    auth: float = 120
    mail: float = 300
    rcpt: float = 300
    data: float = 120
    block: float = 180  # each 256 KiB of the body
    final: float = 600  # shorter, and a mail that the server took slowly would be sent twice
    quit: float = 5
    whole: float = 3600  # one mail, however the server stretches the others

    def for_stage(self, stage: Stage) -> float:
        """The time for the reply to a command of this stage."""
        return float(getattr(self, stage.value))


@dataclass(frozen=True, slots=True)
class Credentials:
    """A name and password for a smarthost; the password is never shown."""

    user: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Target:
    """Whom to call and how; `server_name` is what a verified certificate must carry."""

    host: str
    port: int
    helo_name: str
    tls: TlsMode
    server_name: str
    timeouts: Timeouts
    source_address: str | None
    credentials: Credentials | None
    ca_file: Path | None


@dataclass(frozen=True, slots=True)
class Opened:
    """A greeted connection: `features` are EHLO's keywords (upper case) with their parameters."""

    wire: ReplyConnection
    features: dict[str, str]
    tls: TlsInfo | None


class SessionFailed(MailError):
    """No mail can be sent over this connection. It says nothing about any mail, so it is always temporary.

    `stage` says how far it came; `reply` is the server's, or ours where `is_local`.
    """

    code = "session_failed"

    def __init__(self, stage: Stage, reply: Reply, *, is_local: bool, remote_ip: str = "") -> None:
        super().__init__(f"{stage}: {reply}")
        self.stage = stage
        self.reply = reply
        self.is_local = is_local
        self.remote_ip = remote_ip


async def open_wire(target: Target) -> Opened:
    """Open a connection as `target` says. Raises SessionFailed."""
    try:
        return await _open_once(target, target.tls)
    except SessionFailed as failure:
        is_tls_trouble = failure.stage is Stage.STARTTLS and not isinstance(failure.__cause__, BadReply)
        if target.tls is not TlsMode.OPPORTUNISTIC or not is_tls_trouble:
            raise
    # RFC 7435 3: a broken handshake is no reason to keep the mail when nobody asked for encryption. The old
    # connection cannot be used in the clear any more.
    return await _open_once(target, TlsMode.OFF)


async def _open_once(target: Target, mode: TlsMode) -> Opened:
    wire = await _connect(target, mode)
    timeouts = target.timeouts
    async with _failing_at(Stage.GREETING, wire):
        greeting = await wire.read_reply(timeouts.greeting)
        if greeting.code != 220:
            raise _refusal(Stage.GREETING, greeting, wire)
    features = await _say_hello(wire, target)
    tls = read_tls_info(wire.tls, verified=mode is TlsMode.IMPLICIT)
    if tls is None and await _start_tls(wire, target, mode, features):
        tls = read_tls_info(wire.tls, verified=mode is TlsMode.VERIFIED)
        # RFC 3207 4.2: what was said before is forgotten, by both sides.
        features = await _say_hello(wire, target)
    if target.credentials is not None:
        async with _failing_at(Stage.AUTH, wire):
            await _log_in(wire, target.credentials, features, timeouts.auth)
    return Opened(wire, features, tls)


async def _connect(target: Target, mode: TlsMode) -> ReplyConnection:
    loop = asyncio.get_running_loop()
    wire = ReplyConnection()
    source = (target.source_address, 0) if target.source_address else None
    async with _failing_at(Stage.CONNECT, wire), asyncio.timeout(target.timeouts.connect):
        if mode is TlsMode.IMPLICIT:
            await loop.create_connection(
                lambda: wire,
                target.host,
                target.port,
                local_addr=source,
                ssl=client_context(verify=True, ca_file=target.ca_file),
                server_hostname=target.server_name,
            )
        else:
            await loop.create_connection(lambda: wire, target.host, target.port, local_addr=source)
    return wire


async def _say_hello(wire: ReplyConnection, target: Target) -> dict[str, str]:
    """EHLO, or HELO where that is not understood (RFC 5321 3.2). The server's features."""
    name = target.helo_name.encode("ascii")
    async with _failing_at(Stage.HELO, wire):
        wire.write(b"EHLO %b\r\n" % name)
        reply = await wire.read_reply(target.timeouts.helo)
        if reply.is_positive:
            return _read_features(reply)
        if 500 <= reply.code <= 599:
            wire.write(b"HELO %b\r\n" % name)
            reply = await wire.read_reply(target.timeouts.helo)
        if not reply.is_positive:
            raise _refusal(Stage.HELO, reply, wire)
    return {}


def _read_features(reply: Reply) -> dict[str, str]:
    """The keywords of an EHLO reply; its first line is the server's name (RFC 5321 4.1.1.1)."""
    features = {}
    for line in reply.text.split("\n")[1:]:
        # Some old servers write AUTH=LOGIN for AUTH LOGIN.
        keyword, _, parameters = line.replace("=", " ", 1).partition(" ")
        features[keyword.upper()] = parameters.strip().upper()
    return features


async def _start_tls(wire: ReplyConnection, target: Target, mode: TlsMode, features: dict[str, str]) -> bool:
    """Encrypt as `mode` asks; False when the connection stays in the clear, as it may."""
    if mode is TlsMode.OFF or (mode is TlsMode.OPPORTUNISTIC and "STARTTLS" not in features):
        return False
    async with _failing_at(Stage.STARTTLS, wire):
        if "STARTTLS" not in features:
            raise _local_failure(Stage.STARTTLS, "4.7.4", "The server does not offer STARTTLS", wire)
        wire.write(b"STARTTLS\r\n")
        reply = await wire.read_reply(target.timeouts.starttls)
        if reply.code != 220:
            if mode is TlsMode.OPPORTUNISTIC and reply.code != 421:
                return False
            raise _refusal(Stage.STARTTLS, reply, wire)
        context = client_context(verify=mode is TlsMode.VERIFIED, ca_file=target.ca_file)
        if wire.has_unread:
            # Bytes that came in the clear would pass for the encrypted server's words (CVE-2011-0411 and its kin).
            raise BadReply("the server sent more in the clear after its answer to STARTTLS")
        await wire.upgrade(context, target.timeouts.starttls, server_name=target.server_name)
    return True


async def _log_in(wire: ReplyConnection, credentials: Credentials, features: dict[str, str], seconds: float) -> None:
    """AUTH PLAIN, else LOGIN (RFC 4954); never in the clear over a network."""
    if wire.tls is None and not _is_loopback(wire.remote[0]):
        raise _local_failure(Stage.AUTH, "4.7.11", "Passwords are not sent over an unencrypted connection", wire)
    mechanisms = features.get("AUTH", "").split()
    user, password = credentials.user.encode(), credentials.password.encode()
    if "PLAIN" in mechanisms:
        lines = [b"AUTH PLAIN " + base64.b64encode(b"\0%b\0%b" % (user, password))]
    elif "LOGIN" in mechanisms:
        lines = [b"AUTH LOGIN", base64.b64encode(user), base64.b64encode(password)]
    else:
        raise _local_failure(Stage.AUTH, "4.7.0", "The server offers neither AUTH PLAIN nor AUTH LOGIN", wire)
    for index, line in enumerate(lines):
        wire.write(line + b"\r\n")
        reply = await wire.read_reply(seconds)
        if reply.code != (235 if index == len(lines) - 1 else 334):
            raise _refusal(Stage.AUTH, reply, wire)


def _is_loopback(ip: str) -> bool:
    try:
        return ipaddress.ip_address(ip).is_loopback
    except ValueError:
        return False


# --- failures


@asynccontextmanager
async def _failing_at(stage: Stage, wire: ReplyConnection) -> AsyncIterator[None]:
    """Turn what breaks at this stage into SessionFailed; never leave a connection behind."""
    try:
        yield
    except (ConnectionClosed, BadReply, OSError) as error:
        wire.abort()
        reply = explain_break(error, stage)
        raise SessionFailed(stage, reply, is_local=True, remote_ip=wire.remote[0]) from error
    except BaseException:
        wire.abort()
        raise


def _refusal(stage: Stage, reply: Reply, wire: ReplyConnection) -> SessionFailed:
    return SessionFailed(stage, reply, is_local=False, remote_ip=wire.remote[0])


def _local_failure(stage: Stage, enhanced: str, text: str, wire: ReplyConnection) -> SessionFailed:
    return SessionFailed(stage, Reply(451, enhanced, text), is_local=True, remote_ip=wire.remote[0])


def explain_break(error: Exception, stage: Stage) -> Reply:
    """Our own words, as a reply, for a connection that broke or stalled (RFC 3463 3.5 and 3.6)."""
    if isinstance(error, BadReply):
        return Reply(451, "4.5.0", error.message)
    if stage is Stage.STARTTLS and not isinstance(error, TimeoutError):
        return Reply(451, "4.7.5", f"The TLS handshake failed: {clean_text(str(error))[:200]}")
    if stage is Stage.CONNECT:
        detail = "no answer in time" if isinstance(error, TimeoutError) else clean_text(str(error))[:200]
        return Reply(451, "4.4.1", f"The server cannot be reached: {detail}")
    if isinstance(error, TimeoutError):
        return Reply(451, "4.4.2", f"The server did not answer in time ({stage})")
    return Reply(451, "4.4.2", f"The connection broke ({stage}): {clean_text(str(error))[:200]}")
