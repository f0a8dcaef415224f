"""API keys, and who the asking key is."""

from typing import ClassVar

from django.http import HttpResponse
from rest_framework.request import Request

from apps.accounts.selectors import keys_within
from apps.accounts.services import create_api_key, revoke_api_key
from apps.api.answers import answer_json
from apps.api.attachments import MAX_ATTACHMENT_OCTETS
from apps.api.cursors import read_page
from apps.api.native import schemas
from apps.api.native.auth import ANY_KEY
from apps.api.native.inputs import MAX_ADDRESSES, NewKey, Query, read_input
from apps.api.native.openapi import ASCENDING, PAGING, describe
from apps.api.native.outputs import show_key, show_me
from apps.api.native.views.base import NativeView, answer_list, require_id
from apps.core.errors import NotFound, ValidationFailed
from apps.mailboxes.models import Mailbox

_MiB = 1024 * 1024
LIMITS = {
    "recipients_per_message": MAX_ADDRESSES,
    "attachment_bytes": MAX_ATTACHMENT_OCTETS,
    "message_bytes": 36 * _MiB,
    "body_bytes": 40 * _MiB,
}


class Me(NativeView):
    """GET /v1/me."""

    scopes: ClassVar = {"GET": ANY_KEY}

    @describe("get_me", "Who this key is and what it may do", answer=schemas.Me(), tag="Keys")
    def get(self, request: Request) -> HttpResponse:
        return answer_json(show_me(self.key, self.key.organization, LIMITS))


class KeyList(NativeView):
    """GET and POST /v1/api-keys."""

    scopes: ClassVar = {"GET": "keys:write", "POST": "keys:write"}

    @describe(
        "list_api_keys",
        "List API keys, newest first",
        answer=schemas.page_of(schemas.ApiKey),
        errors=["invalid_cursor"],
        params=[*PAGING, ASCENDING],
        tag="Keys",
    )
    def get(self, request: Request) -> HttpResponse:
        read = Query(request._request, allowed=())
        rows, cursor = read_page(keys_within(self.key), read.page("api-keys", owner=self.organization.id))
        return answer_list([show_key(row) for row in rows], cursor)

    @describe(
        "create_api_key",
        "Create an API key; its secret is shown only now",
        request=NewKey,
        answer=schemas.NewApiKey(),
        status=201,
        tag="Keys",
        examples={"Agent": {"name": "agent 7", "scopes": ["messages:read", "messages:send"], "max_inboxes": 0}},
    )
    def post(self, request: Request) -> HttpResponse:
        values = read_input(NewKey, self.read_body())
        inbox_ids = values.get("inbox_ids")
        if inbox_ids is not None:
            visible = Mailbox.objects.visible_to(self.key).filter(id__in=inbox_ids).count()
            if visible != len(set(inbox_ids)):
                raise ValidationFailed("inbox_ids", "One of these is no inbox of your organization.")
        key, secret = create_api_key(
            organization=self.organization,
            name=values["name"],
            scopes=values["scopes"],
            allowed_domains=values.get("allowed_domains"),
            inbox_ids=inbox_ids,
            max_inboxes=values.get("max_inboxes"),
            expires_at=values.get("expires_at"),
            maker=self.key,
            now=self.now,
        )
        return answer_json(show_key(key, secret), status=201)


class OneKey(NativeView):
    """DELETE /v1/api-keys/{id}."""

    scopes: ClassVar = {"DELETE": "keys:write"}

    @describe("revoke_api_key", "Revoke an API key", status=204, errors=["not_found"], tag="Keys")
    def delete(self, request: Request, key_id: str) -> HttpResponse:
        key = keys_within(self.key).filter(id=require_id("key", key_id)).first()
        if key is None:
            raise NotFound("There is no such key in your organization.")
        revoke_api_key(key=key, now=self.now)
        return HttpResponse(status=204)
