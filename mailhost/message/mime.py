"""The structure of a message: header fields and the tree of MIME parts (RFC 5322 section 2, RFC 2045, 2046).

Works on offsets into the message as it came and copies no bodies. Everything a stranger chooses is bounded:
number of fields, octets of header, number of parts, depth. What lies beyond a bound stays in the raw message
and a defect says so. Nothing here raises, and no step costs more than one pass over its part.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

from mailhost.message.words import decode_base64, decode_words, header_text, parse_parameters

_MAX_PART_HEADER = 64 * 1024
_MAX_LOOKALIKES = 10_000  # lines that begin like a delimiter and are none, before the search gives up
_MAX_UU_ERRORS = 100
_MAX_UU_LINES = 1_000_000  # of at most 45 octets
_MAX_BOUNDARY = 1000  # RFC 2046 section 5.1.1 says 70; longer ones exist

_FIELD = re.compile(rb"([!-9;-~]+)[ \t]*:([^\n]*(?:\n[ \t][^\n]*)*+)(?:\n|\Z)")
_MBOX_LINE = re.compile(rb">?From (?![ \t]*:)[^\n]*\n")
_FOLDED_LINES = re.compile(rb"(?:[ \t]+[^ \t\r\n][^\n]*\n)++")
_BLANK_LINE = re.compile(rb"\n\r?\n")
_LINE_END = re.compile(rb"\r?\n")
_SOFT_BREAK_PADDING = re.compile(rb"=[ \t]++\r?\n")  # spaces that a relay added (RFC 2045 section 6.7 rule 3)
_DELIMITER_TAIL = re.compile(rb"(--)?[ \t]*(?:\r?\n|\r?\Z)")
_UU_BEGIN = re.compile(rb"^begin [0-7]{3,4} [^\n]*\n", re.MULTILINE)
_LINE = re.compile(rb"[^\n]*+\n?")
_MEDIA_TYPE = re.compile(r"\s*([!#$%&'*+.^_`{|}~0-9a-z-]{1,127})\s*/\s*([!#$%&'*+.^_`{|}~0-9a-z-]{1,127})")
_TOKEN = re.compile(r"\s*([a-z0-9-]{1,40})")


@dataclass(frozen=True, slots=True)
class ParseLimits:
    """What one message may cost. Counts, octets."""

    parts: int = 1000
    depth: int = 50
    header_fields: int = 1000
    header_octets: int = 256 * 1024
    text_octets: int = 4 * 1024 * 1024


DEFAULT_LIMITS = ParseLimits()


class Defects:
    """What was wrong with a message: each defect once, in the order found."""

    def __init__(self) -> None:
        self._found: dict[str, None] = {}

    def add(self, defect: str) -> None:
        self._found[defect] = None

    def as_list(self) -> list[str]:
        return list(self._found)


@dataclass(slots=True)
class Part:
    """One node of the MIME tree.

    `path` numbers parts as IMAP does ("1", "2.1"; the root of a multipart is ""), `start` and `end` bound its
    body in the message.
    """

    path: str
    content_type: str
    parameters: dict[str, str]
    disposition: str
    disposition_parameters: dict[str, str]
    encoding: str
    content_id: str | None
    start: int
    end: int
    depth: int
    children: list[Part] = field(default_factory=list)

    @property
    def is_multipart(self) -> bool:
        return bool(self.children)

    @property
    def raw_name(self) -> str:
        """The file name the sender gave, unchecked; empty without one."""
        return self.disposition_parameters.get("filename", "") or self.parameters.get("name", "")


Fields = list[tuple[bytes, bytes]]


def parse_fields(raw: bytes, limits: ParseLimits, defects: Defects) -> tuple[Fields, int]:
    """The header fields of the message (name as written, raw value) and where the body starts."""
    start = 0
    if mbox := _MBOX_LINE.match(raw):  # what mbox files put before a message
        defects.add("mbox_from_line")
        start = mbox.end()
    return _scan_fields(raw, start, len(raw), limits.header_fields, limits.header_octets, defects)


def parse_tree(raw: bytes, fields: Fields, body_start: int, limits: ParseLimits, defects: Defects) -> Part:
    """The tree of MIME parts below the given root header."""
    root = _make_part("", _content_fields(fields), body_start, len(raw), 0, "text/plain", defects)
    waiting = [root]
    count = 1
    while waiting:
        part = waiting.pop()
        if not part.content_type.startswith("multipart/"):
            continue
        if part.depth >= limits.depth or count >= limits.parts:
            defects.add("too_deep" if part.depth >= limits.depth else "too_many_parts")
            part.disposition = "attachment"  # kept whole
            continue
        part.children.extend(_split_multipart(raw, part, limits, limits.parts - count, defects))
        count += len(part.children)
        if not part.children:
            part.content_type = "text/plain"
        # Document order, so that when parts run out it is the last ones that are not looked into.
        waiting.extend(reversed(part.children))
    if not root.children:
        root.path = "1"
    return root


def walk_leaves(root: Part) -> Iterator[Part]:
    """All parts that hold content, in the order of the message."""
    waiting = [root]
    while waiting:
        part = waiting.pop()
        if part.children:
            waiting.extend(reversed(part.children))
        else:
            yield part


def decode_body(raw: bytes, part: Part, defects: Defects, *, limit: int | None = None) -> bytes:
    """The content of a leaf with its transfer encoding undone (RFC 2045 section 6).

    With `limit` at most about that many octets are decoded, from the start.
    """
    start, end = part.start, part.end
    if part.encoding == "base64":
        if limit is not None:
            end = min(end, start + limit // 3 * 4 + limit // 16)
        content, clean = decode_base64(memoryview(raw)[start:end])
        if not clean and end == part.end:
            defects.add("invalid_base64")
        return content if limit is None else content[:limit]
    if part.encoding == "quoted-printable":
        if limit is not None:
            end = min(end, start + 3 * limit)
        encoded: bytes | memoryview = memoryview(raw)[start:end]
        if raw.find(b"= ", start, end) >= 0 or raw.find(b"=\t", start, end) >= 0:
            encoded = _SOFT_BREAK_PADDING.sub(b"=\n", encoded)
        content = binascii.a2b_qp(encoded)
        return content if limit is None else content[:limit]
    if part.encoding in ("x-uuencode", "uuencode", "x-uue", "uue"):
        return _decode_uu(raw[start : end if limit is None else min(end, start + 2 * limit)], defects)
    if part.encoding not in ("", "7bit", "8bit", "binary"):
        defects.add("unknown_transfer_encoding")
    return raw[start : end if limit is None else min(end, start + limit)]


def _scan_fields(
    raw: bytes, start: int, end: int, max_fields: int, max_octets: int, defects: Defects
) -> tuple[Fields, int]:
    """Read fields until the blank line. Returns them and the offset after it."""
    fields: Fields = []
    position, cut = start, min(end, start + max_octets)
    if folded := _FOLDED_LINES.match(raw, position, cut):
        defects.add("header_starts_folded")
        position = folded.end()
    match_field = _FIELD.match
    while (match := match_field(raw, position, cut)) is not None:
        if len(fields) >= max_fields or (match.end() == cut < end):
            defects.add("header_too_large")
            return fields, _after_blank_line(raw, position, end)
        fields.append(match.groups())  # type: ignore[arg-type]  # both groups always take part
        position = match.end()
    if position >= end:
        return fields, end
    if blank := _LINE_END.match(raw, position, end):
        return fields, blank.end()
    # As Postfix and Python do: a line that is no field starts the body.
    defects.add("missing_blank_line")
    return fields, position


def _after_blank_line(raw: bytes, position: int, end: int) -> int:
    blank = _BLANK_LINE.search(raw, max(position - 1, 0), end)
    return blank.end() if blank else end


def _content_fields(fields: Fields) -> dict[bytes, bytes]:
    """The MIME fields by lower-case name; the first of each counts."""
    found: dict[bytes, bytes] = {}
    for name, value in fields:
        if name[:8].lower() == b"content-":
            found.setdefault(name.lower(), value)
    return found


def _make_part(
    path: str, fields: dict[bytes, bytes], start: int, end: int, depth: int, default: str, defects: Defects
) -> Part:
    content_type, disposition = default, ""
    parameters: dict[str, str] = {}
    disposition_parameters: dict[str, str] = {}
    if (value := fields.get(b"content-type")) is not None:
        content_type, parameters = _parse_content_type(value, defects)
    if (value := fields.get(b"content-disposition")) is not None:
        disposition, disposition_parameters = _parse_disposition(value)
    encoding = ""
    if (value := fields.get(b"content-transfer-encoding")) is not None:
        token = _TOKEN.match(header_text(value).lower())
        encoding = token[1] if token else ""
    content_id = None
    if (value := fields.get(b"content-id")) is not None:
        content_id = decode_words(header_text(value)).strip("<> \t")[:998] or None
    return Part(
        path=path,
        content_type=content_type,
        parameters=parameters,
        disposition=disposition,
        disposition_parameters=disposition_parameters,
        encoding=encoding,
        content_id=content_id,
        start=start,
        end=end,
        depth=depth,
    )


def _parse_content_type(value: bytes, defects: Defects) -> tuple[str, dict[str, str]]:
    text = header_text(value)
    match = _MEDIA_TYPE.match(text.lower())
    if match is None:
        defects.add("invalid_content_type")
        return "text/plain", {}
    parameters = parse_parameters(text[match.end() :]) if ";" in text else {}
    return f"{match[1]}/{match[2]}", parameters


def _parse_disposition(value: bytes) -> tuple[str, dict[str, str]]:
    text = header_text(value)
    match = _TOKEN.match(text.lower())
    disposition = match[1] if match else ""
    # RFC 2183 section 2.8: what is unknown is treated as attachment.
    kind = "inline" if disposition == "inline" else "attachment"
    if match and text[match.end() : match.end() + 2].lstrip().startswith("="):  # `filename=x` and no type
        text = f";{text}"
    return kind, parse_parameters(text) if ";" in text else {}


def _split_multipart(raw: bytes, part: Part, limits: ParseLimits, room: int, defects: Defects) -> Iterator[Part]:
    """At most `room` children of a multipart; none when it has no usable boundary."""
    boundary = part.parameters.get("boundary", "").rstrip()
    if not boundary or len(boundary) > _MAX_BOUNDARY:
        defects.add("multipart_without_boundary")
        return
    default = "message/rfc822" if part.content_type == "multipart/digest" else "text/plain"
    prefix = f"{part.path}." if part.path else ""
    for number, (start, end) in enumerate(_find_ranges(raw, part, boundary, defects), start=1):
        if number > room:
            defects.add("too_many_parts")
            return
        fields, body = _scan_fields(raw, start, end, limits.header_fields, _MAX_PART_HEADER, defects)
        path = f"{prefix}{number}"
        yield _make_part(path, _content_fields(fields), body, end, part.depth + 1, default, defects)


def _find_ranges(raw: bytes, part: Part, boundary: str, defects: Defects) -> Iterator[tuple[int, int]]:
    """Where each child of a multipart starts and ends; the delimiter owns the line break before it."""
    needle = b"--" + boundary.encode("utf-8", "replace")
    position, opened, lookalikes = part.start, -1, 0
    while (found := raw.find(needle, position, part.end)) >= 0 and lookalikes < _MAX_LOOKALIKES:
        position = found + 1
        tail = _DELIMITER_TAIL.match(raw, found + len(needle), part.end)
        if tail is None or (found != part.start and raw[found - 1] != 10):
            lookalikes += 1
            continue
        if opened >= 0:
            end = found - 1
            if end > opened and raw[end - 1] == 13:
                end -= 1
            yield opened, max(end, opened)
        if tail[1]:
            return
        position = opened = tail.end()
    if opened >= 0:
        defects.add("multipart_without_end")
        yield opened, part.end
    else:
        defects.add("multipart_without_parts")


def _decode_uu(data: bytes, defects: Defects) -> bytes:
    """Content in the form of uuencode, which predates MIME and is in none of its standards."""
    begin = _UU_BEGIN.search(data)
    if begin is None:
        defects.add("invalid_uuencode")
        return data
    out: list[bytes] = []
    errors = 0
    for match in islice(_LINE.finditer(data, begin.end()), _MAX_UU_LINES):
        line = match[0].rstrip(b"\r\n")
        if line in (b"end", b"`", b"", b" ") or errors > _MAX_UU_ERRORS:
            break
        # Encoders pad lines wrongly: the length a line begins with says what counts. Spaces at its end get
        # lost on the way; but a line with hardly anything on it would only make zeros out of nothing.
        length = 1 + (((line[0] - 32) & 63) + 2) // 3 * 4
        try:
            out.append(binascii.a2b_uu(line[:length]) if len(line) > length // 2 else b"")
        except binascii.Error:
            errors += 1
            defects.add("invalid_uuencode")
    return b"".join(out)
