"""Reading mail: bounds, body choice, charsets, automatic mail, and that nothing raises."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailhost.message.mime import ParseLimits
from mailhost.message.parse import NoSuchPart, ParsedMessage, parse_message, read_attachment

HEAD = b"From: a@example.org\r\nDate: Mon, 1 Sep 2025 10:00:00 +0000\r\n"


def multipart(kind: str, *parts: bytes, boundary: str = "b") -> bytes:
    joined = b"".join(b"--" + boundary.encode() + b"\r\n" + part + b"\r\n" for part in parts)
    return (
        f'Content-Type: multipart/{kind}; boundary="{boundary}"\r\n\r\n'.encode()
        + joined
        + f"--{boundary}--\r\n".encode()
    )


def part(content_type: str, body: bytes, *headers: str) -> bytes:
    lines = [f"Content-Type: {content_type}", *headers]
    return "".join(f"{line}\r\n" for line in lines).encode() + b"\r\n" + body


def parse(raw: bytes) -> ParsedMessage:
    return parse_message(HEAD + raw)


# The header


def test_what_is_missing_is_empty() -> None:
    message = parse_message(b"")
    assert message == ParsedMessage(defects=["missing_date"])
    assert not message.auto_submitted


def test_the_header_list_is_decoded_and_complete() -> None:
    message = parse(b"X-A: =?utf-8?q?=C3=A4?=\r\nx-a: two\r\n folded\r\nX-Empty:\r\n\r\n")
    assert message.headers[2:] == [["X-A", "ä"], ["x-a", "two folded"], ["X-Empty", ""]]


def test_no_text_holds_what_the_database_cannot_store() -> None:
    message = parse(
        b'Subject: nul \0 here\r\nTo: "a\0b" <x\0@y.org>\r\nX: =?utf-7?q?+2D0-?=\r\nMessage-ID: <a\0b@c>\r\n'
        b"Content-Type: text/plain; charset=utf-7\r\n\r\n+2D0- and \0\r\n"
    )
    assert message.subject == "nul \ufffd here"
    assert message.text == "\ufffd and \ufffd\n"
    assert message.headers[4] == ["X", "\ufffd"]
    assert "\0" not in message.to[0].address + message.to[0].name + message.message_id


def test_a_name_of_nothing_but_encoded_nuls_is_storable() -> None:
    message = parse(b"Cc: =?utf-8?b?AAAA?= <a@b.example>\r\n\r\n")
    assert message.cc[0].name == "\ufffd" * 3


def test_line_ends_may_be_bare_lf() -> None:
    message = parse_message(
        HEAD.replace(b"\r\n", b"\n") + multipart("mixed", part("text/plain", b"hi")).replace(b"\r\n", b"\n")
    )
    assert message.text == "hi"
    assert message.defects == []


def test_a_line_that_is_no_field_starts_the_body() -> None:
    message = parse(b"Subject: x\r\nno colon here\r\nTo: late@example.org\r\n\r\nrest\r\n")
    assert message.defects == ["missing_blank_line"]
    assert message.to == []
    assert message.text == "no colon here\nTo: late@example.org\n\nrest\n"


def test_a_message_may_end_with_its_header() -> None:
    assert parse_message(HEAD + b"Subject: x").subject == "x"


@pytest.mark.parametrize("field", [b"From: one@x.org\r\nFrom: two@x.org\r\n", b"Subject: one\r\nSubject: two\r\n"])
def test_a_field_that_may_stand_once_is_a_defect_when_doubled(field: bytes) -> None:
    message = parse_message(field + b"\r\n")
    assert any(defect.startswith("duplicate_") for defect in message.defects)
    assert "two" not in message.subject + "".join(one.address for one in message.from_)


def test_recipients_of_repeated_fields_are_all_kept() -> None:
    assert [one.address for one in parse(b"To: a@x.org\r\nTo: b@x.org\r\n\r\n").to] == ["a@x.org", "b@x.org"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Mon, 1 Sep 2025 10:00:00 +0200", datetime(2025, 9, 1, 8, tzinfo=UTC)),
        ("1 Sep 25 10:00 EST", datetime(2025, 9, 1, 15, tzinfo=UTC)),
        ("Mon, 1 Sep 2025 10:00:00 -0000", datetime(2025, 9, 1, 10, tzinfo=UTC)),
        ("Mon, 1 Sep 2025 10:00:00", datetime(2025, 9, 1, 10, tzinfo=UTC)),
        ("Mon, 1 Sep 2025 10 : 00 : 00 +0000 (comment)", datetime(2025, 9, 1, 10, tzinfo=UTC)),
        ("yesterday", None),
        ("Mon, 1 Sep 99999 10:00:00 +0000", None),
        ("Mon, 1 Sep 2025 10:00:00 +9999", None),
        ("Mon, 1 Sep 2025 10:00:00 +99999999999999999999", None),
        ("9" * 5000, None),
        ("", None),
    ],
)
def test_dates_are_utc_or_none(text: str, expected: datetime | None) -> None:
    message = parse_message(f"Date: {text}\r\n\r\n".encode())
    assert message.date == expected
    assert message.date is None or message.date.utcoffset() == timedelta(0)


def test_message_ids_are_found_in_whatever_stands_around_them() -> None:
    message = parse(
        b'Message-ID: bare@x.org\r\nIn-Reply-To: Your message of "Monday" <one@x.org>\r\n'
        b"References: <a@x.org>\r\n\t<b\r\n c@x.org> (comment) <a@x.org>, <d@x.org>\r\n\r\n"
    )
    assert message.message_id == "<bare@x.org>"
    assert message.in_reply_to == ["<one@x.org>"]
    assert message.references == ["<a@x.org>", "<bc@x.org>", "<d@x.org>"]


def test_endless_references_keep_the_root_and_the_newest() -> None:
    many = " ".join(f"<{number}@x.org>" for number in range(5000))
    references = parse(f"References: {many}\r\n\r\n".encode()).references
    assert len(references) == 200
    assert (references[0], references[-1]) == ("<0@x.org>", "<4999@x.org>")


@pytest.mark.parametrize(
    ("field", "kind"),
    [
        ("Auto-Submitted: auto-generated", "generated"),
        ("Auto-Submitted: auto-replied (vacation)", "replied"),
        ("Auto-Submitted: auto-notified; owner-email=x", "notified"),
        ("Auto-Submitted: no", ""),
        ("Auto-Submitted: something-new", "generated"),
        ("Precedence: bulk", "bulk"),
        ("Precedence: Junk", "bulk"),
        ("Precedence: auto_reply", "replied"),
        ("Precedence: list", ""),
        ("X-Autoreply: yes", "replied"),
        ("X-Autoreply: no", ""),
        ('Content-Type: multipart/report; report-type=delivery-status; boundary="b"', "report"),
        ('Content-Type: multipart/report; report-type=feedback-report; boundary="b"', "report"),
        ("X-Nothing: here", ""),
    ],
)
def test_automatic_mail_is_recognised(field: str, kind: str) -> None:
    message = parse(f"{field}\r\n\r\n--b\r\n\r\nx\r\n--b--\r\n".encode())
    assert message.automatic == kind
    assert message.auto_submitted is bool(kind)


# The body


def test_the_last_alternative_is_the_html_and_the_first_the_text() -> None:
    message = parse(multipart("alternative", part("text/plain", b"plain"), part("text/html", b"<b>html</b>")))
    assert (message.text, message.html, message.attachments) == ("plain", "<b>html</b>", [])


def test_text_parts_of_a_mixed_are_one_text() -> None:
    message = parse(multipart("mixed", part("text/plain", b"one\r\n"), part("text/plain", b"two")))
    assert message.text == "one\n\ntwo"


def test_html_between_text_is_part_of_both() -> None:
    message = parse(
        multipart(
            "mixed", part("text/plain", b"before <"), part("text/html", b"<p>middle</p>"), part("text/plain", b"after")
        )
    )
    assert message.text == "before <\n\nmiddle\n\nafter"
    assert "<p>middle</p>" in message.html
    assert "before &lt;" in message.html


@pytest.mark.parametrize(
    ("content_type", "headers"),
    [
        ("text/plain", ["Content-Disposition: attachment"]),
        ("text/plain", ["Content-Disposition: attachment; filename=notes.txt"]),
        ("text/plain", ["Content-Disposition: unheard-of"]),
        ('text/plain; name="notes.txt"', []),
        ("text/html", ["Content-Disposition: attachment; filename=page.html"]),
        ("text/csv", []),
        ("application/json", []),
        ("image/png", []),
    ],
)
def test_what_is_no_body_is_an_attachment(content_type: str, headers: list[str]) -> None:
    message = parse(multipart("mixed", part("text/plain", b"body"), part(content_type, b"file", *headers)))
    assert message.text == "body"
    assert message.html == ""
    assert [one.part for one in message.attachments] == ["2"]


def test_a_mail_that_is_a_file_has_no_text() -> None:
    message = parse(part("application/pdf; name=a.pdf", base64.b64encode(b"%PDF"), "Content-Transfer-Encoding: base64"))
    assert message.text == ""
    assert [(one.part, one.filename, one.size) for one in message.attachments] == [("1", "a.pdf", 4)]


def test_attachment_paths_count_like_imap_and_stay_readable() -> None:
    inner = multipart("mixed", part("text/plain", b"deep"), part("application/x", b"file"), boundary="inner")
    raw = HEAD + multipart("mixed", part("text/plain", b"top"), inner, part("application/y", b"last"))
    message = parse_message(raw)
    assert [one.part for one in message.attachments] == ["2.2", "3"]
    assert read_attachment(raw, "2.2") == b"file"
    assert read_attachment(raw, "3") == b"last"
    assert read_attachment(raw, "2.1") == b"deep"
    for missing in ("", "2", "4", "2.3", "x"):
        with pytest.raises(NoSuchPart):
            read_attachment(raw, missing)


def test_an_inline_image_says_so() -> None:
    image = part("image/png", b"x", "Content-ID: <logo@x>", "Content-Disposition: inline; filename=logo.png")
    message = parse(multipart("related", part("text/html", b"<img src='cid:logo@x'>"), image))
    assert [(one.content_id, one.disposition, one.filename) for one in message.attachments] == [
        ("logo@x", "inline", "logo.png")
    ]


@pytest.mark.parametrize(
    ("label", "octets", "expected"),
    [
        ("utf-8", "ä€🎉".encode(), "ä€🎉"),
        ("UTF8", "ä".encode(), "ä"),
        ("iso-8859-1", b"\x93quotes\x94 \x80", "“quotes” €"),
        ("latin1", b"\xe4", "ä"),
        ("us-ascii", "ä".encode(), "ä"),
        ("us-ascii", b"\xe4", "ä"),
        ("iso-8859-15", b"\xa4", "€"),
        ("gb2312", "镕€".encode("gb18030"), "镕€"),
        ("ks_c_5601-1987", "똠".encode("cp949"), "똠"),
        ("shift_jis", "①".encode("cp932"), "①"),
        ("iso-2022-jp", "日本".encode("iso2022_jp"), "日本"),
        ("big5", "中文".encode("big5"), "中文"),
        ("koi8-r", "привет".encode("koi8-r"), "привет"),
        ("windows-1251", "привет".encode("cp1251"), "привет"),
        ("utf-16", "hi".encode("utf-16"), "hi"),
        ("utf-7", b"Hi +AOQ-", "Hi ä"),
        ("unknown-8bit", "ä".encode(), "ä"),
        ("x-no-such-charset", b"\xe4", "ä"),
        ("", b"\xe4", "ä"),
        ("utf-8", b"\xe4 cut", "\ufffd cut"),
        ("zlib", b"\xe4", "ä"),
        ("idna", b"\xe4", "ä"),
        ("unicode_escape", b"\\u0041", "\\u0041"),
        ("x" * 500, b"\xe4", "ä"),
        ("utf-8*en", "ä".encode(), "ä"),
    ],
)
def test_charsets_are_read_as_browsers_read_them(label: str, octets: bytes, expected: str) -> None:
    assert parse(part(f'text/plain; charset="{label}"', octets)).text == expected


def test_a_byte_order_mark_is_not_text() -> None:
    assert parse(part("text/plain; charset=utf-8", "\ufeffhi".encode())).text == "hi"


@pytest.mark.parametrize(
    ("encoding", "octets", "expected"),
    [
        ("quoted-printable", b"a=C3=A4=\r\nb=20\r\n", "aäb \n"),
        ("quoted-printable", b"soft= \t\r\nbreak", "softbreak"),
        ("quoted-printable", b"bad =ZZ and =", "bad =ZZ and "),
        ("Quoted-Printable", b"=41", "A"),
        ("base64", b"aGk=", "hi"),
        ("base64", b"aG k", "hi"),
        ("base64", b"aGk=\r\n_______\r\nlist footer", "hi"),
        ("BASE64 ", b"a!G@k=", "hi"),
        ("base64", b"a", ""),
        ("8bit", b"a=41", "a=41"),
        ("x-unheard-of", b"a=41", "a=41"),
    ],
)
def test_transfer_encodings_are_undone_as_far_as_they_go(encoding: str, octets: bytes, expected: str) -> None:
    found = parse(part("text/plain; charset=utf-8", octets, f"Content-Transfer-Encoding: {encoding}"))
    assert found.text == expected


@pytest.mark.parametrize(
    ("value", "content_type"),
    [
        ("text", "text/plain"),
        ("", "text/plain"),
        ("text/plain; charset=us-ascii (Plain text)", "text/plain"),
        ("TEXT/PLAIN", "text/plain"),
        (";charset=utf-8", "text/plain"),
    ],
)
def test_an_odd_content_type_is_plain_text(value: str, content_type: str) -> None:
    assert parse(f"Content-Type: {value}\r\n\r\nhello".encode()).text == "hello"


def test_a_multipart_without_a_boundary_is_shown_as_text() -> None:
    message = parse(b"Content-Type: multipart/mixed\r\n\r\n--x\r\n\r\nhello\r\n--x--\r\n")
    assert "hello" in message.text
    assert message.defects == ["multipart_without_boundary"]


def test_a_boundary_counts_only_on_a_line_of_its_own() -> None:
    body = b"--b\r\n\r\nno --b here\r\n--bb\r\n--b x\r\n--b--\r\nepilogue"
    raw = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + body
    assert parse(raw).text == "no --b here\n--bb\n--b x"


def test_file_names_are_made_harmless_or_made_up() -> None:
    def name(*headers: str, content_type: str = "application/pdf") -> str:
        return (
            parse(multipart("mixed", part("text/plain", b"x"), part(content_type, b"y", *headers)))
            .attachments[0]
            .filename
        )

    assert name("Content-Disposition: attachment; filename=../../etc/passwd") == "passwd"
    assert name('Content-Disposition: attachment; filename="C:\\new\\a.pdf"') == "a.pdf"
    assert name("Content-Disposition: attachment; filename*=utf-8''a%0d%0ab%00%E2%80%AEgpj.exe") == "abgpj.exe"
    assert name("Content-Disposition: attachment; filename=..") == "attachment-2.pdf"
    assert name("Content-Disposition: attachment; filename=" + "x" * 900 + ".pdf") == "x" * 196 + ".pdf"
    assert name() == "attachment-2.pdf"
    assert name(content_type="image/jpeg") == "image-2.jpg"
    assert name(content_type="application/x-unheard-of") == "attachment-2.bin"
    assert name("Content-Disposition: filename=lonely.pdf") == "lonely.pdf"


# Bounds


def test_parts_are_bounded() -> None:
    raw = HEAD + multipart("mixed", *[part("application/x", b"y")] * 30)
    message = parse_message(raw, limits=ParseLimits(parts=10))
    assert len(message.attachments) == 9
    assert message.defects == ["too_many_parts"]


def test_depth_is_bounded_and_what_is_deeper_is_kept_whole() -> None:
    raw = part("text/plain", b"inmost")
    for level in range(200):
        raw = multipart("mixed", raw, boundary=f"b{level}")
    message = parse(raw)
    assert "too_deep" in message.defects
    assert [one.content_type for one in message.attachments] == ["multipart/mixed"]
    assert b"inmost" in read_attachment(HEAD + raw, message.attachments[0].part)


def test_twenty_thousand_levels_are_no_deeper_than_fifty() -> None:
    raw = b"".join(
        b'Content-Type: multipart/mixed; boundary="b%d"\r\n\r\n--b%d\r\n' % (level, level) for level in range(20_000)
    )
    assert "too_deep" in parse(raw).defects


def test_nested_messages_are_not_opened() -> None:
    raw = b"Content-Type: message/rfc822\r\n\r\n" * 20_000
    assert len(parse(raw).attachments) == 1


def test_header_fields_and_octets_are_bounded_and_the_body_still_found() -> None:
    for header in (b"X: y\r\n" * 5000, b"X: " + b"y" * 300_000 + b"\r\n", b"X: y\r\n" + b" folded\r\n" * 50_000):
        message = parse_message(b"Subject: first\r\n" + header + b"\r\nbody")
        assert message.subject == "first"
        assert len(message.headers) <= 1000
        assert sum(len(name) + len(value) for name, value in message.headers) <= 256 * 1024
        assert message.text == "body"
        assert "header_too_large" in message.defects


@pytest.mark.parametrize("encoding", ["7bit", "quoted-printable", "base64"])
def test_text_is_bounded(encoding: str) -> None:
    body = base64.encodebytes(b"x" * 5000) if encoding == "base64" else b"x" * 5000
    raw = HEAD + part("text/plain", body, f"Content-Transfer-Encoding: {encoding}")
    message = parse_message(raw, limits=ParseLimits(text_octets=1000))
    assert len(message.text) == 1000
    assert message.defects == ["text_too_large"]


def test_many_texts_together_are_bounded_like_one() -> None:
    raw = HEAD + multipart("mixed", *[part("text/plain", b"x" * 900)] * 10)
    assert len(parse_message(raw, limits=ParseLimits(text_octets=1000)).text) == 1000


# Fuzzing

_PIECES = [
    b"\r\n", b"\n", b"\r", b"--b", b"--b--", b'Content-Type: multipart/mixed; boundary="b"\r\n', b"Content-Type: ",
    b"text/html; charset=", b"utf-7", b"iso-2022-jp", b"hz", b"multipart/", b"message/rfc822", b"zlib", b"utf-16",
    b"; name*0*=utf-7''+2D0-", b"bz2", b"idna", b"hex", b"unicode_escape", b"base64", b"uu", b"rot13", b"big5",
    b"Content-Transfer-Encoding: base64\r\n", b"Content-Transfer-Encoding: quoted-printable\r\n", b"begin 644 x\n",
    b"Content-Transfer-Encoding: x-uuencode\r\n", b"Content-Disposition: attachment; filename=", b"From: ", b"Date: ",
    b"References: ", b"Subject: ", b"=?utf-8?q?", b"=?utf-7?b?", b"?=", b"<", b">", b'"', b"\\", b"(", b")", b",", b";",
    b":", b"=", b"\0", b"\xff\xfe", b"\xed\xa0\x80", b"&#99999999999;", b"<pre>", b"<a href=", b"1", b"a@b", b" ",
]  # fmt: skip


def assert_storable(text: str) -> None:
    assert "\0" not in text
    text.encode("utf-8")


@settings(max_examples=300)
@given(st.one_of(st.binary(max_size=300), st.lists(st.sampled_from(_PIECES), max_size=40).map(b"".join)))
def test_any_octets_are_read_without_raising(raw: bytes) -> None:
    message = parse_message(raw)
    for text in (message.subject, message.text, message.html, message.message_id, *message.references):
        assert_storable(text)
    for name, value in message.headers:
        assert_storable(name)
        assert_storable(value)
    for one in (*message.from_, *message.to):
        assert_storable(one.address)
        assert_storable(one.name)
    for attachment in message.attachments:
        assert_storable(attachment.filename)
        assert attachment.filename
        assert len(read_attachment(raw, attachment.part)) == attachment.size
