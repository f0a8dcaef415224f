"""Asking the DNS (RFC 1035; RFC 2308 for negative answers), with a small cache and firm time limits.

Two kinds of failure, because mail treats them differently: `DnsNotFound` is an answer (it is not there),
`DnsTemporary` is none (ask again later). Anything not understood is temporary: mail is not lost by a surprise.
"""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import dns.asyncresolver
import dns.exception
import dns.name
import dns.nameserver
import dns.rdatatype
import dns.resolver

from mailhost.errors import MailError

DEFAULT_TIMEOUT = 5.0
"""Seconds for one question, all servers and repetitions included."""

MIN_TTL = 5.0
MAX_TTL = 3600.0
MAX_NEGATIVE_TTL = 300.0  # RFC 2308 section 5 allows hours; somebody may just be setting up a domain
MAX_CACHE_ENTRIES = 10_000
MAX_RECORDS = 200  # of one answer; a message of 64 KB could hold thousands
_UDP_PAYLOAD = 1232  # octets that pass every path unfragmented (DNS flag day 2020)


class DnsNotFound(MailError):
    """The DNS has no such record."""

    code = "dns_not_found"


class NoSuchName(DnsNotFound):
    """The DNS has no such name (NXDOMAIN)."""

    code = "dns_no_such_name"


class DnsTemporary(MailError):
    """The DNS gave no answer that can be used now."""

    code = "dns_temporary"


@dataclass(frozen=True, slots=True)
class _Entry:
    """A cached answer: the records, or why there are none."""

    expires: float
    records: tuple[Any, ...] = ()
    error: type[DnsNotFound] | None = None


