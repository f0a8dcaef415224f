"""What waiting requests take and answer, for the OpenAPI document. They are answered on the event loop, by waiting.py
and streaming.py; only another server that runs Django alone (config/wsgi.py) leads here."""

from typing import Any, ClassVar, NoReturn

from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiResponse
from rest_framework.request import Request

from apps.api.errors import NotSupported
from apps.api.native import schemas
from apps.api.native.inputs import WaitInput
from apps.api.native.openapi import describe, header, query
from apps.api.native.views.base import NativeView
from apps.events.models import EventType


class Elsewhere(NativeView):
    """An address of the event loop."""

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> NoReturn:
        raise NotSupported("This server runs without waiting requests.", fix="Ask the process that `web` starts.")


class Wait(Elsewhere):
    """POST /v1/inboxes/{inbox}/wait."""

    scopes: ClassVar = {"POST": "messages:read"}

    @describe(
        "wait_for_message",
        "Wait for a mail, and get its code or link",
        answer=schemas.Waited(),
        request=WaitInput,
        errors=["not_found", "inbox_deleted", "invalid_cursor"],
        tag="Messages",
        examples={
            "a code to sign in with": {"from": "acme.example", "subject": "code", "timeout_seconds": 60},
            "what comes next": {"after": "hVv9..."},
        },
    )
    def post(self, request: Request, inbox: str) -> HttpResponse:
        raise NotImplementedError


class EventStream(Elsewhere):
    """GET /v1/events/stream."""

    scopes: ClassVar = {"GET": "events:read"}

    @describe(
        "stream_events",
        "Follow the event log as server-sent events",
        answer=OpenApiResponse(
            OpenApiTypes.STR,
            description="Server-sent events without end: `id` is the event's id, `event` its type, `data` the event."
            " A comment comes every 15 seconds.",
        ),
        errors=["not_found"],
        params=[
            query("after", "Begin behind this event (`evt_...`); without it, with what is committed from now on."),
            query("type", "Only these types; repeated, or with commas.", enum=EventType.values, many=True),
            query("inbox", "Only events of this inbox, by id or address."),
            header("Last-Event-ID", "The id of the last event that was read; goes before `after`."),
        ],
        tag="Events",
        media=["text/event-stream"],
    )
    def get(self, request: Request) -> HttpResponse:
        raise NotImplementedError
