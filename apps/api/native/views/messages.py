"""Messages: lists, one, its raw mail, attachments and deliveries."""

from collections.abc import Iterator
from itertools import chain
from typing import Any, ClassVar

from django.db.models import QuerySet
from django.http import HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from drf_spectacular.utils import OpenApiResponse
from rest_framework.request import Request

from apps.api.answers import answer_json
from apps.api.cursors import PageRequest, read_page
from apps.api.downloads import answer_file, mail_file_headers
from apps.api.native import schemas
from apps.api.native.auth import find_inbox
from apps.api.native.inputs import Query, SendInput
from apps.api.native.openapi import ASCENDING, PAGING, describe, query
from apps.api.native.outputs import show_deliveries, show_messages, show_whole_message
from apps.api.native.views.base import NativeView, answer_list, require_id
from apps.api.native.views.finding import find_message
from apps.api.native.views.sending import IDEMPOTENCY, SEND_ERRORS, send_from_inbox
from apps.core.errors import NotFound
from apps.core.ids import id_floor
from apps.delivery.models import Delivery
from apps.mail.blobs import iterate_blob, read_blob
from apps.mail.models import Attachment, Message, MessageLabel
from apps.mail.selectors import visible_messages
from apps.mailboxes.models import Mailbox
from mailhost.errors import MailError
from mailhost.message.parse import read_attachment

_FILTERS = ("direction", "labels", "unread", "thread_id", "after", "before")
_LIST_PARAMS = (
    *PAGING,
    ASCENDING,
    query("direction", "Only one direction.", enum=Message.Direction.values),
    query("labels", "Only messages that carry all of these labels; repeated, or with commas."),
    query("unread", "Only unread ones, or only read ones.", kind=bool),
    query("thread_id", "Only messages of this thread."),
    query("after", "Only messages from this time on (RFC 3339)."),
    query("before", "Only messages before this time (RFC 3339)."),
)


def list_messages(view: NativeView, request: Request, mailbox: Mailbox | None) -> HttpResponse:
    """A page of the messages of one mailbox, or of all that the key may see."""
    read = Query(request._request, allowed=_FILTERS)
    filters: dict[str, Any] = {}
    if direction := read.choice("direction", Message.Direction.values):
        filters["direction"] = direction
    if (unread := read.flag("unread")) is not None:
        filters["unread"] = unread
    if thread_id := read.id("thread_id", "thread"):
        filters["thread_id"] = thread_id
    if after := read.time("after"):
        filters["id__gte"] = id_floor(after)
    if before := read.time("before"):
        filters["id__lt"] = id_floor(before)
    owner = view.key.organization_id if mailbox is None else mailbox.id
    page = read.page("messages", owner=owner)
    labels = read.texts("labels")
    if mailbox is None:
        messages = visible_messages(view.key)
    else:
        messages = Message.objects.filter(mailbox_id=mailbox.id)
        if labels:
            rows, cursor = _read_labelled_page(mailbox, labels, filters, page)
            return answer_list(show_messages(rows), cursor)
    if labels:
        filters["labels__contains"] = labels
    rows, cursor = read_page(messages.filter(**filters), page)
    return answer_list(show_messages(rows), cursor)


def _read_labelled_page(
    mailbox: Mailbox, labels: list[str], filters: dict[str, Any], page: PageRequest
) -> tuple[list[Message], str | None]:
    """Through the label's own index, so that a rare label costs no walk through the mailbox."""
    rows: QuerySet[MessageLabel] = MessageLabel.objects.filter(mailbox_id=mailbox.id, label=labels[0])
    for name, value in filters.items():
        # A bound on the id is set on the index's own column; the planner does not carry it over by itself.
        rows = rows.filter(
            **{name.replace("id__", "message_id__") if name.startswith("id__") else f"message__{name}": value}
        )
    if labels[1:]:
        rows = rows.filter(message__labels__contains=labels[1:])
    found, cursor = read_page(rows.select_related("message"), page, id_field="message_id")
    return [row.message for row in found], cursor


