"""What belongs to one conversation."""

from __future__ import annotations

import pytest

from mailhost.message.parse import ParsedMessage
from mailhost.message.threading import normalize_subject, thread_references


@pytest.mark.parametrize(
    ("subject", "expected"),
    [
        ("Hello", "hello"),
        ("Re: Hello", "hello"),
        ("RE: Fwd: re:Hello (fwd)", "hello"),
        ("Re[2]: Hello", "hello"),
        ("AW: Antw: WG: Hallo", "hallo"),
        ("Re\uff1a 你好", "你好"),
        ("[list] Re: [list] Hello", "hello"),
        ("[only a tag]", "[only a tag]"),
        ("  many   spaces ", "many spaces"),
        ("Regarding: x", "regarding: x"),
        ("Re:", ""),
        ("", ""),
        ("re: " * 500 + "x", "re: " * 219 + "re"),
    ],
)
def test_subjects_of_one_conversation_are_alike(subject: str, expected: str) -> None:
    assert normalize_subject(subject) == expected


def test_references_come_nearest_first_and_bounded() -> None:
    message = ParsedMessage(in_reply_to=["<c>"], references=["<a>", "<b>", "<c>"])
    assert thread_references(message) == ["<c>", "<b>", "<a>"]
    many = ParsedMessage(references=[f"<{number}>" for number in range(200)])
    assert thread_references(many)[:2] == ["<199>", "<198>"]
    assert len(thread_references(many)) == 50
