"""Signature fields and what they sign: the common part of DKIM and ARC (RFC 6376 sections 3.5 and 3.7)."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass

from mailhost.auth.canonical import Form, hash_body, relax_field
from mailhost.auth.header import MailHeader, read_header
from mailhost.auth.names import dns_name
from mailhost.auth.tags import TagError, decode_base64_tag, parse_tags

_MAX_SIGNATURE = 1024  # octets; a key of 4096 bits makes 512
_MAX_SELECTOR = 200
_SIGNATURE_VALUE = re.compile(rb"((?:\A|;)[ \t\r\n]*b[ \t\r\n]*=)[^;]*")
_SELECTOR = re.compile(r"[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*")
_NUMBER = re.compile(r"[0-9]{1,12}")
_FIELD_NAME = re.compile(r"[!-9;-~]+")
_FORMS: dict[str, Form] = {"simple": "simple", "relaxed": "relaxed"}


class SignedMail:
    """A message with what signatures need of it, each part computed once for all of them."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self.header: MailHeader = read_header(raw)
        self._hashes: dict[Form, tuple[bytes, int]] = {}
        self._hashing = asyncio.Lock()

    async def hash_body(self, form: Form) -> tuple[bytes, int]:
        """SHA-256 of the body in that form, and its length in octets."""
        async with self._hashing:
            found = self._hashes.get(form)
            if found is None:
                found = self._hashes[form] = await hash_body(self.raw, self.header.body_start, form)
            return found


@dataclass(frozen=True, slots=True)
class Signature:
    """A signature field as far as DKIM-Signature and ARC-Message-Signature agree. Values are checked."""

    index: int
    """Which field of the header it is."""
    tags: dict[str, str]
    algorithm: str
    domain: str
    selector: str
    signature: bytes
    body_hash: bytes
    header_form: Form
    body_form: Form
    fields: tuple[bytes, ...]
    """The signed fields' names, lower case, in order."""
    length: int | None
    time: int | None

    @property
    def key_name(self) -> str:
        """Where the DNS has the key (RFC 6376 section 3.6.2.1)."""
        return f"{self.selector}._domainkey.{self.domain}"


def read_tags(header: MailHeader, index: int) -> dict[str, str]:
    """The tags of a field. Raises `TagError`."""
    try:
        return parse_tags(header.fields[index].value.decode("utf-8"))  # UTF-8: RFC 8616 section 5
    except UnicodeDecodeError as error:
        raise TagError("the signature is not UTF-8") from error


def read_signature(header: MailHeader, index: int, tags: dict[str, str]) -> Signature:
    """The signature of a field, from its tags. Raises `TagError`."""
    require_tags(tags, "a", "b", "bh", "d", "h", "s")
    forms = tags.get("c", "simple").split("/")
    if len(forms) > 2 or not all(form in _FORMS for form in forms):
        raise TagError("unknown canonicalization")
    return Signature(
        index=index,
        tags=tags,
        algorithm=tags["a"],
        domain=read_domain(tags["d"]),
        selector=read_selector(tags["s"]),
        signature=read_octets(tags["b"]),
        body_hash=decode_base64_tag(tags["bh"], "bh="),
        header_form=_FORMS[forms[0]],
        body_form=_FORMS[forms[1]] if len(forms) == 2 else "simple",
        fields=_read_names(tags["h"]),
        length=read_number(tags, "l"),
        time=read_number(tags, "t"),
    )


def require_tags(tags: dict[str, str], *names: str) -> None:
    """Raises `TagError` when one is missing."""
    for name in names:
        if name not in tags:
            raise TagError(f"no {name}= tag")


def read_number(tags: dict[str, str], name: str) -> int | None:
    """A tag that is a decimal number; None when it is not there. Raises `TagError`."""
    value = tags.get(name)
    if value is None:
        return None
    if _NUMBER.fullmatch(value) is None:
        raise TagError(f"{name}= is no number")
    return int(value)


def read_domain(value: str) -> str:
    """The domain of a d= tag. Raises `TagError`."""
    domain = dns_name(value)
    if domain is None or value.endswith("."):
        raise TagError("d= is no domain name")
    return domain


def read_selector(value: str) -> str:
    """The selector of an s= tag, lower case. Raises `TagError`."""
    if len(value) > _MAX_SELECTOR or _SELECTOR.fullmatch(value) is None:
        raise TagError("s= is no selector")
    return value.lower()


def read_octets(value: str) -> bytes:
    """The signature of a b= tag. Raises `TagError`."""
    octets = decode_base64_tag(value, "b=")
    if len(octets) > _MAX_SIGNATURE:
        raise TagError("b= is too long")
    return octets


def signed_data(header: MailHeader, signature: Signature) -> bytes:
    """What the signature is made over: the chosen fields, then its own field with b= empty (section 3.7).

    Where a name is given several times, fields are taken from the bottom up (section 5.4.2).
    """
    canonical = header.relaxed if signature.header_form == "relaxed" else header.simple
    left: dict[bytes, list[int]] = {}
    lines: list[bytes] = []
    for name in signature.fields:
        places = left.get(name)
        if places is None:
            places = left[name] = [place for place in header.find(name) if place != signature.index]
        if places:
            lines.append(canonical(places.pop()))
    lines.append(unsigned_field(header, signature.index, signature.header_form))
    return b"\r\n".join(lines)


def unsigned_field(header: MailHeader, index: int, form: Form) -> bytes:
    """A signature field in canonical form, the value of its b= tag removed, without its line end."""
    one = header.fields[index]
    value = _SIGNATURE_VALUE.sub(rb"\1", one.value, count=1)
    if form == "relaxed":
        return relax_field(one.name, value)
    return one.label + b":" + value.removesuffix(b"\r")


def _read_names(value: str) -> tuple[bytes, ...]:
    names = [name.strip(" \t\r\n") for name in value.split(":")]
    if not all(name == "" or _FIELD_NAME.fullmatch(name) for name in names):
        raise TagError("h= holds what is no field name")
    return tuple(name.lower().encode("ascii") for name in names if name)
