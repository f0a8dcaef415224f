"""The event log."""

import struct
from typing import ClassVar
from uuid import UUID

from django.http import HttpResponse
from rest_framework.request import Request

from apps.accounts.models import ApiKey
from apps.api.cursors import PageRequest, encode_cursor
from apps.api.errors import InvalidCursor
from apps.api.native import schemas
from apps.api.native.auth import find_inbox, is_narrowed, owner_of
from apps.api.native.inputs import Query
from apps.api.native.openapi import ASCENDING, PAGING, describe, query
from apps.api.native.outputs import show_event
from apps.api.native.views.base import NativeView, answer_list
from apps.core.errors import ValidationFailed
from apps.events.models import Event, EventType
from apps.events.selectors import Place, place_of, read_events
from apps.mailboxes.models import Mailbox

_PLACE = struct.Struct(">q16s")


class EventLog(NativeView):
    """GET /v1/events."""

    scopes: ClassVar = {"GET": "events:read"}

    @describe(
        "list_events",
        "Read the event log",
        answer=schemas.page_of(schemas.Event),
        errors=["invalid_cursor", "not_found"],
        params=[
            *PAGING,
            ASCENDING,
            query(
                "after", "Only what was committed after this event (`evt_...`); oldest first unless you say otherwise."
            ),
            query("type", "Only these types; repeated, or with commas.", enum=EventType.values, many=True),
            query("inbox", "Only events of this inbox, by id or address."),
        ],
        tag="Events",
    )
    def get(self, request: Request) -> HttpResponse:
        read = Query(request._request, allowed=("after", "type", "inbox"))
        types = read.texts("type")
        for name in types:
            if name not in EventType.values:
                raise ValidationFailed("type", f"There is no event type {name[:40]!r}.")
        after = _read_after(self.key, read)
        page = read.page("events", owner=self.key.organization_id, ascending=after is not None)
        place = _read_place(page)
        newest_first = not page.ascending
        events = read_events(
            organization_id=self.organization.id,
            after=after if newest_first else place or after,
            before=place if newest_first else None,
            limit=page.limit + 1,
            types=types or None,
            mailbox_ids=_read_inboxes(self.key, read),
            newest_first=newest_first,
        )
        cursor = None
        if len(events) > page.limit:
            events.pop()
            last = place_of(events[-1])
            cursor = encode_cursor(page.key, _PLACE.pack(last.position, last.id.bytes))
        return answer_list([show_event(event) for event in events], cursor)


def _read_after(key: ApiKey, read: Query) -> Place | None:
    """The place of the event that the reader saw last; its own organization's only."""
    event_id = read.id("after", "evt")
    if event_id is None:
        return None
    event = Event.objects.filter(id=event_id, organization_id=owner_of(key)).first()
    if event is None:
        raise ValidationFailed("after", "There is no such event, or it is too old to be kept.")
    return place_of(event)


def _read_place(page: PageRequest) -> Place | None:
    payload = page.payload
    if payload is None:
        return None
    if len(payload) != _PLACE.size:
        raise InvalidCursor
    position, event_id = _PLACE.unpack(payload)
    return Place(position, UUID(bytes=event_id))


def _read_inboxes(key: ApiKey, read: Query) -> list[UUID] | None:
    """The mailboxes whose events are wanted and may be seen; None for all, and what concerns no mailbox."""
    inbox = read.text("inbox")
    if inbox is not None:
        return [find_inbox(key, inbox).id]
    if is_narrowed(key):
        return list(Mailbox.objects.visible_to(key).values_list("id", flat=True))
    return None
