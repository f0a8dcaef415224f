"""Secrets at rest: DKIM keys and webhook secrets are encrypted with MAILHOST_SECRET_KEY before they reach a table."""

import base64
import functools

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings


class SecretUnreadable(Exception):
    """A stored secret cannot be decrypted: MAILHOST_SECRET_KEY is not the one that it was stored with."""


@functools.lru_cache(maxsize=4)
def _box(secret_key: str) -> Fernet:
    derived = HKDF(hashes.SHA256(), 32, salt=None, info=b"mailhost secrets at rest").derive(secret_key.encode())
    return Fernet(base64.urlsafe_b64encode(derived))


def encrypt_secret(plain: bytes) -> bytes:
    """Ciphertext (authenticated, Fernet) of `plain` under the installation's secret key."""
    return _box(settings.MAILHOST_SECRET_KEY).encrypt(plain)


def decrypt_secret(stored: bytes | memoryview) -> bytes:
    """The plain secret; raises SecretUnreadable when the installation's key has changed."""
    try:
        return _box(settings.MAILHOST_SECRET_KEY).decrypt(bytes(stored))
    except InvalidToken:
        raise SecretUnreadable(SecretUnreadable.__doc__) from None
