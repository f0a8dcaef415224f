"""Admin pages of messages: what strangers wrote, shown without doing what it says."""

import html
import re
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from apps.accounts.models import Organization
from apps.core.ids import encode_id, id_floor
from apps.mail.admin import FRAME_POLICY, frame_document
from apps.mail.models import Attachment, BlobChunk, Message
from apps.mailboxes.models import Mailbox
from tests.apps.admin_people import (
    MAX_QUERIES,
    add_url,
    count_queries,
    counts_rows,
    list_url,
    page_url,
    receive,
    rows_of,
    send,
    sign_in_operator,
    text_of,
)
from tests.apps.conftest import MakeMailbox

pytestmark = pytest.mark.django_db

EVIL = (
    '<script>alert(1)</script><img src="http://tracker.example/p.gif"><LINK rel="dns-prefetch" href="//t.example">'
    '<meta http-equiv="refresh" content="0;url=http://t.example"><base href="http://t.example/">'
    '<form action="http://t.example"><iframe src="http://t.example"></iframe></form>"&lt;\' ></iframe><p>Invoice</p>'
)
MAIL = (
    "From: Carl <carl@shop.example>\r\nTo: alice@agents.localhost\r\nSubject: Invoice <b>1</b>\r\n"
    'Message-ID: <1@shop.example>\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="b"\r\n\r\n'
    f"--b\r\nContent-Type: text/html; charset=utf-8\r\n\r\n{EVIL}\r\n--b\r\n"
    'Content-Type: text/html\r\nContent-Disposition: attachment; filename="evil.html"\r\n\r\n'
    "<script>alert(2)</script>\r\n--b--\r\n"
).encode()


@pytest.fixture
def operator() -> Client:
    return sign_in_operator()


@pytest.fixture
def received(mailbox: Mailbox) -> Message:
    return receive(mailbox, MAIL)


def frames_of(response: Any) -> list[str]:
    return re.findall(r"<iframe[^>]*>", response.content.decode())


def test_html_is_shown_in_a_frame_that_can_do_nothing(operator: Client, received: Message) -> None:
    response = operator.get(page_url(received))
    (frame,) = frames_of(response)
    source = re.search(r'srcdoc="([^"]*)"', frame)
    assert source is not None
    attributes = frame.replace(source.group(0), "")
    assert 'sandbox=""' in attributes and " src=" not in attributes
    document = html.unescape(source.group(1))
    assert document.startswith(f'<!doctype html><meta http-equiv="Content-Security-Policy" content="{FRAME_POLICY}">')
    assert "<p>Invoice</p>" in document
    assert "frame-src 'none'" in response.headers["Content-Security-Policy"]


def test_nothing_of_the_html_is_outside_of_the_frame(operator: Client, received: Message) -> None:
    page = operator.get(page_url(received)).content.decode()
    outside = re.sub(r'srcdoc="[^"]*"', "", page)
    for part in ("<script>alert", "tracker.example", 'http-equiv="refresh', "<b>1</b>"):
        assert part not in outside


@pytest.mark.parametrize("name", ["link", "LINK", "meta", "base", "iframe", "object", "embed", "form", "frameset"])
def test_elements_that_load_or_lead_elsewhere_are_taken_out(name: str) -> None:
    inner = frame_document(f"<{name} a=b><{name}/><{name}\n>").split("</style>", 1)[1]
    assert f"<{name}" not in inner.lower().replace("<x-", "")


def test_the_policy_allows_nothing_but_styles_and_inline_images() -> None:
    allowed = dict(rule.split(" ", 1) for rule in FRAME_POLICY.split("; "))
    assert allowed == {
        "default-src": "'none'",
        "style-src": "'unsafe-inline'",
        "img-src": "data:",
        "form-action": "'none'",
        "base-uri": "'none'",
    }


def test_the_raw_mail_is_a_download_of_the_very_octets(operator: Client, received: Message) -> None:
    response = operator.get(f"/admin/mail/message/{received.id}/raw/")
    assert b"".join(response.streaming_content) == MAIL  # type: ignore[attr-defined]
    assert response.headers["Content-Type"] == "message/rfc822"
    assert response.headers["Content-Disposition"].startswith("attachment")
    assert "sandbox" in response.headers["Content-Security-Policy"]


def test_an_attachment_is_never_shown_as_a_page(operator: Client, received: Message) -> None:
    attachment = Attachment.objects.get(message=received)
    response = operator.get(f"/admin/mail/message/{received.id}/attachments/{attachment.id}/")
    assert b"alert(2)" in response.content
    assert response.headers["Content-Type"] == "application/octet-stream"
    assert response.headers["Content-Disposition"] == 'attachment; filename="evil.html"'
    assert response.headers["X-Content-Type-Options"] == "nosniff"


def test_an_attachment_belongs_to_its_message(operator: Client, received: Message, mailbox: Mailbox) -> None:
    other = send(mailbox)
    attachment = Attachment.objects.get(message=received)
    assert operator.get(f"/admin/mail/message/{other.id}/attachments/{attachment.id}/").status_code == 404


