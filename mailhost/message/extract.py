"""What people look for in a text: a preview, and the new words of a reply without quotes and signature.

No standard governs quoting. What is cut here is what mail programs write: `>` lines (RFC 3676 section 4.5), the
line that announces them, Outlook's header block, and what follows `-- ` (RFC 3676 section 4.3). When in doubt
the text stays: a quote too many costs a reader a moment, a lost sentence costs its meaning.
"""

from __future__ import annotations

import re

_SURROGATE = re.compile(r"[\ud800-\udfff]")
_SPACES = re.compile(r"[\s\u200b-\u200f\u2060\u034f\u00ad\ufeff]+")
_MAX_LINE = 500  # characters; no announcement of a quote is longer

_FORWARD_SUBJECT = re.compile(r"\s*(?:fwd?|wg|tr|rv|enc|i|doorst|vs|vb|pd|转发|轉寄)\s*[:\uff1a]", re.IGNORECASE)
_FORWARD_LINE = re.compile(
    r"-{2,}\s*(?:forwarded message|weitergeleitete nachricht|message transf[eé]r[eé]|mensaje reenviado"
    r"|messaggio inoltrato|doorgestuurd bericht|mensagem encaminhada)\b.*|begin forwarded message:.*",
    re.IGNORECASE,
)
_ORIGINAL_LINE = re.compile(
    r"-{2,}\s*(?:original message|original appointment|urspr[uü]ngliche nachricht|message d'origine"
    r"|mensaje original|messaggio originale|oorspronkelijk bericht|mensagem original)\s*-{2,}",
    re.IGNORECASE,
)
_WROTE = re.compile(
    r"(?:wrote|writes|schrieb|geschrieben|[eé]crit|escribi[oó]|ha scritto|schreef|escreveu|napisa[lł](?:\(a\))?"
    r"|skrev|kirjoitti|написал[аи]?|пишет|写道|寫道)\s?.{0,80}[:\uff1a]",
    re.IGNORECASE,
)
_DATED = re.compile(r"\d.*\d|<[^<>\s]+@[^<>\s]+>")
_HEADER_LINE = re.compile(
    r"\*?(?:from|sent|date|to|cc|subject|von|gesendet|datum|an|betreff|de|envoy[eé]|[aà]|objet|enviado|para|asunto"
    r"|da|inviato|oggetto|van|verzonden|aan|onderwerp)\s?:\*?\s.*",
    re.IGNORECASE,
)
_FROM_LINE = re.compile(r"\*?(?:from|von|de|da|van)\s?:\*?\s.*", re.IGNORECASE)
_DEVICE_LINE = re.compile(
    r"(?:sent|gesendet|envoy[eé]|enviado|inviato|verzonden) "
    r"(?:from|via|mit|von|depuis|de|desde|dal?|vanaf|using) .{1,60}"
    r"|get outlook for .{1,40}",
    re.IGNORECASE,
)


def storable(text: str) -> str:
    """The text with what PostgreSQL cannot store replaced by U+FFFD: NUL, and surrogates that stand alone."""
    if "\0" in text:
        text = text.replace("\0", "\ufffd")
    if not text.isascii() and _SURROGATE.search(text) is not None:
        # Through UTF-16, so that two halves that belong together become the character they mean.
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def make_preview(text: str, limit: int = 200) -> str:
    """The beginning of a text on one line, at most `limit` characters, cut between words where possible."""
    line = _SPACES.sub(" ", text[: limit * 20]).strip()
    if len(line) <= limit:
        return line
    cut = line[:limit]
    cut = cut.rpartition(" ")[0] if " " in cut[limit // 2 :] else cut[:-1]
    return cut.rstrip() + "…"


def extract_reply_text(text: str, *, subject: str = "") -> str:
    """The words that are new in a reply: without quoted text, its announcement and the signature.

    A forward keeps what it forwards, since that is the point of it; `subject` helps to recognise one. When
    nothing else is left, the text is returned as it is.
    """
    lines = text.replace("\r\n", "\n").split("\n")
    stripped = [line.strip() for line in lines]
    if _FORWARD_SUBJECT.match(subject) or any(
        _FORWARD_LINE.fullmatch(line) for line in stripped if line[:1] in "-bB" and len(line) <= _MAX_LINE
    ):
        return text.strip()
    kept: list[str] = []
    index = 0
    while index < len(lines):
        skip = _count_quote_lines(stripped, index)
        if skip == 0:
            kept.append(lines[index].rstrip())
        index += skip or 1
    return "\n".join(_drop_device_line(kept)).strip() or text.strip()


def _count_quote_lines(lines: list[str], index: int) -> int:
    """How many lines from `index` on are quote, announcement or signature; 0 when the line is the writer's own."""
    line = lines[index]
    if line.startswith(">"):
        return _quote_end(lines, index) - index
    if line == "--":
        return _signature_end(lines, index) - index
    if not line or len(line) > _MAX_LINE:
        return 0
    if _ORIGINAL_LINE.fullmatch(line) or _starts_header_block(lines, index):
        return len(lines) - index
    announced = _announcement_end(lines, index)
    if announced == 0:
        return 0
    following = _next_filled(lines, announced)
    if following < len(lines) and lines[following].startswith(">"):
        return _quote_end(lines, following) - index
    # Announced but not marked by >: programs that do so quote to the end.
    return len(lines) - index


def _quote_end(lines: list[str], index: int) -> int:
    while index < len(lines) and lines[index].startswith(">"):
        index += 1
    return index


def _signature_end(lines: list[str], index: int) -> int:
    """A signature reaches to the end, or to the quote that follows it."""
    for position in range(index + 1, len(lines)):
        if lines[position].startswith(">") or _ORIGINAL_LINE.fullmatch(lines[position][:_MAX_LINE]):
            return position
        if _announcement_end(lines, position) or _starts_header_block(lines, position):
            return position
    return len(lines)


def _announcement_end(lines: list[str], index: int) -> int:
    """The line after "On Monday, Bob wrote:", which may be broken over three lines; 0 when there is none."""
    joined = ""
    for position in range(index, min(index + 3, len(lines))):
        line = lines[position]
        if not line or line.startswith(">") or len(line) > _MAX_LINE:
            return 0
        joined = f"{joined} {line}" if joined else line
        if line[-1] in ":\uff1a":
            quoted = position + 1 < len(lines) and lines[position + 1].startswith(">")
            if _DATED.search(joined) and (_WROTE.search(joined) or quoted):
                return position + 1
            return 0
    return 0


def _starts_header_block(lines: list[str], index: int) -> bool:
    """Outlook's way to quote: From, Sent, To, Subject as lines, with or without a rule above."""
    if lines[index].startswith("_____"):
        index = _next_filled(lines, index + 1)
    if index >= len(lines) or not _FROM_LINE.fullmatch(lines[index][:_MAX_LINE]):
        return False
    return sum(1 for line in lines[index : index + 6] if _HEADER_LINE.fullmatch(line[:_MAX_LINE])) >= 3


def _next_filled(lines: list[str], index: int) -> int:
    """The index of the next line that is not empty, looking a few lines ahead."""
    for position in range(index, min(index + 3, len(lines))):
        if lines[position]:
            return position
    return len(lines)


def _drop_device_line(lines: list[str]) -> list[str]:
    """Without a last line such as "Sent from my phone"."""
    while lines and not lines[-1].strip():
        lines.pop()
    if len(lines) > 1 and _DEVICE_LINE.fullmatch(lines[-1].strip()[:_MAX_LINE]):
        lines.pop()
    return lines
