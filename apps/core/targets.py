"""Which addresses this installation connects to on behalf of its users: mail servers, webhooks.

A user chooses the name; the DNS, which may be the user's own, chooses the address. So the rule is about the address
that is really connected to, after the DNS has answered: a public one, or one of MAILHOST_PRIVATE_TARGETS.
"""

import ipaddress

from django.conf import settings

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")  # all that IANA has given out; the rest is special
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052: the last 32 bits are an IPv4 address
_COMPATIBLE = ipaddress.IPv6Network("::/96")  # RFC 4291, section 2.5.5.1, long given up
# The standard library calls these global, or did in some version: protocol assignments, and the dead 6to4 relays.
_SPECIAL = (ipaddress.IPv4Network("192.0.0.0/24"), ipaddress.IPv4Network("192.88.99.0/24"))


def is_allowed_target(address: str) -> bool:
    """Whether we connect to this IP address: a public one, or one of MAILHOST_PRIVATE_TARGETS."""
    target = _read(address)
    return target is not None and (_is_public(target) or _is_listed(target))


def is_private_target(address: str) -> bool:
    """Whether this IP address is one of MAILHOST_PRIVATE_TARGETS."""
    target = _read(address)
    return target is not None and _is_listed(target)


def _read(address: str) -> Address | None:
    """The address, an IPv4 one out of its IPv4-mapped form; None for what is no address."""
    try:
        target = ipaddress.ip_address(address)
    except ValueError:
        return None
    if isinstance(target, ipaddress.IPv6Address) and target.ipv4_mapped is not None:
        return target.ipv4_mapped
    return target


def _is_public(target: Address) -> bool:
    if isinstance(target, ipaddress.IPv4Address):
        return target.is_global and not target.is_multicast and not any(target in network for network in _SPECIAL)
    inner = _embedded(target)
    if inner is not None:
        return _is_public(inner)
    return target in _GLOBAL_UNICAST and target.is_global and target.scope_id is None


def _embedded(target: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that a translator on the way would connect to."""
    if target in _NAT64 or target in _COMPATIBLE:
        return ipaddress.IPv4Address(target.packed[-4:])
    return target.sixtofour


def _is_listed(target: Address) -> bool:
    return any(target.version == network.version and target in network for network in settings.MAILHOST_PRIVATE_TARGETS)
