"""Accepting a message: everything is stored, queued and counted, or nothing is."""

import threading
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.db.models import Model
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from apps.accounts.models import Organization
from apps.accounts.services import suspend_organization
from apps.core.errors import DomainError, NotFound, ValidationFailed
from apps.delivery.models import Delivery, Lane
from apps.delivery.services import SendRequest, delete_mailbox, release_held, send_message
from apps.domains.services import create_domain
from apps.events.models import Event
from apps.mail.blobs import read_blob
from apps.mail.errors import MessageTooLarge
from apps.mail.models import BlobChunk, Message, MessageBody, Thread
from apps.mailboxes.errors import DailyLimitReached
from apps.mailboxes.models import Mailbox
from apps.mailboxes.services import suspend_mailbox, update_mailbox
from mailhost.message.compose import OutgoingAttachment
from mailhost.message.parse import parse_message
from tests.apps.conftest import MakeMailbox
from tests.apps.delivery.conftest import Send

pytestmark = pytest.mark.django_db(transaction=True)
STORED: list[type[Model]] = [Message, MessageBody, Thread, Delivery, BlobChunk]


def assert_nothing_written(mailbox: Mailbox) -> None:
    assert [model.objects.count() for model in STORED] == [0] * len(STORED)  # type: ignore[attr-defined]
    assert not Event.objects.filter(type__startswith="message.").exists()
    mailbox.usage.refresh_from_db()
    assert (mailbox.usage.sends_today, mailbox.usage.total_sent) == (0, 0)


def reload(mailbox: Mailbox) -> Mailbox:
    return Mailbox.objects.select_related("organization", "domain", "usage").get(id=mailbox.id)


def test_a_message_is_stored_queued_and_counted(mailbox: Mailbox, direct: None) -> None:
    request = SendRequest(
        to=["Ops <ops@acme.test>"], cc=["cc@acme.test"], bcc=["hidden@other.test"], subject="Grüße", text="Hi",
        html="<p>Hi</p>", labels=["a", "b", "a"], headers=[("X-Run", "7")],
    )  # fmt: skip
    sent = send_message(mailbox=mailbox, request=request, now=timezone.now())
    assert {delivery.address: delivery.kind for delivery in sent.deliveries} == {
        "ops@acme.test": "to",
        "cc@acme.test": "cc",
        "hidden@other.test": "bcc",
    }
    message = Message.objects.get()
    assert message.labels == ["a", "b"]
    assert [row.label for row in message.label_rows.order_by("label")] == ["a", "b"]
    assert message.bcc == [{"address": "hidden@other.test", "name": ""}]
    raw = read_blob(message.blob_id)
    parsed = parse_message(raw)
    assert (parsed.subject, parsed.text.strip(), parsed.message_id) == ("Grüße", "Hi", message.rfc_message_id)
    assert parsed.from_[0].name == "Alice Agent"
    assert b"hidden@other.test" not in raw
    assert b"X-Run: 7" in raw
    mailbox.usage.refresh_from_db()
    assert (mailbox.usage.sends_today, mailbox.usage.total_sent) == (3, 3)
    event = Event.objects.get(type="message.queued")
    assert event.data["recipients"] == ["ops@acme.test", "cc@acme.test", "hidden@other.test"]


def test_an_address_mentioned_twice_gets_one_mail_and_counts_once(mailbox: Mailbox, send: Send) -> None:
    deliveries = send(mailbox, "ops@acme.test", "Ops <OPS@ACME.test>", bcc=["ops@acme.test"])
    assert [(delivery.address, delivery.kind) for delivery in deliveries] == [("ops@acme.test", "to")]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"to": []}, "to"),
        ({"to": ["nobody"]}, "to"),
        ({"to": ["a@b.test\r\nBcc: evil@x.test"]}, "to"),
        ({"to": [f"r{number}@acme.test" for number in range(51)]}, "to"),
        ({"to": ["a@b.test"] * 30, "cc": [f"r{number}@acme.test" for number in range(50)]}, "to"),
        ({"subject": "Hi\r\nBcc: evil@x.test"}, "headers"),
        ({"subject": "Hi\nthere"}, "headers"),
        ({"headers": [("X-A", "1\r\nBcc: evil@x.test")]}, "headers"),
        ({"headers": [("X-A: 1\r\nBcc", "evil@x.test")]}, "headers"),
        ({"text": "NUL \0 here"}, "text"),
        ({"labels": [""]}, "labels"),
        ({"attachments": [OutgoingAttachment("a\r\nb.txt", "text/plain", b"x")]}, "headers"),
    ],
)
def test_bad_input_is_refused_by_field_and_writes_nothing(
    mailbox: Mailbox, direct: None, fields: dict[str, object], field: str
) -> None:
    request = SendRequest(**({"to": ["ops@acme.test"], "text": "x"} | fields))  # type: ignore[arg-type]
    with pytest.raises(ValidationFailed) as refused:
        send_message(mailbox=mailbox, request=request, now=timezone.now())
    assert refused.value.data["details"][0]["field"] == field
    assert_nothing_written(mailbox)


