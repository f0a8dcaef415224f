"""Address lists of other people: RFC 5322 section 3.4 and appendix A, and what programs write."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailhost.message.mailboxes import ParsedAddress, parse_mailboxes

CASES = [
    ("bob@example.org", [("bob@example.org", "")]),
    ("Bob <bob@example.org>", [("bob@example.org", "Bob")]),
    ('"Doe, John" <j@x.org>, Jane <k@x.org>', [("j@x.org", "Doe, John"), ("k@x.org", "Jane")]),
    ("=?utf-8?q?J=C3=BCrgen?= =?utf-8?q?_X?= <j@x.org>", [("j@x.org", "Jürgen X")]),
    ('"=?utf-8?q?J=C3=BCrgen?=" <j@x.org>', [("j@x.org", "Jürgen")]),
    ("undisclosed-recipients:;", []),
    ("Group: a@x.org, C <c@x.org>;, e@x.org", [("a@x.org", ""), ("c@x.org", "C"), ("e@x.org", "")]),
    ("bob@x.org (Bob (the) Builder)", [("bob@x.org", "Bob (the) Builder")]),
    ("Pete(A nice \\) chap) <pete(his account)@silly.test(his host)>", [("pete@silly.test", "Pete")]),
    ("bob @ x . org", [("bob@x.org", "")]),
    ("Bob Smith bob@x.org", [("bob@x.org", "Bob Smith")]),
    ("<@a.org,@b.org:user@x.org>", [("user@x.org", "")]),
    ('"john doe"@x.org', [('"john doe"@x.org', "")]),
    ('<"john>doe"@x.org>', [('"john>doe"@x.org', "")]),
    ("Re: Bob <a@x.org>", [("a@x.org", "Re: Bob")]),
    ('"unclosed <a@x.org>, b@x.org', [("a@x.org", "unclosed"), ("b@x.org", "")]),
    ("<a@x.org", [("a@x.org", "")]),
    ("root", [("root", "")]),
    ("<mailto:a@x.org>", [("a@x.org", "")]),
    ("<>", []),
    ("", []),
    (",,, ;", []),
    ("Bob\t \t<a@x.org>", [("a@x.org", "Bob")]),
    ("Bob   B <a@x.org>", [("a@x.org", "Bob B")]),
    ("Bob <a@x.org> <b@x.org>", [("a@x.org", "Bob")]),
    ('"a\\"b\\\\c" <a@x.org>', [("a@x.org", 'a"b\\c')]),
    ("用户 <用户@例子.广告>", [("用户@例子.广告", "用户")]),
]


@pytest.mark.parametrize(("text", "expected"), CASES)
def test_addresses_are_found(text: str, expected: list[tuple[str, str]]) -> None:
    assert parse_mailboxes(text) == [ParsedAddress(address, name) for address, name in expected]


def test_the_number_of_addresses_is_bounded() -> None:
    assert len(parse_mailboxes("a@x.org," * 5000)) == 1000


def test_what_is_too_long_for_an_address_is_none() -> None:
    assert parse_mailboxes("x" * 400 + "@x.org, ok@x.org") == [ParsedAddress("ok@x.org")]


@given(st.text(st.sampled_from('ab@.<>()[],;:"\\ \n='), max_size=60))
def test_any_text_is_read_without_raising(text: str) -> None:
    for one in parse_mailboxes(text):
        assert one.address


@pytest.mark.parametrize("piece", ['<\\",', '"\\', "(", "(\\", '<"', "a,", ":", "a:", "<a", '"a"', "=?a?q?"])
def test_hostile_lists_are_read_in_one_pass(piece: str) -> None:
    parse_mailboxes(piece * (64 * 1024 // len(piece)))
