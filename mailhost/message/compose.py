"""Writing a mail (RFC 5322, 2045-2047, 2231, 6532).

Writes octets directly: the same through `email.message.EmailMessage` takes many times as long, and sending is what
this server does most. The result passes strict servers: CRLF only, no line over 998 octets, ASCII but for
addresses that are not, and nothing that a caller passes can end a header field or a part early.
"""

from __future__ import annotations

import os
import re
from binascii import b2a_base64, b2a_qp
from dataclasses import dataclass, field
from datetime import datetime

from mailhost.address import NamedAddress
from mailhost.errors import InvalidHeader
from mailhost.message.extract import storable
from mailhost.message.fields import (
    MAX_FILENAME,
    MAX_LINE,
    check_field_name,
    check_message_id,
    check_text,
    write_addresses,
    write_date,
    write_message_ids,
    write_parameter,
    write_raw,
    write_text,
    write_tokens,
)
from mailhost.message.words import parse_parameters

MAX_REFERENCES = 40
"""References written at most: the first, which is the root, and the newest (RFC 5322 has no limit, lines have)."""

_BASE64_LINE = 57  # octets that make 76 columns (RFC 2045 section 6.8)

# Fields that are written from the mail's own attributes, or by servers on the way.
_OWN_FIELDS = frozenset(
    {
        "from", "to", "cc", "bcc", "reply-to", "subject", "date", "message-id", "in-reply-to", "references",
        "mime-version", "return-path", "received", "dkim-signature",
    }
)  # fmt: skip
_MEDIA_TYPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}")
_CONTENT_ID = re.compile(r"[!-;=?-~]{1,200}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_ODD_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class OutgoingAttachment:
    """A file that goes with a mail. With a `content_id` and disposition "inline" the HTML can show it by `cid:`."""

    filename: str
    content_type: str
    content: bytes
    content_id: str | None = None
    disposition: str = "attachment"


@dataclass(frozen=True, slots=True)
class OutgoingMail:
    """What a mail says. Who gets it is the envelope's business: there is no Bcc here, so none can be written.

    `message_id` and `references` carry their angle brackets; `date` knows its zone.
    """

    sender: NamedAddress
    to: list[NamedAddress]
    subject: str
    message_id: str
    date: datetime
    cc: list[NamedAddress] = field(default_factory=list)
    reply_to: list[NamedAddress] = field(default_factory=list)
    text: str | None = None
    html: str | None = None
    headers: list[tuple[str, str]] = field(default_factory=list)
    attachments: list[OutgoingAttachment] = field(default_factory=list)
    in_reply_to: str | None = None
    references: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class ComposedMessage:
    """The mail as octets, and whether only servers with SMTPUTF8 can take it (RFC 6531)."""

    raw: bytes
    needs_smtputf8: bool


@dataclass(frozen=True, slots=True)
class _Piece:
    """A part: its header (ASCII, each line with CRLF) and its body, which ends in CRLF."""

    header: str
    body: bytes


def compose_message(mail: OutgoingMail) -> ComposedMessage:
    """Write a mail. Raises `InvalidHeader` for what no header can hold: line breaks, NUL, endless words."""
    named = [mail.sender, *mail.to, *mail.cc, *mail.reply_to]
    body = _write_body(mail)
    header = f"{_write_header(mail)}MIME-Version: 1.0\r\n{body.header}\r\n"
    raw = header.encode("utf-8") + body.body
    return ComposedMessage(raw, any(one.address.needs_smtputf8 for one in named))


def _write_header(mail: OutgoingMail) -> str:
    fields = [f"Date: {write_date(mail.date)}\r\n", write_addresses("From", [mail.sender])]
    if mail.reply_to:
        fields.append(write_addresses("Reply-To", mail.reply_to))
    if mail.to:
        fields.append(write_addresses("To", mail.to))
    if mail.cc:
        fields.append(write_addresses("Cc", mail.cc))
    if not mail.to and not mail.cc:
        fields.append("To: undisclosed-recipients:;\r\n")
    fields.append(write_text("Subject", mail.subject))
    fields.append(f"Message-ID: {check_message_id(mail.message_id)}\r\n")
    if mail.in_reply_to:
        fields.append(write_message_ids("In-Reply-To", [mail.in_reply_to]))
    if mail.references:
        fields.append(write_message_ids("References", _shorten(mail.references)))
    for name, value in mail.headers:
        if name.lower() in _OWN_FIELDS or name.lower().startswith("content-"):
            raise InvalidHeader(f"{name[:80]!r} is written by the server itself.")
        fields.append(write_raw(check_field_name(name), value))
    return "".join(fields)


def _shorten(references: list[str]) -> list[str]:
    if len(references) <= MAX_REFERENCES:
        return references
    return [references[0], *references[1 - MAX_REFERENCES :]]


def _write_body(mail: OutgoingMail) -> _Piece:
    """mixed(alternative(text, related(html, images)), attachments), each level only where it is needed."""
    # One random part for all: unguessable, so that no text can contain a boundary. "=_" cannot occur in
    # quoted-printable or base64 (RFC 2045 section 6.7), the number keeps one from beginning another.
    token = os.urandom(12).hex()
    bodies: list[_Piece] = []
    related: list[OutgoingAttachment] = []
    others: list[OutgoingAttachment] = []
    for attachment in mail.attachments:
        (related if mail.html is not None and _belongs_to_html(attachment) else others).append(attachment)
    if mail.text is not None or mail.html is None:
        bodies.append(_write_text_part("plain", mail.text or ""))
    if mail.html is not None:
        html = _write_text_part("html", mail.html)
        if related:
            html = _join("related", [html, *map(_write_attachment, related)], f"=_1_{token}", 'type="text/html"')
        bodies.append(html)
    body = bodies[0] if len(bodies) == 1 else _join("alternative", bodies, f"=_2_{token}")
    if others:
        body = _join("mixed", [body, *map(_write_attachment, others)], f"=_3_{token}")
    return body


def _belongs_to_html(attachment: OutgoingAttachment) -> bool:
    return attachment.content_id is not None and attachment.disposition == "inline"


def _join(kind: str, parts: list[_Piece], boundary: str, parameter: str = "") -> _Piece:
    header = f'Content-Type: multipart/{kind}; boundary="{boundary}"'
    if parameter:
        header += f";\r\n {parameter}"
    opening = f"--{boundary}\r\n"
    chunks: list[bytes] = []
    for part in parts:
        chunks.append(f"{opening}{part.header}\r\n".encode())
        chunks.append(part.body)
        opening = f"\r\n--{boundary}\r\n"
    chunks.append(f"\r\n--{boundary}--\r\n".encode())
    return _Piece(header + "\r\n", b"".join(chunks))


def _write_text_part(subtype: str, text: str) -> _Piece:
    data = _normalize_lines(storable(text).encode("utf-8"))
    encoding, body = _encode_text(data)
    header = f"Content-Type: text/{subtype}; charset=utf-8\r\nContent-Transfer-Encoding: {encoding}\r\n"
    return _Piece(header, body)


def _normalize_lines(data: bytes) -> bytes:
    """CRLF between lines and at the end."""
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    if not data.endswith(b"\n"):
        data += b"\n"
    return data.replace(b"\n", b"\r\n")


def _encode_text(data: bytes) -> tuple[str, bytes]:
    """The transfer encoding that fits: 7bit where possible, else the shorter of the two others."""
    if _is_seven_bit(data):
        return "7bit", data
    sample = data[:65536]
    # Quoted-printable turns one octet into three, base64 three into four and line ends.
    if 2 * len(sample.translate(None, _ASCII)) <= 0.37 * len(sample):
        return "quoted-printable", b2a_qp(data)
    return "base64", _encode_base64(data)


_ASCII = bytes(range(128))


def _is_seven_bit(data: bytes) -> bool:
    """Whether CRLF text can travel as it is (RFC 2045 section 2.7)."""
    return data.isascii() and _ODD_CONTROL.search(data) is None and max(map(len, data.split(b"\r\n"))) <= MAX_LINE


def _encode_base64(data: bytes) -> bytes:
    encoded = b2a_base64(data, newline=False)
    lines = [encoded[start : start + 76] for start in range(0, len(encoded), 76)]
    lines.append(b"")
    return b"\r\n".join(lines)


def _write_attachment(attachment: OutgoingAttachment) -> _Piece:
    media_type, parameters = _read_content_type(attachment.content_type)
    filename = _check_filename(attachment.filename)
    encoding, body = "base64", b""
    if media_type.startswith(("message/", "multipart/")):
        # RFC 2046 sections 5.1 and 5.2.1: these may not be encoded. What cannot travel as it is goes as a file.
        nested = _normalize_lines(attachment.content)
        if media_type in ("message/rfc822", "message/delivery-status") and _is_seven_bit(nested):
            encoding, body = "7bit", nested
        else:
            media_type, parameters = "application/octet-stream", []
    if encoding == "base64":
        body = _encode_base64(attachment.content)
    header = _write_structured("Content-Type", media_type, parameters)
    header += f"Content-Transfer-Encoding: {encoding}\r\n"
    disposition = "inline" if attachment.disposition == "inline" else "attachment"
    header += _write_structured("Content-Disposition", disposition, [("filename", filename)] if filename else [])
    if attachment.content_id is not None:
        header += f"Content-ID: <{_check_content_id(attachment.content_id)}>\r\n"
    return _Piece(header, body)


def _write_structured(name: str, value: str, parameters: list[tuple[str, str]]) -> str:
    tokens = [value]
    for parameter, text in parameters:
        for token in write_parameter(parameter, text):
            tokens[-1] += ";"
            tokens.append(token)
    return write_tokens(name, tokens)


def _read_content_type(value: str) -> tuple[str, list[tuple[str, str]]]:
    """Media type and parameters of a content type that a caller gave; the file's name is written elsewhere."""
    check_text(value, "A content type")
    media_type, semicolon, _ = value.partition(";")
    media_type = media_type.strip().lower() or "application/octet-stream"
    if _MEDIA_TYPE.fullmatch(media_type) is None or not value.isascii():
        raise InvalidHeader("A content type looks like text/csv or application/pdf.")
    parameters = [
        (name, text)
        for name, text in (parse_parameters(value).items() if semicolon else ())
        if name not in ("name", "boundary", "type") and re.fullmatch(r"[a-z0-9-]{1,40}", name)
    ]
    if len(parameters) > 10 or any(len(text) > 200 for _, text in parameters):
        raise InvalidHeader("A content type has at most ten parameters of 200 characters.")
    return media_type, parameters


def _check_filename(filename: str) -> str:
    check_text(filename, "A file name")
    if _CONTROL.search(filename) is not None or len(filename) > MAX_FILENAME:
        raise InvalidHeader(f"A file name has at most {MAX_FILENAME} characters and no control characters.")
    return filename


def _check_content_id(content_id: str) -> str:
    inner = content_id.removeprefix("<").removesuffix(">")
    if _CONTENT_ID.fullmatch(inner) is None:
        raise InvalidHeader("A content id holds at most 200 printable ASCII characters without spaces.")
    return inner
