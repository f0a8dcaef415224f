"""Lists of tags, `a=1; b=2`, as DKIM, ARC and DMARC write them (RFC 6376 section 3.2)."""

from __future__ import annotations

import binascii
import re

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,40}")
_SPACE = " \t\r\n"
MAX_TAGS = 100


class TagError(ValueError):
    """The list is not one, or a tag has no usable value. The text says why."""


def parse_tags(text: str, *, lenient: bool = False) -> dict[str, str]:
    """The tags by name, white space around names and values removed. Raises `TagError`.

    `lenient` forgives empty places between semicolons, which published records have.
    """
    tags: dict[str, str] = {}
    parts = text.split(";", MAX_TAGS)
    if not parts[-1].strip(_SPACE):
        parts.pop()
    for part in parts:
        name, equals, value = part.partition("=")
        name = name.strip(_SPACE)
        if not equals and not name and lenient:
            continue
        if not equals or _NAME.fullmatch(name) is None:
            raise TagError("malformed tag list")
        if name in tags:  # section 3.2: then the whole list is invalid
            raise TagError(f"tag {name}= twice")
        tags[name] = value.strip(_SPACE)
    if len(tags) >= MAX_TAGS:
        raise TagError("too many tags")
    return tags


def decode_base64_tag(value: str, what: str) -> bytes:
    """The octets of a base64 value, white space ignored. Raises `TagError`."""
    try:
        octets = binascii.a2b_base64("".join(value.split()).encode("ascii"), strict_mode=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise TagError(f"{what} is not base64") from error
    if not octets:
        raise TagError(f"{what} is empty")
    return octets