class Resolver:
    """Asynchronous questions to recursive servers; one instance per process and event loop.

    `servers` are "host:port" with an IP address as host (IPv6 in brackets), else `ValueError`; None takes the
    system's. Equal questions asked at the same moment
    are sent once. `clock` gives seconds and is there for tests.
    """

    def __init__(
        self,
        servers: Sequence[str] | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        *,
        max_entries: int = MAX_CACHE_ENTRIES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._servers = None if servers is None else [_nameserver(server) for server in servers]
        self._timeout = timeout
        self._max_entries = max_entries
        self._clock = clock
        self._resolver: dns.asyncresolver.Resolver | None = None
        self._cache: OrderedDict[tuple[str, str], _Entry] = OrderedDict()
        self._asking: dict[tuple[str, str], asyncio.Task[_Entry]] = {}

    async def txt(self, name: str) -> list[str]:
        """The TXT records of a name, the strings of each joined (RFC 7208 section 3.3)."""
        return await self._records(name, "TXT")

    async def mx(self, domain: str) -> list[tuple[int, str]]:
        """The MX records as (preference, host), lowest first. The root, as in a null MX, is the host "."."""
        return sorted(await self._records(domain, "MX"))

    async def addresses_of_kind(self, host: str, version: Literal[4, 6]) -> list[str]:
        """The IPv4 addresses of a host (A records), or its IPv6 addresses (AAAA)."""
        return await self._records(host, "A" if version == 4 else "AAAA")

    async def names(self, address: str) -> list[str]:
        """The host names that the DNS has for an IP address (PTR records). `ValueError` for what is no address."""
        return await self._records(ipaddress.ip_address(address).reverse_pointer, "PTR")

    async def addresses(self, host: str) -> list[str]:
        """The addresses of a host, IPv4 before IPv6: many hosts have an IPv6 address that mail cannot leave by.

        An answer of one kind is enough; when neither kind has one, the uncertain outcome wins.
        """
        results = await asyncio.gather(self._records(host, "A"), self._records(host, "AAAA"), return_exceptions=True)
        found = [address for result in results if isinstance(result, list) for address in result]
        if found:
            return found
        failures = [result for result in results if isinstance(result, BaseException)]
        raise next((one for one in failures if not isinstance(one, DnsNotFound)), failures[0])

    async def _records(self, name: str, kind: str) -> list[Any]:
        key = (name.lower().removesuffix("."), kind)
        entry = self._cached(key)
        if entry is None:
            task = self._asking.get(key)
            if task is None or task.get_loop() is not asyncio.get_running_loop():
                task = asyncio.create_task(self._ask(key))
                self._asking[key] = task
                task.add_done_callback(lambda done: self._finish(key, done))
            # Shielded: whoever gives up waiting does not take the answer from the others.
            entry = await asyncio.shield(task)
        if entry.error is not None:
            raise entry.error(f"The DNS has no {kind} record for {name[:255]}.")
        return list(entry.records)

    def _finish(self, key: tuple[str, str], done: asyncio.Task[_Entry]) -> None:
        self._asking.pop(key, None)
        if not done.cancelled() and done.exception() is None:
            self._cache[key] = done.result()
            while len(self._cache) > self._max_entries:
                self._cache.popitem(last=False)

    def _cached(self, key: tuple[str, str]) -> _Entry | None:
        entry = self._cache.get(key)
        if entry is None:
            return None
        if entry.expires <= self._clock():
            del self._cache[key]
            return None
        self._cache.move_to_end(key)
        return entry

    async def _ask(self, key: tuple[str, str]) -> _Entry:
        name, kind = key
        try:
            if self._resolver is None:
                self._resolver = dns.asyncresolver.Resolver(configure=self._servers is None)
                _configure(self._resolver, self._servers, self._timeout)
            answer = await self._resolver.resolve(_absolute(name), kind, search=False)
        except _DNS_ERRORS as error:
            return self._read_failure(error)
        ttl = min(max(float(answer.chaining_result.minimum_ttl), MIN_TTL), MAX_TTL)
        read = _READERS[kind]
        return _Entry(self._clock() + ttl, tuple(read(record) for record in tuple(answer)[:MAX_RECORDS]))

    def _read_failure(self, error: Exception) -> _Entry:
        """A negative answer as cache entry; raises `DnsTemporary` for everything else, which is not cached."""
        translated = _translate(error)
        if not isinstance(translated, DnsNotFound):
            raise translated from error
        ttl = min(max(_negative_ttl(error), MIN_TTL), MAX_NEGATIVE_TTL)
        return _Entry(self._clock() + ttl, error=type(translated))


def lookup_txt(name: str, *, servers: Sequence[str] | None = None, timeout: float = DEFAULT_TIMEOUT) -> list[str]:
    """The TXT records of a name, asked now and without cache, for code that is not asynchronous.

    Raises `DnsNotFound` or `DnsTemporary`.
    """
    nameservers = None if servers is None else [_nameserver(server) for server in servers]
    try:
        resolver = dns.resolver.Resolver(configure=servers is None)
        _configure(resolver, nameservers, timeout)
        answer = resolver.resolve(_absolute(name), "TXT", search=False)
    except _DNS_ERRORS as error:
        raise _translate(error) from error
    return [_txt_text(record) for record in tuple(answer)[:MAX_RECORDS]]


# What dnspython and the system raise; dnspython also lets ValueError out for names it cannot encode.
_DNS_ERRORS = (dns.exception.DNSException, OSError, ValueError)


def _configure(
    resolver: dns.resolver.BaseResolver, servers: Sequence[dns.nameserver.Nameserver] | None, timeout: float
) -> None:
    if servers is not None:
        resolver.nameservers = list(servers)
    resolver.lifetime = timeout
    resolver.timeout = min(2.0, timeout / 2)  # per try: a lost packet leaves time for another
    resolver.use_edns(0, 0, _UDP_PAYLOAD)


def _nameserver(server: str) -> dns.nameserver.Do53Nameserver:
    host, colon, port = server.rpartition(":")
    if not colon or (":" in host and not host.startswith("[")):  # a bare IPv6 address
        host, port = server, "53"
    host = host.removeprefix("[").removesuffix("]")
    return dns.nameserver.Do53Nameserver(str(ipaddress.ip_address(host)), int(port))


def _absolute(name: str) -> dns.name.Name:
    return dns.name.from_text(name)  # relative to the root, so that no search list of the system applies


def _translate(error: Exception) -> MailError:
    if isinstance(error, dns.resolver.NXDOMAIN):
        return NoSuchName()
    if isinstance(error, dns.resolver.NoAnswer):
        return DnsNotFound()
    if isinstance(error, dns.name.LabelTooLong | dns.name.NameTooLong | dns.name.EmptyLabel | dns.name.IDNAException):
        return NoSuchName("This cannot be a name in the DNS.")
    return DnsTemporary(f"The DNS gave no usable answer: {type(error).__name__}.")


def _negative_ttl(error: Exception) -> float:
    """How long "not there" holds: the lesser of the SOA record's own TTL and its minimum (RFC 2308 section 5)."""
    failure: Any = error  # these two methods have no types
    if isinstance(error, dns.resolver.NXDOMAIN):
        responses = list(failure.responses().values())
    elif isinstance(error, dns.resolver.NoAnswer):
        responses = [failure.response()]
    else:
        return MAX_NEGATIVE_TTL  # no name at all
    for response in responses:
        for rrset in response.authority:
            if rrset.rdtype == dns.rdatatype.SOA:
                return float(min(rrset.ttl, rrset[0].minimum))
    return 60.0


def _txt_text(record: Any) -> str:
    return b"".join(record.strings).decode("utf-8", "replace").replace("\0", "\ufffd")


def _host_text(name: dns.name.Name) -> str:
    return name.to_text(omit_final_dot=True).lower() if name != dns.name.root else "."


_READERS: dict[str, Callable[[Any], Any]] = {
    "TXT": _txt_text,
    "MX": lambda record: (record.preference, _host_text(record.exchange)),
    "A": lambda record: str(record.address),
    "AAAA": lambda record: str(record.address),
    "PTR": lambda record: _host_text(record.target),
}
"""From what dnspython gives to what is kept and handed out."""
