"""Sending and replying through HTTP."""

import base64
import threading
from collections.abc import Callable
from datetime import timedelta
from email import message_from_bytes, policy
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from apps.accounts.models import Organization
from apps.accounts.services import suspend_organization
from apps.api.idempotency import forget_old_answers
from apps.api.models import IdempotencyRecord
from apps.core.ids import encode_id
from apps.delivery.models import Delivery
from apps.events.models import Event
from apps.mail.models import BlobChunk, Message
from apps.mailboxes.models import Mailbox, MailboxUsage
from apps.mailboxes.services import suspend_mailbox
from tests.api.conftest import Api, MakeApi, error_of
from tests.api.mail import deposit_mail

pytestmark = pytest.mark.django_db

MIB = 1024 * 1024
MAIL = {"to": "ann@example.com", "subject": "Hello", "text": "Hello, Ann."}


@pytest.fixture
def path(mailbox: Mailbox) -> str:
    return f"/v1/inboxes/{encode_id('inbox', mailbox.id)}/messages"


def raw_of(api: Api, message_id: str) -> Any:
    answer = api.get(f"/v1/messages/{message_id}/raw")
    return message_from_bytes(b"".join(answer), policy=policy.default)


def assert_nothing_written() -> None:
    assert not Message.objects.exists()
    assert not Delivery.objects.exists()
    assert not BlobChunk.objects.exists()
    assert not IdempotencyRecord.objects.exists()
    assert not Event.objects.filter(type__startswith="message.").exists()
    assert not MailboxUsage.objects.filter(total_sent__gt=0).exists()


def test_a_message_is_accepted_with_each_recipient_judged_by_itself(owner: Api, path: str, make_mailbox: Any) -> None:
    make_mailbox("bob")
    answer = owner.post(path, {**MAIL, "to": ["Ann <ann@example.com>"], "cc": "bob@agents.localhost"})
    assert answer.status_code == 202
    sent = answer.json()
    # Without a delivery mode that lets mail out, what would leave the machine is held.
    assert sent["recipients"] == [
        {"address": "ann@example.com", "status": "held", "reason": "hold_mode"},
        {"address": "bob@agents.localhost", "status": "queued"},
    ]
    assert sent["status"] == "queued"
    shown = owner.get(f"/v1/messages/{sent['id']}").json()
    assert shown["message_id"] == sent["message_id"]
    assert shown["thread_id"] == sent["thread_id"]
    assert shown["to"] == [{"address": "ann@example.com", "name": "Ann"}]
    assert shown["text"] == "Hello, Ann."
    assert shown["direction"] == "outbound"


def test_what_was_sent_counts_at_once(owner: Api, path: str, mailbox: Mailbox) -> None:
    owner.post(path, {**MAIL, "to": ["a@example.com", "b@example.com"], "bcc": "a@example.com"})
    inbox = owner.get(f"/v1/inboxes/{mailbox.address}").json()
    assert (inbox["sends_today"], inbox["total_sent"], inbox["sends_remaining"]) == (2, 2, 998)


def test_the_composed_mail_says_what_was_asked_and_no_bcc(owner: Api, path: str) -> None:
    content = bytes(range(256))
    body = {
        "to": ["Änn <ann@example.com>"],
        "cc": ["c@example.com"],
        "bcc": ["secret@example.com"],
        "reply_to": "desk@example.com",
        "subject": "Grüße",
        "text": "Hallo",
        "html": "<p>Hallo</p>",
        "headers": {"X-Ticket": "42", "List-Id": "<list.example.com>"},
        "labels": ["sent-by-test"],
        "attachments": [
            {"filename": "ä.bin", "content_type": "application/x-thing", "content": base64.b64encode(content).decode()}
        ],
    }
    sent = owner.post(path, body).json()
    mail = raw_of(owner, sent["id"])
    assert mail["To"] == "Änn <ann@example.com>"
    assert mail["Reply-To"] == "desk@example.com"
    assert mail["Subject"] == "Grüße"
    assert mail["X-Ticket"] == "42"
    assert b"secret@" not in mail.as_bytes()
    shown = owner.get(f"/v1/messages/{sent['id']}").json()
    assert shown["bcc"] == [{"address": "secret@example.com", "name": ""}]
    assert shown["labels"] == ["sent-by-test"]
    attachment = shown["attachments"][0]
    assert (attachment["filename"], attachment["size"]) == ("ä.bin", 256)
    got = owner.get(f"/v1/messages/{sent['id']}/attachments/{attachment['id']}")
    assert got.content == content


