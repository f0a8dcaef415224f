"""Addresses: RFC 5321 4.1.2 and 4.5.3.1, RFC 6531, RFC 5233, and the keys of the design."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailhost.address import Address, NamedAddress, domain_key, parse_address, parse_named_address
from mailhost.errors import InvalidAddress, InvalidDomain

VALID = [
    "simple@example.com",
    "very.common@example.com",
    "x@example.com",
    "disposable.style.email.with+symbol@example.com",
    "other.email-with-hyphen@and.subdomains.example.com",
    "user%example.com@example.org",
    "mailhost!username@example.org",
    "!#$%&'*+/=?^_`{|}~-@example.com",
    "admin@localhost",
    '" "@example.org',
    '""@example.org',
    '"john..doe"@example.org',
    '"very.(),:;<>[]\\".VERY.\\"very@\\\\ \\"very\\".unusual"@strange.example.com',
    "user-@example.org",
    "user@[192.0.2.1]",
    "user@[IPv6:2001:db8::1]",
    "1@2.com",
    "a@b-c.d1",
    "用户@例子.广告",
    "Dörte@Sörensen.example.com",
    "संपर्क@डाटामेल.भारत",
    "чебурашка@ящик-с-апельсинами.рф",
    "δοκιμή@παράδειγμα.ευ",
    "x" * 64 + "@example.com",
    "a@" + ".".join(["b" * 60] * 4),
    "r3@r3---sn-apo3qvuoxuxbt-j5pe.example",
]

INVALID = [
    "",
    "@",
    "a",
    "a@",
    "@b",
    "abc.example.com",
    "a@b@c@example.com",
    'a"b(c)d,e:f;g<h>i[j\\k]l@example.com',
    'just"not"right@example.com',
    'this is"not\\allowed@example.com',
    ".a@example.com",
    "a.@example.com",
    "a..b@example.com",
    "x" * 65 + "@example.com",
    "a@" + "b" * 64 + ".com",
    "a@" + ".".join(["b" * 63] * 4),
    "x" * 64 + "@" + ".".join(["b" * 63] * 3),
    "i_like_underscore@but_its_not_allowed.example.com",
    "a@-example.com",
    "a@example-.com",
    "a@example..com",
    "a@.example.com",
    "a@example.com.",
    "a@example.com。",
    "a@127.0.0.1",
    "a@example.123",
    "a@[127.0.0.256]",
    "a@[127.0.0.1",
    "a@[IPv6:::1%eth0]",
    "a@[tag:content]",
    "a@[]",
    " a@example.com",
    "a@example.com ",
    "a b@example.com",
    "<a@example.com>",
    "a@example.com\r\nRCPT TO:<b@example.com>",
    "a\r\n@example.com",
    '"a\r\n"@example.com',
    '"a\tb"@example.com',
    '"a\x00b"@example.com',
    '"a"b"@example.com',
    '"a\\"@example.com',
    "a\x00@example.com",
    "a@exam\x00ple.com",
    "a@exa mple.com",
    "a\u202eb@example.com",
    "a\u2028b@example.com",
    "a\u00a0b@example.com",
    "a\u0085b@example.com",
    "a\ud800b@example.com",
    "a@b\ud800.com",
    "a@\u00ad",
    "a@☃\u200d.com",
    "é" * 33 + "@example.com",
    "a(comment)@example.com",
    "a@(comment)example.com",
]


@pytest.mark.parametrize("text", VALID)
def test_what_the_rfcs_allow_is_read_and_kept_as_written(text: str) -> None:
    address = parse_address(text)
    assert address.text == text
    assert address.wire.rpartition("@")[2].isascii()


@pytest.mark.parametrize("text", INVALID)
def test_what_the_rfcs_forbid_is_refused(text: str) -> None:
    with pytest.raises(InvalidAddress) as caught:
        parse_address(text)
    assert caught.value.code == "invalid_address"


@pytest.mark.parametrize(
    ("text", "key", "untagged"),
    [
        ("Alice@Example.COM", "alice@example.com", "alice@example.com"),
        ("alice+News+2@example.com", "alice+news+2@example.com", "alice@example.com"),
        ("+alice@example.com", "+alice@example.com", "+alice@example.com"),
        ('"alice"@example.com', "alice@example.com", "alice@example.com"),
        ('"a\\lice"@example.com', "alice@example.com", "alice@example.com"),
        ('"Alice Smith"@example.com', '"alice smith"@example.com', '"alice smith"@example.com'),
        ('"a b+c"@example.com', '"a b+c"@example.com', '"a b"@example.com'),
        ("a@BÜCHER.example", "a@xn--bcher-kva.example", "a@xn--bcher-kva.example"),
        ("a@XN--BCHER-KVA.example", "a@xn--bcher-kva.example", "a@xn--bcher-kva.example"),
        ("a@ｅｘａｍｐｌｅ。com", "a@example.com", "a@example.com"),
        ("JOSE\u0301@example.com", "jos\u00e9@example.com", "jos\u00e9@example.com"),
        ("a@faß.example", "a@xn--fa-hia.example", "a@xn--fa-hia.example"),
        ("a@[IPv6:2001:DB8::1]", "a@[ipv6:2001:db8::1]", "a@[ipv6:2001:db8::1]"),
    ],
)
def test_keys_fold_what_means_the_same_mailbox(text: str, key: str, untagged: str) -> None:
    address = parse_address(text)
    assert (address.key, address.untagged_key) == (key, untagged)


@pytest.mark.parametrize(("text", "tag"), [("a+b@x.org", "b"), ("a@x.org", None), ("+b@x.org", None), ("a+@x.org", "")])
def test_the_tag_is_what_follows_the_first_plus(text: str, tag: str | None) -> None:
    assert parse_address(text).tag == tag


def test_only_a_local_part_outside_ascii_needs_smtputf8() -> None:
    assert parse_address("ü@example.com").needs_smtputf8
    international = parse_address("u@bücher.example")
    assert not international.needs_smtputf8
    assert international.wire == "u@xn--bcher-kva.example"


@pytest.mark.parametrize(
    "name", ["", ".", "a..b", "-a", "a_b", "a.", "a b", "1.2.3.4", "a" * 64, "é" * 300, "xn--\u00fc"]
)
def test_what_is_no_domain_is_refused(name: str) -> None:
    with pytest.raises(InvalidDomain):
        domain_key(name)


@pytest.mark.parametrize(
    ("text", "name", "address"),
    [
        ("a@b.org", "", "a@b.org"),
        (" <a@b.org> ", "", "a@b.org"),
        ("Bob <a@b.org>", "Bob", "a@b.org"),
        ("Bob<a@b.org>", "Bob", "a@b.org"),
        ("bob@b.org <a@b.org>", "bob@b.org", "a@b.org"),
        ('"Doe, Jane" <a@b.org>', "Doe, Jane", "a@b.org"),
        ('"Jane \\"J\\" <Doe>" <a@b.org>', 'Jane "J" <Doe>', "a@b.org"),
        ("Jürgen Groß <a@b.org>", "Jürgen Groß", "a@b.org"),
        ('"<quoted>"@b.org', "", '"<quoted>"@b.org'),
        ('Bob <"a>b"@b.org>', "Bob", '"a>b"@b.org'),
    ],
)
def test_a_name_may_stand_before_the_address(text: str, name: str, address: str) -> None:
    assert parse_named_address(text) == NamedAddress(parse_address(address), name)


@pytest.mark.parametrize(
    "text",
    [
        "Doe, Jane <a@b.org>",
        "c@d.org, Jane <a@b.org>",
        "a@b.org, c@d.org",
        "Jane <a@b.org> <c@d.org>",
        '"Jane <a@b.org>',
        '"Jane" x <a@b.org>',
        "Jane a@b.org>",
        "Ja\r\nne <a@b.org>",
        '"Ja\x00ne" <a@b.org>',
        "x" * 501 + " <a@b.org>",
        "Jane <>",
    ],
)
def test_a_name_that_could_hide_something_is_refused(text: str) -> None:
    with pytest.raises(InvalidAddress):
        parse_named_address(text)


@given(st.text(max_size=90))
def test_any_text_is_read_or_refused_and_never_else(text: str) -> None:
    try:
        address = parse_address(text)
    except InvalidAddress:
        return
    assert "\r" not in text and "\n" not in text and "\0" not in text
    assert len(address.wire.encode()) <= 254


_LOCAL = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=20)


@given(_LOCAL)
def test_a_key_is_an_address_whose_key_is_itself(local: str) -> None:
    quoted = '"' + local.replace("\\", "\\\\").replace('"', '\\"') + '"'
    for candidate in (local, quoted):
        try:
            address = parse_address(f"{candidate}@Example.com")
        except InvalidAddress:
            continue
        assert parse_address(address.key).key == address.key
        assert parse_address(address.untagged_key).untagged_key == parse_address(address.untagged_key).key or (
            parse_address(address.untagged_key).tag is not None
        )


@given(st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), max_size=40))
def test_a_named_address_written_is_read_back_the_same(name: str) -> None:
    named = NamedAddress(Address("a", "b.org"), name)
    assert parse_named_address(named.text) == named