def test_too_much_attached_is_refused(mailbox: Mailbox, direct: None) -> None:
    big = OutgoingAttachment("a.bin", "application/octet-stream", bytes(26 * 1024 * 1024))
    with pytest.raises(MessageTooLarge):
        send_message(mailbox=mailbox, request=SendRequest(to=["a@b.test"], attachments=[big]), now=timezone.now())
    assert_nothing_written(mailbox)


def test_only_an_active_mailbox_of_an_active_organization_sends(
    make_mailbox: MakeMailbox, stranger: Organization, send: Send, now: datetime
) -> None:
    paused, suspended, deleted = (make_mailbox(name) for name in ("paused", "suspended", "deleted"))
    update_mailbox(mailbox=paused, changes={"status": "paused"}, now=now)
    suspend_mailbox(mailbox=suspended, reason="spam", now=now)
    delete_mailbox(mailbox=deleted, purge=False, now=now)
    other = make_mailbox("other", of=stranger)
    suspend_organization(organization=stranger, reason="unpaid", now=now)
    codes = []
    for mailbox in (paused, suspended, deleted, other):
        with pytest.raises(DomainError) as refused:
            send(reload(mailbox))
        codes.append(refused.value.code)
    assert codes == ["inbox_paused", "inbox_suspended", "inbox_deleted", "organization_suspended"]
    assert not Delivery.objects.exists()


