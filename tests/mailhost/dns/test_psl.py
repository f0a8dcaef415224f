"""Organizational domains."""

from __future__ import annotations

import pytest

from mailhost.dns.psl import organizational_domain


@pytest.mark.parametrize(
    ("domain", "expected"),
    [
        ("example.com", "example.com"),
        ("mail.a.example.com", "example.com"),
        ("a.b.example.co.uk", "example.co.uk"),
        ("co.uk", "co.uk"),
        ("com", "com"),
        ("anne.github.io", "anne.github.io"),  # the list's private part: two users are two owners
        ("x.anne.github.io", "anne.github.io"),
        ("foo.ck", "foo.ck"),  # *.ck
        ("www.ck", "www.ck"),  # !www.ck
        ("a.www.ck", "www.ck"),
        ("mail.xn--85x722f.xn--55qx5d.cn", "xn--85x722f.xn--55qx5d.cn"),  # 公司.cn
        ("a.b.no-such-tld", "b.no-such-tld"),
        ("localhost", "localhost"),
        ("a_b.example.org", "example.org"),
        ("xn--.example.org", "example.org"),
        ("", ""),
    ],
)
def test_the_organizational_domain_is_the_registered_one(domain: str, expected: str) -> None:
    assert organizational_domain(domain) == expected
