"""The self-signed certificate of an installation without one, and contexts."""

from __future__ import annotations

import ssl
import stat
from pathlib import Path

import pytest
from cryptography import x509

from mailhost.smtp.tls import InvalidCertificate, client_context, self_signed, server_context


def test_the_certificate_is_made_once_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    path = self_signed(tmp_path / "tls", "mx.example.com")
    first = path.read_bytes()
    assert self_signed(tmp_path / "tls", "mx.example.com").read_bytes() == first
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_another_name_gets_another_certificate(tmp_path: Path) -> None:
    self_signed(tmp_path, "one.example.com")
    path = self_signed(tmp_path, "two.example.com")
    certificate = x509.load_pem_x509_certificate(path.read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["two.example.com"]


def test_a_spoilt_file_is_replaced(tmp_path: Path) -> None:
    path = self_signed(tmp_path, "mx.example.com")
    path.write_bytes(b"half a file")
    server_context(self_signed(tmp_path, "mx.example.com"))


def test_a_long_host_name_fits(tmp_path: Path) -> None:
    server_context(self_signed(tmp_path, "a" * 60 + "." + "b" * 60 + ".example.com"))


def test_the_server_takes_no_old_tls(tmp_path: Path) -> None:
    context = server_context(self_signed(tmp_path, "mx.example.com"))
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2


def test_an_unusable_certificate_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidCertificate, match=r"missing\.pem"):
        server_context(tmp_path / "missing.pem")
    (tmp_path / "bad.pem").write_text("nothing")
    with pytest.raises(InvalidCertificate, match=r"bad\.pem"):
        server_context(tmp_path / "bad.pem", tmp_path / "bad.pem")


def test_a_verifying_client_checks_the_name_too() -> None:
    context = client_context(verify=True)
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
