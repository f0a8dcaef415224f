"""DMARC: does what SPF and DKIM proved belong to the author that people see (RFC 7489)?

What a domain asks for (quarantine, reject) is reported, not done; pct= is reported too and never thins out a policy.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache

from mailhost.auth.dkim_verify import DkimResult
from mailhost.auth.header import MailHeader
from mailhost.auth.names import dns_name
from mailhost.auth.spf import SpfResult
from mailhost.auth.tags import TagError, parse_tags
from mailhost.dns.psl import organizational_domain
from mailhost.dns.resolver import DnsNotFound, DnsTemporary, Resolver
from mailhost.message.mailboxes import parse_mailboxes
from mailhost.message.words import header_text

MAX_AUTHOR_DOMAINS = 5
_MAX_AUTHORS = 100
_MAX_FROM = 16 * 1024  # octets
_MAX_RECORD = 4096
_ORDER = ("pass", "none", "permerror", "temperror", "fail")  # of several authors, the last counts
_POLICIES = ("none", "quarantine", "reject")  # from weak to strict
_VERSION = re.compile(r"v[ \t]*=[ \t]*DMARC1[ \t]*(?:;|\Z)")


@dataclass(frozen=True, slots=True)
class DmarcPolicy:
    """What a domain published. `domain` is where the record was found."""

    domain: str
    policy: str
    subdomain_policy: str
    strict_dkim: bool
    strict_spf: bool
    percent: int


@dataclass(frozen=True, slots=True)
class Author:
    """Whose mail it claims to be: the domains in From; with a `problem` it is nobody's for certain."""

    domains: tuple[str, ...]
    problem: str = ""


@dataclass(frozen=True, slots=True)
class DmarcResult:
    """`result` is none (no policy), pass, fail, temperror or permerror (RFC 7489 section 11.2)."""

    result: str
    from_domain: str = ""
    policy: DmarcPolicy | None = None
    asked: str = "none"
    """What the domain wants done with mail that fails: none, quarantine or reject."""
    aligned_by: tuple[str, ...] = ()
    """What passed and belongs to the author: "spf", "dkim". Known without a policy too."""
    reason: str = ""
    override: str = ""
    """The sealer for whose sake a fail is not held against the mail."""

    @property
    def disposition(self) -> str:
        """What the author's domain asks to be done with this mail: none, quarantine or reject."""
        return self.asked if self.result == "fail" and not self.override else "none"

    def as_dict(self) -> dict[str, object]:
        """For storing: what is known, without empty fields."""
        found: dict[str, object] = {"result": self.result, "disposition": self.disposition}
        for name in ("from_domain", "reason", "override"):
            if value := getattr(self, name):
                found[name] = value
        if self.aligned_by:
            found["aligned_by"] = list(self.aligned_by)
        if self.policy is not None:
            found |= {"policy": self.asked, "policy_domain": self.policy.domain, "percent": self.policy.percent}
        return found


PolicyAnswer = DmarcPolicy | None | DnsTemporary


def read_author(header: MailHeader) -> Author:
    """The domains of From, as the addresses shown to people have them. Never raises.

    Where From is not one field with usable addresses, policies still hold for the domains found, but the mail is
    never aligned (RFC 7489 section 6.6.1 leaves it to us).
    """
    places = header.find(b"from")
    problem = "" if header.complete else "the header is too large"
    if len(places) != 1:
        problem = "there is more than one From" if places else "there is no From"
    domains: dict[str, None] = {}
    for place in places[:MAX_AUTHOR_DOMAINS]:
        value = header.fields[place].value
        if len(value) > _MAX_FROM:
            problem = problem or "From is too long"
        found = _read_domains(value[:_MAX_FROM])
        if None in found or not found:
            problem = problem or "From holds what is no address of a domain"
        domains |= {name: None for name in found if name is not None}
    if len(domains) > MAX_AUTHOR_DOMAINS:
        problem = problem or "From holds too many domains"
    return Author(tuple(domains)[:MAX_AUTHOR_DOMAINS], problem)


def _read_domains(value: bytes) -> list[str | None]:
    """The domain of each address of a field; None for one that has none."""
    text = header_text(value)
    # Octets of an unknown charset may be read otherwise where the mail is shown.
    uncertain = not text.isascii() and not _is_utf8(value)
    domains = [one.address.rpartition("@")[2] for one in parse_mailboxes(text, limit=_MAX_AUTHORS)]
    return [None if uncertain and not domain.isascii() else dns_name(domain) for domain in domains]


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


