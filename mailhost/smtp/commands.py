"""What a client may say: command lines, paths and parameters, read strictly and without I/O.

RFC 5321 4.1.1 and 4.1.2 (commands), 4.5.3.1 (sizes), RFC 1870 (SIZE), 6152 (BODY), 6531 (SMTPUTF8).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from mailhost.address import MAX_ADDRESS_OCTETS, domain_key, parse_address
from mailhost.errors import InvalidAddress, InvalidDomain, MailError
from mailhost.smtp.replies import Reply

# Longer than the 512 octets of RFC 5321 4.5.3.1.4: parameters add to it (RFC 1870 3, 6531 3.4).
MAX_COMMAND = 2048
MAX_HELO = 255

_COMMAND = re.compile(r"([A-Za-z]{1,16})(?:[ \t]+(.*))?")
# A path may be quoted in part, and the quotes may hold brackets.
_PATH = re.compile(r'[ \t]?<((?:[^<>"\\]|"(?:[^"\\]|\\.)*")*)>(?:[ \t]+(.*))?')
# RFC 5321 appendix C: a source route is accepted and ignored.
_SOURCE_ROUTE = re.compile(r"@[^:<>\"]*:")
_PARAMETER = re.compile(r"([A-Za-z0-9][A-Za-z0-9-]*)(?:=([!-<>-~]+))?")
_HELO_NAME = re.compile(r"[!-~]{1,255}")
_LENIENT_LOCAL = re.compile(r"[^\x00-\x20\x7f-\x9f<>@\"\\]{1,64}")


class CommandRefused(MailError):
    """The command cannot be carried out; `reply` says why."""

    code = "command_refused"

    def __init__(self, code: int, enhanced: str, text: str) -> None:
        super().__init__(text)
        self.reply = Reply(code, enhanced, text)


@dataclass(frozen=True, slots=True)
class MailCommand:
    """MAIL FROM: the return path (empty for `<>`) and what the parameters say."""

    address: str
    size: int
    smtputf8: bool


def parse_command(line: bytes) -> tuple[str, str]:
    """Verb (upper case) and argument of a line that ends in CRLF. Raises CommandRefused.

    A line that ends in a bare LF is refused: a message smuggled past another server would speak like this.
    """
    if not line.endswith(b"\r\n") or b"\r" in line[:-2] or b"\0" in line:
        raise CommandRefused(500, "5.5.2", "A command is one line that ends in CRLF")
    try:
        text = line[:-2].decode("utf-8")
    except UnicodeDecodeError:
        raise CommandRefused(500, "5.5.2", "A command is ASCII, or UTF-8 with SMTPUTF8") from None
    match = _COMMAND.fullmatch(text.rstrip(" \t"))
    if match is None:
        raise CommandRefused(500, "5.5.2", "Command not recognized")
    return match[1].upper(), match[2] or ""


def parse_helo(argument: str) -> str:
    """The name a client gives itself; not believed, so only bounded. Raises CommandRefused."""
    name, _, _ = argument.partition(" ")
    if _HELO_NAME.fullmatch(name) is None:
        raise CommandRefused(501, "5.5.4", "Your host name is needed here")
    return name


def parse_mail(argument: str, *, max_size: int, is_esmtp: bool) -> MailCommand:
    """The argument of MAIL. Raises CommandRefused."""
    path, parameters = _split_path("FROM:", argument, is_esmtp=is_esmtp)
    size, smtputf8 = 0, False
    for keyword, value in parameters.items():
        if keyword == "SIZE" and value.isascii() and value.isdecimal() and len(value) <= 20:
            size = int(value)
        elif keyword == "BODY" and value.upper() in ("7BIT", "8BITMIME"):
            pass  # bytes are stored as they come
        elif keyword == "SMTPUTF8" and not value:
            smtputf8 = True
        elif keyword in ("SIZE", "BODY", "SMTPUTF8"):
            raise CommandRefused(501, "5.5.4", f"Bad value for {keyword}")
        else:
            raise CommandRefused(555, "5.5.4", "A parameter of MAIL is not supported")
    if size > max_size:
        raise CommandRefused(552, "5.3.4", f"The message is larger than {max_size} octets")
    if path:
        path = _read_sender(path, smtputf8=smtputf8)
    return MailCommand(path, size, smtputf8)


def parse_rcpt(argument: str, *, hostname: str, is_esmtp: bool, smtputf8: bool) -> str:
    """The recipient of RCPT, as it was written. Raises CommandRefused."""
    path, parameters = _split_path("TO:", argument, is_esmtp=is_esmtp)
    if parameters:
        raise CommandRefused(555, "5.5.4", "A parameter of RCPT is not supported")
    if path.lower() == "postmaster":
        return f"{path}@{hostname}"  # RFC 5321 4.1.1.3
    try:
        address = parse_address(path)
    except InvalidAddress:
        raise CommandRefused(553, "5.1.3", "The recipient is not a mail address") from None
    _check_smtputf8(path, smtputf8=smtputf8)
    return address.text


def _split_path(keyword: str, argument: str, *, is_esmtp: bool) -> tuple[str, dict[str, str]]:
    """The path between the brackets and the parameters behind it, keywords in upper case."""
    match = _PATH.fullmatch(argument[len(keyword) :]) if argument[: len(keyword)].upper() == keyword else None
    if match is None:
        raise CommandRefused(501, "5.5.4", f"Syntax: {keyword}<address>")
    path, rest = match[1], match[2] or ""
    if rest and not is_esmtp:
        raise CommandRefused(555, "5.5.4", "Parameters need EHLO")
    route = _SOURCE_ROUTE.match(path)
    if route is not None:
        path = path[route.end() :]
    parameters: dict[str, str] = {}
    for word in rest.split():
        parameter = _PARAMETER.fullmatch(word)
        if parameter is None or parameter[1].upper() in parameters:
            raise CommandRefused(501, "5.5.4", "Malformed or repeated parameter")
        parameters[parameter[1].upper()] = parameter[2] or ""
    return path, parameters


def _read_sender(path: str, *, smtputf8: bool) -> str:
    """A sender, read leniently: real servers send from addresses such as `a..b@example.com`, and it is only kept."""
    _check_smtputf8(path, smtputf8=smtputf8)
    try:
        return parse_address(path).text
    except InvalidAddress:
        local, _, domain = path.rpartition("@")
    try:
        domain_key(domain)
    except InvalidDomain:
        raise CommandRefused(501, "5.1.7", "The sender is not a mail address") from None
    if _LENIENT_LOCAL.fullmatch(local) is None or len(path.encode()) > MAX_ADDRESS_OCTETS:
        raise CommandRefused(501, "5.1.7", "The sender is not a mail address")
    return path


def _check_smtputf8(path: str, *, smtputf8: bool) -> None:
    if not smtputf8 and not path.isascii():
        raise CommandRefused(553, "5.6.7", "An address that is not ASCII needs SMTPUTF8")
