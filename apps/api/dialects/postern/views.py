"""Postern's addresses: read, call one service, write."""

from typing import Any, ClassVar

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from apps.accounts.models import ApiKey
from apps.api.answers import answer_json
from apps.api.cursors import read_page
from apps.api.dialect_views import DialectView, MissingMixin, RefuseMixin
from apps.api.dialects.postern import auth, errors, inputs, outputs
from apps.api.idempotency import Answer, check_idempotency_key, fingerprint_request, run_once
from apps.api.middleware import get_request_id
from apps.core.errors import DomainError, NotFound
from apps.delivery.services import delete_mailbox, send_message
from apps.events.selectors import get_mailbox_webhook
from apps.mailboxes.models import Mailbox
from apps.mailboxes.provisioning import provision_mailbox
from apps.mailboxes.selectors import visible_mailbox_filter


class PosternView(DialectView):
    """A resource of this dialect."""

    def find_key(self, request: HttpRequest) -> ApiKey:
        return auth.find_key(request, now=self.now)

    def show_error(self, request: HttpRequest, error: DomainError) -> HttpResponse:
        return errors.show_error(request, error)

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        response = super().dispatch(request, *args, **kwargs)
        response["X-Postern-Request-Id"] = get_request_id(request)
        return response

    def find_mailbox(self, address: str) -> Mailbox:
        """The living mailbox of this address; raises NotFound, for a stranger's too."""
        mailboxes = Mailbox.objects.visible_to(self.key).filter(deleted_at__isnull=True)
        loaded = mailboxes.select_related("organization", "domain", "usage")
        mailbox = loaded.filter(**visible_mailbox_filter(address)).first()
        if mailbox is None:
            raise NotFound("There is no such inbox.")
        return mailbox


class Refused(RefuseMixin, PosternView):
    """Known to the vendor, not supported here."""


class Missing(MissingMixin, PosternView):
    """Nothing at this address."""


class Inboxes(PosternView):
    """POST and GET /v1/inboxes."""

    scopes: ClassVar = {"GET": "inboxes:read", "POST": "inboxes:write"}

    def post(self, request: HttpRequest) -> HttpResponse:
        wanted = inputs.read_create(self.read_body())
        made = provision_mailbox(
            organization=self.organization,
            wanted=wanted,
            key=self.key,
            now=self.now,
            payment_header=inputs.read_payment_header(request),
            resource_url=f"{settings.MAILHOST_PUBLIC_URL}{request.path}",
        )
        mailbox = made.mailbox
        if not made.created:
            return answer_json(outputs.show_mailbox(mailbox), headers=made.headers)
        webhook = get_mailbox_webhook(organization_id=mailbox.organization_id, mailbox_id=mailbox.id)
        shown = outputs.show_created(mailbox, webhook.secret if webhook else None)
        return answer_json(shown, status=201, headers=made.headers)

    def get(self, request: HttpRequest) -> HttpResponse:
        page = inputs.read_page_request(request, self.key, "inboxes")
        mailboxes = Mailbox.objects.visible_to(self.key).filter(deleted_at__isnull=True).select_related("domain")
        rows, cursor = read_page(mailboxes, page)
        return answer_json({"data": [outputs.show_mailbox(row) for row in rows], "next_cursor": cursor})


class OneInbox(PosternView):
    """GET and DELETE /v1/inboxes/{addr}."""

    scopes: ClassVar = {"GET": "inboxes:read", "DELETE": "inboxes:write"}

    def get(self, request: HttpRequest, address: str) -> HttpResponse:
        return answer_json(outputs.show_mailbox(self.find_mailbox(address)))

    def delete(self, request: HttpRequest, address: str) -> HttpResponse:
        mailbox = self.find_mailbox(address)
        delete_mailbox(mailbox=mailbox, purge=True, now=self.now)
        return answer_json(outputs.show_deleted(mailbox))


class Send(PosternView):
    """POST /v1/inboxes/{addr}/send."""

    scopes: ClassVar = {"POST": "messages:send"}

    def post(self, request: HttpRequest, address: str) -> HttpResponse:
        body = self.read_body()
        wanted, key = inputs.read_send(body)
        mailbox = self.find_mailbox(address)

        def work() -> Answer:
            return 202, outputs.show_sent(send_message(mailbox=mailbox, request=wanted, now=self.now))

        if not key:
            status, answer = work()
            return answer_json(answer, status=status)
        (status, answer), _ = run_once(
            organization_id=self.organization.id,
            key=check_idempotency_key(key),
            fingerprint=fingerprint_request(method="POST", path=f"postern:{mailbox.id}:send", body=body),
            now=self.now,
            work=work,
        )
        return answer_json(answer, status=status)
