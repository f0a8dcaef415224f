"""POST /v1/inboxes/{inbox}/wait: answers when the mail that is waited for has come. An ASGI application."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from uuid import UUID

from django.core.handlers.asgi import ASGIRequest
from django.http import HttpResponse
from django.utils import timezone
from rest_framework.exceptions import MethodNotAllowed

from apps.accounts.models import ApiKey
from apps.api.bodies import read_json_object
from apps.api.cursors import ListKey, decode_cursor, encode_cursor
from apps.api.live.http import ClientGone, Receive, Scope, Send, is_http, make_request, read_body, send_response
from apps.api.live.hub import Live, current_live
from apps.api.live.inboxes import Waiter
from apps.api.live.regexes import compile_pattern
from apps.api.live.search import Mark, Search, Wanted
from apps.api.live.waiting import GRACE_SECONDS, MailFinder, Plan, hold, plan_search
from apps.api.native.auth import authenticate_request, find_inbox, owner_of, require_scope
from apps.api.native.errors import answer_exception
from apps.api.native.inputs import WaitInput, read_input
from apps.api.native.outputs import show_whole_messages
from apps.mail.models import Message
from apps.mailboxes.errors import InboxDeleted
from apps.mailboxes.models import Mailbox
from mailhost.message.codes import extract_codes

PREFIX, SUFFIX = "/v1/inboxes", "/wait"
SCOPE = "messages:read"
DEFAULT_SECONDS = 120
DEFAULT_SINCE = timedelta(seconds=60)
_NOTHING = b'null,"extracted":{"otp_code":null,"verification_link":null}'


@dataclass(frozen=True, slots=True)
class Order:
    """A request that was understood: whose it is, what is looked for, and where the search begins."""

    key: ApiKey
    cursors: ListKey
    plan: Plan
    seconds: int


async def wait_for_mail(scope: Scope, receive: Receive, send: Send) -> None:
    """The ASGI application."""
    if not await is_http(scope, receive, send):
        return
    request = make_request(scope)
    close = True
    try:
        if scope["method"] != "POST":
            raise MethodNotAllowed(scope["method"])
        body = await read_body(receive)
        close = False
        request = make_request(scope, body)
        response = await _answer(current_live(scope), request, receive)
    except ClientGone:
        return
    except Exception as error:  # told in the API's envelope, whatever it is
        response = answer_exception(request, error)
        if response.status_code == 405:
            response["Allow"] = "POST"
    await send_response(send, request, response, close=close)


async def _answer(live: Live, request: ASGIRequest, receive: Receive) -> HttpResponse:
    began = live.loop.time()
    order = await live.call(_take_order, request=request, now=timezone.now())
    wanted = order.plan.wanted
    with live.admit(wanted.organization_id):
        search = Search(order.plan.mark)
        waiter = Waiter(wanted.mailbox_id)
        live.inboxes.join(waiter, order.plan.settled)
        try:
            finder = MailFinder(live, order.plan, search=search, load=partial(_load, live))
            work = finder.find(waiter, deadline=began + order.seconds)
            found = await hold(live, order.key, waiter, receive, work, order.seconds + GRACE_SECONDS)
        except TimeoutError:
            found = None
        finally:
            live.inboxes.leave(waiter)
    cursor = encode_cursor(order.cursors, search.mark().pack())
    head = b'{"timed_out":%s,"message":' % (b"true" if found is None else b"false")
    content = b'%s%s,"cursor":"%s"}' % (head, found or _NOTHING, cursor.encode())
    return HttpResponse(content, content_type="application/json")


async def _load(live: Live, message_id: UUID) -> bytes | None:
    found: bytes | None = await live.loader(_write_messages).load(message_id)
    return found


def _take_order(*, request: ASGIRequest, now: datetime) -> Order:
    """On a database thread."""
    key = authenticate_request(request, now=now)
    require_scope(key, SCOPE)
    mailbox = find_inbox(key, request.path[len(PREFIX) + 1 : -len(SUFFIX)])
    values = read_input(WaitInput, read_json_object(request))
    if mailbox.status == Mailbox.Status.DELETED:
        raise InboxDeleted
    pattern = values.get("regex")
    wanted = Wanted(
        owner_of(key),
        mailbox.id,
        sender=values.get("from") or "",
        subject=values.get("subject") or "",
        pattern=compile_pattern(pattern) if pattern else None,
        include_automatic=values.get("include_automatic") or False,
    )
    cursors = ListKey("wait", wanted.organization_id, [("inbox", str(mailbox.id))])
    cursor = values.get("after")
    after = Mark.unpack(decode_cursor(cursors, cursor)) if cursor else None
    # A clock that goes ahead of ours must not have us pass over what comes now.
    since = min(values.get("since") or now - DEFAULT_SINCE, now)
    seconds = values.get("timeout_seconds")
    plan = plan_search(wanted=wanted, after=after, since=since)
    return Order(key, cursors, plan, DEFAULT_SECONDS if seconds is None else seconds)


def _write_messages(*, ids: Sequence[UUID]) -> dict[UUID, bytes]:
    """The answers' `message` and `extracted`, as octets. On a database thread."""
    messages = list(Message.objects.select_related("body").filter(id__in=ids))
    written = {}
    for message, shown in zip(messages, show_whole_messages(messages), strict=True):
        codes = extract_codes(subject=message.subject, text=shown["text"] or "", html=shown["html"] or "")
        extracted = {"otp_code": codes.otp_code, "verification_link": codes.verification_link}
        written[message.id] = f'{_write(shown)},"extracted":{_write(extracted)}'.encode()
    return written


def _write(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
