"""Which addresses are connected to for a user: public ones, and what the operator lists. However they are written."""

from ipaddress import ip_network

import pytest

from apps.core.targets import is_allowed_target, is_private_target

PUBLIC = ["93.184.215.14", "8.8.8.8", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]
INSIDE = [
    *("127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::"),
    *("10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "::ffff:10.1.2.3", "64:ff9b::a00:1", "fd00::1"),
    *("169.254.169.254", "fe80::1", "fe80::1%eth0", "fec0::1", "::ffff:a9fe:a9fe"),
    *("100.64.0.1", "0.0.0.0", "0.1.2.3", "::", "255.255.255.255", "240.0.0.1", "192.0.0.8", "198.18.0.1"),
    *("192.0.2.1", "198.51.100.1", "203.0.113.1", "2001:db8::1", "192.88.99.1", "224.0.0.1", "ff02::1", "4000::1"),
]
NO_ADDRESS = ["", "localhost", "2130706433", "0x7f.1", "0177.0.0.1", "127.1", "127.0.0.1 ", "[::1]", "1.2.3.4/8"]


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_is_allowed(address: str) -> None:
    assert is_allowed_target(address)
    assert not is_private_target(address)


@pytest.mark.parametrize("address", [*INSIDE, *NO_ADDRESS])
def test_what_lies_inside_or_is_no_address_is_not(address: str) -> None:
    assert not is_allowed_target(address)
    assert not is_private_target(address)


def test_a_listed_network_is_allowed_and_nothing_beside_it(settings: object) -> None:
    settings.MAILHOST_PRIVATE_TARGETS = [ip_network("10.1.0.0/16"), ip_network("fd00::/8")]  # type: ignore[attr-defined]
    for address in ("10.1.2.3", "::ffff:10.1.2.3", "fd12::1"):
        assert is_allowed_target(address) and is_private_target(address)
    for address in ("10.2.0.1", "127.0.0.1", "fe80::1", "64:ff9b::a01:203"):
        assert not is_allowed_target(address) and not is_private_target(address)
