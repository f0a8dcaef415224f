"""Bounces and complaints that come as mail are counted once, and only for mail that was really sent."""

from datetime import datetime

import pytest
from django.utils import timezone

from apps.accounts.models import Organization
from apps.delivery.models import Delivery, Suppression
from apps.delivery.services import DeliveryResult, claim_deliveries, record_results
from apps.events.models import Event
from apps.inbound.services import IncomingMail, accept_mails
from apps.mail.models import Message
from apps.mailboxes.models import Mailbox, MailboxUsage
from mailhost.smtp.replies import Outcome
from tests.apps.conftest import MakeMailbox
from tests.apps.delivery.conftest import Send, direct, send  # noqa: F401 - fixtures

pytestmark = pytest.mark.django_db(transaction=True)

REPORT = (
    "From: MAILER-DAEMON@mx.test\r\nTo: x\r\nSubject: Undelivered\r\nMIME-Version: 1.0\r\n"
    'Content-Type: multipart/report; report-type={kind}; boundary="B"\r\n\r\n'
    "--B\r\nContent-Type: message/{kind}\r\n\r\n{fields}\r\n"
    "--B\r\nContent-Type: text/rfc822-headers\r\n\r\nMessage-ID: {message_id}\r\n\r\n--B--\r\n"
)


def arrive(mailbox: Mailbox, raw: str) -> None:
    mail = IncomingMail(
        raw=raw.encode(), mail_from="", recipients=[mailbox.address], client_ip="192.0.2.1", helo="mx.test", tls=False,
        smtputf8=False, received_at=timezone.now(),
    )  # fmt: skip
    assert [reply.code for reply in accept_mails(mails=[mail], now=timezone.now())] == [250]


def bounce(
    message: Message, address: str, action: str = "failed", status: str = "5.1.1", words: str = "550 5.1.1 gone"
) -> str:
    fields = (
        f"Final-Recipient: rfc822; {address}\r\nAction: {action}\r\nStatus: {status}\r\n"
        f"Diagnostic-Code: smtp; {words}\r\n"
    )
    return REPORT.format(kind="delivery-status", fields=fields, message_id=message.rfc_message_id)


def complaint(message: Message, *addresses: str) -> str:
    fields = "Feedback-Type: abuse\r\n" + "".join(f"Original-Rcpt-To: {address}\r\n" for address in addresses)
    return REPORT.format(kind="feedback-report", fields=fields, message_id=message.rfc_message_id)


@pytest.fixture
def sent(mailbox: Mailbox, send: Send) -> Message:  # noqa: F811
    """A message that two remote servers have taken."""
    message = send(mailbox, "a@acme.test", "b@acme.test")[0].message
    claimed = claim_deliveries(limit=10, lane_limit=10, now=timezone.now()).deliveries
    results = [DeliveryResult(delivery, Outcome.DELIVERED, timezone.now(), 250) for delivery in claimed]
    assert record_results(results=results, now=timezone.now()) == 2
    return message


def states() -> dict[str, str]:
    return dict(Delivery.objects.values_list("address", "status"))


def counts(mailbox: Mailbox) -> tuple[int, int]:
    usage = MailboxUsage.objects.get(mailbox=mailbox)
    return usage.bounce_count, usage.complaint_count


def test_a_later_bounce_counts_once_and_is_told(mailbox: Mailbox, sent: Message) -> None:
    arrive(mailbox, bounce(sent, "A@ACME.test"))
    arrive(mailbox, bounce(sent, "a@acme.test"))
    assert states() == {"a@acme.test": "bounced", "b@acme.test": "delivered"}
    assert counts(mailbox) == (1, 0)
    event = Event.objects.get(type="message.bounced")
    assert (event.data["recipient"], event.data["enhanced_code"], event.data["code"]) == ("a@acme.test", "5.1.1", 550)
    assert Message.objects.filter(mailbox=mailbox, direction="inbound").count() == 2  # the agent can read the reports


@pytest.mark.parametrize(("action", "status"), [("delayed", "4.4.1"), ("failed", "4.4.7"), ("delivered", "2.0.0")])
def test_what_is_not_for_good_does_not_count(mailbox: Mailbox, sent: Message, action: str, status: str) -> None:
    arrive(mailbox, bounce(sent, "a@acme.test", action, status))
    assert (set(states().values()), counts(mailbox)) == ({"delivered"}, (0, 0))


def test_a_complaint_counts_for_its_recipient(mailbox: Mailbox, sent: Message) -> None:
    arrive(mailbox, complaint(sent, "b@acme.test"))
    assert states() == {"a@acme.test": "delivered", "b@acme.test": "complained"}
    assert counts(mailbox) == (0, 1)
    assert Event.objects.get(type="message.complained").data["feedback_type"] == "abuse"


def test_a_complaint_without_a_name_about_two_recipients_accuses_nobody(mailbox: Mailbox, sent: Message) -> None:
    arrive(mailbox, complaint(sent))
    assert counts(mailbox) == (0, 0)


def test_a_report_to_another_mailbox_or_about_nothing_we_sent_changes_nothing(
    mailbox: Mailbox, make_mailbox: MakeMailbox, stranger: Organization, sent: Message, now: datetime
) -> None:
    arrive(make_mailbox("eve", of=stranger), bounce(sent, "a@acme.test"))
    arrive(mailbox, bounce(sent, "never@acme.test"))
    arrive(mailbox, bounce(sent, "a@acme.test").replace(sent.rfc_message_id, "<other@agents.localhost>"))
    assert (set(states().values()), counts(mailbox)) == ({"delivered"}, (0, 0))


def suppressed() -> dict[str, tuple[str, str]]:
    return {row.address: (row.reason, row.source) for row in Suppression.objects.all()}


def test_a_later_hard_bounce_suppresses_its_recipient_and_no_other(mailbox: Mailbox, sent: Message) -> None:
    arrive(mailbox, bounce(sent, "A@ACME.test"))
    assert suppressed() == {"a@acme.test": ("hard_bounce", "report: 550 5.1.1 gone")}
    event = Event.objects.get(type="message.bounced")
    assert (event.data["bounce"], event.data["bounce_reason"]) == ("hard", "unknown_recipient")


def test_a_later_bounce_for_another_reason_suppresses_nobody(mailbox: Mailbox, sent: Message) -> None:
    arrive(mailbox, bounce(sent, "a@acme.test", status="5.2.2", words="552 5.2.2 mailbox full"))
    assert states()["a@acme.test"] == "bounced"
    assert suppressed() == {}
    assert Event.objects.get(type="message.bounced").data["bounce"] == "soft"


def test_whoever_complains_is_not_written_to_again(mailbox: Mailbox, sent: Message) -> None:
    arrive(mailbox, complaint(sent, "b@acme.test"))
    assert suppressed() == {"b@acme.test": ("complaint", "report: abuse")}


def test_a_forged_report_suppresses_nobody(
    mailbox: Mailbox, make_mailbox: MakeMailbox, stranger: Organization, sent: Message
) -> None:
    arrive(make_mailbox("eve", of=stranger), bounce(sent, "a@acme.test"))
    arrive(mailbox, bounce(sent, "never@acme.test"))
    arrive(mailbox, complaint(sent, "never@acme.test"))
    assert suppressed() == {}
