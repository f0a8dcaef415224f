"""Suppression and auto-suspend from end to end: what real servers on loopback answer, and a link out of a real mail."""

# ruff: noqa: F811 - fixtures of another file

import re
from email import message_from_bytes, policy

import pytest
from django.test import Client

from apps.delivery.errors import RecipientSuppressed
from apps.delivery.models import Suppression
from apps.mailboxes.models import Mailbox
from tests.apps.delivery.conftest import Send
from tests.apps.delivery.test_loop import dns, running, sink, statuses, wait_until, world  # noqa: F401 - fixtures
from tests.apps.delivery.test_send import reload
from tests.fakes.dns import FakeDns
from tests.fakes.smtp import SmtpSink

pytestmark = pytest.mark.django_db(transaction=True)


def test_only_whom_the_server_does_not_know_is_not_written_to_again(
    world: FakeDns,
    sink: SmtpSink,
    mailbox: Mailbox,
    send: Send,
) -> None:
    sink.refuse("rcpt", "550 5.1.1 no such user", match="gone@")
    sink.refuse("rcpt", "552 5.2.2 mailbox full", match="full@")
    sink.refuse("rcpt", "554 5.7.1 blocked by our policy", match="policy@")
    addresses = ["gone@acme.test", "full@acme.test", "policy@acme.test", "ok@acme.test"]
    send(mailbox, *addresses)
    with running():
        wait_until(lambda: statuses() == ["bounced", "bounced", "bounced", "delivered"])
    entry = Suppression.objects.get()
    assert (entry.address, entry.reason) == ("gone@acme.test", "hard_bounce")
    assert entry.source == "mx.acme.test: 550 5.1.1 no such user"
    assert [row.status for row in send(mailbox, *addresses)] == ["suppressed", "queued", "queued", "queued"]


def test_a_click_on_the_link_of_a_delivered_mail_ends_the_mails(
    world: FakeDns,
    sink: SmtpSink,
    mailbox: Mailbox,
    send: Send,
) -> None:
    send(mailbox, "ann@acme.test", is_list=True)
    with running():
        (mail,) = sink.wait_for(1)
    arrived = message_from_bytes(mail.raw, policy=policy.default)
    link = re.fullmatch(r"<https?://[^/]+(/unsubscribe/\S+)>", str(arrived["List-Unsubscribe"]))
    assert link
    assert arrived["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    for signature in arrived.get_all("DKIM-Signature"):
        covered = re.sub(r"\s", "", str(signature)).lower()
        assert "list-unsubscribe:" in covered and "list-unsubscribe-post" in covered
    click = Client().post(link.group(1), "List-Unsubscribe=One-Click", content_type="application/x-www-form-urlencoded")
    assert click.status_code == 200
    with pytest.raises(RecipientSuppressed):
        send(mailbox, "ann@acme.test")


def test_a_sender_of_too_many_dead_addresses_is_suspended(
    world: FakeDns,
    sink: SmtpSink,
    mailbox: Mailbox,
    send: Send,
) -> None:
    sink.refuse("rcpt", "550 5.1.1 no such user", match="gone")
    for turn in range(2):
        gone = [f"gone{turn}-{number}@acme.test" for number in range(3 + turn)]
        send(reload(mailbox), *gone, *(f"ok{turn}-{number}@acme.test" for number in range(50 - len(gone))))
    with running():
        wait_until(lambda: statuses().count("bounced") == 7, seconds=30)
    mailbox.refresh_from_db()
    assert mailbox.status == "suspended"
    assert "of 100 recipients bounced for good" in mailbox.suspended_reason


def test_a_refusal_of_the_sender_says_nothing_about_the_recipient(
    world: FakeDns,
    sink: SmtpSink,
    mailbox: Mailbox,
    send: Send,
) -> None:
    sink.refuse("mail", "550 5.1.1 no such user")  # whatever the words, they answer MAIL FROM
    send(mailbox, "ok@acme.test")
    with running():
        wait_until(lambda: statuses() == ["bounced"])
    assert not Suppression.objects.exists()
