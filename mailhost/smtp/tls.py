"""TLS for both directions of SMTP: contexts, and a self-signed certificate for an installation without one.

RFC 3207 (STARTTLS), RFC 8314 3 (TLS 1.2 and newer), RFC 7435 (opportunistic security: unverified is better
than plain, and says so).
"""

from __future__ import annotations

import datetime
import enum
import functools
import os
import ssl
import tempfile
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mailhost.errors import MailError

_VALIDITY = datetime.timedelta(days=3650)
_RENEW_BEFORE = datetime.timedelta(days=30)


class InvalidCertificate(MailError):
    """The TLS certificate or its key cannot be used."""

    code = "invalid_certificate"


class TlsMode(enum.StrEnum):
    """What a client asks of a connection."""

    OFF = "off"
    OPPORTUNISTIC = "opportunistic"  # STARTTLS when offered, unverified; plain when that fails
    VERIFIED = "verified"  # STARTTLS with a certificate that names the server, or no mail
    IMPLICIT = "implicit"  # TLS from the first byte (465, RFC 8314 3.3), verified


@dataclass(frozen=True, slots=True)
class TlsInfo:
    """How a connection is encrypted; `verified` when the peer proved its name."""

    version: str
    cipher: str
    verified: bool


def read_tls_info(tls: ssl.SSLObject | None, *, verified: bool = False) -> TlsInfo | None:
    """What was negotiated, or None on a plain connection."""
    if tls is None:
        return None
    cipher = tls.cipher()
    return TlsInfo(version=tls.version() or "", cipher=cipher[0] if cipher else "", verified=verified)


@functools.lru_cache(maxsize=4)
def client_context(*, verify: bool, ca_file: Path | None = None) -> ssl.SSLContext:
    """A client's context, shared: making one reads every root. `ca_file` replaces the system's roots."""
    context = ssl.create_default_context(cafile=ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def server_context(cert_file: Path, key_file: Path | None = None) -> ssl.SSLContext:
    """A server's context; `key_file` None means that the certificate's file holds the key too.

    Raises InvalidCertificate with a sentence that names the file.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    try:
        context.load_cert_chain(cert_file, key_file)
    except (OSError, ssl.SSLError) as error:
        raise InvalidCertificate(f"the TLS certificate {cert_file} cannot be used: {error}") from error
    return context


def self_signed(folder: Path, hostname: str) -> Path:
    """The path of a PEM file with key and self-signed certificate for `hostname`, made on first use.

    It is made anew when it is for another name or expires within a month. One file, replaced in one step, so
    that a certificate never stands beside another's key; readable by its owner only.
    """
    path = folder / "smtp-self-signed.pem"
    now = datetime.datetime.now(datetime.UTC)
    if _is_current(path, hostname, now):
        return path
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=folder, prefix=".smtp-self-signed-")
    with os.fdopen(handle, "wb") as file:
        file.write(_make_certificate(hostname, now))
    Path(temporary).replace(path)
    return path


def _is_current(path: Path, hostname: str, now: datetime.datetime) -> bool:
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (OSError, ValueError, x509.ExtensionNotFound):
        return False
    return hostname in names.get_values_for_type(x509.DNSName) and certificate.not_valid_after_utc > now + _RENEW_BEFORE


def _make_certificate(hostname: str, now: datetime.datetime) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    # A common name holds 64 characters at most; the name that counts is the alternative one.
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hostname[:64])])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + _VALIDITY)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(hostname)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private + certificate.public_bytes(serialization.Encoding.PEM)
