"""Where a webhook may go: which URLs are taken, and which addresses are connected to.

https to public addresses. Addresses inside this machine or network only where MAILHOST_PRIVATE_TARGETS lists them, and
plain http only to those. A URL is read when it is given, without asking the DNS; what its name leads to is looked at
when the connection is made, each time, and the connection goes to the very address that was looked at.
"""

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import SplitResult, urljoin, urlsplit

from django.conf import settings

from apps.core.errors import ValidationFailed
from apps.core.targets import is_allowed_target, is_private_target
from mailhost.address import domain_key
from mailhost.dns.resolver import DnsNotFound, DnsTemporary, Resolver
from mailhost.errors import InvalidDomain

MAX_URL = 2000
_PORTS = {"https": 443, "http": 80}
_MAX_ADDRESSES = 4
_URL_CHARACTERS = re.compile(r"[!#$%&'()*+,\-./0-9:;=?@A-Z\[\]_a-z~]+")  # RFC 3986, section 2
# Forms in which old libraries read an address (0x7f000001, 0177.1): neither a name nor an address for us.
_NUMBER = re.compile(r"(?:[0-9]+|0x[0-9a-f]*)", re.IGNORECASE)
_LOCAL_NAMES = ("localhost", "local", "internal", "test", "lan", "arpa")
_LOOPBACK = ("127.0.0.1", "::1")


class TargetRefused(Exception):
    """We do not go there. The message is for the webhook's owner, and tells nothing of the network inside."""


@dataclass(frozen=True, slots=True)
class Target:
    """A URL in parts. `host` is ASCII: an address (IPv6 without brackets) or a name in lower case."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        """What the Host header says."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def is_plain(self) -> bool:
        """Whether anybody on the way can read it."""
        return self.scheme == "http"

    @property
    def url(self) -> str:
        """The URL again."""
        return f"{self.scheme}://{self.authority}{self.path}"


def check_url(*, url: str, field: str) -> Target:
    """The target of a URL that a user gives; raises ValidationFailed."""
    try:
        return read_target(url)
    except TargetRefused as error:
        raise ValidationFailed(field, str(error)) from None


def read_target(url: str) -> Target:
    """The target of a URL, as far as the URL itself tells; raises TargetRefused."""
    if not url or len(url) > MAX_URL:
        raise TargetRefused(f"A URL has 1 to {MAX_URL} characters.")
    parts, port = _split(url)
    if parts.scheme not in _PORTS:
        raise TargetRefused("The URL must begin with https://.")
    if "@" in parts.netloc:
        raise TargetRefused("The URL must not hold a user name or a password.")
    if not _URL_CHARACTERS.fullmatch(f"{parts.path}?{parts.query}"):
        raise TargetRefused("Characters other than those of RFC 3986 must be percent-encoded.")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    target = Target(parts.scheme, _read_host(parts.hostname or ""), port or _PORTS[parts.scheme], path)
    _check_host(target)
    return target


def follow_redirect(target: Target, location: str) -> Target:
    """Where a redirect leads; raises TargetRefused."""
    try:
        return read_target(urljoin(target.url, location))
    except ValueError:
        raise TargetRefused("The redirect leads to no URL.") from None


def _split(url: str) -> tuple[SplitResult, int | None]:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise TargetRefused("This is not a URL.") from None
    if port == 0 or any(char <= " " or char == "\x7f" or char == "\\" for char in url):
        # urlsplit drops line ends, and browsers read a backslash as a slash: no two readings of one URL.
        raise TargetRefused("This is not a URL.")
    return parts, port


def _read_host(host: str) -> str:
    name = host.removesuffix(".")
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        pass
    if not name or _NUMBER.fullmatch(name.rpartition(".")[2]):
        raise TargetRefused("The URL needs a host: a name, or an IP address in its usual form.")
    try:
        return domain_key(name)
    except InvalidDomain as error:
        raise TargetRefused(f"The URL's host is no name. {error}") from None


def _check_host(target: Target) -> None:
    """What can be said without the DNS."""
    addresses = _known_addresses(target.host)
    if addresses and not any(_may_connect(address, plain=target.is_plain) for address in addresses):
        raise TargetRefused(_refusal(plain=target.is_plain))
    if target.is_plain and not addresses and not (_is_local_name(target.host) and settings.MAILHOST_PRIVATE_TARGETS):
        raise TargetRefused("The URL must begin with https://.")


def _known_addresses(host: str) -> tuple[str, ...]:
    """The addresses of a host whose name needs no DNS (RFC 6761, section 6.3, for localhost)."""
    if host == "localhost" or host.endswith(".localhost"):
        return _LOOPBACK
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return ()
    return (host,)


def _is_local_name(host: str) -> bool:
    """Whether a name looks like one of a private network, the only kind that plain http goes to."""
    return "." not in host or host.rpartition(".")[2] in _LOCAL_NAMES


def _may_connect(address: str, *, plain: bool) -> bool:
    return is_private_target(address) if plain else is_allowed_target(address)


def _refusal(*, plain: bool) -> str:
    if plain:
        return "Plain http goes only to networks that the installation lists; use https."
    return "The host has no public address, and this installation sends nothing to private ones."


async def find_addresses(host: str, *, plain: bool, resolver: Resolver) -> list[str]:
    """The addresses of a host that may be connected to, in order; raises TargetRefused when there is none.

    The caller connects to one of these and does not look the name up again: a second answer could be another one.
    """
    addresses = list(_known_addresses(host))
    if not addresses:
        try:
            addresses = await resolver.addresses(host)
        except DnsNotFound:
            raise TargetRefused("The host has no address in the DNS.") from None
        except DnsTemporary:
            raise TargetRefused("The host's name servers do not answer.") from None
    allowed = [address for address in addresses if _may_connect(address, plain=plain)]
    if not allowed:
        raise TargetRefused(_refusal(plain=plain))
    return allowed[:_MAX_ADDRESSES]
