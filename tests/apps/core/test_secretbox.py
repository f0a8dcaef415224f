"""Secrets at rest: unreadable without the installation's key, and any change to them is noticed."""

from typing import Any

import pytest

from apps.core.secretbox import SecretUnreadable, decrypt_secret, encrypt_secret

EVERY_OCTET = bytes(range(256)) * 10


@pytest.mark.parametrize("plain", [b"", b"secret", EVERY_OCTET])
def test_a_secret_comes_back_as_it_was(plain: bytes) -> None:
    stored = encrypt_secret(plain)

    assert decrypt_secret(stored) == plain
    assert decrypt_secret(memoryview(stored)) == plain


def test_the_stored_form_shows_nothing_and_never_repeats() -> None:
    plain = b"-----BEGIN PRIVATE KEY-----"

    stored = {encrypt_secret(plain) for _ in range(10)}

    assert len(stored) == 10
    assert not any(b"PRIVATE" in one for one in stored)


def test_another_installations_key_reads_nothing(settings: Any) -> None:
    stored = encrypt_secret(b"secret")
    settings.MAILHOST_SECRET_KEY = "another key altogether"

    with pytest.raises(SecretUnreadable, match="MAILHOST_SECRET_KEY"):
        decrypt_secret(stored)


@pytest.mark.parametrize("position", [0, 5, 20, -1])
def test_a_changed_octet_is_noticed(position: int) -> None:
    stored = bytearray(encrypt_secret(b"secret"))
    stored[position] ^= 1

    with pytest.raises(SecretUnreadable):
        decrypt_secret(bytes(stored))


def test_djangos_signing_key_does_not_open_the_box(settings: Any) -> None:
    stored = encrypt_secret(b"secret")
    settings.MAILHOST_SECRET_KEY = settings.SECRET_KEY

    with pytest.raises(SecretUnreadable):
        decrypt_secret(stored)
