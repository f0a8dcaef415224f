"""Sendook's addresses: read, call one service, write."""

from collections.abc import Mapping
from typing import Any, ClassVar

from django.http import HttpRequest, HttpResponse

from apps.accounts.models import ApiKey
from apps.api.answers import answer_json
from apps.api.cursors import read_page
from apps.api.dialect_views import DialectView, MissingMixin, RefuseMixin
from apps.api.dialects.sendook import auth, errors, inputs, outputs
from apps.core.errors import DomainError, NotFound, ValidationFailed
from apps.delivery.services import delete_mailbox, reply_message, send_message
from apps.mail.models import Message
from apps.mail.selectors import get_visible_message
from apps.mailboxes.models import Mailbox
from apps.mailboxes.selectors import get_visible_mailbox
from apps.mailboxes.services import create_mailbox

NEXT_CURSOR = "X-Next-Cursor"
"""Where a list goes on that is longer than one answer: the bodies are as the vendor's, without pages."""


class SendookView(DialectView):
    """A resource of this dialect."""

    def find_key(self, request: HttpRequest) -> ApiKey:
        return auth.find_key(request, now=self.now)

    def show_error(self, request: HttpRequest, error: DomainError) -> HttpResponse:
        return errors.show_error(request, error)

    def find_mailbox(self, inbox_id: str, *, archived: bool = False) -> Mailbox:
        """The mailbox of this id; a deleted one only where its archived mail is asked for. Raises NotFound."""
        try:
            mailbox = get_visible_mailbox(key=self.key, mailbox_id=inputs.read_id(outputs.INBOX, inbox_id))
        except NotFound:
            raise NotFound("Inbox not found") from None
        if mailbox.is_purged or (mailbox.deleted_at is not None and not archived):
            raise NotFound("Inbox not found")
        return mailbox

    def find_message(self, message_id: str, mailbox: Mailbox | None = None) -> Message:
        """The message of this id, of this mailbox if one is given, an archived one too. Raises NotFound."""
        try:
            message = get_visible_message(key=self.key, message_id=inputs.read_id(outputs.MESSAGE, message_id))
        except NotFound:
            raise NotFound("Message not found") from None
        if mailbox is not None and message.mailbox_id != mailbox.id:
            raise NotFound("Message not found")
        return message


class Refused(RefuseMixin, SendookView):
    """Known to the vendor, not supported here."""


class Missing(MissingMixin, SendookView):
    """Nothing at this address."""


class Inboxes(SendookView):
    """POST and GET /v1/inboxes."""

    scopes: ClassVar[Mapping[str, str]] = {"GET": "inboxes:read", "POST": "inboxes:write"}

    def post(self, request: HttpRequest) -> HttpResponse:
        wanted = inputs.read_new_inbox(self.read_body())
        try:
            mailbox, _ = create_mailbox(organization=self.organization, wanted=wanted, key=self.key, now=self.now)
        except NotFound as error:  # the domain in `email`: a 404 would say that this address is not there
            raise ValidationFailed("email", error.message, fix=error.fix_text) from None
        return answer_json(outputs.show_inbox(mailbox), status=201)

    def get(self, request: HttpRequest) -> HttpResponse:
        page = inputs.read_page_request(request, self.key, "inboxes", most=inputs.MAX_INBOXES)
        mailboxes = Mailbox.objects.visible_to(self.key).filter(deleted_at__isnull=True)
        rows, cursor = read_page(mailboxes, page)
        return _answer_list({"data": [outputs.show_inbox(row) for row in rows]}, cursor)


class OneInbox(SendookView):
    """GET and DELETE /v1/inboxes/{inboxId}."""

    scopes: ClassVar[Mapping[str, str]] = {"GET": "inboxes:read", "DELETE": "inboxes:write"}

    def get(self, request: HttpRequest, inbox_id: str) -> HttpResponse:
        return answer_json(outputs.show_inbox(self.find_mailbox(inbox_id)))

    def delete(self, request: HttpRequest, inbox_id: str) -> HttpResponse:
        delete_mailbox(mailbox=self.find_mailbox(inbox_id), purge=False, now=self.now)
        return HttpResponse(status=204)


class Messages(SendookView):
    """GET /v1/inboxes/{inboxId}/messages."""

    scopes: ClassVar[Mapping[str, str]] = {"GET": "messages:read"}

    def get(self, request: HttpRequest, inbox_id: str) -> HttpResponse:
        inputs.refuse_search(request)
        mailbox = self.find_mailbox(inbox_id, archived=True)
        page = inputs.read_page_request(request, self.key, "messages", most=inputs.MAX_MESSAGES, owner=mailbox.id)
        messages = Message.objects.filter(mailbox_id=mailbox.id).select_related("body")
        rows, cursor = read_page(messages, page)
        return _answer_list(outputs.show_messages(rows), cursor)


class Send(SendookView):
    """POST /v1/inboxes/{inboxId}/messages/send."""

    scopes: ClassVar[Mapping[str, str]] = {"POST": "messages:send"}

    def post(self, request: HttpRequest, inbox_id: str) -> HttpResponse:
        wanted = inputs.read_new_message(self.read_body())
        sent = send_message(mailbox=self.find_mailbox(inbox_id), request=wanted, now=self.now)
        return answer_json(outputs.show_message(sent.message), status=202)


class OneMessage(SendookView):
    """GET /v1/inboxes/{inboxId}/messages/{messageId}."""

    scopes: ClassVar[Mapping[str, str]] = {"GET": "messages:read"}

    def get(self, request: HttpRequest, inbox_id: str, message_id: str) -> HttpResponse:
        mailbox = self.find_mailbox(inbox_id, archived=True)
        return answer_json(outputs.show_message(self.find_message(message_id, mailbox)))


class AnyMessage(SendookView):
    """GET /v1/messages/{messageId}."""

    scopes: ClassVar[Mapping[str, str]] = {"GET": "messages:read"}

    def get(self, request: HttpRequest, message_id: str) -> HttpResponse:
        return answer_json(outputs.show_message(self.find_message(message_id)))


class Reply(SendookView):
    """POST /v1/inboxes/{inboxId}/messages/{messageId}/reply."""

    scopes: ClassVar[Mapping[str, str]] = {"POST": "messages:send"}

    def post(self, request: HttpRequest, inbox_id: str, message_id: str) -> HttpResponse:
        reply = inputs.read_reply(self.read_body())
        mailbox = self.find_mailbox(inbox_id)
        message = self.find_message(message_id, mailbox)
        sent = reply_message(mailbox=mailbox, message=message, reply=reply, now=self.now)
        return answer_json(outputs.show_message(sent.message), status=202)


def _answer_list(body: Any, cursor: str | None) -> HttpResponse:
    return answer_json(body, headers=None if cursor is None else {NEXT_CURSOR: cursor})
