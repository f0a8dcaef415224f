"""What passes between an SMTP listener and whoever decides about mail: who is talking, what came, what may it cost.

RFC 5321 4.4 (trace information), RFC 3848 and 6531 4.3 (transmission types).
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from datetime import datetime
from email.utils import format_datetime
from typing import Protocol

from mailhost.smtp.replies import Reply
from mailhost.smtp.tls import TlsInfo

MAX_MESSAGE = 36 * 1024 * 1024

_NOT_IN_A_COMMENT = re.compile(r"[^A-Za-z0-9.:_+\-\[\]]")


@dataclass(frozen=True, slots=True)
class Limits:
    """What clients may cost. Sizes in octets, times in seconds."""

    message: int = MAX_MESSAGE
    recipients: int = 100  # RFC 5321 4.5.3.1.8: at least 100
    errors: int = 20  # refused commands since the last accepted mail
    commands: int = 500  # commands of any kind since the last accepted mail
    connections: int = 1000  # at once, of one listener
    in_flight: int = 512 * 1024 * 1024  # messages without an answer yet, all sessions of one listener together
    command_seconds: float = 300  # RFC 5321 4.5.3.2.7
    block_seconds: float = 180  # between two pieces of a message, RFC 5321 4.5.3.2.5
    message_seconds: float = 1800
    session_seconds: float = 3600  # no new mail after that


@dataclass(slots=True)
class SessionInfo:
    """What is known of a client. `helo` is what it calls itself: not to be believed."""

    client_ip: str
    client_port: int
    hostname: str
    helo: str = ""
    is_esmtp: bool = False
    tls: TlsInfo | None = None


@dataclass(frozen=True, slots=True)
class ReceivedMail:
    """A mail as it came: `raw` with CRLF line ends and dots undone, no field of ours added.

    `mail_from` is empty for the null path. Addresses are as the client wrote them.
    """

    mail_from: str
    recipients: list[str]
    raw: bytes
    smtputf8: bool
    received_at: datetime


class Receiver(Protocol):
    """Decides. Each method may take its time; what it raises is logged and answered with 451."""

    async def check_sender(self, session: SessionInfo, address: str) -> Reply | None:
        """None accepts the return path (empty for `<>`), a reply refuses it."""

    async def check_recipient(self, session: SessionInfo, address: str) -> Reply | None:
        """None accepts the recipient, a reply refuses it."""

    async def receive(self, session: SessionInfo, mail: ReceivedMail) -> Reply:
        """The answer to the final dot. A 2xx makes the mail ours, whatever happens next (RFC 5321 6.1)."""


def received_header(session: SessionInfo, mail: ReceivedMail, *, mail_id: str) -> bytes:
    """The Received field to put on top of `mail.raw` (RFC 5321 4.4); `mail_id` is ours, for finding it in the log.

    The recipient is named only when there is one: the others may be blind copies.
    """
    helo = _NOT_IN_A_COMMENT.sub("?", session.helo)[:255] or "unknown"
    lines = [f"Received: from {helo} ({_address_literal(session.client_ip)})"]
    if session.tls is not None:
        lines.append(f"(using {session.tls.version} with cipher {session.tls.cipher})")
    lines.append(f"by {session.hostname} with {_transmission_type(session, mail)} id {mail_id}")
    if len(mail.recipients) == 1:
        lines.append(f"for <{mail.recipients[0]}>")
    text = "\r\n\t".join(lines) + f";\r\n\t{format_datetime(mail.received_at)}\r\n"
    return text.encode("utf-8")


def _transmission_type(session: SessionInfo, mail: ReceivedMail) -> str:
    """RFC 3848 and 6531 4.3."""
    base = "UTF8SMTP" if mail.smtputf8 else "ESMTP" if session.is_esmtp else "SMTP"
    return base + "S" if session.tls is not None and session.is_esmtp else base


def _address_literal(ip: str) -> str:
    """RFC 5321 4.1.3."""
    return f"[IPv6:{ip}]" if ":" in ip else f"[{ip}]"


def read_ip(text: str) -> str:
    """A socket's address in its plain form: no zone, and IPv4 that came over an IPv6 socket is IPv4."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return text
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)
