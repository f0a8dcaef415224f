"""Reading messages through HTTP: lists, one, raw mail, attachments, deliveries."""

from datetime import timedelta
from typing import Any
from urllib.parse import quote
from uuid import UUID

import pytest
from django.utils import timezone

from apps.core.ids import encode_id
from apps.delivery.models import Attempt, Delivery
from apps.mail.blobs import delete_blobs
from apps.mail.models import Message, MessageLabel
from apps.mailboxes.models import Mailbox
from tests.api.conftest import Api, error_of
from tests.api.mail import deposit_mail, make_raw

pytestmark = pytest.mark.django_db


def msg(message: Message) -> str:
    return encode_id("msg", message.id)


def label(message: Message, *labels: str) -> None:
    """What a later issue does by PATCH."""
    message.labels = list(labels)
    message.save(update_fields=["labels"])
    MessageLabel.objects.bulk_create(
        MessageLabel(mailbox_id=message.mailbox_id, label=one, message=message) for one in labels
    )


def ids(api: Api, path: str) -> list[str]:
    return [row["id"] for row in api.get(path).json()["data"]]


def test_a_received_message_is_shown_whole(owner: Api, mailbox: Mailbox) -> None:
    message = deposit_mail(
        mailbox,
        subject="Grüße",
        text="Hello, Alice.\r\n\r\n> quoted",
        attachment=b"hello",
        extra="Message-ID: <1@x>\r\n",
    )
    shown = owner.get(f"/v1/messages/{msg(message)}").json()
    assert shown["inbox_id"] == encode_id("inbox", mailbox.id)
    assert shown["message_id"] == "<1@x>"
    assert shown["from"] == {"address": "ann@example.com", "name": "Ann"}
    assert shown["status"] == "received"
    assert shown["unread"] is True
    assert "Hello, Alice." in shown["text"]
    assert shown["html"] is None
    assert {"name": "Message-ID", "value": "<1@x>"} in shown["headers"]
    assert shown["attachments"][0]["filename"] == "note.txt"
    assert shown["recipients"] == []
    assert shown["created_at"].endswith("Z")


def test_a_list_leaves_out_the_bodies(owner: Api, mailbox: Mailbox) -> None:
    deposit_mail(mailbox)
    row = owner.get(f"/v1/inboxes/{mailbox.address}/messages").json()["data"][0]
    assert not {"text", "html", "extracted_text", "headers"} & row.keys()
    assert row["preview"] == "Hello, Alice."


def test_lists_of_an_inbox_and_of_all_page_newest_first(owner: Api, mailbox: Mailbox, make_mailbox: Any) -> None:
    other = make_mailbox("bob")
    made = [msg(deposit_mail(mailbox if number % 2 else other)) for number in range(6)]
    assert ids(owner, "/v1/messages") == made[::-1]
    assert ids(owner, "/v1/messages?ascending=true") == made
    assert ids(owner, f"/v1/inboxes/{mailbox.address}/messages") == made[1::2][::-1]
    first = owner.get("/v1/messages?limit=4").json()
    assert first["next_cursor"] is not None
    second = owner.get(f"/v1/messages?limit=4&cursor={first['next_cursor']}").json()
    assert [row["id"] for row in first["data"] + second["data"]] == made[::-1]
    assert second["next_cursor"] is None


def test_mail_that_comes_while_paging_moves_nothing(owner: Api, mailbox: Mailbox) -> None:
    made = [msg(deposit_mail(mailbox)) for _ in range(4)]
    first = owner.get("/v1/messages?limit=2").json()
    deposit_mail(mailbox)
    second = owner.get(f"/v1/messages?limit=2&cursor={first['next_cursor']}").json()
    assert [row["id"] for row in first["data"] + second["data"]] == made[::-1]


def test_filters_narrow_a_list(owner: Api, mailbox: Mailbox) -> None:
    path = f"/v1/inboxes/{mailbox.address}/messages"
    first = deposit_mail(mailbox, extra="Message-ID: <1@x>\r\n")
    second = deposit_mail(mailbox, extra="In-Reply-To: <1@x>\r\n")
    sent = owner.post(path, {"to": "ann@example.com", "text": "x"}).json()["id"]
    Message.objects.filter(id=first.id).update(unread=False)
    assert ids(owner, f"{path}?direction=outbound") == [sent]
    assert ids(owner, f"{path}?direction=inbound&unread=true") == [msg(second)]
    assert ids(owner, f"{path}?unread=false&direction=inbound") == [msg(first)]
    thread = encode_id("thread", first.thread_id)
    assert ids(owner, f"{path}?thread_id={thread}") == [msg(second), msg(first)]
    later = quote((timezone.now() + timedelta(hours=1)).isoformat())
    earlier = quote((timezone.now() - timedelta(hours=1)).isoformat())
    assert ids(owner, f"{path}?after={later}") == []
    assert len(ids(owner, f"{path}?after={earlier}&before={later}")) == 3
    assert ids(owner, f"{path}?before={earlier}") == []


