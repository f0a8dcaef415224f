"""Ids: UUIDv7 inside, TypeID outside (`inbox_01h455vb4pex5vsknk084sn02q`).

A UUIDv7 (RFC 9562, section 5.7) begins with its creation time in milliseconds, so ids sort by age: lists page by
them, and insert-only tables are partitioned by them.
"""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import uuid_utils.compat as uuid_utils

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_VALUES = {char: number for number, char in enumerate(_ALPHABET)}
_SUFFIX_LENGTH = 26
_MAX_UUID = (1 << 128) - 1
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


def new_id() -> UUID:
    """A new UUIDv7; ids of one process are strictly increasing."""
    return uuid_utils.uuid7()


def encode_id(prefix: str, value: UUID) -> str:
    """The TypeID of `value`: the prefix, `_`, and 26 characters of Crockford's base32."""
    number = value.int
    suffix = "".join(_ALPHABET[(number >> shift) & 31] for shift in range(125, -1, -5))
    return f"{prefix}_{suffix}"


def decode_id(prefix: str, text: str) -> UUID | None:
    """The UUID in a TypeID of this prefix, or None when the text is not one."""
    head, separator, suffix = text.rpartition("_")
    if head != prefix or not separator or len(suffix) != _SUFFIX_LENGTH:
        return None
    number = 0
    for char in suffix:
        digit = _VALUES.get(char)
        if digit is None:
            return None
        number = number << 5 | digit
    return UUID(int=number) if number <= _MAX_UUID else None


def id_floor(moment: datetime) -> UUID:
    """The smallest UUIDv7 that could have been made at `moment`: the bound of a partition or of a time filter.

    Nothing was made before 1970, so an earlier moment has the bound of that one.
    """
    milliseconds = max((moment - _EPOCH) // _MILLISECOND, 0)
    return UUID(int=milliseconds << 80)


def id_moment(value: UUID) -> datetime:
    """When a UUIDv7 was made, to the millisecond; the end of time for one that says something later."""
    try:
        return _EPOCH + (value.int >> 80) * _MILLISECOND
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC)
