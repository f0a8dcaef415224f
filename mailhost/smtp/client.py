"""An SMTP client: one connection, used for many mails.

RFC 5321 (SMTP), 2920 (PIPELINING), 1870 (SIZE), 6152 (8BITMIME), 6531 (SMTPUTF8). How a connection begins
(STARTTLS, AUTH) is in `opening`; which host to call is the matter of `dns.mx`.

The server on the other side is a stranger: its replies are bounded in size (`replies`), each wait in time
(RFC 5321 4.5.3.2), and whatever is not understood is a temporary failure.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from pathlib import Path

from mailhost.envelope import Envelope
from mailhost.errors import MailError
from mailhost.smtp.opening import (
    Credentials,
    Opened,
    SessionFailed,
    Target,
    Timeouts,
    explain_break,
    open_wire,
)
from mailhost.smtp.replies import BadReply, Outcome, Reply, Stage, classify_reply
from mailhost.smtp.tls import TlsInfo, TlsMode
from mailhost.smtp.wire import ConnectionClosed

__all__ = [
    "Credentials",
    "SendResult",
    "SessionFailed",
    "SmtpSession",
    "Timeouts",
    "TlsMode",
    "UnsafeMessage",
    "encode_body",
]

_HELO_NAME = re.compile(r"[A-Za-z0-9.\-]{1,253}|\[[0-9A-Za-z.:]{2,60}\]")


class UnsafeMessage(MailError):
    """The message holds a CR or LF that is not part of a CRLF; sent as it is, it could end early."""

    code = "unsafe_message"


@dataclass(frozen=True, slots=True)
class SendResult:
    """What became of one mail.

    `reply` is the server's own, or ours where `is_local` (the connection broke, a feature is missing).
    `after_data`: the end of the mail was sent and no answer came, so the server may have it; the caller calls
    this uncertain. `is_stale`: a connection used before turned out dead before the server answered anything,
    so the mail may be tried at once on a new one.
    """

    outcome: Outcome
    reply: Reply
    stage: Stage
    is_local: bool = False
    after_data: bool = False
    is_stale: bool = False
    remote_ip: str = ""
    tls: TlsInfo | None = None


@dataclass(slots=True)
class _Progress:
    """How far one transaction has come, kept outside it so that a break can be explained."""

    stage: Stage = Stage.MAIL
    has_answer: bool = False
    is_ready_for_data: bool = False
    after_data: bool = False
    refusal: SendResult | None = None


class SmtpSession:
    """A greeted connection. Made by `open`; used by one task at a time."""

    def __init__(self, opened: Opened, host: str, timeouts: Timeouts) -> None:
        self.host = host
        self.timeouts = timeouts
        self.features = opened.features
        self.tls = opened.tls
        self.remote_ip = opened.wire.remote[0]
        self.transactions = 0
        self._wire = opened.wire
        self._needs_reset = False

    @classmethod
    async def open(
        cls,
        host: str,
        port: int,
        *,
        helo_name: str,
        tls: TlsMode = TlsMode.OPPORTUNISTIC,
        server_name: str | None = None,
        timeouts: Timeouts | None = None,
        source_address: str | None = None,
        credentials: Credentials | None = None,
        ca_file: Path | None = None,
    ) -> SmtpSession:
        """Connect to `host` (a name or an address), greet, encrypt and log in as asked.

        `server_name` is the name that a verified certificate must carry (default: `host`); `ca_file` replaces
        the system's roots. Raises SessionFailed.
        """
        if _HELO_NAME.fullmatch(helo_name) is None:
            raise ValueError("helo_name must be a host name or an address literal")
        timeouts = timeouts or Timeouts()
        target = Target(host, port, helo_name, tls, server_name or host, timeouts, source_address, credentials, ca_file)
        return cls(await open_wire(target), host, timeouts)

    @property
    def is_open(self) -> bool:
        """Whether another mail may be tried; a server that speaks unasked (421) counts as gone."""
        return self._wire.is_open and not self._wire.has_unread

    async def send(self, envelope: Envelope) -> SendResult:
        """Send one mail. What the server does is a value; raises only UnsafeMessage, before any byte."""
        body = encode_body(envelope.raw)
        obstacle = self._find_obstacle(envelope)
        if obstacle is not None:
            return self._make_result(Outcome.PERMANENT, obstacle, Stage.MAIL, is_local=True)
        progress = _Progress()
        try:
            async with asyncio.timeout(self.timeouts.whole):
                result = await self._transact(envelope, body, progress)
        except (ConnectionClosed, BadReply, OSError) as error:  # TimeoutError is an OSError
            self._wire.abort()
            result = self._explain(error, progress)
        except BaseException:
            self._wire.abort()  # left in the middle of a transaction, nobody can use it again
            raise
        self.transactions += 1
        return result

    async def quit(self) -> None:
        """Say goodbye and close, within `timeouts.quit` seconds; never raises for what the server does."""
        try:
            self._wire.write(b"QUIT\r\n")
            await self._wire.read_reply(self.timeouts.quit)
        except (ConnectionClosed, BadReply, OSError):
            pass  # we are leaving anyway
        finally:
            self._wire.abort()

    def abort(self) -> None:
        """Close at once and without a word."""
        self._wire.abort()

    async def _transact(self, envelope: Envelope, body: bytes, progress: _Progress) -> SendResult:
        commands = [
            (Stage.MAIL, self._mail_command(envelope, len(body))),
            (Stage.RCPT, b"RCPT TO:<%b>\r\n" % envelope.rcpt_to.encode()),
            (Stage.DATA, b"DATA\r\n"),
        ]
        if self._needs_reset:
            # Not a stage about the mail: a server that cannot reset says nothing against the next one.
            commands.insert(0, (Stage.HELO, b"RSET\r\n"))
        self._needs_reset = True
        await self._run_commands(commands, progress)
        if progress.refusal is None:
            progress.stage = Stage.FINAL
            await self._wire.write_body(body, self.timeouts.block)
            progress.after_data = True
            result = self._judge(await self._wire.read_reply(self.timeouts.final), Stage.FINAL)
        else:
            result = progress.refusal
            if not progress.is_ready_for_data:
                return result
            # RFC 2920 3.1: DATA was accepted although no recipient was; an empty mail must be ended.
            self._wire.write(b".\r\n")
            await self._wire.read_reply(self.timeouts.final)
        # RFC 5321 4.1.1.4: whatever the answer to the final dot, the transaction is over and nothing is kept.
        self._needs_reset = False
        return result

    async def _run_commands(self, commands: list[tuple[Stage, bytes]], progress: _Progress) -> None:
        """Send commands up to DATA, together where the server can (RFC 2920); the first refusal decides."""
        pipelining = "PIPELINING" in self.features
        if pipelining:
            self._wire.write(b"".join(line for _, line in commands))
        for stage, line in commands:
            if progress.refusal is None:
                progress.stage = stage
            elif not pipelining or not self._wire.is_open:
                return
            if not pipelining:
                self._wire.write(line)
            reply = await self._wire.read_reply(self.timeouts.for_stage(stage))
            progress.has_answer = True
            if stage is Stage.DATA and reply.code == 354:
                progress.is_ready_for_data = True
            elif progress.refusal is None and (stage is Stage.DATA or not reply.is_positive):
                progress.refusal = self._judge(reply, stage)

    def _judge(self, reply: Reply, stage: Stage) -> SendResult:
        if reply.code == 421 or (reply.code < 400 and not (reply.is_positive and stage is Stage.FINAL)):
            # RFC 5321 3.8: on 421 the server closes. Any other of these is out of step with us.
            self._wire.abort()
        return self._make_result(classify_reply(reply, stage), reply, stage)

    def _mail_command(self, envelope: Envelope, size: int) -> bytes:
        command = b"MAIL FROM:<%b>" % envelope.mail_from.encode()
        if "SIZE" in self.features:
            command += b" SIZE=%d" % size
        if envelope.smtputf8:
            command += b" SMTPUTF8"
        if "8BITMIME" in self.features and envelope.needs_8bitmime:
            command += b" BODY=8BITMIME"
        return command + b"\r\n"

    def _find_obstacle(self, envelope: Envelope) -> Reply | None:
        """Why this server, by its own EHLO, cannot take the mail."""
        if envelope.smtputf8 and "SMTPUTF8" not in self.features:
            return Reply(550, "5.6.7", "The server does not take internationalized mail (no SMTPUTF8)")
        if "8BITMIME" not in self.features and envelope.needs_8bitmime:
            return Reply(554, "5.6.3", "The server does not take 8-bit mail (no 8BITMIME)")
        limit = self.features.get("SIZE", "")
        # RFC 1870 3: 0 means no fixed limit. More than 15 digits is no limit that any mail reaches.
        if limit.isdecimal() and len(limit) < 16 and 0 < int(limit) < len(envelope.raw):
            return Reply(552, "5.3.4", f"The server takes mails of at most {int(limit)} octets")
        return None

    def _make_result(self, outcome: Outcome, reply: Reply, stage: Stage, *, is_local: bool = False) -> SendResult:
        return SendResult(outcome, reply, stage, is_local, remote_ip=self.remote_ip, tls=self.tls)

    def _explain(self, error: Exception, progress: _Progress) -> SendResult:
        """The result of a transaction whose connection broke or stalled."""
        if progress.refusal is not None:
            return progress.refusal
        early = self._wire.read_waiting_reply() if progress.stage is Stage.FINAL else None
        if early is not None and early.code >= 400:
            # The server refused in the middle of the body and hung up; that was its answer.
            return self._judge(early, Stage.FINAL)
        is_stale = self.transactions > 0 and not progress.has_answer and isinstance(error, ConnectionClosed)
        return SendResult(
            Outcome.TEMPORARY,
            explain_break(error, progress.stage),
            progress.stage,
            is_local=True,
            after_data=progress.after_data,
            is_stale=is_stale,
            remote_ip=self.remote_ip,
            tls=self.tls,
        )


def encode_body(raw: bytes) -> bytes:
    """`raw` as DATA carries it: dots doubled, the end marked (RFC 5321 4.5.2). Raises UnsafeMessage.

    Servers differ in what they take a bare CR or LF for, so a mail that holds one could end early there and
    the rest of it be read as commands ("SMTP smuggling"); changing it would break its signature.
    """
    ends = raw.count(b"\r\n")
    if raw.count(b"\n") != ends or raw.count(b"\r") != ends:
        raise UnsafeMessage
    if raw.startswith(b"."):
        raw = b"." + raw
    if b"\n." in raw:
        raw = raw.replace(b"\n.", b"\n..")
    return raw + (b".\r\n" if raw.endswith(b"\r\n") or not raw else b"\r\n.\r\n")