async def find_policies(domains: Iterable[str], resolver: Resolver) -> dict[str, PolicyAnswer]:
    """The policy for each author domain: its own, else that of its organizational domain (section 6.6.3)."""
    unique = list(domains)
    if not unique:
        return {}
    if len(unique) == 1:
        return {unique[0]: await _find_policy(unique[0], resolver)}
    answers = await asyncio.gather(*(_find_policy(domain, resolver) for domain in unique))
    return dict(zip(unique, answers, strict=True))


async def _find_policy(domain: str, resolver: Resolver) -> PolicyAnswer:
    organization = organizational_domain(domain)
    try:
        records = await _ask_records(domain, resolver)
        if not records and organization != domain:
            domain = organization
            records = await _ask_records(domain, resolver)
    except DnsTemporary as error:
        return error
    return parse_policy(records[0], domain) if len(records) == 1 else None  # several count as none


async def _ask_records(domain: str, resolver: Resolver) -> list[str]:
    try:
        records = await resolver.txt(f"_dmarc.{domain}")
    except DnsNotFound:
        return []
    return [text for text in records if len(text) <= _MAX_RECORD and _VERSION.match(text) is not None]


@lru_cache(maxsize=1024)
def parse_policy(text: str, domain: str) -> DmarcPolicy | None:
    """Read a record (section 6.3). None for one that says nothing; a broken one with reports asked for is "none"."""
    try:
        tags = parse_tags(text, lenient=True)
    except TagError:
        return None
    policy = tags.get("p", "").lower()
    subdomain_policy = tags.get("sp", policy).lower()
    if policy not in _POLICIES or subdomain_policy not in _POLICIES:
        if "rua" not in tags:
            return None
        policy = subdomain_policy = "none"  # section 6.6.3 step 6
    percent = tags.get("pct", "100")
    return DmarcPolicy(
        domain=domain,
        policy=policy,
        subdomain_policy=subdomain_policy,
        strict_dkim=tags.get("adkim", "r").lower() == "s",
        strict_spf=tags.get("aspf", "r").lower() == "s",
        percent=min(int(percent), 100) if percent.isascii() and percent.isdigit() and len(percent) <= 3 else 100,
    )


def evaluate_dmarc(
    author: Author, policies: dict[str, PolicyAnswer], spf: SpfResult, dkim: Iterable[DkimResult]
) -> DmarcResult:
    """The result for the author. Several author domains must all pass; the strictest fail counts (section 6.6.1)."""
    signatures = list(dkim)
    found = [_evaluate_domain(domain, policies.get(domain), spf, signatures) for domain in author.domains]
    if not found:
        return DmarcResult("permerror", reason=author.problem)
    # Aligned with one of several authors is not aligned.
    worst = max(found, key=lambda one: (_ORDER.index(one.result), not one.aligned_by, _POLICIES.index(one.asked)))
    if author.problem:
        result = "permerror" if worst.result == "pass" else worst.result
        return replace(worst, result=result, aligned_by=(), reason=author.problem)
    return replace(worst, aligned_by=()) if not all(one.aligned_by for one in found) else worst


def is_aligned(identifier: str, from_domain: str, *, strict: bool) -> bool:
    """Section 3.1: the same domain, or (relaxed) one of the same organization."""
    if identifier == from_domain:
        return True
    return not strict and organizational_domain(identifier) == organizational_domain(from_domain)


def _evaluate_domain(domain: str, answer: PolicyAnswer, spf: SpfResult, signatures: list[DkimResult]) -> DmarcResult:
    policy = answer if isinstance(answer, DmarcPolicy) else None
    strict_spf = policy is not None and policy.strict_spf
    strict_dkim = policy is not None and policy.strict_dkim
    own_spf = bool(spf.domain) and is_aligned(spf.domain, domain, strict=strict_spf)
    own = [one for one in signatures if one.domain and is_aligned(one.domain, domain, strict=strict_dkim)]
    aligned_by = (("spf",) if own_spf and spf.result == "pass" else ()) + (
        ("dkim",) if any(one.result == "pass" for one in own) else ()
    )
    if isinstance(answer, DnsTemporary):
        return DmarcResult("temperror", domain, aligned_by=aligned_by, reason="the DNS did not answer for the policy")
    if policy is None:
        return DmarcResult("none", domain, aligned_by=aligned_by)
    asked = policy.policy if policy.domain == domain else policy.subdomain_policy
    if aligned_by:
        return DmarcResult("pass", domain, policy, asked, aligned_by)
    if (own_spf and spf.result == "temperror") or any(one.result == "temperror" for one in own):
        return DmarcResult("temperror", domain, policy, asked, reason="SPF or DKIM could not be checked now")
    return DmarcResult("fail", domain, policy, asked, reason="neither SPF nor DKIM passed for the author's domain")
