"""DKIM: keys and signing (RFC 6376; RFC 8463 for Ed25519; RFC 8301 for key sizes).

Signing is done here, with relaxed/relaxed canonicalization only, because dkimpy's would set the pace of the whole
server: it takes the RSA step in Python, hashes the body once per signature, and its whitespace patterns need
quadratic time on a body made for that. The tests hold both to the same result. Mail of strangers is verified by
`mailhost.auth.dkim_verify`; `verify_message` here is dkimpy's opinion on it.
"""

from __future__ import annotations

import base64
import hashlib
import re
import time
from binascii import b2a_base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import dkim as dkimpy
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from mailhost.address import domain_key
from mailhost.auth.canonical import relax_body, relax_field
from mailhost.errors import InvalidDomain, MailError

Algorithm = Literal["rsa-sha256", "ed25519-sha256"]

RSA_BITS = 2048
MIN_RSA_BITS = 1024  # RFC 8301 section 3.2: shorter keys count as no signature
MAX_SIGNATURES = 10  # per message, looked at when verifying; a stranger's mail may carry any number

# RFC 6376 section 5.4.1, and what one-click unsubscription needs covered (RFC 8058 section 4).
SIGNED_FIELDS = (
    b"from", b"sender", b"reply-to", b"to", b"cc", b"subject", b"date", b"message-id", b"in-reply-to", b"references",
    b"mime-version", b"content-type", b"content-transfer-encoding", b"content-id", b"content-description",
    b"resent-date", b"resent-from", b"resent-to", b"resent-cc", b"list-id", b"list-help", b"list-unsubscribe",
    b"list-unsubscribe-post", b"list-subscribe", b"list-post", b"list-owner", b"list-archive",
)  # fmt: skip
# Signed once more than they occur, so that nobody can add a second one (RFC 6376 sections 5.4.2 and 8.15).
OVERSIGNED_FIELDS = (b"from", b"to", b"cc", b"subject", b"date", b"reply-to")
_SIGNED = [(name, name.decode("ascii"), name in OVERSIGNED_FIELDS) for name in SIGNED_FIELDS]

_FIELD = re.compile(rb"([!-9;-~]+)[ \t]*:([^\n]*(?:\n[ \t][^\n]*)*+)\n")
_SELECTOR = re.compile(
    r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*"
)


class SigningError(MailError):
    """The message could not be signed."""

    code = "signing_failed"


@dataclass(frozen=True, slots=True)
class DkimKeyPair:
    """A new key. `private_pem` is PKCS #8 without encryption; `public_key` is base64 for the p= tag."""

    private_pem: bytes = field(repr=False)
    public_key: str


def generate_dkim_key(algorithm: Algorithm) -> DkimKeyPair:
    """A new key: RSA with 2048 bits (about 50 ms), or Ed25519."""
    private: RSAPrivateKey | Ed25519PrivateKey
    if algorithm == "rsa-sha256":
        private = generate_private_key(public_exponent=65537, key_size=RSA_BITS)
        public = private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    elif algorithm == "ed25519-sha256":
        private = Ed25519PrivateKey.generate()
        public = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)  # RFC 8463 section 4.2
    else:
        raise SigningError(f"{algorithm!r} is no DKIM algorithm that is still in use.")
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return DkimKeyPair(pem, base64.b64encode(public).decode("ascii"))


def dkim_record(public_key: str, algorithm: Algorithm) -> str:
    """The TXT record for `<selector>._domainkey.<domain>` (RFC 6376 section 3.6.1), as one string.

    A DNS string holds 255 octets: whoever publishes an RSA key has to cut the record into several.
    """
    key_type = "ed25519" if algorithm == "ed25519-sha256" else "rsa"
    return f"v=DKIM1; k={key_type}; p={public_key}"


class DkimSigner:
    """One signing key of one domain, its PEM parsed once. Safe to share between threads.

    Raises `SigningError` for a key that cannot be read, is too short or is of the other kind, and for a domain or
    selector that is none.
    """

    def __init__(self, domain: str, selector: str, algorithm: Algorithm, private_pem: bytes) -> None:
        try:
            self.domain = domain_key(domain)
        except InvalidDomain as error:
            raise SigningError(f"The domain of a DKIM key is not valid: {error.message}") from error
        if len(selector) > 200 or _SELECTOR.fullmatch(selector) is None:
            raise SigningError("A DKIM selector is made of letters, digits and inner hyphens, with dots between.")
        self.selector = selector
        self.algorithm = algorithm
        self._sign = _load_key(algorithm, private_pem)

    def __repr__(self) -> str:  # the key stays out of logs
        return f"DkimSigner({self.domain!r}, {self.selector!r}, {self.algorithm!r})"

    def sign_digest(self, digest: bytes, data: bytes) -> bytes:
        """The signature over the signed header fields: RSA signs `data`, Ed25519 its SHA-256 (RFC 8463 3)."""
        return self._sign(data if self.algorithm == "rsa-sha256" else digest)


def sign_message(raw: bytes, signers: Sequence[DkimSigner], *, now: float | None = None) -> bytes:
    """The message with one DKIM-Signature field per signer put before it, in their order.

    `raw` has CRLF line ends; `now` is the signing time in seconds since 1970. Raises `SigningError` whenever a
    signature cannot be made: an unsigned message is never returned.
    """
    if not signers:
        raise SigningError("There is no key to sign the message with.")
    fields, body = _split_message(raw)
    names, lines = _choose_fields(fields)
    body_hash = b2a_base64(hashlib.sha256(relax_body(body)).digest(), newline=False).decode("ascii")
    timestamp = int(time.time() if now is None else now)
    signatures = [_sign_once(signer, names, lines, body_hash, timestamp) for signer in signers]
    return b"".join([*signatures, raw])


