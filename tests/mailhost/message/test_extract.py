"""Previews, the new words of a reply, and text that can be stored."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailhost.message.extract import extract_reply_text, make_preview, storable

REPLIES = [
    ("Thanks!\n\nOn Mon, Sep 1, 2025 at 10:00 AM Bob <bob@x.org> wrote:\n> Hello\n> there\n", "Thanks!"),
    ("Thanks!\n\nOn Mon, Sep 1, 2025 at 10:00 AM Bob\n<bob@x.org> wrote:\n\n> Hello\n", "Thanks!"),
    ("Danke!\n\nAm 01.09.2025 um 10:00 schrieb Bob:\n> Hallo\n", "Danke!"),
    ("Merci\n\nLe lun. 1 sept. 2025 à 10:00, Bob <bob@x.org> a écrit :\n> Bonjour\n", "Merci"),
    ("ok\n\n-----Original Message-----\nFrom: Bob\nSent: Monday\nTo: me\nSubject: x\n\nold", "ok"),
    ("ok\n\nFrom: Bob <bob@x.org>\nSent: Monday\nTo: me\nSubject: x\n\nold words", "ok"),
    ("ok\n\n________________________________\nVon: Bob\nGesendet: Montag\nAn: mich\nBetreff: x\n\nalt", "ok"),
    ("> question one\nanswer one\n\n> question two\nanswer two\n", "answer one\n\nanswer two"),
    ("Bob wrote on 2025-09-01:\n> hi\nhello\n", "hello"),
    ("text\n-- \nBob\nCompany\n", "text"),
    ("text\n\n-- \nBob\n\nOn Mon, 1 Sep 2025 Al wrote:\n> old\n", "text"),
    ("text\n\nSent from my phone\n", "text"),
    ("Please call me.\n\nThe list:\n- one\n- two\n", "Please call me.\n\nThe list:\n- one\n- two"),
    ("As I wrote: no.\nSecond line", "As I wrote: no.\nSecond line"),
    ("From: here to there\nis far", "From: here to there\nis far"),
    ("just text", "just text"),
    ("> only a quote\n", "> only a quote"),
    ("", ""),
]


@pytest.mark.parametrize(("text", "expected"), REPLIES)
def test_quotes_and_signature_are_cut_and_nothing_else(text: str, expected: str) -> None:
    assert extract_reply_text(text) == expected
    assert extract_reply_text(text.replace("\n", "\r\n")) == expected


@pytest.mark.parametrize(
    ("text", "subject"),
    [
        (
            "see below\n\n---------- Forwarded message ---------\nFrom: Bob <b@x.org>\nSubject: y\nTo: z\n\nold",
            "",
        ),
        ("fyi\n\nBegin forwarded message:\n\n> From: Bob\n> old", ""),
        ("fyi\n\nFrom: Bob\nSent: Monday\nTo: me\nSubject: x\n\nold", "FW: x"),
        ("fyi\n\n> old", "Fwd: x"),
        ("zur Info\n\n> alt", "WG: x"),
    ],
)
def test_a_forward_keeps_what_it_forwards(text: str, subject: str) -> None:
    assert extract_reply_text(text, subject=subject) == text


@given(st.text(st.sampled_from("> \n-ab:<@1>wrote"), max_size=200))
def test_some_of_the_text_always_stays(text: str) -> None:
    assert bool(extract_reply_text(text)) == bool(text.strip())


@pytest.mark.parametrize("line", ["--\n", "> x\n", "On 1 a@b wrote:\n", "From: x\n", "a:\n", "_____\n", "x 1\n"])
def test_long_texts_are_read_in_one_pass(line: str) -> None:
    extract_reply_text(line * 5_000)
    extract_reply_text(line.strip() * 10_000)


@pytest.mark.parametrize(
    ("text", "limit", "expected"),
    [
        ("one\n\n two\tthree", 200, "one two three"),
        ("word " * 100, 20, "word word word word…"),
        ("x" * 300, 20, "x" * 19 + "…"),
        ("", 20, ""),
        ("a\u200b\u00adb", 20, "a b"),
    ],
)
def test_a_preview_is_one_line_cut_between_words(text: str, limit: int, expected: str) -> None:
    assert make_preview(text, limit) == expected


@given(st.text(), st.integers(10, 300))
def test_a_preview_is_never_longer_than_its_limit(text: str, limit: int) -> None:
    assert len(make_preview(text, limit)) <= limit


@given(st.text(st.characters()))
def test_any_text_becomes_storable(text: str) -> None:
    stored = storable(text)
    assert "\0" not in stored
    stored.encode("utf-8")
    if "\0" not in text and text.isascii():
        assert stored == text


def test_halves_of_a_character_are_joined_and_lonely_ones_replaced() -> None:
    assert storable("\ud83c\udf89") == "🎉"
    assert storable("a\ud800b\0") == "a\ufffdb\ufffd"
