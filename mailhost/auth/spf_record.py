"""SPF records: their grammar, checked as a whole before anything is evaluated (RFC 7208 sections 4.6, 5, 6, 12)."""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass
from functools import lru_cache

MAX_RECORD = 8192  # characters; RFC 7208 section 3.4 advises 450
_MAX_CACHED = 1000
_CACHE_ENTRIES = 512

# Section 7.1. The letters c, r and t stand in explanations only.
_EXPAND = r"%(?:\{{[{letters}](?:0*[1-9][0-9]{{0,2}})?[rR]?[.\-+,/_=]*\}}|[%_-])"
_IN_DOMAIN = _EXPAND.format(letters="slodiphvSLODIPHV")
_IN_TEXT = _EXPAND.format(letters="slodiphcrtvSLODIPHCRTV")
_TOP_LABEL = r"\.(?:[A-Za-z0-9]*[A-Za-z][A-Za-z0-9]*|[A-Za-z0-9]+-[A-Za-z0-9-]*[A-Za-z0-9])\.?"
_MACRO_STRING = re.compile(rf"(?:[!-$&-~]|{_IN_DOMAIN})*+")
_DOMAIN_END = re.compile(rf"(?:{_TOP_LABEL}|{_IN_DOMAIN})\Z")
_EXPLANATION = re.compile(rf"(?:[ !-$&-~]|{_IN_TEXT})*+")

_MODIFIER = re.compile(r"([A-Za-z][A-Za-z0-9._-]*)=(.*)", re.DOTALL)
_DIRECTIVE = re.compile(r"([+?~-]?)([A-Za-z][A-Za-z0-9._-]*)([:/].*)?", re.DOTALL)
_PREFIXES = re.compile(r"(.*?)(?:/(0|[1-9][0-9]?))?(?://(0|[1-9][0-9]{0,2}))?", re.DOTALL)
_NETWORK = re.compile(r":([0-9A-Fa-f.:]+)(?:/(0|[1-9][0-9]{0,2}))?")


class SpfSyntaxError(ValueError):
    """The record breaks the grammar; the text says where."""


@dataclass(frozen=True, slots=True)
class Mechanism:
    """One directive. `network` is the address of ip4 and ip6 as a number."""

    text: str
    qualifier: str
    name: str
    domain: str = ""
    """The domain-spec, macros unexpanded; empty for the current domain."""
    network: int = 0
    prefix4: int = 32
    prefix6: int = 128


@dataclass(frozen=True, slots=True)
class SpfRecord:
    """What a record says."""

    mechanisms: tuple[Mechanism, ...]
    redirect: str | None
    explanation: str | None
    """The domain-spec of exp=."""


def is_spf(text: str) -> bool:
    """Whether a TXT record is meant as SPF (section 4.5)."""
    return text[:7].lower() in ("v=spf1", "v=spf1 ")


def parse_record(text: str) -> SpfRecord:
    """Read a record that `is_spf`. Raises `SpfSyntaxError`."""
    if len(text) > MAX_RECORD:
        raise SpfSyntaxError("the record is too long")
    return _parse_cached(text) if len(text) <= _MAX_CACHED else _parse(text)


def is_explanation(text: str) -> bool:
    """Whether the text that exp= leads to keeps the grammar (section 6.2)."""
    return _EXPLANATION.fullmatch(text) is not None


def _parse(text: str) -> SpfRecord:
    mechanisms: list[Mechanism] = []
    modifiers: dict[str, str] = {}
    for term in text[6:].split(" "):
        if not term:
            continue
        modifier = _MODIFIER.fullmatch(term)
        if modifier is None:
            mechanisms.append(_parse_directive(term))
            continue
        name = modifier[1].lower()
        if name not in ("redirect", "exp"):
            _check(_MACRO_STRING.fullmatch(modifier[2]) is not None, term)
            continue
        _check(name not in modifiers, term)  # section 6: at most once
        modifiers[name] = _check_domain(modifier[2], term)
    return SpfRecord(tuple(mechanisms), modifiers.get("redirect"), modifiers.get("exp"))


_parse_cached = lru_cache(maxsize=_CACHE_ENTRIES)(_parse)


def _parse_directive(term: str) -> Mechanism:
    match = _DIRECTIVE.fullmatch(term)
    if match is None:
        raise SpfSyntaxError(f"{_show(term)} is no term")
    qualifier, name, rest = match[1] or "+", match[2].lower(), match[3] or ""
    shown = _show(term)
    if name == "all":
        _check(not rest, term)
        return Mechanism(shown, qualifier, name)
    if name in ("ip4", "ip6"):
        return _parse_network(term, qualifier, name, rest)
    if name in ("include", "exists"):
        _check(rest.startswith(":"), term)
        return Mechanism(shown, qualifier, name, _check_domain(rest[1:], term))
    if name == "ptr":
        _check(not rest or rest.startswith(":"), term)
        return Mechanism(shown, qualifier, name, _check_domain(rest[1:], term) if rest else "")
    if name in ("a", "mx"):
        return _parse_host(term, qualifier, name, rest)
    raise SpfSyntaxError(f"{shown} is no mechanism")


def _parse_host(term: str, qualifier: str, name: str, rest: str) -> Mechanism:
    """a and mx: an optional domain, then optional prefix lengths for IPv4 and IPv6 (section 5.6)."""
    match = _PREFIXES.fullmatch(rest)
    _check(match is not None, term)
    assert match is not None
    domain = match[1]
    _check(not domain or domain.startswith(":"), term)
    prefix4 = int(match[2] or 32)
    prefix6 = int(match[3] or 128)
    _check(prefix4 <= 32 and prefix6 <= 128, term)
    domain = _check_domain(domain[1:], term) if domain else ""
    return Mechanism(_show(term), qualifier, name, domain, prefix4=prefix4, prefix6=prefix6)


def _parse_network(term: str, qualifier: str, name: str, rest: str) -> Mechanism:
    match = _NETWORK.fullmatch(rest)
    _check(match is not None, term)
    assert match is not None
    family, bits = (socket.AF_INET, 32) if name == "ip4" else (socket.AF_INET6, 128)
    try:
        network = int.from_bytes(socket.inet_pton(family, match[1]), "big")
    except OSError as error:
        raise SpfSyntaxError(f"{_show(term)} has no address") from error
    prefix = int(match[2] or bits)
    _check(prefix <= bits, term)
    if name == "ip4":
        return Mechanism(_show(term), qualifier, name, network=network, prefix4=prefix)
    return Mechanism(_show(term), qualifier, name, network=network, prefix6=prefix)


def _check_domain(text: str, term: str) -> str:
    """A domain-spec (section 7.1): macros and text, with a top label or a macro at its end."""
    _check(_MACRO_STRING.fullmatch(text) is not None and _DOMAIN_END.search(text) is not None, term)
    return text


def _check(condition: bool, term: str) -> None:
    if not condition:
        raise SpfSyntaxError(f"{_show(term)} is malformed")


def _show(term: str) -> str:
    """A term for a message to people."""
    return "".join(char if " " < char <= "~" else "?" for char in term[:100])
