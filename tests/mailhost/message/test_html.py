"""Text from HTML mail."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailhost.message.html import MAX_INPUT, html_to_text


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("plain", "plain"),
        ("<p>one</p><p>two</p>", "one\n\ntwo"),
        ("<div>one</div><div>two</div>", "one\ntwo"),
        ("one<br>two<br/>three", "one\ntwo\nthree"),
        ("one<br><br>two", "one\n\ntwo"),
        ("<p>one</p><p><br></p><p>two</p>", "one\n\ntwo"),
        ("a  \n  b", "a b"),
        ("a&nbsp;b &amp; &lt;c&gt; &#8364;", "a b & <c> €"),
        ("<a href='https://x.org/?a=1&amp;b=2'>click</a> here", "click <https://x.org/?a=1&b=2> here"),
        ("<a href=https://x.org/>https://x.org</a>", "https://x.org"),
        ("<a href='mailto:a@x.org'>a@x.org</a>", "a@x.org"),
        ("<a href='javascript:alert(1)'>x</a>", "x"),
        ("<a href='https://x.org'><img src=y></a>", "<https://x.org>"),
        ("<ul><li>one<li>two</ul>", "- one\n- two"),
        ("<table><tr><td>a</td><td>b</td></tr><tr><td>c</td></tr></table>", "a b\nc"),
        ("<pre>x  y\n  z</pre>", "x  y\n  z"),
        (
            "On Monday Bob wrote:<blockquote>one<p>two</p></blockquote>three",
            "On Monday Bob wrote:\n\n> one\n>\n> two\n\nthree",
        ),
        ("<head><title>t</title></head>x<style>p{}</style><script>if (a</p>b) {}</script>y", "xy"),
        ("<title>never closed<p>body", "never closed\n\nbody"),
        ("a<!-- <p>hidden</p> -->b", "ab"),
        ("a<!DOCTYPE html>b<?xml ?>c", "abc"),
        ("1 < 2 <3 a</b>", "1 < 2 <3 a"),
        ('<p title="a > b">x</p>', "x"),
        ('<p title="never closed>x</p><p>y</p>', "x\n\ny"),
        ("x<p unfinished", "x"),
        ("<img alt='a logo' src=x>", "a logo"),
        ("one\u200b\u00ad two", "one two"),
        ("&#" + "9" * 5000 + ";", "&#" + "9" * 5000 + ";"),
        ("", ""),
    ],
)
def test_html_reads_as_text(source: str, expected: str) -> None:
    assert html_to_text(source) == expected


@given(st.text(st.sampled_from("<>/!-\"'= apbr&#;1\n"), max_size=80))
def test_any_html_is_read_without_raising(source: str) -> None:
    html_to_text(source)


@pytest.mark.parametrize(
    "piece",
    [
        "<!--",
        "<a ",
        '<a "',
        '<a ">',
        "<title>",
        "<head>",
        "<p>",
        "<br>",
        "&#1",
        "<blockquote>x",
        "<",
        '<a href="http://x">y',
    ],
)
def test_hostile_html_is_read_in_one_pass(piece: str) -> None:
    html_to_text(piece * (50_000 // len(piece)))


def test_the_input_is_bounded() -> None:
    assert len(html_to_text("x" * (2 * MAX_INPUT))) == MAX_INPUT
