"""A retried POST does its work once: the answer is remembered in the transaction of the work itself."""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import connection, transaction

from apps.api.errors import IdempotencyConflict
from apps.api.models import IdempotencyRecord
from apps.core.errors import Conflict, ValidationFailed

KEPT = timedelta(hours=24)
HEADER = "Idempotency-Key"
_KEY = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,254}[\x21-\x7e])?")
_TRIES = 3

Answer = tuple[int, Any]
"""HTTP status and JSON body."""


def check_idempotency_key(key: str) -> str:
    """The key as given; raises ValidationFailed when it is not 1 to 256 printable ASCII characters."""
    if not _KEY.fullmatch(key):
        raise ValidationFailed(HEADER, "An idempotency key has 1 to 256 printable ASCII characters.")
    return key


def fingerprint_request(*, method: str, path: str, body: Mapping[str, Any]) -> bytes:
    """What makes two requests the same: method, path and the body without its order and spacing."""
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(f"{method} {path}\n{canonical}".encode()).digest()


def run_once(
    *, organization_id: UUID, key: str, fingerprint: bytes, now: datetime, work: Callable[[], Answer]
) -> tuple[Answer, bool]:
    """Do `work` unless this key's answer is remembered; the answer, and whether it is a remembered one.

    A parallel twin waits at the unique constraint until the first has committed or failed. Work that raises leaves
    nothing behind, so it may be tried again under the same key. Raises IdempotencyConflict.
    """
    for _ in range(_TRIES):
        with transaction.atomic():
            record_id = _claim(organization_id, key, fingerprint, now)
            if record_id is not None:
                status, body = work()
                if not 200 <= status < 300:
                    raise ValueError("only answers of success are remembered; raise an error for the others")
                IdempotencyRecord.objects.filter(id=record_id).update(status=status, body=body)
                return (status, body), False
        record = IdempotencyRecord.objects.filter(organization_id=organization_id, key=key).first()
        if record is None:
            continue  # it was forgotten between the two statements
        if record.created_at <= now - KEPT:
            IdempotencyRecord.objects.filter(id=record.id, created_at=record.created_at).delete()
            continue
        if bytes(record.fingerprint) != fingerprint or record.status is None:
            raise IdempotencyConflict
        return (record.status, record.body), True
    raise Conflict("Another request with the same idempotency key is in the way.", fix="Send the request again.")


def _claim(organization_id: UUID, key: str, fingerprint: bytes, now: datetime) -> int | None:
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO api_idempotencyrecord (organization_id, key, fingerprint, created_at)"
            " VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING RETURNING id",
            [organization_id, key, fingerprint, now],
        )
        row = cursor.fetchone()
    return int(row[0]) if row else None


def forget_old_answers(*, now: datetime) -> int:
    """Delete what is older than a day; how many. For a periodic task."""
    return IdempotencyRecord.objects.filter(created_at__lte=now - KEPT).delete()[0]
