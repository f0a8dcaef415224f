"""Inkbox's addresses: read, call one service, write."""

from typing import ClassVar

from django.http import HttpRequest, HttpResponse

from apps.accounts.models import ApiKey
from apps.api.answers import answer_json
from apps.api.dialect_views import DialectView, MissingMixin, RefuseMixin
from apps.api.dialects.inkbox import auth, errors, inputs, outputs, webhooks
from apps.core.errors import DomainError, NotFound
from apps.delivery.services import delete_mailbox
from apps.events.services import rotate_signing_key
from apps.mailboxes.identities import (
    assign_mailbox,
    create_identity,
    delete_identity,
    get_identity,
    give_mailbox,
    unlink_mailbox,
    update_identity,
    visible_identities,
)
from apps.mailboxes.models import Mailbox
from apps.mailboxes.services import update_mailbox


class InkboxView(DialectView):
    """A resource of this dialect."""

    def find_key(self, request: HttpRequest) -> ApiKey:
        return auth.find_key(request, now=self.now, platform_allowed=self.platform_allowed)

    def show_error(self, request: HttpRequest, error: DomainError) -> HttpResponse:
        return errors.show_error(error)


class Refused(RefuseMixin, InkboxView):
    """Known to the vendor, not supported here."""


class Missing(MissingMixin, InkboxView):
    """Nothing at this address."""


class Mailboxes(InkboxView):
    """POST and GET /mailboxes."""

    scopes: ClassVar = {"GET": "inboxes:read", "POST": "inboxes:write"}

    def post(self, request: HttpRequest) -> HttpResponse:
        handle, wanted = inputs.read_mailbox_create(self.read_body())
        identity = get_identity(key=self.key, handle=handle)
        mailbox = give_mailbox(identity=identity, wanted=wanted, key=self.key, now=self.now)
        return answer_json(outputs.show_mailbox(mailbox, identity), status=201)

    def get(self, request: HttpRequest) -> HttpResponse:
        """All of them in one answer: the vendor has no pages here, and its clients ask for none."""
        mailboxes = Mailbox.objects.visible_to(self.key).filter(status=Mailbox.Status.ACTIVE)
        newest_first = mailboxes.select_related("identity").defer("metadata").order_by("-id")
        return answer_json([outputs.show_mailbox(mailbox) for mailbox in newest_first])


class OneMailbox(InkboxView):
    """GET, PATCH and DELETE /mailboxes/{email_address}."""

    scopes: ClassVar = {"GET": "inboxes:read", "PATCH": "inboxes:write", "DELETE": "inboxes:write"}

    def get(self, request: HttpRequest, email_address: str) -> HttpResponse:
        return answer_json(outputs.show_mailbox(auth.find_mailbox(self.key, email_address)))

    def patch(self, request: HttpRequest, email_address: str) -> HttpResponse:
        changes = inputs.read_mailbox_changes(self.read_body())
        mailbox = auth.find_mailbox(self.key, email_address)
        if changes:
            mailbox = update_mailbox(
                mailbox=mailbox,
                changes=changes,
                webhook_dialect=webhooks.DIALECT,
                webhook_events=webhooks.EVENT_TYPES,
                now=self.now,
            )
        return answer_json(outputs.show_mailbox(mailbox))

    def delete(self, request: HttpRequest, email_address: str) -> HttpResponse:
        delete_mailbox(mailbox=auth.find_mailbox(self.key, email_address), purge=False, now=self.now)
        return HttpResponse(status=204)


class Identities(InkboxView):
    """POST and GET /identities."""

    scopes: ClassVar = {"GET": "inboxes:read", "POST": "inboxes:write"}

    def post(self, request: HttpRequest) -> HttpResponse:
        handle, wanted = inputs.read_identity_create(self.read_body())
        identity = create_identity(
            organization=self.organization, handle=handle, mailbox=wanted, key=self.key, now=self.now
        )
        return answer_json(outputs.show_identity(identity), status=201)

    def get(self, request: HttpRequest) -> HttpResponse:
        newest_first = visible_identities(self.key).order_by("-id")
        return answer_json([outputs.show_identity_summary(identity) for identity in newest_first])


class OneIdentity(InkboxView):
    """GET, PATCH and DELETE /identities/{agent_handle}."""

    scopes: ClassVar = {"GET": "inboxes:read", "PATCH": "inboxes:write", "DELETE": "inboxes:write"}

    def get(self, request: HttpRequest, agent_handle: str) -> HttpResponse:
        return answer_json(outputs.show_identity(get_identity(key=self.key, handle=agent_handle)))

    def patch(self, request: HttpRequest, agent_handle: str) -> HttpResponse:
        handle = inputs.read_identity_changes(self.read_body())
        identity = get_identity(key=self.key, handle=agent_handle)
        return answer_json(outputs.show_identity(update_identity(identity=identity, handle=handle)))

    def delete(self, request: HttpRequest, agent_handle: str) -> HttpResponse:
        delete_identity(identity=get_identity(key=self.key, handle=agent_handle))
        return HttpResponse(status=204)


class IdentityMailbox(InkboxView):
    """POST and DELETE /identities/{agent_handle}/mailbox."""

    scopes: ClassVar = {"POST": "inboxes:write", "DELETE": "inboxes:write"}

    def post(self, request: HttpRequest, agent_handle: str) -> HttpResponse:
        mailbox_id = inputs.read_mailbox_id(self.read_body())
        identity = get_identity(key=self.key, handle=agent_handle)
        mailbox = auth.live_mailboxes(self.key).filter(id=mailbox_id).first()
        if mailbox is None:
            raise NotFound("Mailbox not found")
        return answer_json(outputs.show_identity(assign_mailbox(identity=identity, mailbox=mailbox)))

    def delete(self, request: HttpRequest, agent_handle: str) -> HttpResponse:
        unlink_mailbox(identity=get_identity(key=self.key, handle=agent_handle))
        return HttpResponse(status=204)


class SigningKeys(InkboxView):
    """POST /signing-keys."""

    scopes: ClassVar = {"POST": "webhooks:write"}

    def post(self, request: HttpRequest) -> HttpResponse:
        auth.refuse_narrowed(self.key)
        key, secret = rotate_signing_key(organization=self.organization, dialect=webhooks.DIALECT, now=self.now)
        return answer_json(outputs.show_signing_key(key, secret), status=201)


class WhoAmI(InkboxView):
    """GET /whoami: for every key, a platform key too."""

    scopes: ClassVar = {"GET": ""}
    platform_allowed = True

    def get(self, request: HttpRequest) -> HttpResponse:
        return answer_json(outputs.show_caller(self.key))
