"""Advisory locks of PostgreSQL, held until the end of the transaction.

One namespace per use: the high byte of the key says which, so that two uses never meet.
"""

import zlib

from django.db import connection

_NAMED = 0x4D << 48


def try_lock(name: str) -> bool:
    """Take the lock of this name until the transaction ends; False when another transaction holds it.

    Periodic tasks begin with it, so that any number of beats does a thing once.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [_NAMED | zlib.crc32(name.encode())])
        row = cursor.fetchone()
    return bool(row and row[0])


def wait_lock(name: str) -> None:
    """Take the lock of this name until the transaction ends, waiting for whoever holds it."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_NAMED | zlib.crc32(name.encode())])
