"""From the octets of a mail to what people and programs read (RFC 5322, 2045-2049, 2047, 2231, 3834, 6532).

Mail comes from strangers, so nothing here raises and everything is bounded; what was odd is listed in `defects`.
All text can be stored in PostgreSQL. Which parts are the body and which are attachments follows the algorithm of
RFC 8621 section 4.1.4, which is how mail clients have come to show mail.
"""

from __future__ import annotations

import html as html_escapes
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from mailhost.errors import MailError
from mailhost.message.charsets import decode_text
from mailhost.message.extract import storable
from mailhost.message.filenames import attachment_name
from mailhost.message.html import html_to_text
from mailhost.message.mailboxes import ParsedAddress, parse_mailboxes
from mailhost.message.mime import (
    DEFAULT_LIMITS,
    Defects,
    Fields,
    ParseLimits,
    Part,
    decode_body,
    parse_fields,
    parse_tree,
    walk_leaves,
)
from mailhost.message.words import decode_header, decode_words, header_text

MAX_REFERENCES = 200
_MAX_MESSAGE_ID = 998
_MAX_DATE = 200

_MESSAGE_ID = re.compile(r"<([^<>]{1,1100})>")
_SPACES = re.compile(r"\s+")
_COMMENT = re.compile(r"\([^()]*\)")
_DATE_SPACES = re.compile(r"\s*:\s*")
_BULK_PRECEDENCE = frozenset({"bulk", "junk", "auto_reply"})
_REPORTS = frozenset({"delivery-status", "disposition-notification", "feedback-report"})
_AUTO_REPLY_FIELDS = ("x-autoreply", "x-autorespond", "x-auto-reply-from", "x-autoresponder")
_SINGLE_FIELDS = ("from", "date", "subject", "message-id", "sender", "reply-to")


class NoSuchPart(MailError):
    """The message has no part of that number."""

    code = "no_such_part"


@dataclass(frozen=True, slots=True)
class ParsedAttachment:
    """A part that is not the body. `part` names it for `read_attachment`; `size` is in octets, decoded."""

    part: str
    filename: str
    content_type: str
    size: int
    content_id: str | None
    disposition: str
    """"inline" when the mail shows it in its text, else "attachment"."""


@dataclass(slots=True)
class ParsedMessage:
    """A mail as far as it can be understood. Message-IDs keep their angle brackets."""

    message_id: str = ""
    in_reply_to: list[str] = field(default_factory=list)
    references: list[str] = field(default_factory=list)
    sender: ParsedAddress | None = None
    from_: list[ParsedAddress] = field(default_factory=list)
    to: list[ParsedAddress] = field(default_factory=list)
    cc: list[ParsedAddress] = field(default_factory=list)
    bcc: list[ParsedAddress] = field(default_factory=list)
    reply_to: list[ParsedAddress] = field(default_factory=list)
    subject: str = ""
    date: datetime | None = None
    text: str = ""
    html: str = ""
    headers: list[list[str]] = field(default_factory=list)
    attachments: list[ParsedAttachment] = field(default_factory=list)
    automatic: str = ""
    """Why this mail is not a person's: "generated", "replied", "notified", "bulk" or "report"; else empty."""
    defects: list[str] = field(default_factory=list)

    @property
    def auto_submitted(self) -> bool:
        """Whether a program sent it, so that no program should answer (RFC 3834 section 2)."""
        return bool(self.automatic)


def parse_message(raw: bytes, *, limits: ParseLimits = DEFAULT_LIMITS) -> ParsedMessage:
    """Understand a mail. Never raises, whatever the octets; see `ParsedMessage.defects`."""
    defects = Defects()
    fields, body_start = parse_fields(raw, limits, defects)
    root = parse_tree(raw, fields, body_start, limits, defects)
    message = _read_header(fields, root, defects)
    body = _choose_body(root)
    message.text, message.html = _read_body(raw, body, limits.text_octets, defects)
    message.attachments = [_describe(raw, part, defects) for part in body.attachments]
    message.defects = defects.as_list()
    return message


def read_attachment(raw: bytes, part: str, *, limits: ParseLimits = DEFAULT_LIMITS) -> bytes:
    """The decoded content of the part that `ParsedAttachment.part` names. Raises `NoSuchPart`."""
    defects = Defects()
    fields, body_start = parse_fields(raw, limits, defects)
    for leaf in walk_leaves(parse_tree(raw, fields, body_start, limits, defects)):
        if leaf.path == part:
            return decode_body(raw, leaf, defects)
    raise NoSuchPart


# The header


