"""AgentSend's figures kept true by real mail: sent by the delivery loop to a server of the tests, and reports back."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from ipaddress import ip_network
from typing import Any

import pytest
from django.utils import timezone

from apps.accounts.models import SCOPES, Organization
from apps.accounts.services import create_api_key
from apps.delivery.loop import DeliveryThread
from apps.domains.models import Domain
from apps.inbound.services import IncomingMail, accept_mails
from apps.mailboxes.models import Mailbox
from tests.api.dialects.agentsend import AgentSend, check_error, check_message
from tests.apps.conftest import MakeMailbox
from tests.apps.threads import run_together
from tests.fakes.dns import FakeDns
from tests.fakes.smtp import SmtpSink

pytestmark = pytest.mark.django_db(transaction=True)

REPORT = (
    "From: MAILER-DAEMON@mx.acme.test\r\nTo: {to}\r\nSubject: About your mail\r\nMIME-Version: 1.0\r\n"
    'Content-Type: multipart/report; report-type={kind}; boundary="B"\r\n\r\n'
    "--B\r\nContent-Type: message/{kind}\r\n\r\n{fields}\r\n\r\n"
    "--B\r\nContent-Type: text/rfc822-headers\r\n\r\nMessage-ID: {message_id}\r\n\r\n--B--\r\n"
)


@pytest.fixture
def owner(organization: Organization, shared_domain: Domain, now: datetime) -> AgentSend:
    return AgentSend(create_api_key(organization=organization, name="agent", scopes=SCOPES, now=now)[1])


@pytest.fixture
def sink(settings: Any) -> Iterator[SmtpSink]:
    """The mail server of acme.test."""
    with SmtpSink() as server, FakeDns() as dns:
        settings.MAILHOST_DELIVERY = "direct"
        settings.MAILHOST_DNS_SERVERS = [dns.address]
        settings.MAILHOST_OUTBOUND_PORT = server.port
        settings.MAILHOST_PRIVATE_TARGETS = [ip_network("127.0.0.0/8")]
        dns.zone["acme.test"] = [("MX", "10 mx.acme.test")]
        dns.zone["mx.acme.test"] = [("A", "127.0.0.1")]
        yield server


@contextmanager
def delivering() -> Iterator[None]:
    thread = DeliveryThread()
    thread.start()
    try:
        yield
    finally:
        thread.stop()


def wait_until(condition: Callable[[], object], seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def arrive(address: str, raw: str, mail_from: str = "") -> None:
    mail = IncomingMail(
        raw=raw.encode(), mail_from=mail_from, recipients=[address], client_ip="192.0.2.1", helo="mx.acme.test",
        tls=False, smtputf8=False, received_at=timezone.now(),
    )  # fmt: skip
    assert [reply.code for reply in accept_mails(mails=[mail], now=timezone.now())] == [250]


def report(message: dict[str, Any], address: str, *, kind: str, fields: str) -> None:
    arrive(address, REPORT.format(to=address, kind=kind, fields=fields, message_id=message["messageIdHeader"]))


def test_a_mail_leaves_under_the_display_name_and_is_delivered(owner: AgentSend, sink: SmtpSink) -> None:
    inbox = owner.create(displayName="Süpport Agent")
    message = owner.send(inbox["id"], to=["bob@acme.test"], bodyHtml="<p>hi</p>").json()
    with delivering():
        (mail,) = sink.wait_for(1)
        wait_until(lambda: owner.get(f"/messages/{message['id']}").json()["status"] == "delivered")
    assert b"From: =?utf-8?" in mail.raw.replace(b"UTF-8", b"utf-8")
    assert inbox["address"].encode() in mail.raw
    shown = check_message(owner.get(f"/messages/{message['id']}").json())
    assert shown["sentAt"] is not None
    assert shown["fromAddress"] == f"Süpport Agent <{inbox['address']}>"
    inbox = owner.inbox(inbox["id"])
    assert (inbox["sendsToday"], inbox["totalSent"], inbox["bounceCount"]) == (1, 1, 0)


def test_bounces_and_complaints_are_counted_and_shown(owner: AgentSend, sink: SmtpSink) -> None:
    sink.refuse("rcpt", "550 5.1.1 no such user", match="gone@")
    sink.refuse("rcpt", "451 4.7.1 come again", match="grey@")
    inbox = owner.create()
    people = ("gone", "grey", "late", "cross")
    sent = {name: owner.send(inbox["id"], to=[f"{name}@acme.test"]).json() for name in people}

    def shown(name: str) -> dict[str, Any]:
        return check_message(owner.get(f"/messages/{sent[name]['id']}").json())

    with delivering():
        wait_until(lambda: [shown(name)["status"] for name in ("gone", "late", "cross")] == [
            "bounced", "delivered", "delivered"
        ])  # fmt: skip
        wait_until(lambda: shown("grey")["errorMessage"])
    assert shown("gone")["errorMessage"].endswith("no such user")
    assert shown("gone")["sentAt"] is None
    assert (shown("grey")["status"], shown("grey")["errorMessage"][-10:]) == ("queued", "come again")
    fields = "Final-Recipient: rfc822; late@acme.test\r\nAction: failed\r\nStatus: 5.1.1"
    report(sent["late"], inbox["address"], kind="delivery-status", fields=fields)
    fields = "Feedback-Type: abuse\r\nOriginal-Rcpt-To: cross@acme.test"
    report(sent["cross"], inbox["address"], kind="feedback-report", fields=fields)
    assert (shown("late")["status"], shown("cross")["status"]) == ("bounced", "complained")
    inbox = owner.inbox(inbox["id"])
    assert (inbox["bounceCount"], inbox["complaintCount"], inbox["totalSent"]) == (2, 1, 4)


def test_mail_between_two_inboxes_arrives_and_is_answered_in_its_thread(owner: AgentSend, sink: SmtpSink) -> None:
    alice, bob = owner.create(displayName="Alice"), owner.create(displayName="Bob")
    owner.send(alice["id"], to=[bob["address"]], subject="Hello")
    path = f"/inboxes/{bob['id']}/messages"
    with delivering():
        wait_until(lambda: owner.get(path).json()["total"] == 1)
        (came,) = owner.get(path).json()["data"]
        assert (came["status"], came["fromAddress"]) == ("received", alice["address"])
        answer = owner.send(bob["id"], to=[came["fromAddress"]], subject="Re: Hello", threadId=came["threadId"])
        assert answer.json()["inReplyTo"] == came["messageIdHeader"]
        wait_until(lambda: owner.get(f"/inboxes/{alice['id']}/messages").json()["total"] == 2)
    newest, oldest = owner.get(f"/inboxes/{alice['id']}/messages").json()["data"]
    assert newest["threadId"] == oldest["threadId"]


def test_of_40_sends_at_once_the_limit_passes_ten(owner: AgentSend, make_mailbox: MakeMailbox) -> None:
    mailbox = make_mailbox("limited", daily_send_limit=10)
    answers = run_together(lambda number: owner.send(mailbox.id, to=[f"a{number}@example.com"]), 40)
    assert sorted(answer.status_code for answer in answers) == [202] * 10 + [429] * 30
    assert all(int(answer.headers["Retry-After"]) > 0 for answer in answers if answer.status_code == 429)
    inbox = owner.inbox(mailbox.id)
    assert (inbox["sendsToday"], inbox["totalSent"]) == (10, 10)
    assert owner.get(f"/inboxes/{mailbox.id}/messages").json()["total"] == 10


def test_mail_to_a_deleted_inbox_does_not_arrive(owner: AgentSend, mailbox: Mailbox) -> None:
    assert owner.ask("DELETE", f"/inboxes/{mailbox.id}").status_code == 204
    mail = IncomingMail(
        raw=b"Subject: x\r\n\r\nx\r\n", mail_from="a@example.com", recipients=[mailbox.address],
        client_ip="192.0.2.1", helo="mx", tls=False, smtputf8=False, received_at=timezone.now(),
    )  # fmt: skip
    assert [reply.code // 100 for reply in accept_mails(mails=[mail], now=timezone.now())] == [5]
    check_error(owner.get(f"/inboxes/{mailbox.id}/messages"), 404, "NOT_FOUND")
