"""Where mail for a domain goes (RFC 5321 section 5.1, RFC 7505 for domains that take none)."""

from __future__ import annotations

import asyncio
import ipaddress
import random
import re
from dataclasses import dataclass
from typing import ClassVar

from mailhost.address import domain_key
from mailhost.dns.resolver import DnsNotFound, DnsTemporary, NoSuchName, Resolver
from mailhost.errors import InvalidDomain, MailError

MAX_HOSTS = 10
MAX_ADDRESSES = 10  # per host

# Underscores are forbidden in host names (RFC 952) and stand in MX records all the same.
_HOST = re.compile(r"[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*")


class UnroutableDomain(MailError):
    """Mail for this domain cannot be delivered anywhere."""

    code = "unroutable_domain"
    enhanced: ClassVar[str] = "5.1.2"
    """The enhanced status code (RFC 3463) that says so. Permanent, always."""


class NoSuchDomain(UnroutableDomain):
    """The domain does not exist."""

    code = "no_such_domain"


class NullMx(UnroutableDomain):
    """The domain says that it takes no mail (RFC 7505)."""

    code = "null_mx"
    enhanced: ClassVar[str] = "5.1.10"


class NoMailHosts(UnroutableDomain):
    """The domain has no mail server: neither MX nor address, or MX hosts that do not exist."""

    code = "no_mail_hosts"
    enhanced: ClassVar[str] = "5.4.4"


@dataclass(frozen=True, slots=True)
class MailHost:
    """A server that takes mail for a domain, with the addresses to try, in order."""

    name: str
    preference: int
    addresses: tuple[str, ...]


async def find_mail_hosts(domain: str, resolver: Resolver, *, rng: random.Random | None = None) -> list[MailHost]:
    """The hosts to try for a domain, in order: at most ten, each with at least one address.

    Lowest preference first, random among equals and among the addresses of one host, so that load spreads (RFC
    5321 section 5.1). A domain without MX is its own host. An address literal is taken at its word. Whether we may
    connect to an address is not decided here. Raises a kind of `UnroutableDomain` (permanent) or `DnsTemporary`.
    """
    rng = rng or random.Random()
    if domain.startswith("["):
        return [_literal_host(domain)]
    try:
        name = domain_key(domain)
    except InvalidDomain as error:
        raise NoSuchDomain from error
    try:
        records = await resolver.mx(name)
    except NoSuchName as error:
        raise NoSuchDomain from error
    except DnsNotFound:
        records = [(0, name)]  # the implicit MX
    if all(host == "." for _, host in records):
        raise NullMx
    candidates = [(preference, rng.random(), host) for preference, host in records if _HOST.fullmatch(host)]
    return await _resolve_hosts([(preference, host) for preference, _, host in sorted(candidates)], resolver, rng)


async def _resolve_hosts(records: list[tuple[int, str]], resolver: Resolver, rng: random.Random) -> list[MailHost]:
    """Addresses for all hosts at once. A host that cannot be looked up now is left out while another is there."""
    chosen = list({host: (preference, host) for preference, host in reversed(records)}.values())
    chosen.sort(key=records.index)
    chosen = chosen[:MAX_HOSTS]
    results = await asyncio.gather(*(resolver.addresses(host) for _, host in chosen), return_exceptions=True)
    hosts: list[MailHost] = []
    trouble: DnsTemporary | None = None
    for (preference, host), result in zip(chosen, results, strict=True):
        if isinstance(result, list):
            hosts.append(MailHost(host, preference, _order_addresses(result, rng)))
        elif isinstance(result, DnsTemporary):
            trouble = result
        elif not isinstance(result, DnsNotFound):
            raise result
    if hosts:
        return hosts
    raise trouble or NoMailHosts()


def _order_addresses(addresses: list[str], rng: random.Random) -> tuple[str, ...]:
    """IPv4 before IPv6 as the resolver gave them, shuffled within each: the cache would favour one otherwise."""
    shuffled = sorted(addresses, key=lambda address: (":" in address, rng.random()))
    return tuple(shuffled[:MAX_ADDRESSES])


def _literal_host(domain: str) -> MailHost:
    try:
        address = ipaddress.ip_address(domain.strip("[]").lower().removeprefix("ipv6:"))
    except ValueError as error:
        raise NoSuchDomain("This is no address literal.") from error
    return MailHost(domain, 0, (str(address),))
