"""Public keys of signers, as the DNS publishes them (RFC 6376 section 3.6, RFC 8463 section 4, RFC 8301)."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_der_public_key

from mailhost.auth.tags import TagError, decode_base64_tag, parse_tags
from mailhost.dns.resolver import DnsNotFound, DnsTemporary, Resolver

MIN_RSA_BITS = 1024  # RFC 8301 section 3.2: verifiers must not take shorter ones
MAX_RSA_BITS = 4096
_MAX_EXPONENT_BITS = 64  # a large public exponent makes verifying as slow as signing
_MAX_RECORD = 4096  # characters; a key of 4096 bits needs 740
_MAX_KEYS = 3  # tried of one name; RFC 6376 section 3.6.2.2 leaves open what several mean

_PADDING = PKCS1v15()
_SHA256 = hashes.SHA256()


@dataclass(frozen=True, slots=True)
class KeyProblem:
    """Why there is no key: an authentication result (RFC 8601 section 2.7.1) and the reason."""

    result: str
    reason: str


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A key as published. `kind` is "rsa" or "ed25519"."""

    kind: str
    bits: int
    testing: bool
    """t=y: a signature that fails counts like none (RFC 6376 section 3.6.1)."""
    same_domain: bool
    """t=s: the domain of i= must be d= itself."""
    key: RSAPublicKey | Ed25519PublicKey

    def verifies(self, signature: bytes, data: bytes) -> bool:
        """Whether `signature` is one of `data`. Ed25519 signs the SHA-256 (RFC 8463 section 3)."""
        try:
            if isinstance(self.key, RSAPublicKey):
                self.key.verify(signature, data, _PADDING, _SHA256)
            else:
                self.key.verify(signature, hashlib.sha256(data).digest())
        except (InvalidSignature, ValueError, UnsupportedAlgorithm):
            return False
        return True


KeyAnswer = list[PublicKey] | KeyProblem


async def find_keys(names: Iterable[str], resolver: Resolver) -> dict[str, KeyAnswer]:
    """What the DNS has under each name such as "selector._domainkey.example.org"; all are asked at once."""
    unique = list(dict.fromkeys(names))
    if len(unique) == 1:
        return {unique[0]: await _find_key(unique[0], resolver)}
    answers = await asyncio.gather(*(_find_key(name, resolver) for name in unique))
    return dict(zip(unique, answers, strict=True))


async def _find_key(name: str, resolver: Resolver) -> KeyAnswer:
    try:
        records = await resolver.txt(name)
    except DnsNotFound:
        return KeyProblem("permerror", "no key in the DNS")
    except DnsTemporary:
        return KeyProblem("temperror", "the DNS did not answer for the key")
    answers = [parse_key(record) for record in records[:_MAX_KEYS] if len(record) <= _MAX_RECORD]
    keys = [answer for answer in answers if isinstance(answer, PublicKey)]
    if keys:
        return keys
    return next((answer for answer in answers if isinstance(answer, KeyProblem)), KeyProblem("permerror", "no key"))


@lru_cache(maxsize=1024)
def parse_key(record: str) -> PublicKey | KeyProblem:
    """Read one TXT record. What cannot be used is a `KeyProblem` with the result "permerror"."""
    try:
        return _read_key(record)
    except TagError as error:
        return KeyProblem("permerror", str(error))


def _read_key(record: str) -> PublicKey:
    tags = parse_tags(record, lenient=True)
    if "v" in tags and (tags["v"] != "DKIM1" or next(iter(tags)) != "v"):
        raise TagError("the key is of another version")
    if "h" in tags and "sha256" not in _split(tags["h"]):
        raise TagError("the key is not for sha256")
    if not {"*", "email"} & set(_split(tags.get("s", "*"))):
        raise TagError("the key is not for mail")
    if "p" not in tags:
        raise TagError("the record has no key")
    if not tags["p"]:
        raise TagError("the key was revoked")
    flags = _split(tags.get("t", ""))
    kind = tags.get("k", "rsa")
    key, bits = _load_key(kind, decode_base64_tag(tags["p"], "the key"))
    return PublicKey(kind, bits, "y" in flags, "s" in flags, key)


def _split(value: str) -> list[str]:
    return [word.strip() for word in value.split(":")]


def _load_key(kind: str, octets: bytes) -> tuple[RSAPublicKey | Ed25519PublicKey, int]:
    key: object
    try:
        if kind == "ed25519":
            return Ed25519PublicKey.from_public_bytes(octets), 256
        key = load_der_public_key(octets) if kind == "rsa" else None
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise TagError("the key cannot be read") from error
    if not isinstance(key, RSAPublicKey):
        raise TagError("the key is of an unknown kind")
    if key.key_size < MIN_RSA_BITS:
        raise TagError(f"a key of {key.key_size} bits is too short")
    if key.key_size > MAX_RSA_BITS or key.public_numbers().e.bit_length() > _MAX_EXPONENT_BITS:
        raise TagError("the key is too large")
    return key, key.key_size
