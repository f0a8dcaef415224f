"""GET /v1/events/stream: the event log as server-sent events. An ASGI application.

The format is that of the HTML standard, section 9.2 (server-sent events).
"""

import asyncio
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from django.core.handlers.asgi import ASGIRequest
from django.http import Http404, HttpResponse
from django.utils import timezone
from rest_framework.exceptions import MethodNotAllowed

from apps.accounts.models import ApiKey
from apps.api.live.feeds import LiveEvent, Stream
from apps.api.live.following import SlowReader, follow
from apps.api.live.http import (
    ClientGone,
    Receive,
    Scope,
    Send,
    end_task,
    is_http,
    make_request,
    raw_headers,
    send_response,
    wait_for_departure,
)
from apps.api.live.hub import Live, current_live
from apps.api.middleware import get_request_id
from apps.api.native.auth import authenticate_request, find_inbox, is_narrowed, owner_of, require_scope
from apps.api.native.errors import answer_exception
from apps.api.native.inputs import Query
from apps.api.native.outputs import show_event
from apps.core.errors import DomainError, ValidationFailed
from apps.core.ids import decode_id
from apps.events.models import Event, EventType
from apps.events.selectors import Place, place_of, settled_position
from apps.mailboxes.models import Mailbox

PATH = "/v1/events/stream"
SCOPE = "events:read"
HEARTBEAT_SECONDS = 15.0
WRITE_SECONDS = 30.0
"""A reader that takes nothing for so long is disconnected; it can resume."""
_FAREWELL_SECONDS = 2.0
_HELLO = b"retry: 2000\n: connected\n\n"
_HEARTBEAT = b": still here\n\n"
_TOO_SLOW = b": too slow; resume with Last-Event-ID\n\n"


@dataclass(slots=True)
class Order:
    """A request that was understood."""

    key: ApiKey
    place: Place
    types: frozenset[str]
    mailbox_id: UUID | None
    seen: dict[UUID, bool] = field(default_factory=dict)
    """Mailboxes, and whether a narrowed key may see them."""

    def takes(self, event: Event) -> bool:
        """Whether the event is wanted and may be seen; its mailbox must have been looked up."""
        if self.types and event.type not in self.types:
            return False
        if self.mailbox_id is not None:
            return event.mailbox_id == self.mailbox_id
        return not is_narrowed(self.key) or (event.mailbox_id is not None and self.seen[event.mailbox_id])

    def unknown(self, events: Sequence[LiveEvent]) -> set[UUID]:
        """Mailboxes that have to be looked up."""
        if self.mailbox_id is not None or not is_narrowed(self.key):
            return set()
        return {one.event.mailbox_id for one in events if one.event.mailbox_id is not None} - self.seen.keys()


async def stream_events(scope: Scope, receive: Receive, send: Send) -> None:
    """The ASGI application."""
    if not await is_http(scope, receive, send):
        return
    request = make_request(scope)
    try:
        if scope["path"] != PATH:
            raise Http404
        if scope["method"] != "GET":
            raise MethodNotAllowed(scope["method"])
        live = current_live(scope)
        order = await live.call(_take_order, request=request, now=timezone.now())
        with live.admit(owner_of(order.key)):
            await _serve(live, order, request, receive, send)
        return
    except (ClientGone, SlowReader):
        return
    except Exception as error:  # told in the API's envelope, whatever it is
        response = answer_exception(request, error)
        if response.status_code == 405:
            response["Allow"] = "GET"
    await send_response(send, request, response, close=True)


async def _serve(live: Live, order: Order, request: ASGIRequest, receive: Receive, send: Send) -> None:
    stream = Stream(owner_of(order.key))
    watched = live.keys.add(order.key, stream.end)
    departure = asyncio.create_task(wait_for_departure(receive))
    departure.add_done_callback(lambda _: stream.end())
    try:
        await _start(request, send)
        await _write_all(live, order, stream, send)
    finally:
        live.keys.remove(watched)
        live.feeds.leave(stream)
        await end_task(departure)


