"""ARC: what forwarders saw of a message before they changed it (RFC 8617 section 5.2).

A chain says only who vouches for what. Whether to believe them is decided elsewhere, by a list of sealers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from mailhost.auth.header import MailHeader
from mailhost.auth.keys import KeyAnswer, KeyProblem, find_keys
from mailhost.auth.names import dns_name
from mailhost.auth.results import ParsedResults, parse_results
from mailhost.auth.signatures import (
    Signature,
    SignedMail,
    read_domain,
    read_number,
    read_octets,
    read_selector,
    read_signature,
    read_tags,
    require_tags,
    signed_data,
    unsigned_field,
)
from mailhost.auth.tags import TagError
from mailhost.dns.resolver import Resolver

MAX_SETS = 50  # RFC 8617 section 4.2.1
_FIELDS = (b"arc-authentication-results", b"arc-message-signature", b"arc-seal")
_KINDS = {"rsa-sha256": "rsa", "ed25519-sha256": "ed25519"}
_AAR_INSTANCE = re.compile(rb"[ \t\r\n]*i[ \t\r\n]*=[ \t\r\n]*([0-9]{1,2})[ \t\r\n]*;")
_INSTANCE = re.compile(r"[0-9]{1,2}")


@dataclass(frozen=True, slots=True)
class ArcSet:
    """One forwarder's three fields."""

    instance: int
    domain: str
    """Who sealed it: d= of ARC-Seal."""
    results: ParsedResults
    """What the forwarder says it found: ARC-Authentication-Results."""


@dataclass(frozen=True, slots=True)
class ArcResult:
    """The state of the chain: none, pass, fail; temperror when the DNS or the time did not suffice."""

    result: str
    reason: str = ""
    sets: tuple[ArcSet, ...] = ()
    """Oldest first; only of a chain that passed."""

    def as_dict(self) -> dict[str, object]:
        """For storing."""
        found: dict[str, object] = {"result": self.result}
        if self.reason:
            found["reason"] = self.reason
        if self.sets:
            found["sealers"] = [one.domain for one in self.sets]
        return found


@dataclass(frozen=True, slots=True)
class _Seal:
    index: int
    tags: dict[str, str]
    domain: str
    key_name: str
    signature: bytes


@dataclass(frozen=True, slots=True)
class _Set:
    """The places of one set's fields in the header, and its seal."""

    results: int
    message_signature: int
    seal: _Seal


class _Broken(Exception):
    """The chain is not valid: result and reason."""

    def __init__(self, reason: str, result: str = "fail") -> None:
        super().__init__(reason)
        self.result = result
        self.reason = reason


def has_chain(header: MailHeader) -> bool:
    """Whether there is any field of a chain."""
    return any(header.find(name) for name in _FIELDS)


async def validate_chain(mail: SignedMail, resolver: Resolver) -> ArcResult:
    """The state of the message's ARC chain. Raises nothing of its own."""
    header = mail.header
    if not has_chain(header):
        return ArcResult("none")
    try:
        sets = _read_sets(header)
        await _verify_message(mail, sets[-1], resolver)
        await _verify_seals(header, sets, resolver)
    except _Broken as broken:
        return ArcResult(broken.result, broken.reason)
    except TagError as error:
        return ArcResult("fail", str(error))
    return ArcResult("pass", sets=tuple(_describe(header, place + 1, one) for place, one in enumerate(sets)))


def find_vouching_set(arc: ArcResult, trusted_sealers: frozenset[str], from_domain: str) -> ArcSet | None:
    """The set by which a trusted forwarder says that the author passed DMARC there; None when there is none.

    Trust goes from the newest forwarder back, and ends at the first that is not on the list: it could have made up
    all that is older.
    """
    if arc.result != "pass":
        return None
    for one in reversed(arc.sets):
        if one.domain not in trusted_sealers:
            return None
        for method in one.results.methods:
            if method.method == "dmarc" and method.result == "pass":
                stated = method.properties.get("header.from")
                if stated is None or dns_name(stated.rpartition("@")[2]) == from_domain:
                    return one
    return None