class _Header:
    """The header fields by lower-case name, decoded only where somebody asks."""

    def __init__(self, fields: Fields, hint: str, defects: Defects) -> None:
        self._hint = hint
        self._values: dict[str, list[bytes]] = {}
        for name, value in fields:
            self._values.setdefault(name.decode("ascii").lower(), []).append(value)
        for single in _SINGLE_FIELDS:
            if len(self._values.get(single, ())) > 1:
                defects.add(f"duplicate_{single.replace('-', '_')}")  # RFC 5322 section 3.6: at most one

    def raw(self, name: str) -> str:
        """The first field of that name, encoded words left alone; empty when there is none."""
        values = self._values.get(name)
        return header_text(values[0], self._hint) if values else ""

    def text(self, name: str) -> str:
        return storable(decode_words(self.raw(name)))

    def mailboxes(self, name: str) -> list[ParsedAddress]:
        """The addresses of all fields of that name: a repeated To loses nobody."""
        values = self._values.get(name)
        if not values:
            return []
        if name == "from":
            values = values[:1]
        text = ", ".join(header_text(value, self._hint) for value in values)
        return [_storable_address(entry) for entry in parse_mailboxes(text)]

    def message_ids(self, name: str) -> list[str]:
        ids: dict[str, None] = {}
        for value in self._values.get(name, ()):
            ids.update(dict.fromkeys(_find_message_ids(header_text(value))))
        found = list(ids)
        # The first is the thread's root, the last ones are nearest to this mail.
        return found if len(found) <= MAX_REFERENCES else [found[0], *found[1 - MAX_REFERENCES :]]


def _read_header(fields: Fields, root: Part, defects: Defects) -> ParsedMessage:
    hint = _charset_hint(root)
    header = _Header(fields, hint, defects)
    own_id = header.message_ids("message-id")
    sender = header.mailboxes("sender")
    return ParsedMessage(
        message_id=own_id[0] if own_id else "",
        in_reply_to=header.message_ids("in-reply-to"),
        references=header.message_ids("references"),
        sender=sender[0] if sender else None,
        from_=header.mailboxes("from"),
        to=header.mailboxes("to"),
        cc=header.mailboxes("cc"),
        bcc=header.mailboxes("bcc"),
        reply_to=header.mailboxes("reply-to"),
        subject=header.text("subject"),
        date=_parse_date(header.raw("date"), defects),
        headers=[[name.decode("ascii"), storable(decode_header(value, hint))] for name, value in fields],
        automatic=_automatic_kind(header, root),
    )


def _charset_hint(root: Part) -> str:
    """The charset of the first text of the mail: programs that write raw eight-bit headers write them in it."""
    for part in walk_leaves(root):
        if part.content_type.startswith("text/"):
            return part.parameters.get("charset", "")
    return ""


def _storable_address(entry: ParsedAddress) -> ParsedAddress:
    return ParsedAddress(storable(entry.address), storable(entry.name))


def _find_message_ids(text: str) -> list[str]:
    """Message-IDs in a field, with brackets, without the white space that folding put into some."""
    if "<" in text:
        found = [_SPACES.sub("", match) for match in _MESSAGE_ID.findall(text)]
    else:
        found = [word for word in text.replace(",", " ").split() if "@" in word]
    return [storable(f"<{one}>") for one in found if one and len(one) <= _MAX_MESSAGE_ID]


def _parse_date(text: str, defects: Defects) -> datetime | None:
    """A Date field as an aware UTC time. None when missing or beyond reading (RFC 5322 sections 3.3, 4.3)."""
    if not text:
        defects.add("missing_date")
        return None
    text = text[:_MAX_DATE]
    # The second try is for comments and for space around colons (RFC 5322 section 4.3).
    for attempt in (text, _DATE_SPACES.sub(":", _COMMENT.sub(" ", text))):
        try:
            date = parsedate_to_datetime(attempt)
            # "-0000" says that the zone is not known (RFC 5322 section 3.3); UTC is the best guess.
            return date.replace(tzinfo=UTC) if date.tzinfo is None else date.astimezone(UTC)
        except (ValueError, TypeError, IndexError, OverflowError, AttributeError):
            continue
    defects.add("invalid_date")
    return None


def _automatic_kind(header: _Header, root: Part) -> str:
    """RFC 3834 section 5, and what programs did before it."""
    if root.content_type == "multipart/report" and root.parameters.get("report-type", "").lower() in _REPORTS:
        return "report"
    keyword = header.raw("auto-submitted").lower().partition(";")[0].partition("(")[0].strip()
    if keyword and keyword != "no":
        known = {"auto-replied": "replied", "auto-notified": "notified"}
        return known.get(keyword, "generated")
    if any(header.raw(name).strip().lower() not in ("", "no") for name in _AUTO_REPLY_FIELDS):
        return "replied"
    precedence = header.raw("precedence").lower().strip()
    if precedence in _BULK_PRECEDENCE:
        return "replied" if precedence == "auto_reply" else "bulk"
    return ""


# The body


@dataclass(slots=True)
class _Body:
    """Which leaves make up the text, which the HTML, and which are attachments."""

    text: list[Part] = field(default_factory=list)
    html: list[Part] = field(default_factory=list)
    attachments: list[Part] = field(default_factory=list)


