"""AgentSend's addresses: read, call one service, write."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, ClassVar

from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse

from apps.accounts.models import ApiKey
from apps.api.answers import answer_json
from apps.api.dialect_views import DialectView, MissingMixin, RefuseMixin
from apps.api.dialects.agentsend import auth, errors, inputs, outputs, webhooks
from apps.api.errors import MethodNotAllowed, NotSupported
from apps.core.errors import DomainError, NotFound
from apps.delivery.selectors import messages_with_status
from apps.delivery.services import delete_mailbox, send_message
from apps.events.models import Webhook
from apps.events.selectors import visible_webhooks
from apps.events.services import create_webhook, delete_webhook, update_webhook
from apps.events.services.webhooks import MAX_WEBHOOKS
from apps.mail.models import Message, Thread
from apps.mail.selectors import get_visible_message
from apps.mailboxes.models import Mailbox
from apps.mailboxes.selectors import count_visible_mailboxes, get_visible_mailbox
from apps.mailboxes.services import create_mailbox

LISTED = (Mailbox.Status.ACTIVE, Mailbox.Status.PAUSED, Mailbox.Status.SUSPENDED)
"""What `GET /inboxes` lists: all that are not deleted."""
MAX_COUNTED = 10_000
"""How far a list filtered by status is counted: what has no counter must not cost more the more there is."""


class AgentSendView(DialectView):
    """A resource of this dialect."""

    def find_key(self, request: HttpRequest) -> ApiKey:
        return auth.find_key(request, now=self.now)

    def show_error(self, request: HttpRequest, error: DomainError) -> HttpResponse:
        if isinstance(error, MethodNotAllowed):
            return errors.show_missing_route(request, request.path.removeprefix("/dialects/agentsend").lstrip("/"))
        return errors.show_error(request, error)

    def find_mailbox(self, inbox_id: str, *, purged: bool = False) -> Mailbox:
        """The mailbox of this id; raises NotFound, for a stranger's too and, unless asked for, for a purged one."""
        try:
            mailbox = get_visible_mailbox(key=self.key, mailbox_id=inputs.read_id(inbox_id))
        except NotFound:
            mailbox = None
        if mailbox is None or (mailbox.is_purged and not purged):
            raise NotFound(f"Inbox '{inbox_id}' not found")
        return mailbox


class Refused(RefuseMixin, AgentSendView):
    """Known to the vendor, not supported here."""


class Missing(MissingMixin, AgentSendView):
    """Nothing at this address."""

    def show_error(self, request: HttpRequest, error: DomainError) -> HttpResponse:
        if isinstance(error, NotFound):
            return errors.show_missing_route(request, self.kwargs.get("rest", ""))
        return super().show_error(request, error)


class Inboxes(AgentSendView):
    """POST and GET /inboxes."""

    scopes: ClassVar[Mapping[str, str]] = {"GET": "inboxes:read", "POST": "inboxes:write"}

    def post(self, request: HttpRequest) -> HttpResponse:
        wanted = inputs.read_new_inbox(self.read_body(), self.organization)
        mailbox, _ = create_mailbox(organization=self.organization, wanted=wanted, key=self.key, now=self.now)
        return answer_json(outputs.show_inbox(mailbox, self.now), status=201)

    def get(self, request: HttpRequest) -> HttpResponse:
        window = inputs.read_window(request)
        total = count_visible_mailboxes(key=self.key, statuses=LISTED)
        mailboxes = Mailbox.objects.visible_to(self.key).filter(status__in=LISTED)
        rows = _cut(mailboxes.select_related("domain", "usage").order_by("-id"), window, total)
        return answer_json({"data": [outputs.show_inbox(row, self.now) for row in rows], "total": total})


class OneInbox(AgentSendView):
    """GET and DELETE /inboxes/{id}."""

    scopes: ClassVar[Mapping[str, str]] = {"GET": "inboxes:read", "DELETE": "inboxes:write"}

    def get(self, request: HttpRequest, inbox_id: str) -> HttpResponse:
        return answer_json(outputs.show_inbox(self.find_mailbox(inbox_id), self.now))

    def delete(self, request: HttpRequest, inbox_id: str) -> HttpResponse:
        mailbox = self.find_mailbox(inbox_id, purged=True)
        if mailbox.is_purged and not mailbox.usage.message_count:
            raise NotFound(f"Inbox '{inbox_id}' not found")
        # What an interrupted deletion has left is erased by asking again.
        delete_mailbox(mailbox=mailbox, purge=True, kept_for=timedelta(0), now=self.now)
        return HttpResponse(status=204)


