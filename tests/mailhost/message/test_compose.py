"""Composing: RFC 5322 2.1.1 and 3.6, RFC 2045-2047, RFC 2231, RFC 6532; read back by the stdlib and by us."""

from __future__ import annotations

import base64
import email
import re
from datetime import UTC, datetime, timedelta, timezone
from email.message import EmailMessage
from email.policy import default as modern
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailhost.address import Address, NamedAddress, parse_address, parse_named_address
from mailhost.errors import InvalidHeader
from mailhost.message.compose import OutgoingAttachment, OutgoingMail, compose_message
from mailhost.message.parse import parse_message, read_attachment

NOW = datetime(2026, 3, 1, 12, 30, 5, tzinfo=UTC)
BOB = parse_named_address("Bob <bob@example.org>")


def outgoing(**changes: Any) -> OutgoingMail:
    fields: dict[str, Any] = {
        "sender": parse_named_address("My Agent <bot@agents.example>"),
        "to": [BOB],
        "subject": "Hello",
        "message_id": "<one@agents.example>",
        "date": NOW,
        "text": "Hi\n",
    }
    return OutgoingMail(**{**fields, **changes})


def compose(**changes: Any) -> bytes:
    return compose_message(outgoing(**changes)).raw


def read(raw: bytes) -> EmailMessage:
    message = email.message_from_bytes(raw, policy=modern)
    assert isinstance(message, EmailMessage)
    return message


def assert_sound(raw: bytes) -> None:
    """CRLF only, no line over 998 octets, header lines within 78 columns where they can fold."""
    assert raw.count(b"\n") == raw.count(b"\r\n") == raw.count(b"\r")
    assert max(map(len, raw.split(b"\r\n"))) <= 998
    assert raw.endswith(b"\r\n")
    assert b"\0" not in raw


def test_a_plain_mail_is_what_the_rfc_asks_for() -> None:
    raw = compose()
    assert_sound(raw)
    assert raw == (
        b"Date: Sun, 01 Mar 2026 12:30:05 +0000\r\n"
        b"From: My Agent <bot@agents.example>\r\n"
        b"To: Bob <bob@example.org>\r\n"
        b"Subject: Hello\r\n"
        b"Message-ID: <one@agents.example>\r\n"
        b"MIME-Version: 1.0\r\n"
        b"Content-Type: text/plain; charset=utf-8\r\n"
        b"Content-Transfer-Encoding: 7bit\r\n"
        b"\r\n"
        b"Hi\r\n"
    )


def test_the_date_is_written_in_utc_whatever_its_zone() -> None:
    zone = timezone(timedelta(hours=5, minutes=30))
    assert b"Date: Sun, 01 Mar 2026 07:00:00 +0000" in compose(date=datetime(2026, 3, 1, 12, 30, tzinfo=zone))
    with pytest.raises(ValueError, match="zone"):
        compose(date=datetime(2026, 3, 1))


@pytest.mark.parametrize(
    "subject",
    [
        "",
        "Plain",
        "Grüße aus Köln",
        "日本語の件名" * 20,
        "word " * 60,
        "x" * 3000,
        "ä" * 1000,
        "🎉" * 100,
        "two  spaces and   three",
        " leading and trailing ",
        "looks =?utf-8?q?encoded?= already",
        "tab\there",
        "\x01 control",
        "mixed ASCII und Umläute " * 10,
        "a" * 70 + " " * 20 + "b" * 70,
    ],
)
def test_any_subject_reads_back_the_same(subject: str) -> None:
    raw = compose(subject=subject)
    assert_sound(raw)
    assert parse_message(raw).subject == subject.strip(" ") or parse_message(raw).subject == subject
    if subject and "\x01" not in subject:
        assert read(raw)["Subject"].strip() == subject.strip()
    header = raw.partition(b"\r\n\r\n")[0]
    for line in header.split(b"\r\n"):
        if b"=?" in line:
            assert len(line) <= 76
        for word in re.findall(rb"=\?[^ ]*\?=", line):
            assert len(word) <= 75


def test_no_character_is_split_over_two_encoded_words() -> None:
    raw = compose(subject="€ä🎉" * 60)
    words = re.findall(rb"=\?utf-8\?b\?([^?]*)\?=", raw)
    assert len(words) > 5
    for word in words:
        base64.b64decode(word).decode("utf-8")