def _choose_body(root: Part) -> _Body:
    """RFC 8621 section 4.1.4. The tree is at most `ParseLimits.depth` deep, and so is the recursion."""
    body = _Body()
    _sort_parts([root], "mixed", False, body, body.text, body.html)
    return body


def _sort_parts(
    parts: list[Part],
    kind: str,
    in_alternative: bool,
    body: _Body,
    text: list[Part] | None,
    html: list[Part] | None,
) -> None:
    text_before = -1 if text is None else len(text)
    html_before = -1 if html is None else len(html)
    for index, part in enumerate(parts):
        if part.children:
            subtype = part.content_type.partition("/")[2]
            nested = in_alternative or subtype == "alternative"
            _sort_parts(part.children, subtype, nested, body, text, html)
        elif not _is_body_part(part, kind, index):
            body.attachments.append(part)
        elif kind == "alternative":
            _add_alternative(part, body, text, html)
        else:
            if in_alternative and part.content_type == "text/plain":
                html = None
            elif in_alternative and part.content_type == "text/html":
                text = None
            _add_to_both(part, body, text, html)
    if kind == "alternative" and text is not None and html is not None:
        new_text, new_html = text[text_before:], html[html_before:]
        if new_html and not new_text:
            text.extend(new_html)
        elif new_text and not new_html:
            html.extend(new_text)


def _is_body_part(part: Part, kind: str, index: int) -> bool:
    """Whether a leaf belongs to the body: text or media, not called an attachment, not a named file."""
    media = _is_media(part)
    if part.disposition == "attachment" or not (media or part.content_type in ("text/plain", "text/html")):
        return False
    return index == 0 or (kind != "related" and (media or not part.raw_name))


def _is_media(part: Part) -> bool:
    return part.content_type.startswith(("image/", "audio/", "video/"))


def _add_alternative(part: Part, body: _Body, text: list[Part] | None, html: list[Part] | None) -> None:
    if part.content_type == "text/plain" and text is not None:
        text.append(part)
    elif part.content_type == "text/html" and html is not None:
        html.append(part)
    else:
        body.attachments.append(part)


def _add_to_both(part: Part, body: _Body, text: list[Part] | None, html: list[Part] | None) -> None:
    if _is_media(part):
        body.attachments.append(part)  # shown in the text by clients; to us it is a file
        return
    if text is not None:
        text.append(part)
    if html is not None:
        html.append(part)


def _read_body(raw: bytes, body: _Body, limit: int, defects: Defects) -> tuple[str, str]:
    """Text and HTML; the text is made from the HTML when that is all there is, the HTML is never made up."""
    decoded: dict[str, str] = {}
    for part in (*body.text, *body.html):
        if part.path not in decoded:
            decoded[part.path] = _decode_text_part(raw, part, limit, defects)
    texts = [
        html_to_text(decoded[part.path]) if part.content_type == "text/html" else decoded[part.path]
        for part in body.text
    ]
    html = ""
    if any(part.content_type == "text/html" for part in body.html):
        html = "\n".join(
            decoded[part.path] if part.content_type == "text/html" else _text_to_html(decoded[part.path])
            for part in body.html
        )
    return _cut(_join_texts(texts), limit, defects), _cut(html, limit, defects)


def _decode_text_part(raw: bytes, part: Part, limit: int, defects: Defects) -> str:
    content = decode_body(raw, part, defects, limit=limit + 1)
    if len(content) > limit:
        content = content[:limit]
        defects.add("text_too_large")
    text, clean = decode_text(content, part.parameters.get("charset"))
    if not clean:
        defects.add("invalid_charset")
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return storable(text.removeprefix("\ufeff"))


def _join_texts(texts: list[str]) -> str:
    if len(texts) == 1:
        return texts[0]
    return "\n\n".join(text.strip("\n") for text in texts if text.strip())


def _text_to_html(text: str) -> str:
    return f'<div style="white-space: pre-wrap">{html_escapes.escape(text.strip())}</div>' if text.strip() else ""


def _cut(text: str, limit: int, defects: Defects) -> str:
    """Many parts together are bounded like one."""
    if len(text) > limit:
        defects.add("text_too_large")
        return text[:limit]
    return text


def _describe(raw: bytes, part: Part, defects: Defects) -> ParsedAttachment:
    """An attachment's description. Its size is counted by decoding it: what it claims means nothing."""
    if part.encoding in ("", "7bit", "8bit", "binary"):
        size = part.end - part.start
    else:
        size = len(decode_body(raw, part, defects))
    inline = part.disposition == "inline" or (not part.disposition and part.content_id is not None)
    return ParsedAttachment(
        part=part.path,
        filename=attachment_name(raw, part),
        content_type=part.content_type,
        size=size,
        content_id=storable(part.content_id) if part.content_id else None,
        disposition="inline" if inline else "attachment",
    )
