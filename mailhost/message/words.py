"""Text inside header fields: encoded words (RFC 2047), parameters and their continuations (RFC 2045, 2231).

Lenient on reading: encoded words are decoded inside quotes and inside words, a character split over two
encoded words is put together again, unencoded UTF-8 (RFC 6532) and other eight-bit text are taken as is.
"""

from __future__ import annotations

import binascii
import re
from urllib.parse import unquote_to_bytes

from mailhost.message.charsets import decode_text, decode_unlabelled

MAX_PARAMETERS = 200

# Up to three stray question marks inside the encoded text are forgiven; a bound keeps the search linear.
_ENCODED_WORD = re.compile(r"=\?([^?\s]{1,60})\?([bBqQ])\?([^?]*(?:\?(?!=)[^?]*){0,3})\?=")
_Q_ESCAPE = re.compile(rb"=([0-9A-Fa-f]{2})")
_NOT_BASE64 = re.compile(rb"[^A-Za-z0-9+/]+")
_FOLD = re.compile(r"\r?\n(?=[ \t])")
_PARAMETER = re.compile(r';\s*([^\s=;"]{1,100})\s*=\s*("(?:[^"\\]|\\.)*+"|[^;]*+)', re.DOTALL)
# RFC 822 lets a backslash quote anything, but in the wild `filename="C:\\new\\a.txt"` means what it says.
_QUOTED_PAIR = re.compile(r'\\(["\\])')
_CONTINUATION = re.compile(r"([^*]+)\*(?:(\d{1,3})(\*?))?")


def header_text(value: bytes, hint: str = "") -> str:
    """A header field's value as text, unfolded, encoded words still encoded.

    `hint` is the charset to try for octets that are neither encoded nor UTF-8.
    """
    value = value.strip()
    text = value.decode("ascii") if value.isascii() else decode_unlabelled(value, hint)
    if "\n" in text:
        text = _FOLD.sub("", text).replace("\n", " ")
    return text.replace("\r", " ") if "\r" in text else text


def decode_words(text: str) -> str:
    """Replace the encoded words in `text` (RFC 2047) by what they say."""
    if "=?" not in text:
        return text
    out: list[str] = []
    pending = b""
    pending_charset = ""
    position = 0
    for match in _ENCODED_WORD.finditer(text):
        between = text[position : match.start()]
        # White space between two encoded words is not shown (RFC 2047 section 6.2).
        joined = bool(position) and (not between or between.isspace())
        charset = match[1].partition("*")[0].lower()
        if not (joined and charset == pending_charset):
            out.append(decode_text(pending, pending_charset)[0] if pending else "")
            pending = b""
        if not joined:
            out.append(between)
        pending += _decode_word(match[2], match[3])
        pending_charset = charset
        position = match.end()
    if pending:
        out.append(decode_text(pending, pending_charset)[0])
    out.append(text[position:])
    return "".join(out)


def decode_header(value: bytes, hint: str = "") -> str:
    """A header field's value as people read it."""
    return decode_words(header_text(value, hint))


def parse_parameters(text: str) -> dict[str, str]:
    """The parameters after the first semicolon of a Content-Type or Content-Disposition value.

    Names are lower case. RFC 2231 continuations and charsets are resolved, and win over a plain parameter of
    the same name; encoded words in values, which RFC 2047 forbids and many programs write, are decoded. The
    first of two parameters of one name counts.
    """
    plain: dict[str, str] = {}
    pieces: dict[str, dict[int, tuple[str, bool]]] = {}
    for count, match in enumerate(_PARAMETER.finditer(text)):
        if count >= MAX_PARAMETERS:
            break
        name, value = match[1].lower(), _parameter_value(match[1].lower(), match[2])
        if "*" not in name:
            plain.setdefault(name, value)
        elif extended := _CONTINUATION.fullmatch(name):
            encoded = extended[2] is None or bool(extended[3])
            pieces.setdefault(extended[1], {}).setdefault(int(extended[2] or 0), (value, encoded))
    found = {name: value if name == "boundary" else decode_words(value) for name, value in plain.items()}
    found.update((name, _join_pieces(parts)) for name, parts in pieces.items())
    return found


def decode_base64(data: bytes | memoryview) -> tuple[bytes, bool]:
    """Decode base64, forgiving foreign characters and missing padding. False when something was forgiven."""
    try:
        return binascii.a2b_base64(data), True
    except binascii.Error:
        pass
    clean = _NOT_BASE64.sub(b"", data)
    if len(clean) % 4 == 1:
        clean = clean[:-1]
    try:
        return binascii.a2b_base64(clean + b"=" * (-len(clean) % 4)), False
    except binascii.Error:
        return b"", False


def _decode_word(encoding: str, encoded: str) -> bytes:
    octets = encoded.encode("utf-8", "replace")
    if encoding in "bB":
        return decode_base64(octets)[0]
    return _Q_ESCAPE.sub(lambda match: bytes.fromhex(match[1].decode()), octets.replace(b"_", b" "))


def _parameter_value(name: str, value: str) -> str:
    if value.startswith('"') and value.endswith('"') and len(value) > 1:
        return _QUOTED_PAIR.sub(r"\1", value[1:-1])
    value = value.strip(" \t\r\n")
    if value.startswith('"'):  # a quote that nobody closed
        value = value[1:]
    if not name.startswith(("filename", "name")):  # charset=us-ascii (Plain text): RFC 2045 section 5.1
        value = value.partition(" (")[0].rstrip(" \t")
    return value


def _join_pieces(pieces: dict[int, tuple[str, bool]]) -> str:
    """Put the pieces of one RFC 2231 parameter together; gaps in the numbering are closed up."""
    charset: str | None = None
    data = b""
    for place, (_, (value, encoded)) in enumerate(sorted(pieces.items())):
        if encoded and place == 0 and value.count("'") >= 2:
            charset, _, value = value.split("'", 2)
        octets = value.encode("utf-8", "replace")
        data += unquote_to_bytes(octets) if encoded else octets
    text = decode_text(data, charset or None)[0]
    return text if any(encoded for _, encoded in pieces.values()) else decode_words(text)
