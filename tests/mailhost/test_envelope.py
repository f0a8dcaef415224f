"""Envelopes: what goes into SMTP commands is checked and in wire form."""

from __future__ import annotations

import pytest

from mailhost.envelope import Envelope
from mailhost.errors import InvalidAddress


def test_addresses_are_put_into_wire_form() -> None:
    envelope = Envelope("bounce+1@bücher.example", "Bob@例子.广告", b"x\r\n")
    assert envelope.mail_from == "bounce+1@xn--bcher-kva.example"
    assert envelope.rcpt_to == "Bob@xn--fsqu00a.xn--4rr70v"


def test_the_null_path_is_a_sender_but_no_recipient() -> None:
    assert Envelope("", "a@b.org", b"").mail_from == ""
    with pytest.raises(InvalidAddress):
        Envelope("a@b.org", "", b"")


@pytest.mark.parametrize("bad", ["a@b.org>\r\nRCPT TO:<c@d.org", "a@b.org\n", "a b@c.org", "nobody"])
def test_nothing_that_could_be_a_second_command_passes(bad: str) -> None:
    with pytest.raises(InvalidAddress):
        Envelope("a@b.org", bad, b"")
    with pytest.raises(InvalidAddress):
        Envelope(bad, "a@b.org", b"")


def test_utf8_before_the_at_needs_smtputf8() -> None:
    with pytest.raises(InvalidAddress):
        Envelope("a@b.org", "ü@b.org", b"")
    assert Envelope("a@b.org", "ü@b.org", b"", smtputf8=True).rcpt_to == "ü@b.org"


def test_octets_above_127_need_8bitmime() -> None:
    assert Envelope("", "a@b.org", "ü".encode()).needs_8bitmime
    assert not Envelope("", "a@b.org", b"u").needs_8bitmime
