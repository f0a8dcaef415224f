"""Keyset pages: a cursor says after which row the next page begins, so that page 10,000 costs what page 1 costs.

A cursor is sealed to its list, filters and organization by a keyed hash: one of another list, or rubbish, is refused
instead of answering something odd.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

from django.conf import settings
from django.db.models import Model, QuerySet

from apps.api.errors import InvalidCursor

_SEAL_BYTES = 8
_MAX_TOKEN = 1200

Row = TypeVar("Row", bound=Model)


@dataclass(frozen=True, slots=True)
class ListKey:
    """What a cursor belongs to: the list, whose it is, and every filter and direction that shapes it."""

    name: str
    owner: UUID | None
    filters: Sequence[tuple[str, str]] = ()

    def seal(self, payload: bytes) -> bytes:
        """The keyed hash that ties `payload` to this list."""
        subject = repr((self.name, str(self.owner), sorted(self.filters))).encode()
        key = hashlib.sha256(b"cursor:" + settings.SECRET_KEY.encode()).digest()
        return hmac.digest(key, subject + b"\0" + payload, "sha256")[:_SEAL_BYTES]


def encode_cursor(key: ListKey, payload: bytes) -> str:
    """An opaque token for `payload`."""
    return base64.urlsafe_b64encode(key.seal(payload) + payload).decode().rstrip("=")


def decode_cursor(key: ListKey, token: str) -> bytes:
    """The payload of a token that this list gave out; raises InvalidCursor."""
    if len(token) > _MAX_TOKEN or not token.isascii():
        raise InvalidCursor
    try:
        sealed = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise InvalidCursor from None
    seal, payload = sealed[:_SEAL_BYTES], sealed[_SEAL_BYTES:]
    if not hmac.compare_digest(seal, key.seal(payload)):
        raise InvalidCursor
    return payload


@dataclass(frozen=True, slots=True)
class PageRequest:
    """Which page of a list is wanted."""

    key: ListKey
    limit: int
    ascending: bool
    cursor: str | None

    @property
    def payload(self) -> bytes | None:
        """What the cursor holds, None on the first page; raises InvalidCursor."""
        return decode_cursor(self.key, self.cursor) if self.cursor else None

    @property
    def last_id(self) -> UUID | None:
        """For lists paged by id: the last row of the page before."""
        payload = self.payload
        if payload is None:
            return None
        if len(payload) != 16:
            raise InvalidCursor
        return UUID(bytes=payload)


def read_page(rows: QuerySet[Row], page: PageRequest, *, id_field: str = "id") -> tuple[list[Row], str | None]:
    """One page of rows ordered by a UUIDv7, and the cursor of the next page, None on the last one.

    `id_field` is the column to page by, where it is not the row's own id (a label's message).
    """
    last = page.last_id
    if last is not None:
        comparison: dict[str, Any] = {f"{id_field}__{'gt' if page.ascending else 'lt'}": last}
        rows = rows.filter(**comparison)
    ordered = rows.order_by(id_field if page.ascending else f"-{id_field}")
    found = list(ordered[: page.limit + 1])
    if len(found) <= page.limit:
        return found, None
    found.pop()
    return found, encode_cursor(page.key, getattr(found[-1], id_field).bytes)