class InboxMessages(AgentSendView):
    """POST and GET /inboxes/{id}/messages."""

    scopes: ClassVar[Mapping[str, str]] = {"GET": "messages:read", "POST": "messages:send"}

    def post(self, request: HttpRequest, inbox_id: str) -> HttpResponse:
        wanted = inputs.read_new_message(self.read_body())
        mailbox = self.find_mailbox(inbox_id)
        self._check_thread(wanted, mailbox)
        sent = send_message(mailbox=mailbox, request=wanted.as_request(), now=self.now)
        return answer_json(outputs.show_message(sent.message, sent.deliveries), status=202)

    def get(self, request: HttpRequest, inbox_id: str) -> HttpResponse:
        window = inputs.read_window(request)
        mailbox = self.find_mailbox(inbox_id)
        messages = Message.objects.filter(mailbox_id=mailbox.id)
        if window.status is None:
            total = mailbox.usage.message_count
        else:
            messages = messages_with_status(messages, outputs.our_statuses(window.status))
            total = messages.order_by()[:MAX_COUNTED].count()
        # Which ones by the index alone; only these are then read with their bodies.
        ids = _cut(messages.order_by("-id").values_list("id", flat=True), window, total)
        rows = Message.objects.filter(id__in=ids).select_related("body").order_by("-id")
        return answer_json({"data": outputs.show_messages(list(rows)), "total": total})

    def _check_thread(self, wanted: inputs.NewMessage, mailbox: Mailbox) -> None:
        """Raise NotFound or RefusedValue when threadId names no thread of this inbox."""
        if wanted.thread_id is None:
            return
        threads = Thread.objects.filter(mailbox__in=Mailbox.objects.visible_to(self.key))
        thread = threads.filter(id=wanted.thread_id).first()
        if thread is None:
            raise NotFound(f"Thread '{wanted.thread_id}' not found")
        if thread.mailbox_id != mailbox.id:
            raise errors.RefusedValue("THREAD_INBOX_MISMATCH", "Thread does not belong to this inbox")


class OneMessage(AgentSendView):
    """GET /messages/{id}."""

    scopes: ClassVar[Mapping[str, str]] = {"GET": "messages:read", "DELETE": "messages:write"}

    def get(self, request: HttpRequest, message_id: str) -> HttpResponse:
        try:
            message = get_visible_message(key=self.key, message_id=inputs.read_id(message_id))
        except NotFound:
            raise NotFound(f"Message '{message_id}' not found") from None
        return answer_json(outputs.show_messages([message])[0])

    def delete(self, request: HttpRequest, message_id: str) -> HttpResponse:
        raise NotSupported


class Webhooks(AgentSendView):
    """POST and GET /webhooks."""

    scopes: ClassVar[Mapping[str, str]] = {"GET": "webhooks:read", "POST": "webhooks:write"}

    def post(self, request: HttpRequest) -> HttpResponse:
        url, event_types = inputs.read_new_webhook(self.read_body())
        webhook, secret = create_webhook(
            organization=self.organization,
            url=url,
            event_types=event_types,
            dialect=webhooks.DIALECT,
            key=self.key,
            now=self.now,
        )
        return answer_json({**_show_webhook(webhook), "secret": secret}, status=201)

    def get(self, request: HttpRequest) -> HttpResponse:
        found = visible_webhooks(key=self.key, dialect=webhooks.DIALECT).order_by("-id")[:MAX_WEBHOOKS]
        rows = [outputs.show_listed_webhook(row, webhooks.show_event_types(row.event_types)) for row in found]
        return answer_json({"data": rows})


class OneWebhook(AgentSendView):
    """GET, PUT and DELETE /webhooks/{id}."""

    scopes: ClassVar[Mapping[str, str]] = {
        "GET": "webhooks:read", "PUT": "webhooks:write", "DELETE": "webhooks:write",
    }  # fmt: skip

    def get(self, request: HttpRequest, webhook_id: str) -> HttpResponse:
        return answer_json(_show_webhook(self._find_webhook(webhook_id)))

    def put(self, request: HttpRequest, webhook_id: str) -> HttpResponse:
        changes = inputs.read_webhook_changes(self.read_body())
        webhook = update_webhook(webhook=self._find_webhook(webhook_id), changes=changes, now=self.now)
        return answer_json(_show_webhook(webhook))

    def delete(self, request: HttpRequest, webhook_id: str) -> HttpResponse:
        delete_webhook(webhook=self._find_webhook(webhook_id))
        return HttpResponse(status=204)

    def _find_webhook(self, webhook_id: str) -> Webhook:
        found = visible_webhooks(key=self.key, dialect=webhooks.DIALECT).filter(id=inputs.read_id(webhook_id)).first()
        if found is None:
            raise NotFound(f"Webhook '{webhook_id}' not found")
        return found


def _show_webhook(webhook: Webhook) -> outputs.Json:
    return outputs.show_webhook(webhook, webhooks.show_event_types(webhook.event_types))


def _cut(rows: "QuerySet[Any, Any]", window: inputs.Window, total: int) -> list[Any]:
    """The part of a list that is wanted; beyond its end the database is not asked to walk there."""
    if window.offset >= total:
        return []
    return list(rows[window.offset : window.offset + window.limit])