def test_a_burst_against_a_limit_of_ten_is_exact(mailbox: Mailbox, send: Send) -> None:
    """100 at once: exactly 10 are accepted, 90 are told to wait until midnight UTC, and nothing of theirs stays."""
    update_mailbox(mailbox=mailbox, changes={"daily_send_limit": 10}, now=timezone.now())
    mailbox = reload(mailbox)
    outcomes: list[str] = []
    start = threading.Barrier(20)

    def work() -> None:
        start.wait()
        for _ in range(5):
            try:
                # As loaded by a request that came before the others: the cheap first look sees no sends.
                send(mailbox)
                outcomes.append("sent")
            except DailyLimitReached as refused:
                assert 0 < refused.data["retry_after"] <= 86_401
                outcomes.append("refused")
        connection.close()

    threads = [threading.Thread(target=work) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert (outcomes.count("sent"), outcomes.count("refused")) == (10, 90)
    assert Message.objects.count() == Delivery.objects.count() == BlobChunk.objects.count() == 10
    mailbox.usage.refresh_from_db()
    assert (mailbox.usage.sends_today, mailbox.usage.total_sent) == (10, 10)
    assert Event.objects.filter(type="inbox.limit_reached").count() == 1


def test_a_limit_counts_recipients_and_takes_all_or_none(mailbox: Mailbox, send: Send) -> None:
    update_mailbox(mailbox=mailbox, changes={"daily_send_limit": 3}, now=timezone.now())
    send(reload(mailbox), "a@acme.test", "b@acme.test")
    with pytest.raises(DailyLimitReached):
        send(reload(mailbox), "c@acme.test", "d@acme.test")
    send(reload(mailbox), "c@acme.test")


def test_a_new_day_begins_by_the_counters_own_date(mailbox: Mailbox, send: Send) -> None:
    update_mailbox(mailbox=mailbox, changes={"daily_send_limit": 1}, now=timezone.now())
    send(reload(mailbox))
    with pytest.raises(DailyLimitReached):
        send(reload(mailbox))
    usage = mailbox.usage
    usage.day = datetime.now(UTC).date() - timedelta(days=1)
    usage.save(update_fields=["day"])
    send(reload(mailbox))
    usage.refresh_from_db()
    assert (usage.sends_today, usage.total_sent) == (1, 2)


def test_in_hold_mode_mail_for_others_is_held_until_it_is_released(
    mailbox: Mailbox, make_mailbox: MakeMailbox, settings: object
) -> None:
    settings.MAILHOST_DELIVERY = "hold"  # type: ignore[attr-defined]
    bob = make_mailbox("bob")
    request = SendRequest(to=[bob.address, "ops@acme.test"], text="x")
    sent = send_message(mailbox=mailbox, request=request, now=timezone.now())
    assert [(delivery.status, delivery.reason) for delivery in sent.deliveries] == [
        ("queued", ""),
        ("held", "hold_mode"),
    ]
    assert set(Event.objects.filter(type__startswith="message.").values_list("type", flat=True)) == {
        "message.held",
        "message.queued",
    }
    assert release_held(deliveries=Delivery.objects.all(), now=timezone.now()) == 1
    assert Lane.objects.get(destination="acme.test").next_due_at is not None


def test_local_is_what_has_a_mailbox_here_or_a_domain_whose_mail_comes_here(
    mailbox: Mailbox, make_mailbox: MakeMailbox, organization: Organization, send: Send, now: datetime
) -> None:
    domain = create_domain(organization=organization, name="own.test", now=now)
    domain.ownership_verified_at = now
    domain.sending_status = "verified"
    domain.save()
    make_mailbox("bob", domain="own.test")
    deliveries = send(mailbox, "bob@own.test", "bob+tag@own.test", "carol@own.test", "nobody@agents.localhost")
    destinations = {delivery.address: Lane.objects.get(id=delivery.lane_id).destination for delivery in deliveries}
    assert destinations == {
        "bob@own.test": "[local]",
        "bob+tag@own.test": "[local]",
        "carol@own.test": "own.test",  # the domain only sends through us: its other people are elsewhere
        "nobody@agents.localhost": "[local]",
    }


def test_an_answer_joins_the_thread_and_names_what_it_answers(mailbox: Mailbox, send: Send) -> None:
    first = send(mailbox)[0].message
    second = send(mailbox, in_reply_to=first.id)[0].message
    third = send(mailbox, thread_id=first.thread_id)[0].message
    assert first.thread_id == second.thread_id == third.thread_id
    assert third.references == [first.rfc_message_id, second.rfc_message_id]
    thread = Thread.objects.get()
    assert (thread.message_count, thread.last_message_id) == (3, third.id)


def test_nobody_answers_a_strangers_message(
    mailbox: Mailbox, make_mailbox: MakeMailbox, stranger: Organization, send: Send
) -> None:
    theirs = send(make_mailbox("eve", of=stranger))[0].message
    for fields in ({"in_reply_to": theirs.id}, {"thread_id": theirs.thread_id}):
        with pytest.raises(NotFound):
            send(mailbox, **fields)


def test_deleting_a_mailbox_cancels_what_waits(mailbox: Mailbox, send: Send, now: datetime) -> None:
    send(mailbox)
    delete_mailbox(mailbox=mailbox, purge=False, now=now)
    assert Delivery.objects.get().status == "canceled"
    assert Message.objects.exists()


def test_purging_a_mailbox_erases_its_mail(mailbox: Mailbox, send: Send, now: datetime) -> None:
    send(mailbox)
    delete_mailbox(mailbox=mailbox, purge=True, now=now)
    assert [model.objects.count() for model in STORED] == [0] * len(STORED)  # type: ignore[attr-defined]


def test_fifty_recipients_cost_as_many_statements_as_one(mailbox: Mailbox, send: Send) -> None:
    send(mailbox, *(f"r{number}@d{number}.test" for number in range(50)))  # makes the lanes
    counts = []
    for recipients in (["r0@d0.test"], [f"r{number}@d{number}.test" for number in range(50)]):
        with CaptureQueriesContext(connection) as queries:
            send(mailbox, *recipients)
        counts.append(len(queries))
    assert counts[0] == counts[1]
    assert counts[0] <= 18