@pytest.mark.parametrize(
    "name",
    [
        "",
        "Bob",
        "Doe, Jane",
        'The "Boss"',
        "back\\slash",
        "Jürgen Groß",
        "山田太郎",
        "a@b.c",
        "<x>",
        "=?x?q?y?=",
        "x" * 200,
        "a  b",
        "Dr. No",
        "é" * 300,
    ],
)
def test_any_display_name_reads_back_the_same(name: str) -> None:
    raw = compose(to=[NamedAddress(parse_address("a@b.org"), name), BOB])
    assert_sound(raw)
    parsed = parse_message(raw)
    assert [(one.name, one.address) for one in parsed.to] == [
        (name.replace("  ", " "), "a@b.org"),
        ("Bob", "bob@example.org"),
    ]
    if name != "a  b" and len(name) < 300:  # Python puts spaces between the encoded words of a long name
        assert [one.display_name for one in read(raw)["To"].addresses] == [name, "Bob"]


def test_fifty_recipients_are_folded_between_addresses() -> None:
    many = [NamedAddress(parse_address(f"person{number}@example.org"), f"Person {number}") for number in range(50)]
    raw = compose(to=many[:25], cc=many[25:])
    assert_sound(raw)
    assert max(map(len, raw.split(b"\r\n"))) <= 78
    assert [one.address for one in parse_message(raw).to + parse_message(raw).cc] == [one.address.text for one in many]


def test_without_a_visible_recipient_the_to_field_is_an_empty_group() -> None:
    assert b"\r\nTo: undisclosed-recipients:;\r\n" in compose(to=[])


def test_bcc_cannot_be_written() -> None:
    assert "bcc" not in OutgoingMail.__dataclass_fields__
    with pytest.raises(InvalidHeader):
        compose(headers=[("Bcc", "secret@example.org")])


def test_international_domains_are_written_as_a_labels_and_need_no_smtputf8() -> None:
    composed = compose_message(outgoing(to=[NamedAddress(parse_address("bob@bücher.example"))]))
    assert not composed.needs_smtputf8
    assert composed.raw.isascii()
    assert b"To: bob@xn--bcher-kva.example\r\n" in composed.raw


def test_an_international_local_part_is_written_in_utf8_and_needs_smtputf8() -> None:
    composed = compose_message(outgoing(to=[NamedAddress(Address("jürgen", "bücher.example"), "Jürgen")]))
    assert composed.needs_smtputf8
    assert "<jürgen@xn--bcher-kva.example>".encode() in composed.raw


@pytest.mark.parametrize(
    "changes",
    [
        {"subject": "a\r\nBcc: x@y.org"},
        {"subject": "a\nb"},
        {"subject": "a\rb"},
        {"subject": "a\0b"},
        {"subject": "a\ud800b"},
        {"subject": "x" * 70_000},
        {"sender": NamedAddress(parse_address("a@b.org"), "x\r\ny")},
        {"to": [NamedAddress(parse_address("a@b.org"), "x\0y")]},
        {"headers": [("X-A", "b\r\nc")]},
        {"headers": [("X-A", "b\nc")]},
        {"headers": [("X A", "b")]},
        {"headers": [("X-A:", "b")]},
        {"headers": [("X-A\r\nBcc", "b")]},
        {"headers": [("", "b")]},
        {"headers": [("X" * 77, "b")]},
        {"headers": [("Subject", "b")]},
        {"headers": [("Content-Type", "text/html")]},
        {"headers": [("DKIM-Signature", "v=1")]},
        {"message_id": "one@example.org"},
        {"message_id": "<a b@c>"},
        {"message_id": "<a@b>\r\nX: y"},
        {"attachments": [OutgoingAttachment("a\r\nb", "text/csv", b"")]},
        {"attachments": [OutgoingAttachment("a\0b", "text/csv", b"")]},
        {"attachments": [OutgoingAttachment("x" * 256, "text/csv", b"")]},
        {"attachments": [OutgoingAttachment("a", "text/csv\r\nX: y", b"")]},
        {"attachments": [OutgoingAttachment("a", "nonsense", b"")]},
        {"attachments": [OutgoingAttachment("a", "image/png", b"", content_id="a>\r\nX: y")]},
        {"attachments": [OutgoingAttachment("a", "image/png", b"", content_id="a b")]},
    ],
)
def test_nothing_can_end_a_header_field_early(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidHeader):
        compose(**changes)


