"""The delivery loop against real servers on loopback: a DNS of the tests, and mail servers that record or refuse."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_network

import pytest
from django.utils import timezone

from apps.delivery.loop import DeliveryThread
from apps.delivery.models import Attempt, Delivery, Lane
from apps.delivery.services import release_held
from apps.domains.models import DkimKey, Domain
from apps.domains.selectors import dns_records
from apps.events.models import Event
from apps.mail.models import Message
from apps.mailboxes.models import Mailbox
from mailhost.auth.dkim import verify_message
from tests.apps.conftest import MakeMailbox
from tests.apps.delivery.conftest import Send
from tests.fakes.dns import FakeDns, Trouble
from tests.fakes.smtp import SmtpSink

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def sink() -> Iterator[SmtpSink]:
    with SmtpSink() as server:
        yield server


@pytest.fixture
def dns(settings: object) -> Iterator[FakeDns]:
    with FakeDns() as server:
        settings.MAILHOST_DNS_SERVERS = [server.address]  # type: ignore[attr-defined]
        yield server


@pytest.fixture
def world(sink: SmtpSink, dns: FakeDns, direct: None, settings: object) -> FakeDns:
    """acme.test's MX is the sink, and mail may go to loopback."""
    settings.MAILHOST_OUTBOUND_PORT = sink.port  # type: ignore[attr-defined]
    settings.MAILHOST_PRIVATE_TARGETS = [ip_network("127.0.0.0/8")]  # type: ignore[attr-defined]
    dns.zone["acme.test"] = [("MX", "10 mx.acme.test")]
    dns.zone["mx.acme.test"] = [("A", "127.0.0.1")]
    return dns


@contextmanager
def running() -> Iterator[DeliveryThread]:
    thread = DeliveryThread()
    thread.start()
    try:
        yield thread
    finally:
        thread.stop()


