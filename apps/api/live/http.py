"""HTTP for requests that wait: Django's request and answer objects without Django's request cycle, which would hold a
thread from the first byte to the last."""

import asyncio
import io
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any

from django.core.handlers.asgi import ASGIRequest
from django.http import HttpResponse

from apps.api.errors import BodyTooLarge, Unavailable
from apps.api.middleware import get_request_id

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

MAX_BODY = 64 * 1024
"""Octets; what is asked of a waiting request fits into a few hundred."""
BODY_SECONDS = 20.0
_HEADERS = (("X-Content-Type-Options", "nosniff"), ("Referrer-Policy", "same-origin"), ("X-Frame-Options", "DENY"))


class ClientGone(Exception):
    """The client has closed its connection."""


def make_request(scope: Scope, body: bytes = b"") -> ASGIRequest:
    """Django's view of the request, which the API's own functions read."""
    return ASGIRequest(scope, io.BytesIO(body))


async def read_body(receive: Receive) -> bytes:
    """The whole body; raises BodyTooLarge, Unavailable when it does not come in time, and ClientGone."""
    body = b""
    more = True
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientGone
                body += message.get("body", b"")
                if len(body) > MAX_BODY:
                    raise BodyTooLarge("The body of this request is larger than 64 KiB.", fix="Send less.")
                more = message.get("more_body", False)
    except TimeoutError:
        raise Unavailable("The request body did not arrive in time.", retry_after=1) from None
    return body


async def is_http(scope: Scope, receive: Receive, send: Send) -> bool:
    """Whether it is a request at all; a WebSocket is closed."""
    if scope["type"] == "http":
        return True
    await receive()
    await send({"type": "websocket.close", "code": 1000})
    return False


async def wait_for_departure(receive: Receive) -> None:
    """Returns when the client has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def send_response(send: Send, request: ASGIRequest, response: HttpResponse, *, close: bool = False) -> None:
    """Send an answer that is whole; `close` ends the connection with it, because the body was not read."""
    for name, value in _HEADERS:
        response.headers.setdefault(name, value)
    response["X-Request-Id"] = get_request_id(request)
    response["Content-Length"] = str(len(response.content))
    if close:
        response["Connection"] = "close"
    await send({"type": "http.response.start", "status": response.status_code, "headers": raw_headers(response)})
    await send({"type": "http.response.body", "body": b"" if request.method == "HEAD" else response.content})


def raw_headers(response: HttpResponse) -> list[tuple[bytes, bytes]]:
    """The header fields as ASGI wants them."""
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in response.headers.items()]


async def end_task(task: "asyncio.Task[Any]") -> None:
    """Cancel a task and wait until it is gone; what it would have raised is not wanted any more."""
    task.cancel()
    with suppress(asyncio.CancelledError, Exception):
        await task
