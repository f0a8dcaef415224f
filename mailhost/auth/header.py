"""The header of a message as signatures see it: octet for octet, with the place of each field.

Which octets are a field, and where the body starts, is decided exactly as `mailhost.message.mime` decides it (a
test holds the two together): what is judged here must be what is shown to people.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import NamedTuple

from mailhost.auth.canonical import relax_field
from mailhost.message.mime import DEFAULT_LIMITS

_FIELD = re.compile(rb"(([!-9;-~]+)[ \t]*):([^\n]*(?:\n[ \t][^\n]*)*+)(?:\n|\Z)")
_MBOX_LINE = re.compile(rb">?From (?![ \t]*:)[^\n]*\n")
_FOLDED_LINES = re.compile(rb"(?:[ \t]+[^ \t\r\n][^\n]*\n)++")
_BLANK_LINE = re.compile(rb"\n\r?\n")
_LINE_END = re.compile(rb"\r?\n")


class HeaderField(NamedTuple):
    """One field. `label` is what stands before the colon, white space included; `value` keeps its last CR."""

    label: bytes
    name: bytes
    value: bytes


@dataclass(slots=True)
class MailHeader:
    """The fields in order. `starts` has the offset of each, and of what follows the last."""

    fields: list[HeaderField]
    starts: list[int]
    body_start: int
    complete: bool
    """False when there were more fields or octets than the bounds allow."""
    _places: dict[bytes, list[int]] = field(default_factory=dict)
    _relaxed: dict[int, bytes] = field(default_factory=dict)

    def find(self, name: bytes) -> list[int]:
        """The indexes of all fields of that name (lower case), from the top."""
        return self._places.get(name, [])

    def relaxed(self, index: int) -> bytes:
        """A field in "relaxed" form without its line end; made once for all signatures that cover it."""
        found = self._relaxed.get(index)
        if found is None:
            one = self.fields[index]
            found = self._relaxed[index] = relax_field(one.name, one.value)
        return found

    def simple(self, index: int) -> bytes:
        """A field as it came, without its line end (RFC 6376 section 3.4.1)."""
        one = self.fields[index]
        return one.label + b":" + one.value.removesuffix(b"\r")


def read_header(
    raw: bytes, *, max_fields: int = DEFAULT_LIMITS.header_fields, max_octets: int = DEFAULT_LIMITS.header_octets
) -> MailHeader:
    """The header of a message. Never raises, one pass."""
    end = len(raw)
    position = 0
    if mbox := _MBOX_LINE.match(raw):
        position = mbox.end()
    cut = min(end, position + max_octets)
    if folded := _FOLDED_LINES.match(raw, position, cut):
        position = folded.end()
    fields: list[HeaderField] = []
    starts: list[int] = []
    places: dict[bytes, list[int]] = {}
    match_field = _FIELD.match
    while (match := match_field(raw, position, cut)) is not None:
        if len(fields) >= max_fields or match.end() == cut < end:
            starts.append(position)
            return MailHeader(fields, starts, _after_blank_line(raw, position), False, places)
        one = HeaderField._make(match.groups())
        places.setdefault(one.name.lower(), []).append(len(fields))
        fields.append(one)
        starts.append(position)
        position = match.end()
    starts.append(position)
    if position < end and (blank := _LINE_END.match(raw, position)):
        position = blank.end()
    return MailHeader(fields, starts, position, True, places)


def _after_blank_line(raw: bytes, position: int) -> int:
    blank = _BLANK_LINE.search(raw, max(position - 1, 0))
    return blank.end() if blank else len(raw)