def wait_until(condition: Callable[[], object], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def statuses() -> list[str]:
    return sorted(Delivery.objects.values_list("status", flat=True))


def test_a_mail_arrives_signed_and_the_signatures_verify_against_the_published_records(
    world: FakeDns, sink: SmtpSink, mailbox: Mailbox, send: Send, shared_domain: Domain
) -> None:
    published = {record.name: record.value for record in dns_records(shared_domain) if record.purpose == "dkim"}
    send(mailbox, "ops@acme.test", html="<p>Reporting in.</p>", headers=[("List-Unsubscribe", "<mailto:x@y.test>")])
    with running():
        (mail,) = sink.wait_for(1)
        wait_until(lambda: statuses() == ["delivered"])
    assert (mail.mail_from, mail.rcpt_to) == (mailbox.address, ["ops@acme.test"])
    raw = mail.raw
    assert raw.count(b"DKIM-Signature:") == 2
    assert b"a=rsa-sha256" in raw and b"a=ed25519-sha256" in raw
    assert verify_message(raw, lambda name: published.get(name.rstrip(".")))
    assert not verify_message(raw.replace(b"Reporting", b"Reported "), lambda name: published.get(name.rstrip(".")))
    delivery = Delivery.objects.get()
    attempt = Attempt.objects.get()
    assert (attempt.outcome, attempt.host, attempt.ip, attempt.code) == ("delivered", "mx.acme.test", "127.0.0.1", 250)
    assert delivery.last_text
    events = list(Event.objects.order_by("position", "id").values_list("type", flat=True))
    assert events[-2:] == ["message.queued", "message.delivered"]


def test_through_a_relay_a_mail_is_sent(sink: SmtpSink, mailbox: Mailbox, send: Send, settings: object) -> None:
    settings.MAILHOST_DELIVERY = "relay"  # type: ignore[attr-defined]
    settings.MAILHOST_RELAY_URL = f"smtp://127.0.0.1:{sink.port}"  # type: ignore[attr-defined]
    send(mailbox, "a@one.test", "b@two.test")
    with running():
        mails = sink.wait_for(2)
        wait_until(lambda: statuses() == ["sent", "sent"])
    assert sorted(mail.rcpt_to[0] for mail in mails) == ["a@one.test", "b@two.test"]
    assert all(b"DKIM-Signature:" in mail.raw for mail in mails)


def test_a_refusal_bounces_one_recipient_and_a_deferral_waits(
    world: FakeDns, sink: SmtpSink, mailbox: Mailbox, send: Send
) -> None:
    sink.refuse("rcpt", "550 5.1.1 no such user", match="gone@")
    sink.refuse("rcpt", "451 4.7.1 greylisted", match="grey@")
    send(mailbox, "gone@acme.test", "grey@acme.test", "ok@acme.test")
    with running():
        wait_until(lambda: statuses() == ["bounced", "deferred", "delivered"])
    by_address = {delivery.address: delivery for delivery in Delivery.objects.all()}
    assert by_address["gone@acme.test"].last_text.endswith("no such user")
    assert (by_address["grey@acme.test"].last_code, by_address["grey@acme.test"].attempt_count) == (451, 1)
    mailbox.usage.refresh_from_db()
    assert mailbox.usage.bounce_count == 1


def test_local_recipients_get_it_without_leaving_the_machine(
    mailbox: Mailbox, make_mailbox: MakeMailbox, send: Send
) -> None:
    bob = make_mailbox("bob")
    send(mailbox, bob.address, "nobody@agents.localhost", subject="Hello Bob")
    with running():
        wait_until(lambda: statuses() == ["bounced", "delivered"])
    received = Message.objects.get(mailbox=bob)
    assert (received.direction, received.subject, received.unread) == ("inbound", "Hello Bob", True)
    assert received.authentication["dmarc"] == "pass"
    assert received.blob_id == Message.objects.get(mailbox=mailbox).blob_id  # one blob for both
    assert Event.objects.filter(type="message.received", mailbox_id=bob.id).count() == 1


def test_many_mails_use_few_connections(world: FakeDns, sink: SmtpSink, mailbox: Mailbox, send: Send) -> None:
    for number in range(4):
        send(mailbox, *(f"r{number}-{person}@acme.test" for person in range(25)))
    with running():
        sink.wait_for(100, timeout=30)
        wait_until(lambda: set(statuses()) == {"delivered"})
    assert sink.connections <= 8


def test_hold_mode_keeps_mail_and_release_sends_it(
    world: FakeDns, sink: SmtpSink, mailbox: Mailbox, settings: object, send: Send
) -> None:
    settings.MAILHOST_DELIVERY = "hold"  # type: ignore[attr-defined]
    send(mailbox)
    with running() as loop:
        time.sleep(0.3)
        assert (statuses(), sink.mails) == (["held"], [])
        release_held(deliveries=Delivery.objects.all(), now=timezone.now())
        loop.wake()
        sink.wait_for(1)
        wait_until(lambda: statuses() == ["delivered"])


def test_without_a_usable_key_a_mail_waits_and_is_never_sent_unsigned(
    world: FakeDns, sink: SmtpSink, make_mailbox: MakeMailbox, send: Send, shared_domain: Domain
) -> None:
    mailbox = make_mailbox("keyless")
    DkimKey.objects.filter(domain=shared_domain).update(active=False)
    send(mailbox)
    with running():
        wait_until(lambda: statuses() == ["deferred"])
    assert sink.mails == []
    assert Delivery.objects.get().last_enhanced_code == "4.7.0"


@pytest.mark.parametrize(
    ("zone", "status", "words"),
    [
        ({}, "failed", "does not exist"),
        ({"acme.test": [("MX", "0 .")]}, "failed", "null MX"),
        ({"acme.test": Trouble.SERVFAIL}, "deferred", "do not answer"),
        ({"acme.test": [("MX", "5 mail.test")], "mail.test": [("A", "127.0.0.1")]}, "failed", "loops back"),
        ({"acme.test": [("A", "10.1.2.3")]}, "failed", "MAILHOST_PRIVATE_TARGETS"),
    ],
)
def test_what_the_dns_says_decides(
    world: FakeDns, mailbox: Mailbox, send: Send, zone: dict[str, object], status: str, words: str
) -> None:
    world.zone.clear()
    world.zone.update(zone)
    send(mailbox)
    with running():
        wait_until(lambda: statuses() == [status])
    delivery = Delivery.objects.get()
    assert words in delivery.last_text
    mailbox.usage.refresh_from_db()
    assert mailbox.usage.bounce_count == 0


def test_the_next_host_is_tried_when_the_first_does_not_answer(
    world: FakeDns, sink: SmtpSink, mailbox: Mailbox, send: Send
) -> None:
    world.zone["acme.test"] = [("MX", "1 dead.acme.test"), ("MX", "10 mx.acme.test")]
    world.zone["dead.acme.test"] = [("A", "127.0.0.9")]  # nothing listens there
    send(mailbox)
    with running():
        sink.wait_for(1)
        wait_until(lambda: statuses() == ["delivered"])


def test_a_server_that_goes_away_after_the_final_dot_leaves_an_uncertain_attempt(
    world: FakeDns, sink: SmtpSink, mailbox: Mailbox, send: Send
) -> None:
    sink.disconnect("final")
    send(mailbox)
    with running():
        wait_until(lambda: statuses() == ["deferred"])
    assert Attempt.objects.get().outcome == "uncertain"


def test_a_stopped_loop_gives_back_what_it_had_not_begun(
    world: FakeDns, sink: SmtpSink, mailbox: Mailbox, send: Send
) -> None:
    sink.delay("final", 1.0)
    send(mailbox, *(f"r{number}@acme.test" for number in range(40)))
    loop = DeliveryThread()
    loop.start()
    wait_until(lambda: "sending" in statuses())
    time.sleep(0.3)
    loop.stop()
    assert "sending" not in statuses()
    assert "queued" in statuses()
    assert Lane.objects.get().next_due_at is not None
