"""Writing header fields: folding, encoded words, address lists, parameters (RFC 5322 2.2, RFC 2047, RFC 2231).

Lines stay within 76 columns wherever there is a place to fold, and within 998 octets always. What is written is
ASCII, except addresses whose local part is not (RFC 6532).
"""

from __future__ import annotations

import re
from binascii import b2a_base64
from collections.abc import Iterable
from datetime import UTC, datetime
from urllib.parse import quote

from mailhost.address import NamedAddress
from mailhost.errors import InvalidHeader

MAX_LINE = 998  # octets without CRLF (RFC 5322 section 2.1.1)
MAX_VALUE = 64 * 1024  # characters of one field's value
MAX_FILENAME = 255  # characters
_COLUMNS = 76  # RFC 2047 section 2, for lines with encoded words; RFC 5322 asks for 78
_WORD = 64  # columns of one encoded word: 75 are allowed, but a field name has to fit beside the first

_FORBIDDEN = re.compile("[\r\n\0\ud800-\udfff]")
_PLAIN = re.compile(r"[!-~]+(?: +[!-~]+)*")
_ATOMS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?: [A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_FIELD_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+^_`|~.-]{1,76}")
_BREAK = re.compile(r" (?=[^ ])")
_MESSAGE_ID = re.compile(r"<[!-;=?-~]{1,900}>")
_TOKEN = re.compile(r"[A-Za-z0-9!#$&^_.+-]{1,127}")

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

# RFC 2047 section 5 (3): what may stand unencoded in an encoded word that replaces a phrase.
_Q = [f"={octet:02X}" for octet in range(256)]
for _octet in b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!*+-/":
    _Q[_octet] = chr(_octet)
_Q[0x20] = "_"


def check_text(value: str, what: str) -> str:
    """`value`, which must be able to stand in a header: no CR, LF, NUL, lone surrogate. Raises `InvalidHeader`."""
    if _FORBIDDEN.search(value) is not None:
        raise InvalidHeader(f"{what} cannot hold a line break or a NUL character.")
    if len(value) > MAX_VALUE:
        raise InvalidHeader(f"{what} is longer than {MAX_VALUE} characters.")
    return value


def check_field_name(name: str) -> str:
    """A field name (RFC 5322 section 3.6.8), at most 76 characters. Raises `InvalidHeader`."""
    if _FIELD_NAME.fullmatch(name) is None:
        raise InvalidHeader("The name of a header is letters, digits and hyphens, at most 76 of them.")
    return name


def write_text(name: str, value: str) -> str:
    """An unstructured field such as Subject, encoded where it has to be, with its CRLF."""
    check_text(value, name)
    if _can_stand_plain(value):
        return write_tokens(name, _BREAK.split(value))
    return write_tokens(name, encode_words(value))


def write_raw(name: str, value: str) -> str:
    """A field given by the caller: as it is when it is printable ASCII, else as unstructured text."""
    check_text(value, name)
    value = value.strip(" \t")
    if _PLAIN.fullmatch(value) is None or max(map(len, value.split(" "))) > MAX_LINE - 80:
        return write_text(name, value)
    return write_tokens(name, _BREAK.split(value))


def write_addresses(name: str, addresses: Iterable[NamedAddress]) -> str:
    """An address list (RFC 5322 section 3.4). Domains are written as A-labels."""
    tokens: list[str] = []
    for named in addresses:
        if tokens:
            tokens[-1] += ","
        if named.name:
            tokens += _phrase(check_text(named.name, "A name"))
            tokens.append(f"<{named.address.wire}>")
        else:
            tokens.append(named.address.wire)
    return write_tokens(name, tokens)


def write_message_ids(name: str, ids: Iterable[str]) -> str:
    """A list of Message-IDs; what is none (other people's mail holds such) is left out. May return nothing."""
    valid = [one for one in ids if _MESSAGE_ID.fullmatch(one) is not None]
    return write_tokens(name, valid) if valid else ""


def check_message_id(value: str) -> str:
    """A Message-ID of ours with its angle brackets. Raises `InvalidHeader`."""
    if _MESSAGE_ID.fullmatch(value) is None:
        raise InvalidHeader("A Message-ID stands in angle brackets and holds printable ASCII without spaces.")
    return value


def write_date(date: datetime) -> str:
    """A Date field's value in UTC (RFC 5322 section 3.3), whatever the locale."""
    if date.tzinfo is None:
        raise ValueError("the date of a mail must know its zone")
    utc = date.astimezone(UTC)
    day, month = _DAYS[utc.weekday()], _MONTHS[utc.month - 1]
    return f"{day}, {utc.day:02} {month} {utc.year:04} {utc.hour:02}:{utc.minute:02}:{utc.second:02} +0000"


def write_parameter(name: str, value: str) -> list[str]:
    """One MIME parameter as tokens to fold between: plain, quoted, or by RFC 2231 in pieces."""
    if _TOKEN.fullmatch(value) and len(name) + len(value) < _COLUMNS - 2:
        return [f"{name}={value}"]
    if _PLAIN.fullmatch(value) and len(name) + len(value) < _COLUMNS - 5 and "=?" not in value:
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return [f'{name}="{escaped}"']
    encoded = quote(value.encode("utf-8"), safe="!#$&+-.^_`{|}~")
    room = _COLUMNS - len(name) - 8
    pieces = _split_percent("utf-8''" + encoded, room)
    if len(pieces) == 1:
        return [f"{name}*={pieces[0]}"]
    return [f"{name}*{number}*={piece}" for number, piece in enumerate(pieces)]


def write_tokens(name: str, tokens: list[str]) -> str:
    """`name: token token ...` folded between tokens. Raises `InvalidHeader` when a token is too long for a line."""
    length = len(name) + 1
    out = [name, ":"]
    for index, token in enumerate(tokens):
        size = len(token) if token.isascii() else len(token.encode("utf-8"))
        if size > MAX_LINE - 1:
            raise InvalidHeader(f"{name} holds a word too long for a line.")
        # The first token goes to a line of its own only where it must: some readers overlook it there.
        limit = _COLUMNS if index or token.startswith("=?") else MAX_LINE
        if length + 1 + size > limit:
            out.append("\r\n")
            length = 0
        out.append(" ")
        out.append(token)
        length += 1 + size
    out.append("\r\n")
    return "".join(out)


def encode_words(text: str) -> list[str]:
    """`text` as encoded words in UTF-8 (RFC 2047), no character split, by the shorter of the two encodings."""
    data = text.encode("utf-8")
    q_length = sum(map(len, map(_Q.__getitem__, data)))
    if q_length <= (len(data) + 2) // 3 * 4:
        if q_length <= _WORD - 12:
            return [f"=?utf-8?q?{''.join(map(_Q.__getitem__, data))}?="]
        costs = [sum(len(_Q[octet]) for octet in char.encode("utf-8")) for char in text]
        return [
            "=?utf-8?q?" + "".join(map(_Q.__getitem__, piece.encode("utf-8"))) + "?="
            for piece in _cut_by_cost(text, costs, _WORD - 12)
        ]
    if len(data) <= (_WORD - 12) // 4 * 3:
        return [_base64_word(data)]
    costs = [len(char.encode("utf-8")) for char in text]
    return [_base64_word(piece.encode("utf-8")) for piece in _cut_by_cost(text, costs, (_WORD - 12) // 4 * 3)]


def _can_stand_plain(value: str) -> bool:
    """Whether text reads back the same from a folded ASCII field: no control, no end space, no "=?"."""
    if _PLAIN.fullmatch(value) is None:
        return value == ""
    return "=?" not in value and (len(value) < MAX_LINE - 80 or max(map(len, value.split(" "))) < MAX_LINE - 80)


def _phrase(name: str) -> list[str]:
    """A display name as tokens: atoms, a quoted string, or encoded words."""
    if "=?" not in name:
        if len(name) <= 60 and _ATOMS.fullmatch(name):
            return name.split(" ")
        if _PLAIN.fullmatch(name) and len(name) < MAX_LINE // 2:
            return ['"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"']
    return encode_words(name)


def _base64_word(data: bytes) -> str:
    return f"=?utf-8?b?{b2a_base64(data, newline=False).decode('ascii')}?="


def _cut_by_cost(text: str, costs: list[int], room: int) -> list[str]:
    pieces: list[str] = []
    start = used = 0
    for index, cost in enumerate(costs):
        if used + cost > room:
            pieces.append(text[start:index])
            start, used = index, 0
        used += cost
    pieces.append(text[start:])
    return pieces


def _split_percent(encoded: str, room: int) -> list[str]:
    """Cut percent-encoded text into pieces of at most `room` columns, never inside an escape."""
    pieces: list[str] = []
    start = 0
    while len(encoded) - start > room:
        end = start + room
        if "%" in encoded[end - 2 : end]:
            end = encoded.rindex("%", start, end)
        pieces.append(encoded[start:end])
        start = end
    pieces.append(encoded[start:])
    return pieces