class InboxMessages(NativeView):
    """GET and POST /v1/inboxes/{inbox}/messages."""

    scopes: ClassVar = {"GET": "messages:read", "POST": "messages:send"}

    @describe(
        "list_inbox_messages",
        "List an inbox's messages, newest first",
        answer=schemas.page_of(schemas.MessageSummary),
        errors=["invalid_cursor", "not_found"],
        params=_LIST_PARAMS,
        tag="Messages",
    )
    def get(self, request: Request, inbox: str) -> HttpResponse:
        return list_messages(self, request, find_inbox(self.key, inbox))

    @describe(
        "send_message",
        "Send a message",
        request=SendInput,
        answer=schemas.Sent(),
        status=202,
        errors=SEND_ERRORS,
        params=[IDEMPOTENCY],
        tag="Messages",
        examples={
            "Text": {"to": "Ann <ann@example.com>", "subject": "Hello", "text": "Hello, Ann."},
            "With a file": {
                "to": ["ann@example.com"],
                "cc": ["bob@example.com"],
                "subject": "The report",
                "text": "Attached.",
                "html": "<p>Attached.</p>",
                "attachments": [{"filename": "a.txt", "content_type": "text/plain", "content": "aGVsbG8="}],
            },
        },
    )
    def post(self, request: Request, inbox: str) -> HttpResponse:
        return send_from_inbox(self, inbox)


class AllMessages(NativeView):
    """GET /v1/messages."""

    scopes: ClassVar = {"GET": "messages:read"}

    @describe(
        "list_messages",
        "List messages of all inboxes, newest first",
        answer=schemas.page_of(schemas.MessageSummary),
        errors=["invalid_cursor"],
        params=_LIST_PARAMS,
        tag="Messages",
    )
    def get(self, request: Request) -> HttpResponse:
        return list_messages(self, request, None)


class OneMessage(NativeView):
    """GET /v1/messages/{id}."""

    scopes: ClassVar = {"GET": "messages:read"}

    @describe("get_message", "Get a message", answer=schemas.Message(), errors=["not_found"], tag="Messages")
    def get(self, request: Request, message_id: str) -> HttpResponse:
        Query(request._request, allowed=())
        return answer_json(show_whole_message(find_message(self.key, message_id)))


class RawMessage(NativeView):
    """GET /v1/messages/{id}/raw."""

    scopes: ClassVar = {"GET": "messages:read"}

    @describe(
        "get_raw_message",
        "Get the raw mail",
        answer=OpenApiResponse(bytes, description="The mail as it came, or as it was composed (without Bcc)."),
        errors=["not_found"],
        tag="Messages",
    )
    def get(self, request: Request, message_id: str) -> HttpResponseBase:
        message = find_message(self.key, message_id)
        chunks: Iterator[bytes] = iterate_blob(message.blob_id)
        # The first chunk now, while "not found" can still be said.
        whole = chain([next(chunks)], chunks)
        headers = {**mail_file_headers(f"{message_id}.eml"), "Content-Length": str(message.size)}
        return StreamingHttpResponse(whole, content_type="message/rfc822", headers=headers)


class OneAttachment(NativeView):
    """GET /v1/messages/{id}/attachments/{attachment}."""

    scopes: ClassVar = {"GET": "messages:read"}

    @describe(
        "get_attachment",
        "Get an attachment's content",
        answer=OpenApiResponse(bytes, description="The decoded content; always as a download."),
        also={
            206: OpenApiResponse(bytes, description="The range that was asked for."),
            304: OpenApiResponse(description="If-None-Match names the content that you have."),
        },
        errors=["not_found", "range_not_satisfiable"],
        tag="Messages",
    )
    def get(self, request: Request, message_id: str, attachment_id: str) -> HttpResponseBase:
        message = find_message(self.key, message_id)
        attachment = Attachment.objects.filter(message_id=message.id, id=require_id("att", attachment_id)).first()
        if attachment is None:
            raise NotFound("The message has no such attachment.")

        def load() -> bytes:
            try:
                return read_attachment(read_blob(message.blob_id), attachment.part)
            except MailError:
                raise NotFound("The content of this attachment is no longer stored.") from None

        return answer_file(
            request._request,
            etag=attachment_id,
            filename=attachment.filename,
            content_type=attachment.content_type,
            load=load,
        )


class MessageDeliveries(NativeView):
    """GET /v1/messages/{id}/deliveries."""

    scopes: ClassVar = {"GET": "messages:read"}

    @describe(
        "list_deliveries",
        "List every recipient with every attempt",
        answer=schemas.page_of(schemas.DeliveryInfo),
        errors=["not_found"],
        tag="Messages",
    )
    def get(self, request: Request, message_id: str) -> HttpResponse:
        message = find_message(self.key, message_id)
        deliveries = Delivery.objects.filter(message_id=message.id).order_by("id")
        return answer_list(show_deliveries(list(deliveries)), None)
