"""Macros in SPF records (RFC 7208 section 7, RFC 8616 section 4 for addresses that are not ASCII)."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import quote

_MACRO = re.compile(r"%(?:\{([A-Za-z])([0-9]*)([rR]?)([.\-+,/_=]*)\}|([%_-]))")
_MAX_NAME = 253
_MAX_TEXT = 64 * 1024
_LITERALS = {"%": "%", "_": " ", "-": "%20"}

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class MacroValues:
    """What the letters stand for, all but d and p, which change while a record is evaluated."""

    address: Address
    helo: str
    local: str
    sender_domain: str
    receiver: str
    time: int


async def expand_domain(
    spec: str, domain: str, values: MacroValues, find_name: Callable[[], Awaitable[str]]
) -> str | None:
    """The name that a domain-spec means, cut from the left to 253 characters (section 7.3).

    None when it holds a local part that is not ASCII: such a term matches nothing (RFC 8616 section 4). `find_name`
    gives the value of %{p}.
    """
    text = await expand_text(spec, domain, values, find_name)
    if text is None:
        return None
    text = text.removesuffix(".")
    if len(text) > _MAX_NAME:
        text = text[text.find(".", len(text) - _MAX_NAME - 1) + 1 :]  # without a dot there, the DNS will refuse it
    return text


async def expand_text(
    spec: str, domain: str, values: MacroValues, find_name: Callable[[], Awaitable[str]]
) -> str | None:
    """The text with its macros replaced; None as above, or when it grows beyond 64 K characters."""
    if "%" not in spec:
        return spec
    out: list[str] = []
    position = size = 0
    for match in _MACRO.finditer(spec):
        letter = match[1]
        if letter is None:
            value = _LITERALS[match[5]]
        else:
            name = await find_name() if letter in "pP" else None
            value = _transform(_find_value(letter.lower(), domain, values) if name is None else name, match)
            if not value.isascii():
                return None
        out += [spec[position : match.start()], value]
        size += len(value)
        if size > _MAX_TEXT:
            return None
        position = match.end()
    out.append(spec[position:])
    return "".join(out)


def _find_value(letter: str, domain: str, values: MacroValues) -> str:
    if letter in "so":
        return f"{values.local}@{values.sender_domain}" if letter == "s" else values.sender_domain
    if letter == "i":
        return _dotted(values.address)
    if letter == "v":
        return "in-addr" if values.address.version == 4 else "ip6"
    found = {
        "l": values.local,
        "d": domain,
        "h": values.helo,
        "c": str(values.address),
        "r": values.receiver,
        "t": str(values.time),
    }
    return found[letter]


def _dotted(address: Address) -> str:
    """The address as names in the DNS have it, most significant part first."""
    if address.version == 4:
        return str(address)
    return ".".join(address.exploded.replace(":", ""))


def _transform(value: str, match: re.Match[str]) -> str:
    """Split at the delimiters, turn round, keep the rightmost parts; escape for URLs if the letter is a capital."""
    digits, reverse, delimiters = match[2], match[3], match[4]
    if digits or reverse or delimiters:
        parts = re.split(f"[{re.escape(delimiters or '.')}]", value)
        if reverse:
            parts.reverse()
        if digits:
            parts = parts[-int(digits) :]
        value = ".".join(parts)
    return quote(value, safe="") if match[1].isupper() else value
