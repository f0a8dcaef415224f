"""Verifying DKIM signatures (RFC 6376 section 6; RFC 8463 for Ed25519, RFC 8301 for what is too weak).

Everything is bounded: ten signatures, key sizes, the DNS's time; canonicalization is linear, and a body is only
hashed for a signature whose header part holds, so that made-up signatures cost next to nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from mailhost.auth.keys import KeyProblem, PublicKey, find_keys
from mailhost.auth.names import dns_name
from mailhost.auth.signatures import (
    Signature,
    SignedMail,
    read_number,
    read_signature,
    read_tags,
    require_tags,
    signed_data,
)
from mailhost.auth.tags import TagError
from mailhost.dns.resolver import Resolver

MAX_SIGNATURES = 10  # per message, from the top; a stranger's mail may carry any number
_KINDS = {"rsa-sha256": "rsa", "ed25519-sha256": "ed25519"}
_QUERY_METHODS = frozenset({"dns/txt", "dns"})  # the second from before the standard
_ESCAPE = re.compile(r"=([0-9A-F]{2})")
_SPACE = re.compile(r"[ \t\r\n]+")


@dataclass(frozen=True, slots=True)
class DkimResult:
    """One signature: `result` as RFC 8601 section 2.7.1 has it (pass, fail, policy, neutral, temperror, permerror).

    neutral: the field is malformed. permerror: no usable key, or too weak. policy: it holds but is not enough (it has
    expired, or covers only a part of the body). What could not be read is empty.
    """

    result: str
    reason: str = ""
    domain: str = ""
    """d= in lower-case ASCII."""
    selector: str = ""
    algorithm: str = ""
    identity: str = ""
    """i=, or "@domain"."""
    key_bits: int = 0
    testing: bool = False
    """The key says t=y: if this is no pass, treat the mail as unsigned."""
    signature: str = ""
    """The beginning of b=, which tells signatures of one domain apart (RFC 6008)."""

    def as_dict(self) -> dict[str, object]:
        """For storing: what is known, without empty fields."""
        names = ("result", "reason", "domain", "selector", "algorithm", "identity", "key_bits", "testing")
        return {name: value for name in names if (value := getattr(self, name))}


class DkimVerifier:
    """Verifies the signatures of one message. `results` is valid at any moment: what is not decided is a temperror."""

    def __init__(self, mail: SignedMail, resolver: Resolver, now: float) -> None:
        self._mail = mail
        self._resolver = resolver
        self._now = now
        self._signatures: list[Signature | None] = []
        self.results: list[DkimResult] = []
        for index in mail.header.find(b"dkim-signature")[:MAX_SIGNATURES]:
            self._read(index)

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to verify, as without a well-formed signature."""
        return not any(self._signatures)

    async def run(self) -> list[DkimResult]:
        """Decide all signatures. Raises nothing of its own."""
        names = [signature.key_name for signature in self._signatures if signature is not None]
        if not names:
            return self.results
        keys = await find_keys(names, self._resolver)
        for place, signature in enumerate(self._signatures):
            if signature is not None:
                answer = keys[signature.key_name]
                undecided = self.results[place]
                if isinstance(answer, KeyProblem):
                    self.results[place] = replace(undecided, result=answer.result, reason=answer.reason)
                else:
                    self.results[place] = await self._verify(signature, answer, undecided)
        return self.results

    def _read(self, index: int) -> None:
        header = self._mail.header
        tags: dict[str, str] = {}
        try:
            if not header.complete:
                raise TagError("the header is too large")
            tags = read_tags(header, index)
            signature = read_signature(header, index, tags)
            identity = _check_tags(signature)
        except TagError as error:
            self._signatures.append(None)
            self.results.append(DkimResult("neutral", str(error), domain=dns_name(tags.get("d", "")) or ""))
            return
        described = DkimResult(
            "temperror",
            "there was no time left",
            signature.domain,
            signature.selector,
            signature.algorithm if signature.algorithm in _KINDS else _shorten(signature.algorithm),
            _shorten(identity),
            signature=_SPACE.sub("", tags["b"])[:12],
        )
        if refused := _refuse(signature, self._now):
            described = replace(described, result=refused[0], reason=refused[1])
        self._signatures.append(None if refused else signature)
        self.results.append(described)

    async def _verify(self, signature: Signature, keys: list[PublicKey], described: DkimResult) -> DkimResult:
        data = signed_data(self._mail.header, signature)
        kind = _KINDS[signature.algorithm]
        described = replace(described, key_bits=keys[0].bits, testing=keys[0].testing)
        usable = [key for key in keys if key.kind == kind]
        if not usable:
            return replace(described, result="permerror", reason="the key is of another kind")
        key = next((one for one in usable if one.verifies(signature.signature, data)), None)
        if key is None:
            return replace(described, result="fail", reason="the signature does not match the header")
        if key.same_domain and not described.identity.endswith(f"@{signature.domain}"):
            return replace(described, result="permerror", reason="the key is not for subdomains")
        digest, size = await self._mail.hash_body(signature.body_form)
        if signature.length is not None and signature.length < size:
            # Anybody can add to such a body what nobody signed (RFC 6376 section 8.2).
            return replace(described, result="policy", reason="only a part of the body is signed")
        if digest != signature.body_hash or (signature.length is not None and signature.length > size):
            return replace(described, result="fail", reason="the body was changed")
        return replace(described, result="pass", reason="", key_bits=key.bits, testing=key.testing)


def _check_tags(signature: Signature) -> str:
    """What only DKIM asks of a signature (RFC 6376 section 6.1.1). Returns the identity; raises `TagError`."""
    tags = signature.tags
    require_tags(tags, "v")
    if tags["v"] != "1":
        raise TagError("unknown version")
    if b"from" not in signature.fields:
        raise TagError("From is not signed")
    if _QUERY_METHODS.isdisjoint(method.strip() for method in tags.get("q", "dns/txt").split(":")):
        raise TagError("unknown query method")
    expires = read_number(tags, "x")
    if expires is not None and signature.time is not None and expires <= signature.time:
        raise TagError("it expires before it was made")
    return _read_identity(tags.get("i"), signature.domain)


def _read_identity(value: str | None, domain: str) -> str:
    """The i= tag, whose domain must be d= or below it (section 3.5). Raises `TagError`."""
    if value is None:
        return f"@{domain}"
    decoded = _ESCAPE.sub(lambda match: chr(int(match[1], 16)), _SPACE.sub("", value))
    local, at, own = decoded.rpartition("@")
    name = dns_name(own)
    if not at or name is None or not (name == domain or name.endswith(f".{domain}")):
        raise TagError("i= is not of the domain in d=")
    return f"{local}@{name}"


def _shorten(text: str) -> str:
    """Text of a stranger's for storing and showing."""
    return "".join(char if char.isprintable() else "?" for char in text[:320])


def _refuse(signature: Signature, now: float) -> tuple[str, str] | None:
    """Result and reason for a well-formed signature that is not worth verifying."""
    if signature.algorithm == "rsa-sha1":
        return "permerror", "rsa-sha1 is too weak"  # RFC 8301 section 3.1: as if it had failed for good
    if signature.algorithm not in _KINDS:
        return "neutral", "unknown algorithm"
    expires = read_number(signature.tags, "x")
    if expires is not None and expires < now:
        return "policy", "the signature has expired"
    return None