def test_addresses_in_every_lawful_form_are_taken(owner: Api, path: str) -> None:
    to = [
        '"a b"@example.com',
        "ann@bücher.example",
        "δοκιμή@example.com",
        '"Doe, Jane" <jane@example.com>',
        "a+b@example.com",
    ]
    sent = owner.post(path, {**MAIL, "to": to})
    assert sent.status_code == 202
    assert [row["address"] for row in sent.json()["recipients"]] == [
        '"a b"@example.com', "ann@bücher.example", "δοκιμή@example.com", "jane@example.com", "a+b@example.com",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"to": []}, "to"),
        ({"to": None}, "to"),
        ({"to": "nobody"}, "to"),
        ({"to": "a@b, c@d"}, "to"),
        ({"to": {"address": "a@b.example"}}, "to"),
        ({"to": [5]}, "to[0]"),
        ({"to": ["a@example.com\r\nBcc: x@example.com"]}, "to"),
        ({"to": ["Ann\r\nBcc: x@y <ann@example.com>"]}, "to"),
        ({"to": [f"u{n}@example.com" for n in range(51)]}, "to"),
        ({"to": [f"u{n}@example.com" for n in range(30)], "cc": [f"v{n}@example.com" for n in range(21)]}, "to"),
        ({"cc": "nobody"}, "cc"),
        ({"bcc": ["a@b.example\0"]}, "bcc[0]"),
        ({"reply_to": "nobody"}, "reply_to"),
        ({"subject": 5}, "subject"),
        ({"subject": "x" * 2001}, "subject"),
        ({"subject": "a\0b"}, "subject"),
        ({"text": None}, "text"),
        ({"text": ["a"]}, "text"),
        ({"text": "a\0"}, "text"),
        ({"html": "<p>\udfff</p>"}, "html"),
        ({"headers": []}, "headers"),
        ({"headers": {"Subject": "x"}}, "headers.Subject"),
        ({"headers": {"X-A\r\nBcc": "x"}}, "headers.X-A\r\nBcc"),
        ({"headers": {"X-A": "a\r\nBcc: x@example.com"}}, "headers.X-A"),
        ({"headers": {"X-A": 5}}, "headers.X-A"),
        ({"headers": {"X-A": "a\0"}}, "headers.X-A"),
        ({"labels": ["x" * 101]}, "labels[0]"),
        ({"labels": "a"}, "labels"),
        ({"labels": [""]}, "labels[0]"),
        ({"labels": ["a"] * 51}, "labels"),
        ({"in_reply_to": "<a@b>"}, "in_reply_to"),
        ({"thread_id": "msg_01h455vb4pex5vsknk084sn02q"}, "thread_id"),
        ({"attachments": {}}, "attachments"),
        ({"attachments": [{"filename": "a"}]}, "attachments[0].content"),
        ({"attachments": [{"filename": "a", "content": "!!!!"}]}, "attachments[0].content"),
        ({"attachments": [{"filename": "a", "content": "aGVsbG8"}]}, "attachments[0].content"),
        ({"attachments": [{"filename": "a", "content": "aGVsbG8=", "size": 5}]}, "attachments[0].size"),
        ({"attachments": [{"filename": "a", "content": "", "disposition": "hidden"}]}, "attachments[0].disposition"),
        ({"send_at": "2030-01-01T00:00:00Z"}, "send_at"),
        ({"body": "typo"}, "body"),
    ],
)
def test_bad_values_are_named_and_nothing_is_written(
    owner: Api, path: str, changes: dict[str, Any], field: str
) -> None:
    error = error_of(owner.post(path, {**MAIL, **changes}, idempotency_key="k"), 400, "validation_failed")
    assert [detail["field"] for detail in error["details"]] == [field]
    assert_nothing_written()


@pytest.mark.parametrize("subject", ["a\r\nBcc: x@example.com", "a\nb", "a\rb"])
@pytest.mark.parametrize("where", ["subject", "filename", "content_type", "content_id"])
def test_a_line_break_ends_no_header_field_early(owner: Api, path: str, where: str, subject: str) -> None:
    body: dict[str, Any] = dict(MAIL)
    if where == "subject":
        body["subject"] = subject
    else:
        body["attachments"] = [{"filename": "a.txt", "content": "aGVsbG8=", where: subject}]
    error = error_of(owner.post(path, body), 400, "validation_failed")
    assert error["details"][0]["field"].endswith(where)
    assert_nothing_written()


