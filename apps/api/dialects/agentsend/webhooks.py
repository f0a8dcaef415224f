"""AgentSend's webhooks: `{"event", "data", "timestamp"}`, signed `X-AgentSend-Signature: <hex>`.

The signature is HMAC-SHA256 over the raw body with the whole secret, `whsec_` and all, as it was shown; the time lies
inside the body. As there, a retry carries a new time and so a new signature.
"""

import hashlib
import hmac
import json
from collections.abc import Callable, Iterable
from typing import Any

from apps.api.dialects.agentsend.outputs import Json, show_time
from apps.api.webhook_messages import register_message_enricher
from apps.events.models import EventType
from apps.events.webhooks.formats import EventView, HttpCall, Notice, register_format
from apps.mail.models import Message

DIALECT = "agentsend"

TOLD: dict[str, tuple[str, ...]] = {
    "message.received": (EventType.MESSAGE_RECEIVED,),
    # There: the sending service has taken the message and will try to deliver it. Here that is our own queue.
    "message.sent": (EventType.MESSAGE_QUEUED,),
    "message.delivered": (EventType.MESSAGE_DELIVERED,),
    "message.bounced": (EventType.MESSAGE_BOUNCED, EventType.MESSAGE_FAILED),
    "message.complained": (EventType.MESSAGE_COMPLAINED,),
}
"""AgentSend's events, and the ones of ours that are told as each."""

DEFAULT_EVENTS = ("message.received",)
_SHOWN_AS = {ours: theirs for theirs, events in TOLD.items() for ours in events}


def our_event_types(events: Iterable[str]) -> list[str]:
    """What a webhook for these events is told."""
    return [str(ours) for theirs in events for ours in TOLD[theirs]]


def show_event_types(event_types: Iterable[str] | None) -> list[str]:
    """The vendor's names of what a webhook is told; None is everything."""
    wanted = _SHOWN_AS if event_types is None else event_types
    return list(dict.fromkeys(_SHOWN_AS[name] for name in wanted if name in _SHOWN_AS))


def format_agentsend(notice: Notice) -> HttpCall | None:
    """The request for one event; None for what this dialect does not tell, and for a message that was erased since."""
    event = notice.event
    name = _SHOWN_AS.get(event.type)
    message: Message | None = event.extra.get("message")
    if name is None or message is None:
        return None
    payload = {
        "event": name,
        "data": {"messageId": str(message.id), "inboxId": str(message.mailbox_id), **_DATA[name](event, message)},
        "timestamp": int(notice.now.timestamp() * 1000),
    }
    body = json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode()
    headers = {
        "X-AgentSend-Event": name,
        "X-AgentSend-Signature": hmac.new(notice.secrets[0].encode(), body, hashlib.sha256).hexdigest(),
        "X-AgentSend-Webhook-Id": str(notice.webhook.id),
    }
    return HttpCall(headers, body)


def _received(event: EventView, message: Message) -> Json:
    return {
        "threadId": str(message.thread_id),
        "from": message.from_address,
        "to": _addresses(message.to) or [message.delivered_to],
        "subject": message.subject,
        "direction": message.direction,
        "receivedAt": show_time(message.created_at),
    }


def _sent(event: EventView, message: Message) -> Json:
    return {
        "threadId": str(message.thread_id),
        "to": _addresses(message.to),
        "cc": _addresses(message.cc),
        "bcc": _addresses(message.bcc),
        "subject": message.subject,
        "sentAt": show_time(event.created_at),
    }


def _delivered(event: EventView, message: Message) -> Json:
    return {"recipients": [event.data.get("recipient", "")]}


def _bounced(event: EventView, message: Message) -> Json:
    """What nobody has refused, but could not be delivered, is neither a permanent nor a transient bounce."""
    kind = "Permanent" if event.type == EventType.MESSAGE_BOUNCED else "Undetermined"
    return {"bounceType": kind, "bouncedRecipients": [event.data.get("recipient", "")]}


def _complained(event: EventView, message: Message) -> Json:
    return {"complaintFeedbackType": event.data.get("feedback_type") or "abuse"}


_DATA: dict[str, Callable[[EventView, Message], Json]] = {
    "message.received": _received,
    "message.sent": _sent,
    "message.delivered": _delivered,
    "message.bounced": _bounced,
    "message.complained": _complained,
}


def _addresses(people: Iterable[dict[str, Any]]) -> list[str]:
    return [person["address"] for person in people]


register_message_enricher()
register_format(DIALECT, format_agentsend)
