"""Making signatures with any tags one likes, by dkimpy's canonicalization and cryptography's keys.

Independent of the code under test: nothing of `mailhost` is used here.
"""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicNumbers, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from dkim.canonicalization import CanonicalizationPolicy

PrivateKey = RSAPrivateKey | Ed25519PrivateKey


@cache
def make_key(bits: int) -> PrivateKey:
    """A key; 256 bits are Ed25519, more are RSA."""
    return Ed25519PrivateKey.generate() if bits == 256 else generate_private_key(65537, bits)


def publish(key: PrivateKey, tags: str = "v=DKIM1") -> str:
    """The TXT record of a key, after other tags."""
    if isinstance(key, Ed25519PrivateKey):
        octets, kind = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw), "ed25519"
    else:
        octets = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        kind = "rsa"
    return f"{tags}; k={kind}; p={base64.b64encode(octets).decode()}"


def sign_bytes(key: PrivateKey, data: bytes) -> str:
    """The value of b= over `data`."""
    if isinstance(key, Ed25519PrivateKey):
        signature = key.sign(hashlib.sha256(data).digest())
    else:
        signature = key.sign(data, PKCS1v15(), hashes.SHA256())
    return base64.b64encode(signature).decode()


def split_mail(raw: bytes) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Fields, as dkimpy has them, and body."""
    head, _, body = raw.partition(b"\r\n\r\n")
    fields = re.findall(rb"([^:\r\n]+):((?:[^\r\n]|\r\n[ \t])*)", head)
    return [(name, value + b"\r\n") for name, value in fields], body


def add_signature(
    raw: bytes,
    key: PrivateKey,
    *,
    domain: str = "sender.example",
    selector: str = "s",
    form: str = "relaxed/relaxed",
    names: str = "from:to:subject",
    extra: str = "",
    length: int | None = None,
    version: str = "v=1; ",
    algorithm: str = "",
    field: str = "DKIM-Signature",
) -> bytes:
    """The mail with one more signature at its top. `extra` holds further tags, each with its semicolon."""
    fields, body = split_mail(raw)
    policy = CanonicalizationPolicy.from_c_value(form.encode())
    canonical = policy.canonicalize_body(body)
    if length is not None:
        canonical, extra = canonical[:length], f"{extra} l={length};"
    algorithm = algorithm or ("ed25519-sha256" if isinstance(key, Ed25519PrivateKey) else "rsa-sha256")
    body_hash = base64.b64encode(hashlib.sha256(canonical).digest()).decode()
    value = f" {version}a={algorithm}; c={form}; d={domain}; s={selector};\r\n\t{extra}"
    value += f" h={names};\r\n\tbh={body_hash};\r\n\tb="
    chosen: list[tuple[bytes, bytes]] = []
    left = list(fields)
    for name in names.lower().split(":"):
        place = next((i for i in range(len(left) - 1, -1, -1) if left[i][0].strip().lower() == name.encode()), None)
        if place is not None:
            chosen.append(left.pop(place))
    own = (field.encode(), value.encode() + b"\r\n")
    lines = [name + b":" + text for name, text in policy.canonicalize_headers([*chosen, own])]
    signature = sign_bytes(key, b"".join(lines).removesuffix(b"\r\n"))
    return f"{field}:{value}{signature}\r\n".encode() + raw


def publish_numbers(modulus: int, exponent: int = 65537) -> str:
    """The TXT record of an RSA key of which only these numbers exist."""
    key = RSAPublicNumbers(exponent, modulus).public_key()
    octets = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return f"v=DKIM1; k=rsa; p={base64.b64encode(octets).decode()}"


def add_arc_set(
    raw: bytes,
    key: PrivateKey,
    instance: int,
    *,
    domain: str = "list.example",
    results: str = "list.example; dmarc=pass header.from=sender.example",
    status: str = "",
    names: str = "from:subject",
) -> bytes:
    """The mail with one more ARC set, sealed over all that are there (RFC 8617 section 5.1.1)."""
    raw = f"ARC-Authentication-Results: i={instance}; {results}\r\n".encode() + raw
    version = f"i={instance}; "
    raw = add_signature(raw, key, domain=domain, version=version, names=names, field="ARC-Message-Signature")
    algorithm = "ed25519-sha256" if isinstance(key, Ed25519PrivateKey) else "rsa-sha256"
    status = status or ("none" if instance == 1 else "pass")
    value = f" i={instance}; a={algorithm}; cv={status}; d={domain}; s=s;\r\n\tb="
    order = (b"arc-authentication-results", b"arc-message-signature", b"arc-seal")
    fields = [(name, text) for name, text in split_mail(raw)[0] if name.lower() in order]
    fields.sort(key=lambda one: (int(re.findall(rb"i=(\d+)", one[1])[0]), order.index(one[0].lower())))
    policy = CanonicalizationPolicy.from_c_value(b"relaxed/relaxed")
    own = (b"ARC-Seal", value.encode() + b"\r\n")
    data = b"".join(name + b":" + text for name, text in policy.canonicalize_headers([*fields, own]))
    signature = sign_bytes(key, data.removesuffix(b"\r\n"))
    return f"ARC-Seal:{value}{signature}\r\n".encode() + raw
