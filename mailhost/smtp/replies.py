"""Replies of SMTP servers: reading, writing and judging them.

RFC 5321 4.2 (replies, multi-line replies), RFC 2034 (enhanced codes on the wire), RFC 3463 (what they mean).
Nothing here does I/O: `ReplyParser` is fed bytes and yields replies, with every size bounded.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass

from mailhost.errors import MailError

# RFC 5321 4.5.3.1.5 asks for 512 octets per line; real servers put long URLs into refusals, so be lenient.
MAX_LINE = 4096
MAX_LINES = 128
MAX_REPLY = 32 * 1024
# What may wait unread: asyncio hands over at most 256 KiB at once, so this is one such piece and a reply.
MAX_WAITING = 320 * 1024
# What is kept of the text: it is stored with each attempt and shown to people.
MAX_TEXT = 2000

_LINE = re.compile(rb"([2-5][0-9]{2})(?:([ -])(.*))?", re.DOTALL)
_ENHANCED = re.compile(r"([245]\.\d{1,3}\.\d{1,3})(?:\s+|$)")
_UNPRINTABLE = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\ufffe\uffff]")


class BadReply(MailError):
    """The server's answer is not SMTP, or is larger than any honest answer."""

    code = "bad_reply"


class Outcome(enum.StrEnum):
    """What became of one attempt at one recipient."""

    DELIVERED = "delivered"
    TEMPORARY = "temporary"
    PERMANENT = "permanent"
    UNCERTAIN = "uncertain"


class Stage(enum.StrEnum):
    """How far a transaction had come when it was decided."""

    CONNECT = "connect"
    GREETING = "greeting"
    HELO = "helo"
    STARTTLS = "starttls"
    AUTH = "auth"
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"
    FINAL = "final"


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply: `code` (200..599), `enhanced` ("5.1.1") or None, `text` without them, lines joined by LF."""

    code: int
    enhanced: str | None
    text: str

    @property
    def is_positive(self) -> bool:
        """Whether the command was done (2xx)."""
        return 200 <= self.code <= 299

    def encode(self) -> bytes:
        """The reply as it goes on the wire, each line carrying the enhanced code (RFC 2034 4)."""
        prefix = f"{self.enhanced} " if self.enhanced else ""
        lines = [_UNPRINTABLE.sub(" ", line) for line in self.text.split("\n")]
        wire = [f"{self.code}-{prefix}{line}\r\n" for line in lines[:-1]]
        wire.append(f"{self.code} {prefix}{lines[-1]}\r\n")
        # RFC 6531 3.7.4: UTF-8 in replies only where the client asked for it; ours need none.
        return "".join(wire).encode("ascii", "replace")

    def __str__(self) -> str:
        prefix = f"{self.enhanced} " if self.enhanced else ""
        return f"{self.code} {prefix}{self.text}"


class ReplyParser:
    """Cuts a stream of bytes into replies; several may come at once (PIPELINING)."""

    __slots__ = ("_buffer", "_lines", "_size")

    def __init__(self) -> None:
        self._buffer = b""
        self._lines: list[tuple[bytes, bytes]] = []
        self._size = 0

    @property
    def has_leftover(self) -> bool:
        """Whether bytes beyond the replies read so far have arrived."""
        return bool(self._buffer or self._lines)

    def feed(self, data: bytes) -> None:
        """Take bytes as they came. Raises BadReply when more waits than an honest server sends unasked."""
        self._buffer = self._buffer + data if self._buffer else data
        if len(self._buffer) > MAX_WAITING:
            raise BadReply("the server sends without end")

    def next_reply(self) -> Reply | None:
        """The next whole reply, or None until more bytes come. Raises BadReply."""
        while True:
            line, found, rest = self._buffer.partition(b"\n")
            if len(line) > MAX_LINE:
                raise BadReply("a line of the server's reply is too long")
            if not found:
                return None
            self._buffer = rest
            if self._take_line(line.rstrip(b"\r")):
                lines, self._lines, self._size = self._lines, [], 0
                return _build_reply(lines)

    def _take_line(self, line: bytes) -> bool:
        """Add one line; True when it ends its reply."""
        match = _LINE.fullmatch(line)
        if match is None:
            raise BadReply("the server's answer is not an SMTP reply")
        code, separator, text = match.groups()
        self._lines.append((code, text or b""))
        self._size += len(line)
        if len(self._lines) > MAX_LINES or self._size > MAX_REPLY:
            raise BadReply("the server's reply is too large")
        return bool(separator != b"-")


def _build_reply(lines: list[tuple[bytes, bytes]]) -> Reply:
    # RFC 5321 4.2.1 wants one code on all lines; where a server mixes them, the last line is its last word.
    code = int(lines[-1][0])
    texts = [clean_text(text.decode("utf-8", "replace")) for _, text in lines]
    enhanced: str | None = None
    for index, text in enumerate(texts):
        match = _ENHANCED.match(text)
        # RFC 2034 4: the enhanced code's class is the first digit of the reply code, else it is just text.
        if match is None or match[1][0] != str(code)[0]:
            continue
        enhanced = enhanced or match[1]
        if match[1] == enhanced:
            texts[index] = text[match.end() :]
    return Reply(code, enhanced, "\n".join(texts)[:MAX_TEXT])


def parse_reply(data: bytes) -> Reply:
    """Read exactly one whole reply. Raises BadReply when it is cut short, or when something follows it."""
    parser = ReplyParser()
    parser.feed(data)
    reply = parser.next_reply()
    if reply is None or parser.has_leftover:
        raise BadReply("not exactly one SMTP reply")
    return reply


def clean_text(text: str) -> str:
    """Text that can be stored, logged and shown: one line, without control characters."""
    return _UNPRINTABLE.sub("?", text).strip()


def classify_reply(reply: Reply, stage: Stage) -> Outcome:
    """Judge a reply to a mail. What is not understood is temporary, so that a surprise never loses mail."""
    if stage is Stage.FINAL and reply.is_positive:
        return Outcome.DELIVERED
    if not 500 <= reply.code <= 599:
        return Outcome.TEMPORARY
    if stage not in _STAGES_ABOUT_THE_MAIL:
        # A server that greets with 554, or refuses our password, says nothing about this mail.
        return Outcome.TEMPORARY
    if reply.code == 552 and stage is Stage.RCPT and reply.enhanced in (None, "5.5.3"):
        # RFC 5321 4.5.3.1.10: at RCPT an old server says 552 where it means 452, too many recipients.
        return Outcome.TEMPORARY
    return Outcome.PERMANENT


_STAGES_ABOUT_THE_MAIL = frozenset({Stage.MAIL, Stage.RCPT, Stage.DATA, Stage.FINAL})
