"""SPF: may this host send for this domain (RFC 7208)?

Written on our own resolver, because pyspf blocks a thread for each mail. The suite of openspf.org judges it.
Every limit of section 4.6.4 holds; the time is bounded by the caller.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from dataclasses import dataclass

from mailhost.auth.names import dns_name
from mailhost.auth.spf_macros import Address, MacroValues, expand_domain, expand_text
from mailhost.auth.spf_record import Mechanism, SpfRecord, SpfSyntaxError, is_explanation, is_spf, parse_record
from mailhost.dns.resolver import DnsNotFound, DnsTemporary, Resolver

MAX_LOOKUPS = 10  # terms that ask the DNS
MAX_VOID_LOOKUPS = 2  # of those, with no answer
_MAX_HOSTS = 10  # of one mx, and names of one address
_MAX_EXPLANATION = 400  # characters: it goes into an SMTP reply

_RESULTS = {"+": "pass", "-": "fail", "~": "softfail", "?": "neutral"}
_QUERY = re.compile(r"[ -~]+")


@dataclass(frozen=True, slots=True)
class SpfResult:
    """`result` is one of none, neutral, pass, fail, softfail, temperror, permerror (RFC 7208 section 2.6)."""

    result: str
    domain: str = ""
    """Whose record was asked for: of MAIL FROM, or of HELO when that is empty. In ASCII; empty if it is no name."""
    identity: str = "mailfrom"
    """"mailfrom" or "helo"."""
    mechanism: str = ""
    """The term that decided."""
    reason: str = ""
    """What was wrong, for temperror and permerror."""
    explanation: str = ""
    """The domain's own words for a fail (section 6.2), printable ASCII."""

    def as_dict(self) -> dict[str, object]:
        """For storing: what is known, without empty fields."""
        names = ("result", "domain", "identity", "mechanism", "reason", "explanation")
        return {name: value for name in names if (value := getattr(self, name))}


async def check_mail_from(
    *, client_ip: str, helo: str, mail_from: str, resolver: Resolver, receiver: str = "unknown", now: float = 0.0
) -> SpfResult:
    """The identity of MAIL FROM, which for an empty one is postmaster@HELO (section 2.4).

    `mail_from` has no brackets. `receiver` and `now` (seconds since 1970) only fill macros in explanations. Never
    raises, whatever the strings.
    """
    if not mail_from:
        return await check_helo(client_ip=client_ip, helo=helo, resolver=resolver, receiver=receiver, now=now)
    local, _, domain = mail_from.rpartition("@")
    return await _check_host(client_ip, helo, local, domain, "mailfrom", resolver, receiver, now)


async def check_helo(
    *, client_ip: str, helo: str, resolver: Resolver, receiver: str = "unknown", now: float = 0.0
) -> SpfResult:
    """The identity of HELO (section 2.3). "none" for a HELO that is no domain name."""
    return await _check_host(client_ip, helo, "postmaster", helo, "helo", resolver, receiver, now)


class _Stop(Exception):
    """The evaluation ends here, with this result."""

    def __init__(self, result: str, reason: str) -> None:
        super().__init__(reason)
        self.result = result
        self.reason = reason


async def _check_host(
    client_ip: str, helo: str, local: str, domain: str, identity: str, resolver: Resolver, receiver: str, now: float
) -> SpfResult:
    name = dns_name(domain)
    address = _read_address(client_ip)
    if name is None or address is None:
        return SpfResult("none", identity=identity)
    values = MacroValues(address, helo, local or "postmaster", name, receiver, int(now))
    check = _Check(values, resolver)
    try:
        result, mechanism, record, at = await check.evaluate(name)
    except _Stop as stop:
        return SpfResult(stop.result, name, identity, reason=stop.reason)
    explanation = ""
    if result == "fail" and record is not None and record.explanation is not None:
        explanation = await check.explain(record.explanation, at)
    return SpfResult(result, name, identity, mechanism, explanation=explanation)


def _read_address(text: str) -> Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped  # section 5
    return address


