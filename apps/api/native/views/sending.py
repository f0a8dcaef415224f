"""Sending: a new message, and a reply."""

from collections.abc import Callable
from typing import Any, ClassVar

from django.http import HttpRequest, HttpResponse
from rest_framework.request import Request

from apps.api.answers import answer_json
from apps.api.idempotency import HEADER, Answer, check_idempotency_key, fingerprint_request, run_once
from apps.api.native import schemas
from apps.api.native.auth import find_inbox, organization_of
from apps.api.native.inputs import ReplyInput, SendInput, read_attachments, read_input
from apps.api.native.openapi import describe, query
from apps.api.native.outputs import show_sent
from apps.api.native.views.base import NativeView
from apps.api.native.views.finding import find_message
from apps.delivery.services import ReplyRequest, SendRequest, SentMessage, reply_message, send_message
from apps.mailboxes.models import Mailbox

SEND_ERRORS = (
    "not_found", "organization_suspended", "inbox_suspended", "inbox_paused", "inbox_deleted", "daily_limit_reached",
    "recipient_suppressed", "recipient_blocked", "idempotency_conflict", "conflict", "storage_exceeded",
)  # fmt: skip
IDEMPOTENCY = query(HEADER, "Repeat a request with the same key and body within 24 hours: it is sent once.")
IDEMPOTENCY.location = "header"


def answer_send(view: NativeView, body: dict[str, Any], send: Callable[[], SentMessage]) -> HttpResponse:
    """202 with what was accepted; under an Idempotency-Key the first answer again."""
    request: HttpRequest = view.request._request

    def work() -> Answer:
        return 202, show_sent(send())

    key = request.headers.get(HEADER)
    if key is None:
        status, answer = work()
        return answer_json(answer, status=status)
    (status, answer), replayed = run_once(
        organization_id=organization_of(view.key).id,
        key=check_idempotency_key(key),
        fingerprint=fingerprint_request(method=str(request.method), path=request.path, body=body),
        now=view.now,
        work=work,
    )
    return answer_json(answer, status=status, headers={"Idempotency-Replayed": "true"} if replayed else None)


def send_from_inbox(view: NativeView, inbox: str) -> HttpResponse:
    """POST /v1/inboxes/{inbox}/messages."""
    body = view.read_body()
    values = read_input(SendInput, body)
    mailbox = find_inbox(view.key, inbox)
    request = SendRequest(
        to=values.get("to") or (),
        cc=values.get("cc") or (),
        bcc=values.get("bcc") or (),
        subject=values.get("subject") or "",
        text=values.get("text"),
        html=values.get("html"),
        reply_to=values.get("reply_to") or (),
        headers=values.get("headers") or (),
        attachments=read_attachments(values.get("attachments", ())),
        labels=values.get("labels", ()),
        in_reply_to=values.get("in_reply_to"),
        thread_id=values.get("thread_id"),
        is_list=values.get("list", False),
    )
    return answer_send(view, body, lambda: send_message(mailbox=mailbox, request=request, now=view.now))


class Reply(NativeView):
    """POST /v1/messages/{id}/reply."""

    scopes: ClassVar = {"POST": "messages:send"}

    @describe(
        "reply_to_message",
        "Reply to a message",
        request=ReplyInput,
        answer=schemas.Sent(),
        status=202,
        errors=SEND_ERRORS,
        params=[IDEMPOTENCY],
        tag="Messages",
        examples={"Reply": {"text": "Thank you, it works now."}},
    )
    def post(self, request: Request, message_id: str) -> HttpResponse:
        body = self.read_body()
        values = read_input(ReplyInput, body)
        message = find_message(self.key, message_id)
        mailbox = Mailbox.objects.select_related("organization", "domain", "usage").get(id=message.mailbox_id)
        reply = ReplyRequest(
            to=values.get("to") or (),
            cc=values.get("cc") or (),
            bcc=values.get("bcc") or (),
            text=values.get("text"),
            html=values.get("html"),
            attachments=read_attachments(values.get("attachments", ())),
            labels=values.get("labels", ()),
        )
        return answer_send(
            self, body, lambda: reply_message(mailbox=mailbox, message=message, reply=reply, now=self.now)
        )
