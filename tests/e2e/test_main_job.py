"""The main job through a whole installation: mail comes in over SMTP and leaves, signed, by MX or by a relay."""

import smtplib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import EmailMessage
from email.policy import SMTP

import pytest

from mailhost.auth.dkim import verify_message
from tests.e2e.agent import Agent
from tests.e2e.installation import Installation
from tests.fakes.dns import FakeDns
from tests.fakes.smtp import ReceivedMail, SmtpSink


@contextmanager
def started(**variables: str) -> Iterator[Agent]:
    installation = Installation(**variables)
    try:
        installation.start()
        installation.wait_until_ready()
        yield Agent(installation)
    finally:
        installation.remove()


@pytest.fixture
def sink() -> Iterator[SmtpSink]:
    with SmtpSink() as server:
        yield server


def assert_signed_by_the_published_keys(agent: Agent, mail: ReceivedMail) -> None:
    """Both signatures verify against the records that the API tells to publish, and not without them."""
    status, answer = agent.call("GET", "/domains")
    assert status == 200
    records = [record for domain in answer["data"] for record in domain["records"] if record["purpose"] == "dkim"]
    published = {record["name"]: record["value"] for record in records}
    assert len(published) == 2
    assert mail.raw.count(b"DKIM-Signature:") == 2
    assert verify_message(mail.raw, lambda name: published.get(name.rstrip(".")))
    assert not verify_message(mail.raw, lambda name: None)


def wait_for_status(agent: Agent, message: str, wanted: str) -> None:
    deadline = time.monotonic() + 15
    while agent.statuses([message])[message] != [wanted]:
        assert time.monotonic() < deadline, agent.deliveries(message)
        time.sleep(0.05)


def test_a_send_goes_by_mx_and_verifies(sink: SmtpSink) -> None:
    zone = {"acme.test": [("MX", "10 mx.acme.test")], "mx.acme.test": [("A", "127.0.0.1")]}
    with (
        FakeDns(zone) as dns,
        started(
            MAILHOST_DELIVERY="direct",
            MAILHOST_DNS_SERVERS=dns.address,
            MAILHOST_OUTBOUND_PORT=str(sink.port),
            MAILHOST_PRIVATE_TARGETS="127.0.0.0/8",
        ) as agent,
    ):
        inbox = agent.make_inbox(username="direct", display_name="Direct")
        sent = agent.send(inbox, ["ops@acme.test"], html="<p>Reporting in.</p>")
        (mail,) = sink.wait_for(1)
        wait_for_status(agent, sent["id"], "delivered")
        assert_signed_by_the_published_keys(agent, mail)
        (delivery,) = agent.deliveries(sent["id"])
        assert [attempt["outcome"] for attempt in delivery["attempts"]] == ["delivered"]
        assert delivery["attempts"][0]["host"] == "mx.acme.test"


def test_a_send_goes_through_a_relay_and_verifies(sink: SmtpSink) -> None:
    with started(MAILHOST_DELIVERY="relay", MAILHOST_RELAY_URL=f"smtp://127.0.0.1:{sink.port}") as agent:
        inbox = agent.make_inbox(username="relayed")
        sent = agent.send(inbox, ["ops@acme.test"])
        (mail,) = sink.wait_for(1)
        wait_for_status(agent, sent["id"], "sent")
        assert_signed_by_the_published_keys(agent, mail)


def test_mail_over_smtp_is_in_the_api_within_a_second() -> None:
    with started() as agent:
        facts = agent.installation.first_run()
        inbox = agent.make_inbox(username="reader")
        mail = EmailMessage()
        mail["From"], mail["To"] = "Ada <ada@example.org>", "reader@agents.localhost"
        mail["Subject"] = "Invoice"
        mail.set_content("Attached.")
        mail.add_alternative("<p>Attached.</p>", subtype="html")
        mail.add_attachment(bytes(range(256)), maintype="application", subtype="pdf", filename="inv.pdf")
        octets = mail.as_bytes(policy=SMTP)
        with smtplib.SMTP(facts["smtp_host"], facts["smtp_port"], timeout=10) as smtp:
            smtp.sendmail("ada@example.org", ["reader@agents.localhost"], octets)
            accepted = time.monotonic()
            status, page = agent.call("GET", f"/inboxes/{inbox}/messages")
            assert (status, len(page["data"])) == (200, 1)  # committed before the 250, so it is there at once
            assert time.monotonic() - accepted < 1
            with pytest.raises(smtplib.SMTPRecipientsRefused) as refused:
                smtp.sendmail("ada@example.org", ["nobody@agents.localhost"], b"x")
        code, words = refused.value.recipients["nobody@agents.localhost"]
        assert (code, words.startswith(b"5.1.1")) == (550, True)

        _, message = agent.call("GET", f"/messages/{page['data'][0]['id']}")
        assert (message["text"].strip(), message["html"].strip()) == ("Attached.", "<p>Attached.</p>")
        (attachment,) = message["attachments"]
        assert (attachment["filename"], attachment["size"]) == ("inv.pdf", 256)
        assert agent.download(f"/messages/{message['id']}/attachments/{attachment['id']}") == bytes(range(256))
        raw = agent.download(f"/messages/{message['id']}/raw")
        assert raw.startswith(b"Received: ")
        assert raw.endswith(octets)


def test_mail_between_inboxes_of_an_installation_never_leaves() -> None:
    with started() as agent:  # hold, the default
        alice, bob = agent.make_inbox(username="alice"), agent.make_inbox(username="bob")
        sent = agent.send(alice, ["bob@agents.localhost"])
        wait_for_status(agent, sent["id"], "delivered")
        _, page = agent.call("GET", f"/inboxes/{bob}/messages?direction=inbound")
        assert [message["subject"] for message in page["data"]] == ["Hello"]
