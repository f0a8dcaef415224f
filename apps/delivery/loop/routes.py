"""Where a destination's mail goes: the hosts to try, in order, or why there are none."""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import unquote, urlsplit

from django.conf import settings

from apps.core.targets import is_allowed_target
from mailhost.dns.mx import NullMx, UnroutableDomain, find_mail_hosts
from mailhost.dns.resolver import DnsTemporary, Resolver
from mailhost.smtp.client import Credentials, TlsMode
from mailhost.smtp.replies import Outcome

RELAY = "[relay]"
_MAX_HOPS = 10


@dataclass(frozen=True, slots=True)
class Hop:
    """One address to connect to; `name` is the host's name, for the records and for certificates."""

    name: str
    address: str
    port: int
    tls: TlsMode
    credentials: Credentials | None = None
    by_relay: bool = False


class NoRoute(Exception):
    """There is nobody to connect to; `outcome` says whether that can change."""

    def __init__(self, outcome: Outcome, enhanced_code: str, text: str) -> None:
        super().__init__(text)
        self.outcome = outcome
        self.enhanced_code = enhanced_code
        self.text = text


class Router(Protocol):
    """Finds the hosts of destinations."""

    def channel_of(self, destination: str) -> str:
        """The channel whose connections serve this destination."""
        ...

    async def find_hops(self, destination: str) -> Sequence[Hop]:
        """Hosts in the order to try; raises NoRoute."""
        ...


class RelayRouter:
    """Everything goes to one smarthost, MAILHOST_RELAY_URL."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        implicit = parts.scheme == "smtps"
        self._hop = Hop(
            name=parts.hostname or "",
            address=parts.hostname or "",
            port=parts.port or (465 if implicit else 25),
            tls=TlsMode.IMPLICIT if implicit else TlsMode.OPPORTUNISTIC,
            by_relay=True,
        )
        if parts.username:
            credentials = Credentials(unquote(parts.username), unquote(parts.password or ""))
            # A password is never shown to a server that has not proved its name, except on this machine.
            tls = TlsMode.OPPORTUNISTIC if _is_loopback(self._hop.address) else TlsMode.VERIFIED
            self._hop = Hop(
                self._hop.name,
                self._hop.address,
                self._hop.port,
                self._hop.tls if implicit else tls,
                credentials,
                by_relay=True,
            )

    def channel_of(self, destination: str) -> str:
        return RELAY

    async def find_hops(self, destination: str) -> Sequence[Hop]:
        return [self._hop]


class DirectRouter:
    """Each domain's own mail servers, by MX (RFC 5321, section 5.1)."""

    def __init__(self) -> None:
        self._resolver = Resolver(settings.MAILHOST_DNS_SERVERS or None, timeout=5.0)

    def channel_of(self, destination: str) -> str:
        return destination

    async def find_hops(self, destination: str) -> Sequence[Hop]:
        port = settings.MAILHOST_OUTBOUND_PORT
        if destination.startswith("["):
            address = destination.strip("[]").removeprefix("ipv6:")
            return self._allowed([Hop(destination, address, port, TlsMode.OPPORTUNISTIC)])
        try:
            hosts = await find_mail_hosts(destination, self._resolver)
        except NullMx:
            raise NoRoute(Outcome.PERMANENT, "5.1.10", f"{destination} takes no mail (null MX)") from None
        except UnroutableDomain as error:  # it does not exist, or has no host that takes mail
            raise NoRoute(Outcome.PERMANENT, error.enhanced, f"{destination}: {error}") from None
        except DnsTemporary as error:
            text = f"The name servers of {destination} do not answer: {error}"
            raise NoRoute(Outcome.TEMPORARY, "4.4.3", text) from None
        if hosts and hosts[0].name.rstrip(".").lower() == settings.MAILHOST_HOSTNAME.lower():
            # RFC 5321, section 5.1: we are the best MX, and yet the domain is not ours. Sending would loop.
            raise NoRoute(Outcome.PERMANENT, "5.4.6", f"Mail for {destination} loops back to this server")
        hops = [
            Hop(host.name.rstrip("."), address, port, TlsMode.OPPORTUNISTIC)
            for host in hosts
            for address in host.addresses
        ]
        return self._allowed(hops)

    @staticmethod
    def _allowed(hops: list[Hop]) -> list[Hop]:
        """Without addresses inside this machine or network, unless MAILHOST_PRIVATE_TARGETS names them."""
        allowed = [hop for hop in hops if is_allowed_target(hop.address)]
        if not allowed:
            text = "The mail servers have no address that mail is sent to (see MAILHOST_PRIVATE_TARGETS)"
            raise NoRoute(Outcome.PERMANENT, "5.4.4", text)
        return allowed[:_MAX_HOPS]


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def make_router() -> Router:
    """The router that MAILHOST_DELIVERY asks for; what is released in hold mode goes by MX."""
    url = settings.MAILHOST_RELAY_URL
    if settings.MAILHOST_DELIVERY == "relay" and url is not None:
        return RelayRouter(url)
    return DirectRouter()
