"""Address lists in other people's headers (RFC 5322 sections 3.4 and 4.4, RFC 6854), read leniently.

Every entry that has an address is found: groups are opened, comments taken as names where there is no other,
routes dropped, and what no grammar allows (unquoted commas aside) is read as people mean it. One pass.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from mailhost.message.words import decode_words

MAX_ADDRESSES = 1000
_MAX_ADDRESS = 320  # characters; RFC 5321 allows 254 octets
_MAX_NAME = 500

# Each alternative consumes all it looks at, even when a quote or bracket is never closed: that keeps it linear.
_TOKEN = re.compile(
    r"""(?P<space>\s+)
    |(?P<quoted>"(?P<inner>(?:[^"\\]|\\.)*+)"?)
    |<(?P<angle>(?:[^<>"]|"(?:[^"\\]|\\.)*+(?:"|\Z))*+)>?
    |(?P<comment>\()
    |(?P<mark>[,;:)>])
    |(?P<atom>[^\s"<>(),;:]+)""",
    re.VERBOSE | re.DOTALL,
)
_COMMENT_STEP = re.compile(r"\\.|[()]", re.DOTALL)
_QUOTED_PAIR = re.compile(r"\\(.)", re.DOTALL)
_SPACE = re.compile(r"\s+")
_INNER_COMMENT = re.compile(r"\([^()]*\)")
_SIMPLE = re.compile(r"(?:([A-Za-z0-9_'-]+(?: [A-Za-z0-9_'-]+)*) )?<([A-Za-z0-9.!#$%&'*+/=^_`{|}~-]+@[A-Za-z0-9.-]+)>")


@dataclass(frozen=True, slots=True)
class ParsedAddress:
    """An address as somebody else wrote it: not checked, at most 320 characters; the name decoded."""

    address: str
    name: str = ""


def parse_mailboxes(text: str, *, limit: int = MAX_ADDRESSES) -> list[ParsedAddress]:
    """All addresses of an address list, at most `limit`. Never raises."""
    text = text.replace("\0", "")
    simple = _SIMPLE.fullmatch(text)  # most From and To fields
    if simple is not None and len(text) <= _MAX_ADDRESS:
        return [ParsedAddress(simple[2], simple[1] or "")]
    return _Reader(text, limit).read()


class _Reader:
    """Reads one list from left to right, gathering the pieces of one entry until a separator."""

    def __init__(self, text: str, limit: int) -> None:
        self._text = text
        self._limit = limit
        self._last_semicolon = text.rfind(";")
        self._unquoted = False
        self._found: list[ParsedAddress] = []
        self._pieces: list[tuple[bool, str, str]] = []  # space before it, as written, as people read it
        self._spaced = False
        self._comment = ""
        self._angle: str | None = None

    def read(self) -> list[ParsedAddress]:
        position = 0
        while (match := _TOKEN.match(self._text, position)) and len(self._found) < self._limit:
            kind, position = match.lastgroup, match.end()
            if kind == "comment":
                position = self._read_comment(position)
            elif kind == "mark":
                self._read_mark(match["mark"], position)
            elif kind == "angle":
                self._angle = match["angle"] if self._angle is None else self._angle
            elif kind == "space":
                self._spaced = True
            elif kind == "atom":
                self._add_piece(match[0], match[0])
            elif self._is_never_closed(match[0]):
                position = match.start() + 1
            else:
                self._add_piece(match[0], _QUOTED_PAIR.sub(r"\1", match["inner"]))
        self._finish_entry()
        return self._found[: self._limit]

    def _clear(self) -> None:
        self._pieces.clear()
        self._spaced = False
        self._comment = ""
        self._angle = None

    def _is_never_closed(self, quoted: str) -> bool:
        """Whether this quote swallows all that follows, an address too. Once per list: that is enough."""
        if self._unquoted or (len(quoted) > 1 and quoted.endswith('"')) or "<" not in quoted:
            return False
        self._unquoted = True
        return True

    def _add_piece(self, raw: str, word: str) -> None:
        self._pieces.append((self._spaced, raw, word))
        self._spaced = False

    def _read_mark(self, mark: str, position: int) -> None:
        if mark in ",;":
            self._finish_entry()
        elif mark == ":" and position <= self._last_semicolon and self._angle is None:
            self._clear()  # that was the name of a group (RFC 5322 section 3.4)
        elif mark == ":":
            self._spaced = False
            self._add_piece(":", ":")

    def _read_comment(self, position: int) -> int:
        """Skip a comment, which may nest; the last one serves as name when nothing else does."""
        depth, start = 1, position
        while depth:
            step = _COMMENT_STEP.search(self._text, position)
            if step is None:
                self._comment = self._text[start:]
                return len(self._text)
            position = step.end()
            depth += {"(": 1, ")": -1}.get(step[0], 0)
        self._comment = self._text[start : position - 1]
        self._spaced = True
        return position

    def _finish_entry(self) -> None:
        words = self._join_pieces(2)
        if self._angle is not None:
            address, name = _clean_angle(self._angle), " ".join(words)
        else:
            address, name = _split_bare(self._join_pieces(1), words)
        name = name or _QUOTED_PAIR.sub(r"\1", self._comment)
        if address and len(address) <= _MAX_ADDRESS:
            self._found.append(ParsedAddress(address, _clean_name(name)))
        self._clear()

    def _join_pieces(self, column: Literal[1, 2]) -> list[str]:
        """The pieces of this entry as words: what stood together without space is one word."""
        marked = "".join(("\0" if piece[0] else "") + piece[column] for piece in self._pieces)
        return marked.removeprefix("\0").split("\0") if marked else []


def _split_bare(raw: list[str], words: list[str]) -> tuple[str, str]:
    """Address and name of an entry without brackets: `a@b`, `a @ b . c`, or a name with an address."""
    if len(raw) <= 1 or any(word[0] in "@." or word[-1] in "@." for word in raw):
        return "".join(raw), ""
    for index in range(len(raw) - 1, -1, -1):
        if "@" in raw[index]:
            return raw[index], " ".join(words[:index] + words[index + 1 :])
    return "", ""


def _clean_angle(text: str) -> str:
    """What stands between < and >, without route, comments and white space."""
    if '"' in text:
        return text.strip()
    text = _SPACE.sub("", _INNER_COMMENT.sub("", text))
    if text.startswith("@") and ":" in text:  # a source route (RFC 5322 section 4.4)
        text = text.rpartition(":")[2]
    return text.removeprefix("mailto:").partition(",")[0]


def _clean_name(name: str) -> str:
    return _SPACE.sub(" ", decode_words(name)).strip()[:_MAX_NAME]
