"""The verdict on a sender: SPF, DKIM, ARC and DMARC at once, bounded in time, and the header field that says so."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Collection, Coroutine
from dataclasses import dataclass, replace
from typing import Any

from mailhost.auth.arc import ArcResult, find_vouching_set, has_chain, validate_chain
from mailhost.auth.dkim_verify import DkimResult, DkimVerifier
from mailhost.auth.dmarc import DmarcResult, PolicyAnswer, evaluate_dmarc, find_policies, read_author
from mailhost.auth.names import dns_name
from mailhost.auth.results import MethodResult, compose_results
from mailhost.auth.signatures import SignedMail
from mailhost.auth.spf import SpfResult, check_helo, check_mail_from
from mailhost.dns.resolver import DnsTemporary, Resolver

DEFAULT_TIMEOUT = 10.0
_NO_TIME = "there was no time left"
_DKIM_ORDER = ("pass", "temperror", "policy", "fail", "permerror", "neutral", "none")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SenderVerdict:
    """What was found out about the sender of one mail."""

    spf: SpfResult
    """Of MAIL FROM; of HELO when MAIL FROM is empty."""
    spf_helo: SpfResult
    dkim: list[DkimResult]
    """One for each signature, from the top; at most ten."""
    dmarc: DmarcResult
    arc: ArcResult
    from_aligned: bool
    """Whether the From that people see may be believed: SPF or DKIM passed for its domain, with or without a DMARC
    policy, or a trusted forwarder vouches for it (`dmarc.override`)."""
    header: str
    """A whole Authentication-Results field with CRLF, to be put before the message."""

    @property
    def dkim_summary(self) -> str:
        """One word for all signatures: the best of them; "none" without any."""
        found = {one.result for one in self.dkim}
        return next(word for word in _DKIM_ORDER if word in found or word == "none")

    def as_dict(self) -> dict[str, Any]:
        """For storing and for the API: one word each, and everything known under "details". JSON can hold it."""
        return {
            "spf": self.spf.result,
            "dkim": self.dkim_summary,
            "dmarc": self.dmarc.result,
            "arc": self.arc.result,
            "from_aligned": self.from_aligned,
            "details": {
                "spf": self.spf.as_dict(),
                "spf_helo": self.spf_helo.as_dict(),
                "dkim": [one.as_dict() for one in self.dkim],
                "dmarc": self.dmarc.as_dict(),
                "arc": self.arc.as_dict(),
            },
        }


async def judge_sender(
    *,
    raw: bytes,
    client_ip: str,
    helo: str,
    mail_from: str,
    resolver: Resolver,
    authserv_id: str,
    trusted_sealers: Collection[str] = (),
    timeout: float = DEFAULT_TIMEOUT,  # noqa: ASYNC109 - what is done by then still counts
    now: float | None = None,
) -> SenderVerdict:
    """Judge the sender of a mail. Never raises, whatever the octets, and takes at most `timeout` seconds.

    `raw` is the message as received, with CRLF line ends; `mail_from` is without brackets, empty for a bounce. What is
    not decided in time is a temperror. `trusted_sealers` are domains whose ARC seals may excuse a DMARC fail.
    """
    now = time.time() if now is None else now
    mail = SignedMail(raw)
    author = read_author(mail.header)
    dkim = DkimVerifier(mail, resolver, now)
    host: dict[str, Any] = {"client_ip": client_ip, "helo": helo, "resolver": resolver}
    host |= {"receiver": authserv_id, "now": now}
    parts: dict[str, Coroutine[Any, Any, Any]] = {"spf": check_mail_from(mail_from=mail_from, **host)}
    if mail_from:
        parts["helo"] = check_helo(**host)
    if not dkim.is_done:
        parts["dkim"] = dkim.run()
    if author.domains:
        parts["policies"] = find_policies(author.domains, resolver)
    if has_chain(mail.header):
        parts["arc"] = validate_chain(mail, resolver)
    found = await _run_all(parts, timeout)
    spf = found["spf"] or _late_spf("mailfrom" if mail_from else "helo", mail_from.rpartition("@")[2] or helo)
    spf_helo = (found["helo"] or _late_spf("helo", helo)) if mail_from else spf
    arc = ArcResult("none") if "arc" not in found else found["arc"] or ArcResult("temperror", _NO_TIME)
    policies: dict[str, PolicyAnswer] = found.get("policies") or dict.fromkeys(author.domains, DnsTemporary(_NO_TIME))
    dmarc = evaluate_dmarc(author, policies, spf, dkim.results)
    if dmarc.result == "fail" and len(author.domains) == 1 and not author.problem:
        dmarc = _excuse(dmarc, arc, trusted_sealers)
    aligned = bool(dmarc.aligned_by or dmarc.override)
    header = _compose(authserv_id, client_ip, mail_from, helo, spf, spf_helo, dkim.results, dmarc, arc)
    return SenderVerdict(spf, spf_helo, dkim.results, dmarc, arc, aligned, header)


async def _run_all(parts: dict[str, Coroutine[Any, Any, Any]], seconds: float) -> dict[str, Any]:
    """The results of all, side by side; None for what was not done in time or broke."""
    tasks = {name: asyncio.ensure_future(part) for name, part in parts.items()}
    try:
        await asyncio.wait(tasks.values(), timeout=seconds)
    finally:
        for task in tasks.values():
            if not task.done():
                task.cancel()
    return {name: _take(task) for name, task in tasks.items()}


def _take(task: asyncio.Future[Any]) -> Any:
    if not task.done() or task.cancelled():
        return None
    error = task.exception()
    if error is None:
        return task.result()
    # A mistake of ours in one method must cost neither the mail nor the other methods.
    logger.error("judging a sender failed", exc_info=error)
    return None


def _late_spf(identity: str, domain: str) -> SpfResult:
    return SpfResult("temperror", dns_name(domain) or "", identity, reason=_NO_TIME)


def _excuse(dmarc: DmarcResult, arc: ArcResult, trusted_sealers: Collection[str]) -> DmarcResult:
    """A fail that a trusted forwarder explains is not held against the mail (RFC 8617 section 7.2.1)."""
    trusted = frozenset(dns_name(domain) or domain for domain in trusted_sealers)
    vouching = find_vouching_set(arc, trusted, dmarc.from_domain)
    return replace(dmarc, override=vouching.domain) if vouching else dmarc


def _compose(
    authserv_id: str,
    client_ip: str,
    mail_from: str,
    helo: str,
    spf: SpfResult,
    spf_helo: SpfResult,
    dkim: list[DkimResult],
    dmarc: DmarcResult,
    arc: ArcResult,
) -> str:
    """The Authentication-Results field (RFC 8601 section 2.7; 8616 section 5 for addresses that are not ASCII)."""
    methods: list[MethodResult] = []
    if mail_from:
        address = mail_from if mail_from.isascii() else spf.domain
        methods.append(MethodResult("spf", spf.result, {"smtp.mailfrom": address}, spf.reason))
    methods.append(MethodResult("spf", spf_helo.result, {"smtp.helo": helo}, spf_helo.reason))
    for one in dkim:
        properties = {"header.d": one.domain, "header.s": one.selector, "header.a": one.algorithm}
        methods.append(MethodResult("dkim", one.result, {**properties, "header.b": one.signature}, one.reason))
    if not dkim:
        methods.append(MethodResult("dkim", "none"))
    properties = {"header.from": dmarc.from_domain, "policy.dmarc": dmarc.disposition if dmarc.policy else ""}
    reason = f"trusted sealer {dmarc.override}" if dmarc.override else dmarc.reason
    methods.append(MethodResult("dmarc", dmarc.result, properties, reason))
    if arc.result != "none":
        methods.append(MethodResult("arc", arc.result, {"smtp.remote-ip": client_ip}, arc.reason))
    return compose_results(authserv_id, methods)