def test_what_other_peoples_mail_called_a_message_id_is_left_out() -> None:
    raw = compose(in_reply_to="<x y>", references=["<ok@b>", "<" + "x" * 999 + ">", "<ü@b>", "bare@b", "<two@b>"])
    assert b"In-Reply-To" not in raw
    assert b"References: <ok@b> <two@b>\r\n" in raw


def test_long_references_keep_the_root_and_the_newest() -> None:
    ids = [f"<{number}@example.org>" for number in range(100)]
    found = parse_message(compose(references=ids, in_reply_to=ids[-1]))
    assert found.references == [ids[0], *ids[-39:]]
    assert found.in_reply_to == [ids[-1]]


def test_extra_headers_are_written_as_given_and_folded() -> None:
    value = "<https://example.org/u/" + "x" * 200 + ">, <mailto:u@example.org?subject=unsubscribe>"
    raw = compose(headers=[("List-Unsubscribe", value), ("X-Note", "Grüße")])
    assert_sound(raw)
    headers = dict(parse_message(raw).headers)
    assert headers["List-Unsubscribe"] == value
    assert headers["X-Note"] == "Grüße"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "no line end",
        "a\nb\r\nc\rd",
        "trailing space \nand tab\t\n",
        ".\n..\n.leading dots\n",
        "From here\n>From there\n",
        "ä" * 5000,
        "日本語\n" * 300,
        "x" * 5000,
        "mostly ASCII with a few Umläute\n" * 50,
        "=3D =\n==\n",
        "-- \nsignature\n",
        "emoji 🎉\n",
        "form feed \x0c and bell \x07\n",
        "x" * 998 + "\n",
        "x" * 999 + "\n",
    ],
)
def test_any_text_reads_back_the_same_but_for_line_ends(text: str) -> None:
    expected = text.replace("\r\n", "\n").replace("\r", "\n")
    expected += "" if expected.endswith("\n") else "\n"
    raw = compose(text=text)
    assert_sound(raw)
    assert raw.isascii()
    assert parse_message(raw).text == expected
    if "\x0c" not in text:
        assert read(raw).get_content().replace("\r\n", "\n") == expected


def test_only_text_that_fits_travels_unencoded() -> None:
    assert b"Transfer-Encoding: 7bit" in compose(text="plain")
    assert b"Transfer-Encoding: quoted-printable" in compose(text="mostly plain text but for one ä")
    assert b"Transfer-Encoding: quoted-printable" in compose(text="x" * 999)
    assert b"Transfer-Encoding: base64" in compose(text="日本語" * 10)


def test_quoted_printable_lines_are_at_most_76_columns() -> None:
    raw = compose(text=("ä long line without any break " * 50 + "\n") * 3)
    assert max(map(len, raw.partition(b"\r\n\r\n")[2].split(b"\r\n"))) <= 76


def test_text_and_html_are_alternatives_with_the_text_first() -> None:
    message = read(compose(text="hi", html="<p>hi</p>"))
    assert message.get_content_type() == "multipart/alternative"
    assert [part.get_content_type() for part in message.iter_parts()] == ["text/plain", "text/html"]


def test_without_text_and_html_there_is_an_empty_text() -> None:
    message = read(compose(text=None))
    assert message.get_content_type() == "text/plain"


def test_inline_images_are_related_to_the_html_and_files_are_mixed() -> None:
    logo = OutgoingAttachment("logo.png", "image/png", b"\x89PNG", content_id="logo@x", disposition="inline")
    report = OutgoingAttachment("report.pdf", "application/pdf", b"%PDF")
    raw = compose(text="hi", html='<img src="cid:logo@x">', attachments=[report, logo])
    assert_sound(raw)
    message = read(raw)
    tree = [part.get_content_type() for part in message.walk()]
    assert tree == [
        "multipart/mixed",
        "multipart/alternative",
        "text/plain",
        "multipart/related",
        "text/html",
        "image/png",
        "application/pdf",
    ]
    parsed = parse_message(raw)
    assert parsed.defects == []
    assert [(one.part, one.filename, one.disposition, one.content_id) for one in parsed.attachments] == [
        ("1.2.2", "logo.png", "inline", "logo@x"),
        ("2", "report.pdf", "attachment", None),
    ]
    assert read_attachment(raw, "1.2.2") == b"\x89PNG"
    assert read_attachment(raw, "2") == b"%PDF"


