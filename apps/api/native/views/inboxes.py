"""Inboxes."""

from typing import Any, ClassVar

from django.db.models import Q
from django.http import HttpResponse
from rest_framework.request import Request

from apps.accounts.errors import ScopeDenied
from apps.api.answers import answer_json
from apps.api.cursors import read_page
from apps.api.native import schemas
from apps.api.native.auth import find_inbox
from apps.api.native.inputs import InboxChanges, NewInbox, Query, read_input
from apps.api.native.openapi import ASCENDING, PAGING, describe, query
from apps.api.native.outputs import show_inbox
from apps.api.native.views.base import NativeView, answer_list
from apps.core.errors import Conflict
from apps.delivery.services import delete_mailbox
from apps.mailboxes.errors import InboxDeleted
from apps.mailboxes.models import Mailbox
from apps.mailboxes.services import NewMailbox, create_mailbox, update_mailbox

_FILTERS = ("status", "domain", "q")


class InboxList(NativeView):
    """GET and POST /v1/inboxes."""

    scopes: ClassVar = {"GET": "inboxes:read", "POST": "inboxes:write"}

    @describe(
        "list_inboxes",
        "List inboxes, newest first",
        answer=schemas.page_of(schemas.Inbox),
        errors=["invalid_cursor"],
        params=[
            *PAGING,
            ASCENDING,
            query("status", "Deleted ones are left out unless asked for.", enum=Mailbox.Status.values),
            query("domain", "Only inboxes on this domain."),
            query("q", "Part of the address or of the display name."),
        ],
        tag="Inboxes",
    )
    def get(self, request: Request) -> HttpResponse:
        read = Query(request._request, allowed=_FILTERS)
        mailboxes = Mailbox.objects.visible_to(self.key).select_related("domain", "usage")
        status = read.choice("status", Mailbox.Status.values)
        if status is None:
            mailboxes = mailboxes.exclude(status=Mailbox.Status.DELETED)
        else:
            mailboxes = mailboxes.filter(status=status)
        if domain := read.text("domain"):
            mailboxes = mailboxes.filter(domain__name=domain.lower())
        if part := read.text("q", max_length=200):
            mailboxes = mailboxes.filter(Q(address__icontains=part) | Q(display_name__icontains=part))
        rows, cursor = read_page(mailboxes, read.page("inboxes", owner=self.key.organization_id))
        return answer_list([show_inbox(row, self.now) for row in rows], cursor)

    @describe(
        "create_inbox",
        "Create an inbox",
        request=NewInbox,
        answer=schemas.Inbox(),
        status=201,
        also={200: schemas.Inbox()},
        errors=["address_taken", "quota_exhausted", "conflict", "domain_not_verified", "not_found"],
        tag="Inboxes",
        examples={"Generated": {}, "Named": {"username": "support", "display_name": "Support", "client_id": "agent-7"}},
    )
    def post(self, request: Request) -> HttpResponse:
        values = read_input(NewInbox, self.read_body())
        if self.key.inbox_ids is not None:
            raise ScopeDenied("This key is narrowed to certain inboxes, so it cannot make others.")
        _check_limit_scope(self, values)
        given = {name: value for name, value in values.items() if value is not None or name == "daily_send_limit"}
        mailbox, created = create_mailbox(
            organization=self.organization, wanted=NewMailbox(**given), now=self.now, key=self.key
        )
        if not created and not Mailbox.objects.visible_to(self.key).filter(id=mailbox.id).exists():
            raise Conflict("This client_id is in use in your organization, by an inbox that this key may not see.")
        return answer_json(show_inbox(mailbox, self.now), status=201 if created else 200)


class OneInbox(NativeView):
    """GET, PATCH and DELETE /v1/inboxes/{inbox}."""

    scopes: ClassVar = {"GET": "inboxes:read", "PATCH": "inboxes:write", "DELETE": "inboxes:write"}

    @describe("get_inbox", "Get an inbox", answer=schemas.Inbox(), errors=["not_found"], tag="Inboxes")
    def get(self, request: Request, inbox: str) -> HttpResponse:
        Query(request._request, allowed=())
        return answer_json(show_inbox(find_inbox(self.key, inbox), self.now))

    @describe(
        "update_inbox",
        "Change an inbox",
        request=InboxChanges,
        answer=schemas.Inbox(),
        errors=["not_found", "inbox_deleted", "conflict"],
        tag="Inboxes",
        examples={"Pause": {"status": "paused"}, "Metadata": {"metadata": {"team": "sales", "old": None}}},
    )
    def patch(self, request: Request, inbox: str) -> HttpResponse:
        changes = read_input(InboxChanges, self.read_body())
        _check_limit_scope(self, changes)
        mailbox = update_mailbox(mailbox=find_inbox(self.key, inbox), changes=changes, now=self.now)
        return answer_json(show_inbox(mailbox, self.now))

    @describe(
        "delete_inbox",
        "Delete an inbox",
        status=204,
        errors=["not_found", "inbox_deleted"],
        params=[query("purge", "Erase the mail and free the address.", kind=bool)],
        tag="Inboxes",
    )
    def delete(self, request: Request, inbox: str) -> HttpResponse:
        purge = bool(Query(request._request, allowed=("purge",)).flag("purge"))
        mailbox = find_inbox(self.key, inbox)
        if mailbox.status == Mailbox.Status.DELETED and not purge:
            raise InboxDeleted
        delete_mailbox(mailbox=mailbox, purge=purge, now=self.now)
        return HttpResponse(status=204)


def _check_limit_scope(view: NativeView, values: dict[str, Any]) -> None:
    """An agent must not raise its own limit."""
    if "daily_send_limit" in values and "admin" not in view.key.scopes:
        raise ScopeDenied("Setting daily_send_limit needs the scope admin, which the key does not carry.")