class _Check:
    """One evaluation, with what it may still ask."""

    def __init__(self, values: MacroValues, resolver: Resolver) -> None:
        self._values = values
        self._resolver = resolver
        self._address = int(values.address)
        self._lookups = 0
        self._voids = 0
        self._names: list[str] | None = None
        self._domain = values.sender_domain

    async def evaluate(self, domain: str) -> tuple[str, str, SpfRecord | None, str]:
        """The result for a domain, the term that decided, the record it stands in and that record's domain."""
        record = await self._find_record(domain)
        if record is None:
            return "none", "", None, domain
        for mechanism in record.mechanisms:
            if await self._matches(mechanism, domain):
                return _RESULTS[mechanism.qualifier], mechanism.text, record, domain
        if record.redirect is None:
            return "neutral", "", record, domain
        self._count_lookup()
        target = await self._expand(record.redirect, domain)
        found = await self.evaluate(target) if target else None
        if found is None or found[0] == "none":
            raise _Stop("permerror", f"redirect leads to no record: {_printable(target or record.redirect)}")
        return found

    async def explain(self, spec: str, domain: str) -> str:
        """The text that exp= leads to; empty when there is none that can be shown (section 6.2)."""
        try:
            target = await self._expand(spec, domain)
            records = await self._resolver.txt(_query(target)) if target else []
        except (DnsNotFound, DnsTemporary):
            return ""
        if len(records) != 1 or not is_explanation(records[0]):
            return ""
        self._domain = domain
        text = await expand_text(records[0], domain, self._values, self._find_name)
        return _printable(text or "")[:_MAX_EXPLANATION]

    async def _find_record(self, domain: str) -> SpfRecord | None:
        try:
            texts = await self._resolver.txt(_query(domain))
        except DnsNotFound:
            return None
        except DnsTemporary as error:
            raise _Stop("temperror", f"the DNS did not answer for {_printable(domain)}") from error
        records = [text for text in texts if is_spf(text)]
        if len(records) > 1:
            raise _Stop("permerror", f"{_printable(domain)} has more than one record")
        if not records:
            return None
        try:
            return parse_record(records[0])
        except SpfSyntaxError as error:
            raise _Stop("permerror", str(error)) from error

    async def _matches(self, mechanism: Mechanism, domain: str) -> bool:
        name = mechanism.name
        if name == "all":
            return True
        if name in ("ip4", "ip6"):
            version = 4 if name == "ip4" else 6
            return self._values.address.version == version and self._within(mechanism.network, mechanism)
        self._count_lookup()
        target = await self._expand(mechanism.domain, domain) if mechanism.domain else domain
        if target is None:
            return False
        if name == "include":
            return await self._include(target)
        try:
            return await self._match_names(mechanism, target)
        except DnsNotFound:
            self._count_void()
        except DnsTemporary as error:
            raise _Stop("temperror", f"the DNS did not answer for {mechanism.text}") from error
        return False

    async def _match_names(self, mechanism: Mechanism, target: str) -> bool:
        """a, mx, exists, ptr (sections 5.3 to 5.7)."""
        if mechanism.name == "exists":
            return bool(await self._resolver.addresses_of_kind(_query(target), 4))
        if mechanism.name == "a":
            return await self._has_address(target, mechanism)
        if mechanism.name == "ptr":
            suffix = f".{target.lower()}"
            return any(f".{name}".endswith(suffix) for name in await self._validated_names())
        hosts = [host for _, host in await self._resolver.mx(_query(target)) if host != "."]
        if len(hosts) > _MAX_HOSTS:
            raise _Stop("permerror", f"{mechanism.text} leads to more than {_MAX_HOSTS} hosts")
        missing: DnsNotFound | None = None
        for host in hosts:
            try:
                if await self._has_address(host, mechanism):
                    return True
            except DnsNotFound as error:
                missing = error
        if missing is not None:
            raise missing  # one void lookup for the term, however many hosts lack an address of this kind
        return False

    async def _include(self, target: str) -> bool:
        """Section 5.2: what the other domain says, as a condition."""
        result, _, _, _ = await self.evaluate(target)
        if result == "none":
            raise _Stop("permerror", f"include leads to no record: {_printable(target)}")
        return result == "pass"

    async def _has_address(self, host: str, mechanism: Mechanism) -> bool:
        version = self._values.address.version
        addresses = await self._resolver.addresses_of_kind(_query(host), version)
        family = socket.AF_INET if version == 4 else socket.AF_INET6
        return any(
            self._within(int.from_bytes(socket.inet_pton(family, address), "big"), mechanism) for address in addresses
        )

    def _within(self, network: int, mechanism: Mechanism) -> bool:
        """Whether the client's address shares the mechanism's prefix with `network`."""
        if self._values.address.version == 4:
            return (network ^ self._address) >> (32 - mechanism.prefix4) == 0
        return (network ^ self._address) >> (128 - mechanism.prefix6) == 0

    async def _validated_names(self) -> list[str]:
        """The names of the client that lead back to it (section 5.5); at most ten are looked at, once."""
        if self._names is not None:
            return self._names
        self._names = []
        version = self._values.address.version
        try:
            names = await self._resolver.names(str(self._values.address))
        except DnsTemporary:
            return self._names  # section 5.5: an error with this question only means no match
        for name in names[:_MAX_HOSTS]:
            try:
                addresses = await self._resolver.addresses_of_kind(_query(name), version)
            except (DnsNotFound, DnsTemporary):
                continue
            if str(self._values.address) in addresses:
                self._names.append(name)
        return self._names

    async def _find_name(self) -> str:
        """The value of %{p} (section 7.3): the domain itself, else a name below it, else any."""
        try:
            names = await self._validated_names()
        except DnsNotFound:
            names = []
        below = [name for name in names if name.endswith(f".{self._domain}")]
        if self._domain in names:
            return self._domain
        return (below or names or ["unknown"])[0]

    async def _expand(self, spec: str, domain: str) -> str | None:
        self._domain = domain
        return await expand_domain(spec, domain, self._values, self._find_name)

    def _count_lookup(self) -> None:
        self._lookups += 1
        if self._lookups > MAX_LOOKUPS:
            raise _Stop("permerror", f"more than {MAX_LOOKUPS} terms ask the DNS")

    def _count_void(self) -> None:
        self._voids += 1
        if self._voids > MAX_VOID_LOOKUPS:
            raise _Stop("permerror", f"more than {MAX_VOID_LOOKUPS} terms ask the DNS for nothing")


def _query(name: str) -> str:
    """A name as the resolver takes it: a backslash is an octet like others. Raises `DnsNotFound` for no name."""
    if _QUERY.fullmatch(name) is None:
        raise DnsNotFound
    return name.replace("\\", "\\\\") if "\\" in name else name


def _printable(text: str) -> str:
    return "".join(char if " " <= char <= "~" else "?" for char in text[: 2 * _MAX_EXPLANATION])
