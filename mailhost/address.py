"""Mail addresses and domain names: strict reading, and the keys they are compared by.

RFC 5321 section 4.1.2 (Mailbox) and 4.1.3 (address literals), section 4.5.3.1 (lengths), RFC 6531 section 3.3
(UTF-8 in both parts), RFC 5890-5893 with UTS #46 mapping (internationalised domains), RFC 5233 (`+tag`).

What is read here is written into SMTP commands and headers, so nothing that RFC 5321 forbids passes.
Addresses found in other people's mail are another matter: `mailhost.message.parse` reads those, leniently.
"""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

import idna

from mailhost.errors import InvalidAddress, InvalidDomain

MAX_LOCAL_OCTETS = 64  # RFC 5321 4.5.3.1.1
MAX_DOMAIN_OCTETS = 253  # RFC 5321 4.5.3.1.2 says 255, counting the two that the DNS needs itself
MAX_ADDRESS_OCTETS = 254  # RFC 5321 4.5.3.1.3: a path of 256 less its two brackets (RFC 3696 erratum 1690)
MAX_NAME_LENGTH = 500  # characters of a display name; no standard says, no person needs more

_ATEXT = r"A-Za-z0-9!#$%&'*+/=?^_`{|}~\-"
_NOT_ASCII = r"\u00a0-\U0010ffff"
_DOT_ATOM = re.compile(rf"[{_ATEXT}{_NOT_ASCII}]+(?:\.[{_ATEXT}{_NOT_ASCII}]+)*")
_QUOTED = re.compile(rf'"(?:[ !#-\[\]-~{_NOT_ASCII}]|\\[ -~])*"')
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_ASCII_DOMAIN = re.compile(rf"{_LABEL.pattern}(?:\.{_LABEL.pattern})*")
_ASCII_ADDRESS = re.compile(
    rf"([{_ATEXT}]+(?:\.[{_ATEXT}]+)*)@([A-Za-z0-9][A-Za-z0-9-]*(?:\.[A-Za-z0-9][A-Za-z0-9-]*)*)"
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_NAME_NEEDS_QUOTES = re.compile(r'[<>,;"]')

# Controls that reorder what people see: only ever used to disguise an address.
_BIDI_CONTROLS = frozenset("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
# Spaces, controls, lone surrogates and private use are nobody's mailbox name.
_REFUSED_CATEGORIES = frozenset({"Cc", "Cs", "Co", "Zs", "Zl", "Zp"})


@dataclass(frozen=True, slots=True)
class Address:
    """A mailbox: the local part as it was written (quotes included) and the domain as it was written.

    Make one with `parse_address`; the constructor checks nothing.
    """

    local: str
    domain: str

    @property
    def text(self) -> str:
        """The address as it was given."""
        return f"{self.local}@{self.domain}"

    @property
    def ascii_domain(self) -> str:
        """The domain as lower-case A-labels, as DNS and SMTP want it (an address literal stays one)."""
        return self.domain.lower() if self.is_literal else domain_key(self.domain)

    @property
    def wire(self) -> str:
        """The address as it is written on the wire: local part untouched, domain in ASCII.

        With an ASCII local part this needs no SMTPUTF8, whatever the domain (RFC 6531 section 3.2).
        """
        return f"{self.local}@{self.ascii_domain}"

    @property
    def key(self) -> str:
        """What addresses are compared by: domain as A-label, local part unquoted if possible, NFC, lower."""
        return f"{_local_key(_unquote(self.local))}@{self.ascii_domain}"

    @property
    def untagged_key(self) -> str:
        """The key without a `+tag`. For mailboxes of our own only: elsewhere `+` may mean anything."""
        return f"{_local_key(_split_tag(_unquote(self.local))[0])}@{self.ascii_domain}"

    @property
    def tag(self) -> str | None:
        """What follows the first `+` of the local part (RFC 5233 "detail"); None without one."""
        return _split_tag(_unquote(self.local))[1]

    @property
    def needs_smtputf8(self) -> bool:
        """Whether only a server with SMTPUTF8 can take it (RFC 6531). The domain never asks for that."""
        return not self.local.isascii()

    @property
    def is_literal(self) -> bool:
        """Whether the domain is an address literal such as `[192.0.2.1]` (RFC 5321 section 4.1.3)."""
        return self.domain.startswith("[")

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class NamedAddress:
    """An address and the name shown beside it (empty when there is none)."""

    address: Address
    name: str = ""

    @property
    def text(self) -> str:
        """`Name <address>`, quoted where needed; `parse_named_address` reads it back."""
        if not self.name:
            return self.address.text
        name = self.name
        if _NAME_NEEDS_QUOTES.search(name) or "\\" in name or name != name.strip():
            name = '"' + re.sub(r'(["\\])', r"\\\1", name) + '"'
        return f"{name} <{self.address.text}>"

    def __str__(self) -> str:
        return self.text


def parse_address(text: str) -> Address:
    """Read a bare address (`local@domain`), strictly by RFC 5321 and RFC 6531.

    No comments, no folding, no space around it, no angle brackets: those belong to headers. Quoted local
    parts and address literals are allowed. Raises `InvalidAddress` with a sentence that says what is wrong.
    """
    plain = _ASCII_ADDRESS.fullmatch(text)
    if plain is not None:  # nearly every address; the rules below say the same, slower
        local, domain = plain.groups()
    else:
        local, domain = _split_address(text)
    if len(local.encode("utf-8")) > MAX_LOCAL_OCTETS:
        raise InvalidAddress(f"The part before the @ is longer than {MAX_LOCAL_OCTETS} octets.")
    address = Address(local, domain)
    try:
        ascii_domain = _parse_literal(domain) if address.is_literal else domain_key(domain)
    except InvalidDomain as error:
        raise InvalidAddress(error.message) from error
    _check_lengths(address, ascii_domain)
    return address


def parse_named_address(text: str) -> NamedAddress:
    """Read one address with or without a name: `a@b`, `<a@b>`, `Name <a@b>`, `"Name, with comma" <a@b>`.

    A name with a comma, semicolon, bracket or quote must be quoted: otherwise a list of addresses handed over
    as one string would silently become one address with a strange name. Raises `InvalidAddress`.
    """
    text = text.strip(" \t")
    if not text.endswith(">"):
        return NamedAddress(parse_address(text))
    if text.startswith('"'):
        phrase, rest = _split_quoted_name(text)
    else:
        phrase, bracket, rest = text.partition("<")
        rest = bracket + rest
        phrase = phrase.strip(" \t")
        if _NAME_NEEDS_QUOTES.search(phrase):
            raise InvalidAddress('A name with any of , ; < > " must be put in double quotes.')
    if not rest.startswith("<"):
        raise InvalidAddress("Between the name and the address must stand a <.")
    if _CONTROL.search(phrase):
        raise InvalidAddress("A name cannot hold line breaks or other control characters.")
    if len(phrase) > MAX_NAME_LENGTH:
        raise InvalidAddress(f"The name is longer than {MAX_NAME_LENGTH} characters.")
    return NamedAddress(parse_address(rest[1:-1]), phrase)


@lru_cache(maxsize=4096)
def domain_key(name: str) -> str:
    """The lower-case A-label form of a domain name: what domains are compared by and looked up with.

    IDNA 2008 with UTS #46 mapping (capitals, full-width letters, ideographic dots). A label that already is
    ASCII only has to be letters, digits and hyphens: registries hold A-labels that IDNA 2008 would not make,
    and mail to them must work. A last label of digits only is refused, as resolvers take it for an IPv4
    address (RFC 3696 section 2). Raises `InvalidDomain`.
    """
    if len(name) > MAX_DOMAIN_OCTETS:
        raise InvalidDomain(f"A domain name is at most {MAX_DOMAIN_OCTETS} octets long.")
    ascii_name = name.lower() if name.isascii() else _encode_domain(name)
    if len(ascii_name) > MAX_DOMAIN_OCTETS:
        raise InvalidDomain(f"A domain name is at most {MAX_DOMAIN_OCTETS} octets long.")
    if _ASCII_DOMAIN.fullmatch(ascii_name) is None:
        raise InvalidDomain(
            "A domain name is made of labels of 1 to 63 letters, digits and inner hyphens, with dots between."
        )
    if ascii_name.rpartition(".")[2].isdigit():
        raise InvalidDomain("A domain name cannot end in a label of digits only.")
    return ascii_name


def _encode_domain(name: str) -> str:
    """A-labels for the labels that are not ASCII; the others only mapped."""
    try:
        mapped = idna.uts46_remap(name, std3_rules=True, transitional=False)
        labels = mapped.split(".")
        if len(labels) > MAX_DOMAIN_OCTETS // 2 + 1:
            raise InvalidDomain("A domain name has at most 127 labels.")
        return ".".join(label if label.isascii() else idna.alabel(label).decode("ascii") for label in labels).lower()
    except (idna.IDNAError, UnicodeError) as error:
        raise InvalidDomain("A domain name holds characters that no domain name may hold.") from error


def _split_address(text: str) -> tuple[str, str]:
    """Local part and domain of an address that the quick pattern did not know."""
    if len(text) > MAX_ADDRESS_OCTETS:
        raise InvalidAddress(f"An address is at most {MAX_ADDRESS_OCTETS} octets long.")
    local, at, domain = text.rpartition("@")
    if not at:
        raise InvalidAddress("An address needs an @ between mailbox and domain.")
    if not local or not domain:
        raise InvalidAddress("An address needs something on both sides of the @.")
    if _DOT_ATOM.fullmatch(local) is None and _QUOTED.fullmatch(local) is None:
        raise InvalidAddress("The part before the @ holds dots or characters that need quotes or are forbidden.")
    if not local.isascii() and any(_is_refused(char) for char in local):
        raise InvalidAddress("The part before the @ holds invisible or control characters.")
    return local, domain


def _is_refused(char: str) -> bool:
    if char.isascii():
        return False
    return char in _BIDI_CONTROLS or unicodedata.category(char) in _REFUSED_CATEGORIES


def _parse_literal(domain: str) -> str:
    """Check an address literal (RFC 5321 section 4.1.3) and return it in lower case."""
    inner = domain[1:-1]
    try:
        if not domain.endswith("]"):
            raise ValueError("no closing bracket")
        if inner[:5].lower() == "ipv6:":
            if "%" in inner:
                raise ValueError("a zone index means nothing to another host")
            ipaddress.IPv6Address(inner[5:])
        else:
            ipaddress.IPv4Address(inner)
    except ValueError as error:
        raise InvalidDomain("An address literal is [IPv4] or [IPv6:address].") from error
    return domain.lower()


def _check_lengths(address: Address, ascii_domain: str) -> None:
    """Bound the address in every form it is written in: as given, on the wire, as key."""
    local = address.local
    octets = len(local.encode("utf-8"))
    longest_domain = max(len(address.domain.encode("utf-8")), len(ascii_domain))
    if octets + 1 + longest_domain > MAX_ADDRESS_OCTETS:
        raise InvalidAddress(f"An address is at most {MAX_ADDRESS_OCTETS} octets long.")
    if not local.isascii():
        key_octets = len(_local_key(_unquote(local)).encode("utf-8"))
        # Normalising can make a string longer; the key must fit wherever the address fits.
        if key_octets > MAX_LOCAL_OCTETS or key_octets + 1 + longest_domain > MAX_ADDRESS_OCTETS:
            raise InvalidAddress(f"The part before the @ is longer than {MAX_LOCAL_OCTETS} octets.")


def _unquote(local: str) -> str:
    """The meaning of a local part: `"john"` and `john` are the same mailbox (RFC 5321 section 4.1.2)."""
    if not local.startswith('"'):
        return local
    return re.sub(r"\\(.)", r"\1", local[1:-1])


def _local_key(meaning: str) -> str:
    """Fold a local part's meaning for comparison, and quote it again only where it must be."""
    if meaning.isascii():
        folded = meaning.lower()
    else:
        # NFC twice: lowering can leave a sequence that composes.
        folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", meaning).lower())
    if _DOT_ATOM.fullmatch(folded) is not None:
        return folded
    return '"' + re.sub(r'(["\\])', r"\\\1", folded) + '"'


def _split_tag(meaning: str) -> tuple[str, str | None]:
    base, plus, tag = meaning.partition("+")
    if not plus or not base:
        return meaning, None
    return base, tag


def _split_quoted_name(text: str) -> tuple[str, str]:
    """The unquoted name at the start of `text`, and what follows it."""
    match = re.match(r'"((?:[^"\\]|\\.)*)"[ \t]*', text)
    if match is None:
        raise InvalidAddress("The name's double quotes are not closed.")
    return re.sub(r"\\(.)", r"\1", match[1]), text[match.end() :]
