"""Domain names as strangers write them: in HELO, MAIL FROM, signatures and From fields."""

from __future__ import annotations

import re

from mailhost.address import MAX_DOMAIN_OCTETS, domain_key
from mailhost.errors import InvalidDomain

# Underscores are forbidden in host names (RFC 952), and stand in names that send and sign mail all the same.
_NAME = re.compile(r"(?!.*\.[0-9]+\Z)[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})+")


def dns_name(text: str) -> str | None:
    """The name as lower-case A-labels, without a dot at its end; None for what names nothing that sends mail.

    That is what the DNS cannot hold, an address literal, a name of one label (RFC 7208 section 4.3), and an IPv4
    address. U-labels are taken (RFC 8616).
    """
    text = text.removesuffix(".")
    if len(text) > MAX_DOMAIN_OCTETS:
        return None
    if not text.isascii():
        try:
            text = domain_key(text)
        except InvalidDomain:
            return None
    text = text.lower()
    return text if _NAME.fullmatch(text) is not None else None
