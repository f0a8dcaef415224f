"""One client of an SMTP listener: its commands, in order, with answers (RFC 5321 3 and 4.3).

RFC 2920 (PIPELINING), 3207 (STARTTLS), 1870 (SIZE), 6152 (8BITMIME), 6531 (SMTPUTF8), 2034 (enhanced codes).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NoReturn

from mailhost.smtp.body import BodyReader
from mailhost.smtp.commands import MAX_COMMAND, CommandRefused, parse_command, parse_helo, parse_mail, parse_rcpt
from mailhost.smtp.receiving import Limits, ReceivedMail, Receiver, SessionInfo, read_ip
from mailhost.smtp.replies import Reply
from mailhost.smtp.tls import read_tls_info
from mailhost.smtp.wire import CommandConnection, ConnectionClosed

log = logging.getLogger(__name__)

# An unwanted message is read to its end, because the answer must wait for it, but not for ever.
_MAX_WASTE = 2
_MAX_UNSENT_REPLIES = 50

_OK = Reply(250, "2.0.0", "OK")
TROUBLE = Reply(451, "4.3.0", "Temporary trouble here, please try again later")
_CLOSING = Reply(421, "4.3.2", "Closing for a moment, please try again")
_FULL = Reply(452, "4.3.1", "Too much mail at once, please try again later")
# What a browser sends when a web page makes it talk to a mail server.
_FOREIGN_VERBS = frozenset({"GET", "POST", "PUT", "HEAD", "OPTIONS", "CONNECT"})


@dataclass(slots=True)
class Shared:
    """What the sessions of one listener have in common."""

    receiver: Receiver
    hostname: str
    tls: ssl.SSLContext | None
    limits: Limits
    octets_in_flight: int = 0
    is_stopping: bool = False


@dataclass(slots=True)
class _Transaction:
    """MAIL was accepted."""

    mail_from: str
    smtputf8: bool
    recipients: list[str] = field(default_factory=list)


class _SessionOver(Exception):
    """Everything is said."""


class Session:
    """One client. Replies are collected, and sent once the client has said all it had to say (RFC 2920 3.2)."""

    def __init__(self, shared: Shared, connection: CommandConnection) -> None:
        ip, port = connection.remote
        self.info = SessionInfo(read_ip(ip), port, shared.hostname)
        self._shared = shared
        self._limits = shared.limits
        self._connection = connection
        self._out: list[bytes] = []
        self._transaction: _Transaction | None = None
        self._errors = 0
        self._commands = 0
        self._is_waiting = False
        self._ends_at = asyncio.get_running_loop().time() + self._limits.session_seconds

    async def run(self) -> None:
        """The whole conversation. Raises nothing but cancellation."""
        try:
            self._say(Reply(220, None, f"{self.info.hostname} ESMTP"))
            while True:
                self._say(await self._answer(await self._next_line()))
        except (_SessionOver, ConnectionClosed):
            pass
        except TimeoutError:
            self._say(Reply(421, "4.4.2", "You were silent for too long"))
        except OSError as error:
            log.debug("connection of %s broke: %s", self.info.client_ip, error)
        except asyncio.CancelledError:
            self._say(_CLOSING)
            raise
        except Exception:  # a fault of ours must end this session only
            log.exception("session of %s failed", self.info.client_ip)
            self._say(TROUBLE)
        finally:
            with contextlib.suppress(ConnectionClosed):
                self._connection.write(b"".join(self._out))
            self._connection.close()

    def stop_waiting(self) -> None:
        """The listener stops: a client between two commands is told so, one inside a message may finish."""
        if self._is_waiting:
            with contextlib.suppress(ConnectionClosed):
                self._connection.write(_CLOSING.encode())
            self._connection.close()

    # --- lines in, replies out

    async def _next_line(self) -> bytes | None:
        if not self._connection.has_line or len(self._out) >= _MAX_UNSENT_REPLIES:
            await self._flush()
        if self._shared.is_stopping:
            self._end(_CLOSING)
        if self._transaction is None and asyncio.get_running_loop().time() > self._ends_at:
            self._end(Reply(421, "4.7.0", "This session has lasted long enough"))
        self._is_waiting = True
        try:
            return await self._connection.read_line(MAX_COMMAND, self._limits.command_seconds)
        finally:
            self._is_waiting = False

    async def _flush(self) -> None:
        if self._out:
            data = b"".join(self._out)
            self._out.clear()
            self._connection.write(data)
            await self._connection.drain(self._limits.command_seconds)

    def _say(self, reply: Reply | None) -> None:
        if reply is not None:
            self._out.append(reply.encode())

    def _end(self, reply: Reply) -> NoReturn:
        self._say(reply)
        raise _SessionOver

    async def _answer(self, line: bytes | None) -> Reply | None:
        """The reply to one line (STARTTLS has given its own); counts what the client wastes."""
        self._commands += 1
        try:
            reply = await self._obey(line)
        except CommandRefused as refusal:
            reply = refusal.reply
        if reply is not None and reply.code >= 500:
            self._errors += 1
        if self._errors >= self._limits.errors or self._commands >= self._limits.commands:
            self._say(reply)
            self._end(Reply(421, "4.7.0", "Too many errors or commands without a mail"))
        return reply

    async def _obey(self, line: bytes | None) -> Reply | None:
        if line is None:
            raise CommandRefused(500, "5.5.2", f"A command has at most {MAX_COMMAND} octets")
        verb, argument = parse_command(line)
        if verb in _FOREIGN_VERBS:
            self._end(Reply(554, "5.5.0", "This is a mail server"))
        command = _COMMANDS.get(verb)
        if command is None:
            raise CommandRefused(500, "5.5.1", "Command not recognized")
        return await command(self, argument)

    async def _ask(self, question: Awaitable[Reply | None]) -> Reply | None:
        """The receiver's word; its faults are ours, and temporary."""
        try:
            return await question
        except Exception:  # a bug there must not lose a mail here
            log.exception("the receiver failed on mail from %s", self.info.client_ip)
            return TROUBLE

    def _check_turn(self) -> None:
        """After these commands a client must wait for the answer (RFC 2920 3.1).

        One that does not is no mail server: a spammer's script, a web page's POST, or a third party's words that
        were slipped in before TLS.
        """
        if self._connection.has_unread:
            self._end(Reply(554, "5.5.0", "You spoke before it was your turn (RFC 2920)"))

    # --- commands

    async def _ehlo(self, argument: str) -> Reply:
        self._check_turn()
        self._greet(parse_helo(argument), is_esmtp=True)
        features = [self.info.hostname, "PIPELINING", f"SIZE {self._limits.message}", "8BITMIME", "SMTPUTF8"]
        if self._shared.tls is not None and self.info.tls is None:
            features.append("STARTTLS")
        # RFC 2034 4: the replies to EHLO and HELO carry no enhanced code.
        return Reply(250, None, "\n".join([*features, "ENHANCEDSTATUSCODES"]))

    async def _helo(self, argument: str) -> Reply:
        self._check_turn()
        self._greet(parse_helo(argument), is_esmtp=False)
        return Reply(250, None, self.info.hostname)

    def _greet(self, name: str, *, is_esmtp: bool) -> None:
        self.info.helo, self.info.is_esmtp = name, is_esmtp
        self._transaction = None  # RFC 5321 4.1.4

    async def _starttls(self, argument: str) -> None:
        context = self._shared.tls
        if argument:
            raise CommandRefused(501, "5.5.4", "STARTTLS takes no argument")
        if context is None or self.info.tls is not None:
            raise CommandRefused(503, "5.5.1", "TLS is not offered")
        self._check_turn()
        self._say(Reply(220, "2.0.0", "Go ahead"))
        await self._flush()
        await self._connection.upgrade(context, self._limits.command_seconds, is_server=True)
        self.info.tls = read_tls_info(self._connection.tls)
        self._greet("", is_esmtp=False)  # RFC 3207 4.2: what was said before is forgotten

    async def _mail(self, argument: str) -> Reply:
        if not self.info.helo:
            raise CommandRefused(503, "5.5.1", "Say EHLO first")
        if self._transaction is not None:
            raise CommandRefused(503, "5.5.1", "A mail is under way already")
        command = parse_mail(argument, max_size=self._limits.message, is_esmtp=self.info.is_esmtp)
        refusal = await self._ask(self._shared.receiver.check_sender(self.info, command.address))
        if refusal is None:
            self._transaction = _Transaction(command.address, command.smtputf8)
        return refusal or Reply(250, "2.1.0", "OK")

    async def _rcpt(self, argument: str) -> Reply:
        transaction = self._transaction
        if transaction is None:
            raise CommandRefused(503, "5.5.1", "Say MAIL first")
        if len(transaction.recipients) >= self._limits.recipients:
            return Reply(452, "4.5.3", f"At most {self._limits.recipients} recipients in one mail")
        address = parse_rcpt(
            argument, hostname=self.info.hostname, is_esmtp=self.info.is_esmtp, smtputf8=transaction.smtputf8
        )
        refusal = await self._ask(self._shared.receiver.check_recipient(self.info, address))
        if refusal is None:
            transaction.recipients.append(address)
        return refusal or Reply(250, "2.1.5", "OK")

    async def _data(self, argument: str) -> Reply:
        transaction = self._transaction
        if argument:
            raise CommandRefused(501, "5.5.4", "DATA takes no argument")
        if transaction is None or not transaction.recipients:
            raise CommandRefused(503, "5.5.1", "No recipient has been accepted")
        self._check_turn()
        self._say(Reply(354, None, "End with CRLF.CRLF"))
        await self._flush()
        self._transaction = None  # RFC 5321 4.1.1.4: whatever comes of it
        reader = BodyReader(self._limits.message)
        try:
            await self._read_message(reader)
            mail = ReceivedMail(
                transaction.mail_from, transaction.recipients, reader.finish(), transaction.smtputf8, datetime.now(UTC)
            )
            reply = await self._ask(self._shared.receiver.receive(self.info, mail)) or TROUBLE
        finally:
            self._shared.octets_in_flight -= reader.octets
        if reply.is_positive:
            self._errors = self._commands = 0
        return reply

    async def _read_message(self, reader: BodyReader) -> None:
        """Read what is behind 354, up to its end."""
        shared, limits = self._shared, self._limits
        loop = asyncio.get_running_loop()
        deadline = loop.time() + limits.message_seconds
        while True:
            data = await self._connection.read_some(min(limits.block_seconds, deadline - loop.time()))
            shared.octets_in_flight += len(data)
            if reader.feed(data):
                break
            if shared.octets_in_flight > limits.in_flight:
                reader.refuse(_FULL)
            if reader.octets > limits.message * _MAX_WASTE:
                self._end(Reply(552, "5.3.4", f"The message is larger than {limits.message} octets"))
        self._connection.unread(reader.rest)

    async def _rset(self, argument: str) -> Reply:
        self._transaction = None
        return _OK

    async def _noop(self, argument: str) -> Reply:
        return _OK

    async def _quit(self, argument: str) -> Reply:
        self._end(Reply(221, "2.0.0", "Bye"))

    async def _vrfy(self, argument: str) -> Reply:
        return Reply(252, "2.5.2", "Send a mail and see")

    async def _help(self, argument: str) -> Reply:
        return Reply(214, "2.0.0", "RFC 5321")


_COMMANDS: dict[str, Callable[[Session, str], Awaitable[Reply | None]]] = {
    "EHLO": Session._ehlo,
    "HELO": Session._helo,
    "STARTTLS": Session._starttls,
    "MAIL": Session._mail,
    "RCPT": Session._rcpt,
    "DATA": Session._data,
    "RSET": Session._rset,
    "NOOP": Session._noop,
    "QUIT": Session._quit,
    "VRFY": Session._vrfy,
    "HELP": Session._help,
}