def test_attachments_above_25_mib_are_refused(owner: Api, path: str) -> None:
    half = base64.b64encode(b"x" * (13 * MIB)).decode()
    body = {**MAIL, "attachments": [{"filename": "a", "content": half}, {"filename": "b", "content": half}]}
    error_of(owner.post(path, body), 413, "message_too_large")
    assert_nothing_written()


def test_a_message_above_36_mib_is_refused(owner: Api, path: str) -> None:
    error_of(owner.post(path, {**MAIL, "text": "x" * (37 * MIB)}), 413, "message_too_large")
    error_of(owner.post(path, {**MAIL, "text": "x" * (41 * MIB)}), 413, "message_too_large")
    assert_nothing_written()


def test_what_it_answers_must_be_in_the_same_inbox(owner: Api, path: str, make_mailbox: Any) -> None:
    elsewhere = deposit_mail(make_mailbox("bob"))
    body = {**MAIL, "in_reply_to": encode_id("msg", elsewhere.id)}
    error_of(owner.post(path, body), 404, "not_found")
    error_of(owner.post(path, {**MAIL, "thread_id": encode_id("thread", elsewhere.thread_id)}), 404, "not_found")


def test_who_may_not_send_is_told_why(
    owner: Api, path: str, mailbox: Mailbox, organization: Organization, now: Any
) -> None:
    inbox = f"/v1/inboxes/{mailbox.address}"
    owner.patch(inbox, {"status": "paused"})
    error_of(owner.post(path, MAIL), 403, "inbox_paused")
    owner.patch(inbox, {"status": "active"})
    suspend_organization(organization=organization, reason="abuse", now=now)
    error_of(owner.post(path, MAIL), 403, "organization_suspended")
    Organization.objects.update(suspended_at=None)
    suspend_mailbox(mailbox=mailbox, reason="bounces", now=now)
    error_of(owner.post(path, MAIL), 403, "inbox_suspended")
    assert_nothing_written()