def _read_sets(header: MailHeader) -> list[_Set]:
    """The sets in order, checked as steps 1 to 3 of section 5.2 ask."""
    if not header.complete:
        raise _Broken("the header is too large")
    results, signatures, seals = (_by_instance(header, name) for name in _FIELDS)
    count = len(seals)
    if not list(seals) == list(signatures) == list(results) == list(range(1, count + 1)):
        raise _Broken("the sets are not complete")
    sets = [_Set(results[one], signatures[one], _read_seal(header, seals[one])) for one in range(1, count + 1)]
    for instance, one in enumerate(sets, start=1):
        status = one.seal.tags["cv"]
        if status == "fail":
            raise _Broken(f"the chain had failed already at instance {instance}")
        if status != ("none" if instance == 1 else "pass"):
            raise _Broken(f"cv= is wrong at instance {instance}")
    return sets


def _by_instance(header: MailHeader, name: bytes) -> dict[int, int]:
    """The fields of that name by instance, ascending."""
    places = header.find(name)
    if len(places) > MAX_SETS:
        raise _Broken("there are too many sets")
    found: dict[int, int] = {}
    for place in places:
        if name == _FIELDS[0]:
            match = _AAR_INSTANCE.match(header.fields[place].value)
            value = match[1].decode("ascii") if match else ""
        else:
            value = read_tags(header, place).get("i", "")
        if _INSTANCE.fullmatch(value) is None or not 1 <= int(value) <= MAX_SETS:
            raise _Broken("a set has no usable instance")
        if int(value) in found:
            raise _Broken(f"instance {int(value)} is there twice")
        found[int(value)] = place
    return dict(sorted(found.items()))


def _read_seal(header: MailHeader, index: int) -> _Seal:
    """An ARC-Seal (section 4.1.3). Raises `TagError`."""
    tags = read_tags(header, index)
    require_tags(tags, "a", "b", "cv", "d", "s")
    if "h" in tags or "bh" in tags:
        raise TagError("a seal has no h= or bh=")
    if tags["a"] not in _KINDS:
        raise TagError("unknown algorithm")
    read_number(tags, "t")
    domain = read_domain(tags["d"])
    key_name = f"{read_selector(tags['s'])}._domainkey.{domain}"
    return _Seal(index, tags, domain, key_name, read_octets(tags["b"]))


async def _verify_message(mail: SignedMail, newest: _Set, resolver: Resolver) -> None:
    """Step 4: the newest ARC-Message-Signature must hold; older ones break when forwarders change the mail."""
    header = mail.header
    tags = read_tags(header, newest.message_signature)
    signature: Signature = read_signature(header, newest.message_signature, tags)
    if signature.algorithm not in _KINDS:
        raise TagError("unknown algorithm")
    if b"arc-seal" in signature.fields:
        raise TagError("a message signature does not cover seals")  # section 4.1.2
    keys = await find_keys([signature.key_name], resolver)
    _check(keys[signature.key_name], signature.algorithm, signature.signature, signed_data(header, signature))
    digest, size = await mail.hash_body(signature.body_form)
    if digest != signature.body_hash or (signature.length is not None and signature.length != size):
        raise _Broken("the body was changed")


async def _verify_seals(header: MailHeader, sets: list[_Set], resolver: Resolver) -> None:
    """Step 6: each seal covers all sets up to its own (section 5.1.1), always in relaxed form."""
    keys = await find_keys([one.seal.key_name for one in sets], resolver)
    lines: list[bytes] = []
    for one in sets:
        lines += [header.relaxed(one.results), header.relaxed(one.message_signature)]
        data = b"\r\n".join([*lines, unsigned_field(header, one.seal.index, "relaxed")])
        _check(keys[one.seal.key_name], one.seal.tags["a"], one.seal.signature, data)
        lines.append(header.relaxed(one.seal.index))


def _check(answer: KeyAnswer, algorithm: str, signature: bytes, data: bytes) -> None:
    if isinstance(answer, KeyProblem):
        raise _Broken(answer.reason, "temperror" if answer.result == "temperror" else "fail")
    kind = _KINDS[algorithm]
    if not any(key.kind == kind and key.verifies(signature, data) for key in answer):
        raise _Broken("a signature of the chain does not match")


def _describe(header: MailHeader, instance: int, one: _Set) -> ArcSet:
    value = header.fields[one.results].value
    match = _AAR_INSTANCE.match(value)
    return ArcSet(instance, one.seal.domain, parse_results(value[match.end() :] if match else value))