def test_labels_narrow_a_list_and_several_must_all_be_there(owner: Api, mailbox: Mailbox) -> None:
    messages = [deposit_mail(mailbox) for _ in range(6)]
    for number, message in enumerate(messages):
        label(message, *["even"] * (number % 2 == 0), *["low"] * (number < 3))
    even = [msg(message) for message in messages[::2]][::-1]
    for path in ("/v1/messages", f"/v1/inboxes/{mailbox.address}/messages"):
        assert ids(owner, f"{path}?labels=even") == even
        assert ids(owner, f"{path}?labels=even&ascending=true") == even[::-1]
        assert ids(owner, f"{path}?labels=even&labels=low") == ids(owner, f"{path}?labels=low,even") == even[1:]
        assert ids(owner, f"{path}?labels=none") == []
        page = owner.get(f"{path}?labels=even&limit=2").json()
        rest = owner.get(f"{path}?labels=even&limit=2&cursor={page['next_cursor']}").json()
        assert [row["id"] for row in page["data"] + rest["data"]] == even
        assert len(ids(owner, f"{path}?labels=even&unread=true&direction=inbound&after=2020-01-01T00:00:00Z")) == 3


@pytest.mark.parametrize(
    "query",
    ["direction=sideways", "unread=perhaps", "thread_id=msg_01h455vb4pex5vsknk084sn02q", "after=yesterday",
     "before=2026-01-01", "after=2026-01-01T00:00:00", "before=99999-01-01T00:00:00Z", "labels=%00", "from=ann"],
)  # fmt: skip
def test_bad_filters_are_named(owner: Api, query: str) -> None:
    error = error_of(owner.get(f"/v1/messages?{query}"), 400, "validation_failed")
    assert error["details"][0]["field"] == query.partition("=")[0]


def test_a_list_costs_the_same_queries_at_any_length(
    owner: Api, mailbox: Mailbox, django_assert_num_queries: Any
) -> None:
    path = f"/v1/inboxes/{mailbox.address}/messages"
    for _ in range(8):
        deposit_mail(mailbox, attachment=b"x")
        owner.post(path, {"to": ["ann@example.com", "b@example.com"], "text": "x"})
    for limit in (2, 16):
        with django_assert_num_queries(5):  # key, inbox, messages, recipients, attachments
            assert len(ids(owner, f"{path}?limit={limit}")) == limit
        with django_assert_num_queries(4):
            assert len(ids(owner, f"/v1/messages?limit={limit}")) == limit


def test_the_raw_mail_comes_as_it_was(owner: Api, mailbox: Mailbox) -> None:
    message = deposit_mail(mailbox, subject="As it was")
    answer = owner.get(f"/v1/messages/{msg(message)}/raw")
    assert b"".join(answer) == make_raw(subject="As it was")
    assert answer.headers["Content-Type"] == "message/rfc822"
    assert answer.headers["Content-Disposition"].startswith("attachment")
    assert answer.headers["Content-Length"] == str(message.size)


def test_a_raw_mail_of_several_megabytes_comes_whole(owner: Api, mailbox: Mailbox) -> None:
    message = deposit_mail(mailbox, attachment=bytes(range(32, 127)) * 30_000)
    answer = owner.get(f"/v1/messages/{msg(message)}/raw")
    assert len(b"".join(answer)) == message.size > 2_500_000


def test_raw_mail_that_is_gone_is_not_found(owner: Api, mailbox: Mailbox) -> None:
    message = deposit_mail(mailbox, attachment=b"x")
    attachment = encode_id("att", message.attachments.get().id)
    delete_blobs([message.blob_id])
    error_of(owner.get(f"/v1/messages/{msg(message)}/raw"), 404, "not_found")
    error_of(owner.get(f"/v1/messages/{msg(message)}/attachments/{attachment}"), 404, "not_found")


def attachment_path(message: Message) -> str:
    return f"/v1/messages/{msg(message)}/attachments/{encode_id('att', message.attachments.get().id)}"