async def _start(request: ASGIRequest, send: Send) -> None:
    response = HttpResponse(content_type="text/event-stream; charset=utf-8")
    response["Cache-Control"] = "no-store"
    response["X-Accel-Buffering"] = "no"  # nginx would keep events until a buffer is full
    response["X-Content-Type-Options"] = "nosniff"
    response["X-Request-Id"] = get_request_id(request)
    await send({"type": "http.response.start", "status": 200, "headers": raw_headers(response)})
    await _write(send, _HELLO)


async def _write_all(live: Live, order: Order, stream: Stream, send: Send) -> None:
    last = _HELLO
    try:
        async for events in follow(live, stream, order.place, idle_seconds=HEARTBEAT_SECONDS):
            if missing := order.unknown(events):
                order.seen.update(await live.call(_look_up, key=order.key, mailbox_ids=missing))
            frames = b"".join(_frame(one) for one in events if order.takes(one.event))
            await _write(send, frames if events else _HEARTBEAT)
        last = _farewell(stream.error)
    except SlowReader:
        last = _TOO_SLOW
    except Exception as error:  # the headers are out: all that is left is to end the stream, and to say so
        answer_exception(make_request({"type": "http", "method": "GET", "path": "", "headers": []}), error)
        last = b": the server failed; resume with Last-Event-ID\n\n"
    with suppress(TimeoutError):
        async with asyncio.timeout(_FAREWELL_SECONDS):
            await send({"type": "http.response.body", "body": last, "more_body": False})


async def _write(send: Send, chunk: bytes) -> None:
    if not chunk:
        return
    try:
        async with asyncio.timeout(WRITE_SECONDS):
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
    except TimeoutError:
        raise SlowReader from None


def _frame(one: LiveEvent) -> bytes:
    if not one.frame:
        shown = show_event(one.event)
        data = json.dumps(shown, ensure_ascii=False, separators=(",", ":"))
        one.frame = f"id: {shown['id']}\nevent: {shown['type']}\ndata: {data}\n\n".encode()
    return one.frame


def _farewell(error: DomainError | None) -> bytes:
    if error is None:
        return b": the server is restarting\n\n"
    data = json.dumps({"error": {"code": error.code, "message": error.message, "fix": error.fix_text}})
    return f"event: error\ndata: {data}\n\n".encode()


def _take_order(*, request: ASGIRequest, now: datetime) -> Order:
    """On a database thread."""
    key = authenticate_request(request, now=now)
    require_scope(key, SCOPE)
    read = Query(request, allowed=("after", "type", "inbox"))
    types = read.texts("type")
    for name in types:
        if name not in EventType.values:
            raise ValidationFailed("type", f"There is no event type {name[:40]!r}.")
    inbox = read.text("inbox")
    mailbox_id = find_inbox(key, inbox).id if inbox is not None else None
    return Order(key, _read_place(key, request, read), frozenset(types), mailbox_id)


def _read_place(key: ApiKey, request: ASGIRequest, read: Query) -> Place:
    """Behind the event that was read last; the header is the newer word, as it comes with every reconnection."""
    last = request.META.get("HTTP_LAST_EVENT_ID", "").strip()
    name, event_id = "after", read.id("after", "evt")
    if last:
        name, event_id = "Last-Event-ID", decode_id("evt", last)
        if event_id is None:
            raise ValidationFailed(name, "This must be an id that begins with evt_.")
    if event_id is None:
        return Place(settled_position(), UUID(int=0))
    event = Event.objects.filter(id=event_id, organization_id=owner_of(key)).first()
    if event is None:
        raise ValidationFailed(name, "There is no such event, or it is too old to be kept.")
    return place_of(event)


def _look_up(*, key: ApiKey, mailbox_ids: set[UUID]) -> dict[UUID, bool]:
    """On a database thread."""
    visible = set(Mailbox.objects.visible_to(key).filter(id__in=mailbox_ids).values_list("id", flat=True))
    return {mailbox_id: mailbox_id in visible for mailbox_id in mailbox_ids}
