"""Reports as other servers write them (RFC 3464 appendix E, RFC 5965 appendix B), and what is none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailhost.dsn.parse import Action, DeliveryReport, FeedbackReport, parse_report

HEAD = (
    "From: Mail Delivery Subsystem <MAILER-DAEMON@cs.utk.edu>\r\n"
    "To: agent@agents.test\r\n"
    "MIME-Version: 1.0\r\n"
    'Content-Type: multipart/report; report-type={kind}; boundary="B"\r\n\r\n'
)


def report(kind: str, *parts: tuple[str, str]) -> bytes:
    body = "".join(f"--B\r\nContent-Type: {content_type}\r\n\r\n{text}\r\n" for content_type, text in parts)
    return (HEAD.format(kind=kind) + body + "--B--\r\n").encode()


RETURNED = ("message/rfc822", "From: agent@agents.test\r\nMessage-ID: <m1@agents.test>\r\nSubject: x\r\n\r\nHello\r\n")


def test_a_failure_names_its_recipient_and_the_mail_it_is_about() -> None:
    raw = report(
        "delivery-status",
        ("text/plain", "Sorry."),
        (
            "message/delivery-status",
            "Reporting-MTA: dns; cs.utk.edu\r\n\r\n"
            "Original-Recipient: rfc822;louisl@larry.slip.umd.edu\r\n"
            "Final-Recipient: rfc822;louisl@larry.slip.umd.edu\r\n"
            "Action: failed\r\n"
            "Status: 5.1.1\r\n"
            "Diagnostic-Code: smtp; 550 5.1.1 no such\r\n user here\r\n",
        ),
        RETURNED,
    )
    found = parse_report(raw)
    assert isinstance(found, DeliveryReport)
    assert found.message_id == "<m1@agents.test>"
    (recipient,) = found.recipients
    assert (recipient.address, recipient.action, recipient.status) == ("louisl@larry.slip.umd.edu", "failed", "5.1.1")
    assert (recipient.code, recipient.diagnostic) == (550, "550 5.1.1 no such user here")
    assert recipient.is_permanent_failure


@pytest.mark.parametrize(
    ("action", "status", "permanent"),
    [
        ("failed", "5.2.2", True),
        ("failed", "", True),
        ("failed", "4.4.7", False),
        ("delayed", "4.2.2", False),
        ("delayed", "5.0.0", False),
        ("delivered", "2.0.0", False),
        ("relayed", "2.1.9", False),
    ],
)
def test_only_a_failure_for_good_is_permanent(action: str, status: str, permanent: bool) -> None:
    block = (
        f"Reporting-MTA: dns; a\r\n\r\nFinal-Recipient: rfc822; a@b.test\r\nAction: {action}\r\nStatus: {status}\r\n"
    )
    found = parse_report(report("delivery-status", ("message/delivery-status", block)))
    assert isinstance(found, DeliveryReport)
    assert [recipient.is_permanent_failure for recipient in found.recipients] == [permanent]


def test_several_recipients_are_read_and_odd_blocks_left_out() -> None:
    blocks = "Reporting-MTA: dns; a\r\n\r\n" + "\r\n".join(
        f"Final-Recipient: rfc822; r{number}@b.test\r\nAction: {action}\r\nStatus: 5.0.0\r\n"
        for number, action in enumerate(["Failed", "DELAYED", "exploded"])
    )
    found = parse_report(report("delivery-status", ("message/delivery-status", blocks)))
    assert isinstance(found, DeliveryReport)
    assert [(recipient.address, recipient.action) for recipient in found.recipients] == [
        ("r0@b.test", Action.FAILED),
        ("r1@b.test", Action.DELAYED),
    ]


def test_headers_alone_are_enough_to_know_the_mail() -> None:
    raw = report(
        "delivery-status",
        ("message/delivery-status", "Final-Recipient: rfc822; a@b.test\r\nAction: failed\r\nStatus: 5.1.1\r\n"),
        ("text/rfc822-headers", "Message-ID:\r\n <m2@agents.test>\r\nSubject: x\r\n"),
    )
    found = parse_report(raw)
    assert isinstance(found, DeliveryReport)
    assert (found.message_id, len(found.recipients)) == ("<m2@agents.test>", 1)


def test_a_complaint_names_its_type_and_the_mail() -> None:
    raw = report(
        "feedback-report",
        ("text/plain", "This is an email abuse report."),
        (
            "message/feedback-report",
            "Feedback-Type: abuse\r\nUser-Agent: SomeGenerator/1.0\r\nVersion: 1\r\n"
            "Original-Mail-From: <agent@agents.test>\r\nOriginal-Rcpt-To: <user@example.com>\r\n",
        ),
        RETURNED,
    )
    assert parse_report(raw) == FeedbackReport("<m1@agents.test>", "abuse", ["user@example.com"])


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"Subject: Undelivered Mail Returned to Sender\r\n\r\nIt did not arrive.\r\n",
        b"Content-Type: multipart/report; boundary=B\r\n\r\n--B\r\n\r\nno status\r\n--B--\r\n",
    ],
)
def test_other_mail_is_no_report(raw: bytes) -> None:
    assert parse_report(raw) is None


def test_a_flood_of_recipients_is_bounded() -> None:
    blocks = "\r\n".join(f"Final-Recipient: rfc822; r{n}@b.test\r\nAction: failed\r\n" for n in range(5000))
    found = parse_report(report("delivery-status", ("message/delivery-status", blocks)))
    assert isinstance(found, DeliveryReport)
    assert len(found.recipients) <= 201


@given(st.binary(max_size=400))
def test_no_octets_make_it_raise(noise: bytes) -> None:
    parse_report(noise)
    body = b"--B\r\nContent-Type: message/delivery-status\r\n\r\n" + noise + b"\r\n--B--\r\n"
    parse_report(HEAD.format(kind="delivery-status").encode() + body)