def test_an_attachment_is_a_download_whatever_it_claims(owner: Api, mailbox: Mailbox) -> None:
    page = b"<script>alert(1)</script>"
    message = deposit_mail(mailbox, attachment=page, filename='../../a"b.html', content_type="text/html")
    answer = owner.get(attachment_path(message))
    assert answer.content == page
    assert answer.headers["Content-Disposition"].startswith("attachment")
    assert "/" not in answer.headers["Content-Disposition"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in answer.headers["Content-Security-Policy"]


def test_odd_content_types_and_names_harm_nothing(owner: Api, mailbox: Mailbox) -> None:
    message = deposit_mail(mailbox, attachment=b"x")
    message.attachments.update(content_type="text/html\r\nX-Evil: 1", filename="a\r\nb\u202egpj.exe")
    answer = owner.get(attachment_path(message))
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert "X-Evil" not in answer.headers
    assert not set("\r\n\u202e") & set(answer.headers["Content-Disposition"])
    message.attachments.update(filename="日本.txt")
    assert "filename*=utf-8''" in owner.get(attachment_path(message)).headers["Content-Disposition"].lower()


@pytest.mark.parametrize(
    ("asked", "status", "content", "told"),
    [
        ("bytes=0-4", 206, b"01234", "bytes 0-4/10"),
        ("bytes=8-", 206, b"89", "bytes 8-9/10"),
        ("bytes=-3", 206, b"789", "bytes 7-9/10"),
        ("bytes=5-100", 206, b"56789", "bytes 5-9/10"),
        ("bytes=-100", 206, b"0123456789", "bytes 0-9/10"),
        ("bytes=0-0,5-5", 200, b"0123456789", None),
        ("bytes=5-2", 200, b"0123456789", None),
        ("lines=1-2", 200, b"0123456789", None),
        ("bytes=-", 200, b"0123456789", None),
        ("bytes=10-", 416, None, "bytes */10"),
        ("bytes=-0", 416, None, "bytes */10"),
    ],
)
def test_a_range_of_an_attachment_is_sent(
    owner: Api, mailbox: Mailbox, asked: str, status: int, content: bytes | None, told: str | None
) -> None:
    message = deposit_mail(mailbox, attachment=b"0123456789")
    answer = owner.get(attachment_path(message), range=asked)
    assert answer.status_code == status
    assert answer.headers.get("Content-Range") == told
    if content is not None:
        assert answer.content == content


def test_an_attachment_that_one_has_is_not_sent_again(owner: Api, mailbox: Mailbox) -> None:
    message = deposit_mail(mailbox, attachment=b"0123456789")
    etag = owner.get(attachment_path(message)).headers["ETag"]
    answer = owner.get(attachment_path(message), if_none_match=f'"other", W/{etag}')
    assert (answer.status_code, answer.content) == (304, b"")
    changed = owner.get(attachment_path(message), range="bytes=0-1", if_range='"other"')
    assert (changed.status_code, changed.content) == (200, b"0123456789")
    assert owner.get(attachment_path(message), range="bytes=0-1", if_range=etag).status_code == 206


def test_an_attachment_of_another_message_is_not_found(owner: Api, mailbox: Mailbox) -> None:
    first, second = (deposit_mail(mailbox, attachment=b"x") for _ in range(2))
    other = encode_id("att", second.attachments.get().id)
    error_of(owner.get(f"/v1/messages/{msg(first)}/attachments/{other}"), 404, "not_found")


def test_deliveries_show_every_attempt_in_the_remotes_words(
    owner: Api, mailbox: Mailbox, django_assert_num_queries: Any
) -> None:
    body = {"to": ["a@example.com", "b@example.com"], "text": "x"}
    sent = owner.post(f"/v1/inboxes/{mailbox.address}/messages", body).json()["id"]
    delivery = Delivery.objects.get(address="a@example.com")
    for outcome, code in (("temporary", 451), ("delivered", 250)):
        Attempt.objects.create(
            delivery_id=delivery.id, at=timezone.now(), host="mx.example.com", ip="192.0.2.1", tls="TLSv1.3",
            code=code, enhanced_code="4.7.1", text="try later", outcome=outcome,
        )  # fmt: skip
    with django_assert_num_queries(4):
        shown = owner.get(f"/v1/messages/{sent}/deliveries").json()["data"]
    assert [row["address"] for row in shown] == ["a@example.com", "b@example.com"]
    assert [attempt["code"] for attempt in shown[0]["attempts"]] == [451, 250]
    assert shown[0]["attempts"][0]["text"] == "try later"
    assert shown[1]["attempts"] == []


def test_a_received_message_has_no_deliveries(owner: Api, mailbox: Mailbox) -> None:
    assert owner.get(f"/v1/messages/{msg(deposit_mail(mailbox))}/deliveries").json()["data"] == []


def test_a_message_without_its_body_row_is_still_shown(owner: Api, mailbox: Mailbox) -> None:
    message = deposit_mail(mailbox)
    message.body.delete()
    assert owner.get(f"/v1/messages/{msg(message)}").json()["text"] is None


def test_ids_sort_as_the_messages_came(mailbox: Mailbox) -> None:
    made: list[UUID] = [deposit_mail(mailbox).id for _ in range(5)]
    assert made == sorted(made)