def test_an_inline_image_without_html_is_a_file() -> None:
    logo = OutgoingAttachment("logo.png", "image/png", b"\x89PNG", content_id="logo", disposition="inline")
    assert read(compose(attachments=[logo])).get_content_type() == "multipart/mixed"


@pytest.mark.parametrize(
    "filename",
    [
        "report.pdf",
        "two words.pdf",
        'q"uote.pdf',
        "back\\slash.pdf",
        "Grüße.pdf",
        "日本語のとても長いファイル名" * 8 + ".pdf",
        "100%.pdf",
        "a;b.pdf",
        "it's.pdf",
        "=?utf-8?q?x?=.pdf",
        "x" * 200 + ".pdf",
        "",
    ],
)
def test_any_file_name_reads_back_the_same(filename: str) -> None:
    raw = compose(attachments=[OutgoingAttachment(filename, "application/pdf", b"x")])
    assert_sound(raw)
    assert max(map(len, raw.split(b"\r\n"))) <= 78
    assert raw.isascii()
    attached = next(read(raw).iter_attachments())
    assert (attached.get_filename() or "") == filename
    if filename and "\\" not in filename and len(filename) < 200:
        assert parse_message(raw).attachments[0].filename == filename


def test_binary_content_is_base64_in_76_columns_and_survives() -> None:
    content = bytes(range(256)) * 50
    raw = compose(attachments=[OutgoingAttachment("x.bin", "application/octet-stream", content)])
    assert_sound(raw)
    assert max(map(len, raw.split(b"\r\n"))) <= 78
    assert read_attachment(raw, "2") == content


def test_content_type_parameters_are_kept_but_not_a_second_name_or_boundary() -> None:
    content_type = 'text/calendar; method=REQUEST; charset="utf-8"; name=evil; boundary=x'
    raw = compose(attachments=[OutgoingAttachment("invite.ics", content_type, b"BEGIN")])
    part = next(read(raw).iter_attachments())
    assert dict(part["Content-Type"].params) == {"method": "REQUEST", "charset": "utf-8"}


def test_an_attached_message_is_not_encoded() -> None:
    inner = compose(subject="inner")
    raw = compose(attachments=[OutgoingAttachment("", "message/rfc822", inner.replace(b"\r\n", b"\n"))])
    assert_sound(raw)
    attached = next(iter(read(raw).iter_attachments()))
    assert attached.get_content_type() == "message/rfc822"
    assert attached["Content-Transfer-Encoding"] == "7bit"
    assert read_attachment(raw, "2") == inner
    assert parse_message(raw).attachments[0].filename == "inner.eml"


@pytest.mark.parametrize("inner", ["Subject: ü\r\n\r\nü\r\n".encode(), b"Subject: " + b"x" * 999 + b"\r\n\r\n"])
def test_an_attached_message_that_cannot_travel_as_it_is_goes_as_a_file(inner: bytes) -> None:
    raw = compose(attachments=[OutgoingAttachment("mail.eml", "message/rfc822", inner)])
    assert_sound(raw)
    assert raw.isascii()
    assert parse_message(raw).attachments[0].content_type == "application/octet-stream"
    assert read_attachment(raw, "2") == inner


def test_boundaries_are_new_for_each_mail() -> None:
    boundaries = {re.findall(rb'boundary="([^"]+)"', compose(html="x"))[0] for _ in range(20)}
    assert len(boundaries) == 20


_HEADER_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n\0"), max_size=300)


@settings(max_examples=60)
@given(
    subject=_HEADER_TEXT,
    name=st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=80),
    text=st.text(max_size=500),
)
def test_whatever_is_composed_is_sound_and_reads_back(subject: str, name: str, text: str) -> None:
    raw = compose(subject=subject, to=[NamedAddress(parse_address("a@b.org"), name)], text=text, html=text)
    assert_sound(raw)
    assert raw.isascii()
    parsed = parse_message(raw)
    assert parsed.subject.strip() == subject.strip()
    assert [one.address for one in parsed.to] == ["a@b.org"]
    assert parsed.defects == []