def test_raw_mail_that_is_gone_is_said_to_be_gone(operator: Client, received: Message) -> None:
    BlobChunk.objects.all().delete()
    assert operator.get(f"/admin/mail/message/{received.id}/raw/").status_code == 404
    assert operator.get(page_url(received)).status_code == 200


def test_an_outbound_message_shows_what_became_of_each_recipient(operator: Client, mailbox: Mailbox) -> None:
    message = send(mailbox, "bob@customer.example", bcc=["boss@customer.example"])
    page = text_of(operator.get(page_url(message)))
    assert "bob@customer.example To, by customer.example held" in page
    assert "boss@customer.example Bcc, by customer.example held" in page
    assert "Held until somebody releases it" in page


def test_messages_are_read_only(operator: Client, received: Message) -> None:
    assert operator.get(add_url(Message)).status_code == 403
    assert operator.post(page_url(received), {"subject": "Changed"}).status_code == 403
    assert operator.post(page_url(received, "delete"), {"post": "yes"}).status_code == 403


def test_messages_are_found_by_what_people_have_at_hand(
    operator: Client, received: Message, mailbox: Mailbox, make_mailbox: MakeMailbox
) -> None:
    other = send(make_mailbox("bob"), subject="Something else")
    for term, found in (
        (encode_id("msg", received.id), [received]),
        (str(other.id), [other]),
        ("Alice@Agents.localhost", [received]),
        ("carl@shop.example", [received]),
        ("INVOICE", [received]),
        ("nothing like it", []),
    ):
        assert rows_of(operator.get(list_url(Message, q=term))) == found, term


def test_filters_lead_to_mailbox_thread_direction_and_time(
    operator: Client, received: Message, mailbox: Mailbox
) -> None:
    sent = send(mailbox)
    old = Message.objects.get(id=sent.id)
    old.id = id_floor(timezone.now() - timedelta(days=3))
    old.save(force_insert=True)
    for query, found in (
        ({"mailbox": mailbox.id}, [sent, received, old]),
        ({"thread": received.thread_id}, [received]),
        ({"direction__exact": "inbound"}, [received]),
        ({"period": "day"}, [sent, received]),
        ({"organization": mailbox.organization_id}, [sent, received, old]),
        ({"mailbox": "nonsense"}, []),
    ):
        assert rows_of(operator.get(list_url(Message, **query))) == found, query


def test_pages_go_by_place_and_show_every_message_once(
    operator: Client, mailbox: Mailbox, organization: Organization
) -> None:
    original = send(mailbox)
    floor = id_floor(timezone.now() - timedelta(days=1)).int
    copies = []
    for number in range(119):
        copy = Message.objects.get(id=original.id)
        copy.id = type(original.id)(int=floor + number)
        copies.append(copy)
    Message.objects.bulk_create(copies)
    seen: list[Message] = []
    url = list_url(Message)
    for page in range(3):
        if page == 1:
            send(mailbox)  # what comes in meanwhile moves nothing
        response = operator.get(url)
        seen += rows_of(response)
        url = list_url(Message) + response.context["cl"].older_url
    assert len(seen) == len(set(seen)) == 120
    assert url == list_url(Message)
    assert [message.id for message in seen] == sorted((message.id for message in seen), reverse=True)


@pytest.mark.parametrize("token", ["x", "~", "1~2~3", "00000000-0000-0000-0000-000000000000"])
def test_a_place_that_is_none_does_no_harm(operator: Client, received: Message, token: str) -> None:
    assert operator.get(list_url(Message, older=token)).status_code == 200


def test_the_list_costs_the_same_for_more_rows_and_counts_nothing(operator: Client, mailbox: Mailbox) -> None:
    for _ in range(20):
        send(mailbox)
    with count_queries() as queries:
        assert len(rows_of(operator.get(list_url(Message)))) == 20
    assert len(queries) <= MAX_QUERIES
    assert not counts_rows(queries)
    assert not [query for query in queries.captured_queries if "mail_messagebody" in query["sql"]]


def test_a_page_costs_the_same_for_more_recipients(operator: Client, mailbox: Mailbox) -> None:
    costs = []
    for count in (1, 20):
        message = send(mailbox, cc=[f"p{number}@customer.example" for number in range(count)])
        with count_queries() as queries:
            operator.get(page_url(message))
        costs.append(len(queries))
    assert costs[0] == costs[1] <= MAX_QUERIES + 4


def test_a_list_that_takes_too_long_says_so(
    operator: Client, received: Message, monkeypatch: pytest.MonkeyPatch
) -> None:
    def search_slowly(self: object, request: object, queryset: Any, term: str) -> tuple[Any, bool]:
        return queryset.extra(where=["(SELECT true FROM pg_sleep(5))"]), False

    monkeypatch.setattr("apps.core.admin_lists.LIST_TIMEOUT", timedelta(milliseconds=50))
    monkeypatch.setattr("apps.mail.admin.MessageAdmin.get_search_results", search_slowly)
    response = operator.get(list_url(Message))
    assert "Choose a time" in text_of(response)
    assert rows_of(response) == []