def test_the_daily_limit_is_told_with_the_seconds_until_midnight(owner: Api, path: str, mailbox: Mailbox) -> None:
    owner.patch(f"/v1/inboxes/{mailbox.address}", {"daily_send_limit": 1})
    assert owner.post(path, MAIL).status_code == 202
    answer = owner.post(path, MAIL)
    error_of(answer, 429, "daily_limit_reached")
    now = timezone.now()
    midnight = (now + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    assert abs(int(answer.headers["Retry-After"]) - (midnight - now).total_seconds()) < 5
    assert Message.objects.count() == 1


def test_a_reply_goes_to_whom_people_expect(owner: Api, mailbox: Mailbox) -> None:
    parent = deposit_mail(
        mailbox, sender="Ann <ann@example.com>", subject="Order 7", extra="Reply-To: Desk <desk@example.com>\r\n"
    )
    sent = owner.post(f"/v1/messages/{encode_id('msg', parent.id)}/reply", {"text": "Thanks."})
    assert sent.status_code == 202
    assert sent.json()["thread_id"] == encode_id("thread", parent.thread_id)
    shown = owner.get(f"/v1/messages/{sent.json()['id']}").json()
    assert shown["to"] == [{"address": "desk@example.com", "name": "Desk"}]
    assert shown["subject"] == "Re: Order 7"
    again = owner.post(f"/v1/messages/{sent.json()['id']}/reply", {"text": "And another thing."}).json()
    shown = owner.get(f"/v1/messages/{again['id']}").json()
    assert (shown["to"][0]["address"], shown["subject"]) == ("desk@example.com", "Re: Order 7")
    assert shown["in_reply_to"] == sent.json()["message_id"]


def test_a_reply_never_goes_to_oneself_alone(owner: Api, mailbox: Mailbox) -> None:
    parent = deposit_mail(mailbox, sender=f"Me <{mailbox.address}>")
    path = f"/v1/messages/{encode_id('msg', parent.id)}/reply"
    error_of(owner.post(path, {"text": "x"}), 400, "validation_failed")
    assert owner.post(path, {"text": "x", "to": "ann@example.com"}).status_code == 202


def test_a_reply_survives_a_strangers_odd_headers(owner: Api, mailbox: Mailbox) -> None:
    parent = deposit_mail(mailbox, sender='"A\x07nn, <x>" <ann@example.com>', subject="=?utf-8?q?a=0D=0ABcc:_x=40y?=")
    sent = owner.post(f"/v1/messages/{encode_id('msg', parent.id)}/reply", {"text": "x"})
    assert sent.status_code == 202
    assert raw_of(owner, sent.json()["id"])["Bcc"] is None


def test_a_repeated_request_is_sent_once_and_answered_alike(owner: Api, path: str) -> None:
    first = owner.post(path, MAIL, idempotency_key="order-7")
    second = owner.post(path, dict(reversed(MAIL.items())), idempotency_key="order-7")
    assert (first.status_code, second.status_code) == (202, 202)
    assert second.json() == first.json()
    assert "Idempotency-Replayed" not in first.headers
    assert second.headers["Idempotency-Replayed"] == "true"
    assert Message.objects.count() == 1


def test_another_request_under_the_same_key_is_refused(owner: Api, outsider: Api, path: str, mailbox: Mailbox) -> None:
    owner.post(path, MAIL, idempotency_key="k")
    error_of(owner.post(path, {**MAIL, "text": "other"}, idempotency_key="k"), 409, "idempotency_conflict")
    by_address = f"/v1/inboxes/{mailbox.address}/messages"
    error_of(owner.post(by_address, MAIL, idempotency_key="k"), 409, "idempotency_conflict")
    other = outsider.post("/v1/inboxes").json()["id"]
    assert outsider.post(f"/v1/inboxes/{other}/messages", MAIL, idempotency_key="k").status_code == 202


def test_a_failed_request_is_not_remembered(owner: Api, path: str) -> None:
    error_of(owner.post(path, {**MAIL, "to": "nobody"}, idempotency_key="k"), 400, "validation_failed")
    assert owner.post(path, MAIL, idempotency_key="k").status_code == 202


def test_after_a_day_a_key_is_free_again(owner: Api, path: str) -> None:
    owner.post(path, MAIL, idempotency_key="k")
    IdempotencyRecord.objects.update(created_at=timezone.now() - timedelta(hours=25))
    assert "Idempotency-Replayed" not in owner.post(path, {**MAIL, "text": "new"}, idempotency_key="k").headers
    IdempotencyRecord.objects.update(created_at=timezone.now() - timedelta(hours=25))
    assert forget_old_answers(now=timezone.now()) == 1


@pytest.mark.parametrize("key", ["", " ", "x" * 257, "ä", "a\tb"])
def test_a_bad_idempotency_key_is_refused(owner: Api, path: str, key: str) -> None:
    error_of(owner.post(path, MAIL, idempotency_key=key), 400, "validation_failed")


def run_together(count: int, work: Callable[[], Any]) -> list[Any]:
    results: list[Any] = []
    start = threading.Barrier(count)

    def run() -> None:
        start.wait(10)
        try:
            results.append(work())
        finally:
            connection.close()

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return results


@pytest.mark.django_db(transaction=True)
def test_parallel_twins_send_once(owner: Api, path: str) -> None:
    answers = run_together(6, lambda: Api(owner.secret).post(path, MAIL, idempotency_key="twin"))
    assert [answer.status_code for answer in answers] == [202] * 6
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sum("Idempotency-Replayed" in answer.headers for answer in answers) == 5
    assert Message.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_a_burst_does_not_overshoot_the_limit(owner: Api, path: str, mailbox: Mailbox) -> None:
    owner.patch(f"/v1/inboxes/{mailbox.address}", {"daily_send_limit": 10})
    answers = run_together(25, lambda: Api(owner.secret).post(path, MAIL))
    assert sorted(answer.status_code for answer in answers) == [202] * 10 + [429] * 15
    assert Message.objects.count() == 10


def test_a_send_takes_a_bounded_number_of_queries(
    owner: Api, path: str, django_assert_max_num_queries: Any, organization: Organization, make_api: MakeApi
) -> None:
    owner.post(path, MAIL)
    with django_assert_max_num_queries(22):
        owner.post(path, {**MAIL, "to": [f"u{number}@example.com" for number in range(40)]})
