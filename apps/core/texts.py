"""Text and JSON from requests: bounded, and storable in PostgreSQL, before it comes near a statement.

PostgreSQL stores neither NUL nor half of a surrogate pair, and its JSON knows no NaN; JSON that a client sends can
carry all three. Refused here they are the client's error; found by the database they would be ours.
"""

import json
from collections.abc import Iterator
from typing import Any

from apps.core.errors import ValidationFailed
from mailhost.message.extract import storable

_MAX_DEPTH = 20


def check_text(field: str, value: str, *, most: int, least: int = 0) -> str:
    """The text, when it has `least` to `most` characters that can be stored; raises ValidationFailed."""
    if not least <= len(value) <= most:
        size = f"{least} to {most}" if least else f"at most {most}"
        raise ValidationFailed(field, f"{field} has {size} characters.")
    if storable(value) != value:
        raise ValidationFailed(field, f"{field} holds a NUL character or half of a surrogate pair.")
    return value


def check_line(field: str, value: str, *, most: int, least: int = 0) -> str:
    """As check_text, for what goes into a header: on one line."""
    if "\r" in value or "\n" in value:
        raise ValidationFailed(field, f"{field} is one line of text.")
    return check_text(field, value, most=most, least=least)


def check_json(field: str, value: Any, *, most: int) -> None:
    """JSON of at most `most` characters when written out, nested at most 20 deep; raises ValidationFailed."""
    for text in _texts_of(field, value):
        if storable(text) != text:
            raise ValidationFailed(field, f"{field} holds a NUL character or half of a surrogate pair.")
    try:
        written = json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError):  # NaN and Infinity, numbers of thousands of digits, what is no JSON at all
        raise ValidationFailed(field, f"{field} holds a value that JSON cannot hold.") from None
    if len(written) > most:
        raise ValidationFailed(field, f"{field} has at most {most} characters of JSON.")


def _texts_of(field: str, value: Any) -> Iterator[str]:
    """Every name and text inside, by a loop: what nests too deep must not exhaust the stack."""
    level = [value]
    for _ in range(_MAX_DEPTH + 1):
        yield from (item for item in level if isinstance(item, str))
        inner = [item for item in level if isinstance(item, dict | list | tuple)]
        level = [child for item in inner for child in (item.values() if isinstance(item, dict) else item)]
        for item in inner:
            if isinstance(item, dict):
                yield from (name for name in item if isinstance(name, str))
        if not level:
            return
    raise ValidationFailed(field, f"{field} is nested more than {_MAX_DEPTH} deep.")
