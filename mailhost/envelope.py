"""The envelope: what one SMTP transaction carries (RFC 5321 section 2.3.1)."""

from __future__ import annotations

from dataclasses import dataclass

from mailhost.address import parse_address
from mailhost.errors import InvalidAddress


@dataclass(frozen=True, slots=True)
class Envelope:
    """One mail to one recipient: each recipient has a return path of its own, so each gets a transaction.

    `mail_from` is the return path, empty for the null path `<>` that bounces travel under (RFC 5321 section
    4.5.5). `raw` is the message with CRLF line ends, not dot-stuffed. `smtputf8` says that the headers or one
    of the addresses hold UTF-8 (RFC 6531).

    Addresses are checked and put into their wire form (domain as A-label), because they go into commands as
    they stand: a line break in one would be a command of its own. Raises `InvalidAddress`.
    """

    mail_from: str
    rcpt_to: str
    raw: bytes
    smtputf8: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "rcpt_to", _wire_form(self.rcpt_to, self.smtputf8))
        if self.mail_from:
            object.__setattr__(self, "mail_from", _wire_form(self.mail_from, self.smtputf8))

    @property
    def needs_8bitmime(self) -> bool:
        """Whether the message holds octets above 127 (RFC 6152)."""
        return not self.raw.isascii()


def _wire_form(text: str, smtputf8: bool) -> str:
    address = parse_address(text)
    if address.needs_smtputf8 and not smtputf8:
        raise InvalidAddress("An address with UTF-8 before the @ needs an envelope with SMTPUTF8.")
    return address.wire
