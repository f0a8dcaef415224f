"""Names for attachments: what the sender wrote, made harmless, or one made up from the type of the part.

RFC 2183 section 2.3: a file name from the network is a suggestion, never a path.
"""

from __future__ import annotations

import re

from mailhost.message.extract import storable
from mailhost.message.mime import Defects, ParseLimits, Part, parse_fields
from mailhost.message.words import decode_header

MAX_FILENAME = 200  # characters; 255 octets is what common file systems take

_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\ufffd]")
_SPACES = re.compile(r"\s+")
_SUBJECT_LIMITS = ParseLimits(header_fields=200, header_octets=16 * 1024)

# Python's own table depends on files of the system; the same mail must get the same name everywhere.
_EXTENSIONS = {
    "text/plain": "txt",
    "text/html": "html",
    "text/csv": "csv",
    "text/vcard": "vcf",
    "text/x-vcard": "vcf",
    "text/xml": "xml",
    "text/markdown": "md",
    "text/rtf": "rtf",
    "image/jpeg": "jpg",
    "image/pjpeg": "jpg",
    "image/png": "png",
    "image/gif": "gif",
    "image/webp": "webp",
    "image/svg+xml": "svg",
    "image/bmp": "bmp",
    "image/tiff": "tif",
    "image/heic": "heic",
    "audio/mpeg": "mp3",
    "audio/wav": "wav",
    "audio/x-wav": "wav",
    "audio/ogg": "ogg",
    "video/mp4": "mp4",
    "video/quicktime": "mov",
    "application/pdf": "pdf",
    "application/zip": "zip",
    "application/gzip": "gz",
    "application/json": "json",
    "application/xml": "xml",
    "application/rtf": "rtf",
    "application/msword": "doc",
    "application/vnd.ms-excel": "xls",
    "application/vnd.ms-powerpoint": "ppt",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
    "application/vnd.openxmlformats-officedocument.presentationml.presentation": "pptx",
    "application/pgp-encrypted": "asc",
    "application/pgp-keys": "asc",
    "application/pkcs7-mime": "p7m",
    "application/x-pkcs7-mime": "p7m",
    "message/rfc822": "eml",
    "message/global": "eml",
    "message/disposition-notification": "txt",
    "message/feedback-report": "txt",
}
_FIXED_NAMES = {
    "application/ms-tnef": "winmail.dat",
    "application/pgp-signature": "signature.asc",
    "application/pkcs7-signature": "smime.p7s",
    "application/x-pkcs7-signature": "smime.p7s",
    "message/delivery-status": "delivery-status.txt",
    "text/calendar": "invite.ics",
    "text/rfc822-headers": "headers.txt",
}


def attachment_name(raw: bytes, part: Part) -> str:
    """A file name for a part: safe to save under, never empty, at most `MAX_FILENAME` characters."""
    name = clean_filename(part.raw_name)
    if name:
        return name
    if part.content_type in ("message/rfc822", "message/global") and part.encoding in ("", "7bit", "8bit", "binary"):
        subject = _nested_subject(raw, part)
        return f"{subject or 'message'}.eml"
    if part.content_type in _FIXED_NAMES:
        return _FIXED_NAMES[part.content_type]
    extension = _EXTENSIONS.get(part.content_type, "bin")
    kind = part.content_type.partition("/")[0]
    stem = kind if kind in ("image", "audio", "video", "text", "message") else "attachment"
    return f"{stem}-{part.path.replace('.', '-')}.{extension}"


def clean_filename(name: str) -> str:
    """The last component of a name without controls and text-direction marks; empty when nothing is left."""
    name = storable(name).replace("\\", "/").rstrip("/ ").rpartition("/")[2]
    name = _SPACES.sub(" ", _UNSAFE.sub("", name)).strip(" ")
    if not name.strip("."):
        return ""
    if len(name) > MAX_FILENAME:
        stem, dot, extension = name.rpartition(".")
        if dot and len(extension) <= 20:
            return stem[: MAX_FILENAME - len(extension) - 1] + "." + extension
        return name[:MAX_FILENAME]
    return name


def _nested_subject(raw: bytes, part: Part) -> str:
    """The subject of a forwarded message, fit to be a file name."""
    inner = raw[part.start : min(part.end, part.start + 2 * _SUBJECT_LIMITS.header_octets)]
    fields, _ = parse_fields(inner, _SUBJECT_LIMITS, Defects())
    for name, value in fields:
        if name.lower() == b"subject":
            subject = re.sub(r'[/\\:*?"<>|]+', "-", decode_header(value))
            return clean_filename(subject)[:100].strip(" .-")
    return ""
