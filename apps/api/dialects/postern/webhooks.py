"""Postern's webhook: `message.received`, signed `X-Postern-Signature: t=<seconds>,v1=<hex>`.

The signature is HMAC-SHA256 over `{t}.{raw body}` with the secret that the create answered, as it was shown.
"""

import hashlib
import hmac
import json

from apps.api.dialects.postern.outputs import show_time
from apps.core.ids import encode_id
from apps.events.models import EventType
from apps.events.webhooks.formats import HttpCall, Notice, register_format, show_event

NAME = "postern"
TOLD = [EventType.MESSAGE_RECEIVED.value]
"""The events that an `inbound_webhook_url` is told of."""


def format_postern(notice: Notice) -> HttpCall:
    """The request for one event; after a rotation it carries a v1 for each secret."""
    event = notice.event
    shown = show_event(event)
    payload = {
        "id": encode_id("evt", event.id),
        "event": event.type,
        "inbox_id": shown["inbox_id"],
        "created_at": show_time(event.created_at),
        "data": shown["data"],
    }
    body = json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode()
    seconds = str(int(notice.now.timestamp()))
    signed = seconds.encode() + b"." + body
    signatures = [hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest() for secret in notice.secrets]
    headers = {
        "X-Postern-Signature": ",".join([f"t={seconds}", *(f"v1={signature}" for signature in signatures)]),
        "X-Postern-Event": event.type,
    }
    return HttpCall(headers, body)


register_format(NAME, format_postern, enriched=False)
