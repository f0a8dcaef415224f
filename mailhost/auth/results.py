"""Authentication-Results: writing ours, reading others', removing those that pretend to be ours (RFC 8601)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from mailhost.auth.header import read_header
from mailhost.auth.names import dns_name

_MAX_METHODS = 100
_MAX_PROPERTIES = 20  # of one method
_MAX_VALUE = 255  # characters written of one value
_COLUMNS = 76

_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`{|}~-]+")
_ADDRESS = re.compile(r"(?:[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]+@)?[A-Za-z0-9._-]+")
_NOT_QUOTABLE = re.compile(r"[^ !#-\[\]-~]")
_COMMENT_STEP = re.compile(r"\\.|[()]", re.DOTALL)
_OUTSIDE = re.compile(r'"(?:[^"\\]|\\.)*+"?|\(|[^"(]+', re.DOTALL)
_PIECE = re.compile(r'(?:[^;"]++|"(?:[^"\\]|\\.)*+"?)++', re.DOTALL)
_VALUE = r'(?:"((?:[^"\\]|\\.)*+)"|([^\s";]+))'
_AUTHSERV_ID = re.compile(rf"\s*{_VALUE}(?:\s+[0-9]+)?\s*", re.DOTALL)
_METHOD = re.compile(r"\s*([A-Za-z0-9-]+)\s*(?:/\s*[0-9]+\s*)?=\s*([A-Za-z0-9-]+)", re.DOTALL)
_PROPERTY = re.compile(rf"\s+(reason|[A-Za-z0-9-]+\s*\.\s*[A-Za-z0-9_-]+)\s*=\s*{_VALUE}", re.DOTALL)
_QUOTED_PAIR = re.compile(r"\\(.)", re.DOTALL)
_SPACE = re.compile(r"\s+")


@dataclass(frozen=True, slots=True)
class MethodResult:
    """What one method found. `properties` by "ptype.property", such as "header.from"; `reason` beside them."""

    method: str
    result: str
    properties: dict[str, str] = field(default_factory=dict)
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ParsedResults:
    """Somebody's Authentication-Results. `authserv_id` is lower case, empty when it cannot be read."""

    authserv_id: str
    methods: tuple[MethodResult, ...] = ()


def compose_results(authserv_id: str, methods: list[MethodResult]) -> str:
    """A whole Authentication-Results field, folded, with CRLF line ends.

    Values may hold anything: what cannot be written becomes "?", what is no token is quoted.
    """
    lines = [f"Authentication-Results: {_write_value(authserv_id)}"]
    for one in methods:
        words = [f"{one.method}={one.result}"]
        if one.reason:
            words.append(f"reason={_quote(one.reason)}")
        words += [f"{name}={_write_value(value)}" for name, value in one.properties.items() if value]
        lines.append(_fold(words))
    if not methods:
        lines.append(" none")
    return ";\r\n".join(lines) + "\r\n"


def parse_results(value: bytes) -> ParsedResults:
    """Read the value of an Authentication-Results field, as far as it can be read. Never raises; one pass."""
    text = _remove_comments(value.decode("utf-8", "replace"))
    pieces = _PIECE.findall(text)
    match = _AUTHSERV_ID.match(pieces[0]) if pieces else None
    if match is None:
        return ParsedResults("")
    methods = [_parse_method(piece) for piece in pieces[1 : _MAX_METHODS + 1]]
    return ParsedResults(_read_value(match[1], match[2]).lower(), tuple(one for one in methods if one is not None))


def remove_results(raw: bytes, authserv_id: str) -> bytes:
    """The message without Authentication-Results that a stranger wrote in our name (RFC 8601 section 5).

    One that cannot be read and holds our name somewhere goes too. Other people's stay. Octets that stay are untouched.
    """
    header = read_header(raw, max_fields=len(raw), max_octets=len(raw))
    forged = [
        index
        for index in header.find(b"authentication-results")
        if _claims(header.fields[index].value, authserv_id.lower())
    ]
    if not forged:
        return raw
    kept: list[bytes] = []
    position = 0
    for index in forged:
        kept.append(raw[position : header.starts[index]])
        position = header.starts[index + 1]
    kept.append(raw[position:])
    return b"".join(kept)


def _claims(value: bytes, authserv_id: str) -> bool:
    found = parse_results(value).authserv_id
    if not found:
        return authserv_id in value.decode("utf-8", "replace").lower()
    return found.removesuffix(".") == authserv_id or dns_name(found) == authserv_id


def _parse_method(piece: str) -> MethodResult | None:
    match = _METHOD.match(piece)
    if match is None:
        return None  # "none", or what nobody understands
    properties: dict[str, str] = {}
    reason = ""
    position = match.end()
    while (one := _PROPERTY.match(piece, position)) is not None and len(properties) < _MAX_PROPERTIES:
        name, text = _SPACE.sub("", one[1]).lower(), _read_value(one[2], one[3])
        if name == "reason":
            reason = text
        else:
            properties.setdefault(name, text)
        position = one.end()
    return MethodResult(match[1].lower(), match[2].lower(), properties, reason)


def _read_value(quoted: str | None, plain: str | None) -> str:
    return plain or "" if quoted is None else _QUOTED_PAIR.sub(r"\1", quoted)


def _remove_comments(text: str) -> str:
    """The text with each comment, which may nest, replaced by a space. Quoted strings stay whole."""
    if "(" not in text:
        return text
    out: list[str] = []
    position = 0
    while match := _OUTSIDE.match(text, position):
        position = match.end()
        if match[0] != "(":
            out.append(match[0])
            continue
        depth = 1
        while depth and (step := _COMMENT_STEP.search(text, position)) is not None:
            position = step.end()
            depth += {"(": 1, ")": -1}.get(step[0], 0)
        if depth:
            break
        out.append(" ")
    return "".join(out)


def _write_value(value: str) -> str:
    value = value[:_MAX_VALUE]
    if _TOKEN.fullmatch(value) or _ADDRESS.fullmatch(value):
        return value
    return _quote(value)


def _quote(value: str) -> str:
    return f'"{_NOT_QUOTABLE.sub("?", value[:_MAX_VALUE])}"'


def _fold(words: list[str]) -> str:
    """The words on lines of at most 76 columns where that is possible."""
    line = f"\t{words[0]}"
    lines: list[str] = []
    for word in words[1:]:
        if len(line) + 1 + len(word) > _COLUMNS:
            lines.append(line)
            line = f"\t {word}"
        else:
            line = f"{line} {word}"
    return "\r\n".join([*lines, line])
