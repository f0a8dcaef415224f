"""Who the client really is: X-Forwarded-* headers count only when a trusted proxy sent them.

From anyone else they are removed, so that no code behind this can believe them by mistake.
"""

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from config.web.protocol import Scope

IPNetwork = IPv4Network | IPv6Network
IPAddress = IPv4Address | IPv6Address

MAX_HOPS = 32
"""Entries of X-Forwarded-For that are looked at, from the right; a longer list is an attack."""

_FORWARDED = (b"x-forwarded-", b"forwarded", b"x-real-ip")
_SECURE_SCHEMES = {"http": "https", "ws": "wss"}
_PLAIN_SCHEMES = {"https": "http", "wss": "ws"}


class TrustedProxies:
    """The networks whose X-Forwarded-For and X-Forwarded-Proto are believed."""

    def __init__(self, networks: Sequence[IPNetwork]) -> None:
        self._networks = tuple(networks)
        # The peer of most requests is the same proxy; parsing its address each time would cost more than the rest.
        self._trusts_text = lru_cache(maxsize=4096)(self._trusts)

    def apply(self, scope: Scope) -> None:
        """Put the real client and scheme into ``scope``, and take away every header that must not be believed."""
        headers = scope["headers"]
        forwarded = [header for header in headers if header[0].startswith(_FORWARDED)]
        if not forwarded:
            return
        client = scope.get("client")
        if client is None or not self._trusts_text(client[0]):
            scope["headers"] = [header for header in headers if not header[0].startswith(_FORWARDED)]
            return
        hops = [value for name, value in forwarded if name == b"x-forwarded-for"]
        if hops:
            scope["client"] = (self._find_client(b",".join(hops), client[0]), "0")
        protos = [value for name, value in forwarded if name == b"x-forwarded-proto"]
        if protos:
            scope["scheme"] = _forwarded_scheme(protos[-1], scope["scheme"])
        dropped = (b"x-forwarded-for", b"forwarded", b"x-real-ip")
        scope["headers"] = [header for header in headers if header[0] not in dropped]

    def _trusts(self, text: str) -> bool:
        address = _parse_address(text)
        return address is not None and any(address in network for network in self._networks)

    def _find_client(self, forwarded_for: bytes, peer: str) -> str:
        """Walk from the nearest proxy outwards; the first address that is not one of ours is the client."""
        client = peer
        for entry in reversed(forwarded_for.decode("latin-1").split(",")[-MAX_HOPS:]):
            address = _parse_address(_strip_port(entry.strip()))
            if address is None:
                break
            client = str(address)
            if not self._trusts_text(client):
                break
        return client


def _parse_address(text: str) -> IPAddress | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    # A dual-stack socket shows IPv4 peers as ::ffff:a.b.c.d; operators write the networks as IPv4.
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _strip_port(entry: str) -> str:
    if entry.startswith("["):
        return entry[1:].partition("]")[0]
    if entry.count(":") == 1:
        return entry.partition(":")[0]
    return entry


def _forwarded_scheme(value: bytes, scheme: str) -> str:
    proto = value.rpartition(b",")[2].strip().lower()
    if proto in (b"https", b"wss"):
        return _SECURE_SCHEMES.get(scheme, scheme)
    if proto in (b"http", b"ws"):
        return _PLAIN_SCHEMES.get(scheme, scheme)
    return scheme