def verify_message(raw: bytes, txt_lookup: Callable[[str], str | None]) -> bool:
    """Whether any DKIM signature of the message verifies; the first ten are tried.

    `txt_lookup` gets a name such as "sel._domainkey.example.org" and returns the TXT record as one string, None
    when there is none; what it raises goes through, so that trouble with the DNS is not taken for a forgery.
    """

    def find_key(name: bytes, timeout: int = 5) -> bytes | None:
        record = txt_lookup(name.decode("ascii", "replace").rstrip("."))
        return None if record is None else record.encode("utf-8", "replace")

    try:
        message = dkimpy.DKIM(raw, minkey=MIN_RSA_BITS)
    except (dkimpy.DKIMException, ValueError, IndexError):
        return False
    count = sum(1 for name, _ in message.headers if name.lower() == b"dkim-signature")
    return any(_verify_one(message, index, find_key) for index in range(min(count, MAX_SIGNATURES)))


def _load_key(algorithm: Algorithm, private_pem: bytes) -> Callable[[bytes], bytes]:
    try:
        # Our own key, checked when it was made: proving its primes again takes 50 ms at every load.
        key = load_pem_private_key(private_pem, password=None, unsafe_skip_rsa_key_validation=True)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        # The parser's own message may quote what it read.
        raise SigningError("The private DKIM key cannot be read.") from error
    if algorithm == "rsa-sha256" and isinstance(key, RSAPrivateKey):
        if key.key_size < MIN_RSA_BITS:
            raise SigningError(f"A DKIM key of {key.key_size} bits is too short (RFC 8301).")
        padding, algorithm_of_hash = PKCS1v15(), hashes.SHA256()
        return lambda data: key.sign(data, padding, algorithm_of_hash)
    if algorithm == "ed25519-sha256" and isinstance(key, Ed25519PrivateKey):
        return key.sign
    raise SigningError(f"The private DKIM key is not one for {algorithm}.")


def _split_message(raw: bytes) -> tuple[list[tuple[bytes, bytes]], bytes]:
    fields: list[tuple[bytes, bytes]] = []
    position = 0
    while (match := _FIELD.match(raw, position)) is not None:
        fields.append((match[1], match[2]))
        position = match.end()
    if raw[position : position + 2] != b"\r\n":
        raise SigningError("The message has no header that ends in an empty line, with CRLF line ends.")
    return fields, raw[position + 2 :]


def _choose_fields(fields: list[tuple[bytes, bytes]]) -> tuple[list[str], list[bytes]]:
    """The h= names, and the canonical fields in that order: last first where one repeats (RFC 6376 5.4.2)."""
    present: dict[bytes, list[bytes]] = {}
    for name, value in fields:
        present.setdefault(name.lower(), []).append(value)
    if b"from" not in present:
        raise SigningError("A message without From cannot be signed (RFC 6376 section 5.4).")
    names: list[str] = []
    lines: list[bytes] = []
    for name, text, oversigned in _SIGNED:
        for value in reversed(present.get(name, ())):
            lines.append(relax_field(name, value))
            names.append(text)
        if oversigned:
            names.append(text)
    return names, lines


def _sign_once(signer: DkimSigner, names: list[str], lines: list[bytes], body_hash: str, timestamp: int) -> bytes:
    tags = (
        f"DKIM-Signature: v=1; a={signer.algorithm}; c=relaxed/relaxed; d={signer.domain};\r\n"
        f"\ts={signer.selector}; t={timestamp};\r\n"
        f"\th={_fold_names(names)};\r\n"
        f"\tbh={body_hash};\r\n"
        "\tb="
    )
    # The field itself is signed last, with b= empty and without its line end (RFC 6376 section 3.7).
    name, _, value = tags.encode("ascii").partition(b":")
    data = b"\r\n".join([*lines, relax_field(name, value)])
    try:
        signature = signer.sign_digest(hashlib.sha256(data).digest(), data)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise SigningError from error
    encoded = b2a_base64(signature, newline=False).decode("ascii")
    pieces = [encoded[start : start + 72] for start in range(0, len(encoded), 72)]
    return f"{tags}{_FOLD.join(pieces)}\r\n".encode("ascii")


_FOLD = "\r\n\t "


def _fold_names(names: list[str]) -> str:
    lines: list[str] = []
    line = ""
    for name in names:
        if len(line) + len(name) > 70:
            lines.append(line)
            line = ""
        line += f"{name}:"
    lines.append(line[:-1])
    return "\r\n\t".join(lines)


def _verify_one(message: dkimpy.DKIM, index: int, find_key: Callable[..., bytes | None]) -> bool:
    try:
        verified = bool(message.verify(idx=index, dnsfunc=find_key))
        return verified and message.signature_fields[b"a"] in (b"rsa-sha256", b"ed25519-sha256")  # RFC 8301
    except (dkimpy.DKIMException, ValueError, IndexError, KeyError, TypeError, AssertionError):
        # dkimpy raises these on malformed tags and keys: to us it is a signature that does not verify.
        return False
