"""Canonical forms of header fields and bodies (RFC 6376 section 3.4), in time that is linear whatever the octets."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from typing import Literal

Form = Literal["simple", "relaxed"]

_CHUNK = 64 * 1024  # octets of body per step: about a millisecond
_TAB_TO_SPACE = bytes.maketrans(b"\t", b" ")
_CRLFS = b"\r\n" * (_CHUNK // 2)


def relax_field(name: bytes, value: bytes) -> bytes:
    """The "relaxed" form of a header field without its line end (RFC 6376 section 3.4.2)."""
    if b"\n" in value:
        value = value.replace(b"\r\n", b"").replace(b"\n", b"")
    return name.lower() + b":" + _collapse(value).strip(b" \t\r")


def relax_body(body: bytes) -> bytes:
    """The "relaxed" form of a body (RFC 6376 section 3.4.4)."""
    return _canonicalize(body, "relaxed")


def simplify_body(body: bytes) -> bytes:
    """The "simple" form of a body (RFC 6376 section 3.4.3): never empty."""
    return _canonicalize(body, "simple")


async def hash_body(raw: bytes, start: int, form: Form, *, step: int = _CHUNK) -> tuple[bytes, int]:
    """SHA-256 of the canonical body, and the octets of that form. `raw` from `start` on is the body.

    Large bodies are taken in pieces of `step` octets, with other tasks getting their turn between them; no copy is
    made of the whole.
    """
    if len(raw) - start <= step:
        body = _canonicalize(raw[start:], form)
        return hashlib.sha256(body).digest(), len(body)
    digest = hashlib.sha256()
    canonical = _Canonicalizer(form)
    for position in range(start, len(raw), step):
        await asyncio.sleep(0)
        for piece in canonical.feed(raw[position : position + step]):
            digest.update(piece)
            await asyncio.sleep(0)
    digest.update(canonical.finish())
    return digest.digest(), canonical.size


def _canonicalize(body: bytes, form: Form) -> bytes:
    canonical = _Canonicalizer(form)
    return b"".join([*canonical.feed(body), canonical.finish()])


class _Canonicalizer:
    """Takes a body in pieces cut anywhere, gives its canonical form in pieces.

    What may still turn out to be the end of a line or of the body is held back: a CR, white space, empty lines.
    """

    def __init__(self, form: Form) -> None:
        self.size = 0
        self._relaxed = form == "relaxed"
        self._held = b""
        self._lines = 0

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """The form of this piece, as far as it is certain."""
        piece = self._held + piece
        self._held = b""
        if piece.endswith(b"\r"):
            piece, self._held = piece[:-1], b"\r"
        if self._relaxed:
            piece = _collapse(piece)
            if piece.endswith(b" "):
                piece, self._held = piece[:-1], b" " + self._held
            piece = piece.replace(b" \r\n", b"\r\n")
        content = _length_without_crlfs(piece)
        if content:
            yield from self._flush_lines()
            self.size += content
            yield piece[:content]
        self._lines += (len(piece) - content) // 2

    def finish(self) -> bytes:
        """What follows the last piece."""
        rest = b"" if self._held == b" " else self._held
        if rest:
            self.size += len(rest)
            rest = b"".join([*self._flush_lines(), rest])
        if self.size or not self._relaxed:
            self.size += 2
            rest += b"\r\n"
        return rest

    def _flush_lines(self) -> Iterator[bytes]:
        """The line ends held back, in pieces of bounded size: something follows them."""
        left, self._lines = 2 * self._lines, 0
        self.size += left
        while left > 0:
            yield _CRLFS[:left]
            left -= len(_CRLFS)


def _collapse(text: bytes) -> bytes:
    """Each run of spaces and tabs as one space. Takes a pass for each doubling of the longest run."""
    if b"\t" in text:
        text = text.translate(_TAB_TO_SPACE)
    while b"  " in text:
        text = text.replace(b"  ", b" ")
    return text


def _length_without_crlfs(text: bytes) -> int:
    """How long the text is without all CRLF at its end, found without looking at each of them in Python."""
    start = len(text.rstrip(b"\r\n"))
    # What is left are CRs and LFs in any order: behind the last that are not in turn, they are.
    start = max(start, text.rfind(b"\r\r", start) + 1, text.rfind(b"\n\n", start) + 1)
    if text.startswith(b"\n", start):
        start += 1
    return start if text.endswith(b"\n") else len(text)
