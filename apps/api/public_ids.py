"""The forms in which vendors write ids, each computed from our UUID and back."""

from uuid import UUID

from apps.core.ids import decode_id, encode_id


def encode_ulid(prefix: str, value: UUID) -> str:
    """Prefix, `_` and the 26 characters of a ULID in capitals: the same 128 bits."""
    return f"{prefix}_{encode_id('x', value)[2:].upper()}"


def decode_ulid(prefix: str, text: str) -> UUID | None:
    """The UUID in such an id, capitals or not; None for anything else."""
    head, separator, suffix = text.partition("_")
    if head != prefix or not separator:
        return None
    return decode_id("x", f"x_{suffix.lower()}")


def decode_uuid(text: str) -> UUID | None:
    """A UUID in its usual form with dashes; None for anything else."""
    if len(text) != 36:
        return None
    try:
        return UUID(text)
    except ValueError:
        return None
