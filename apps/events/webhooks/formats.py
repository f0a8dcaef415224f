"""What a webhook's requests look like: one format per dialect, in a register that the floors above add to.

A format turns an event into headers and body, or into None when its dialect does not tell of such an event. What the
event itself does not hold (a message's text, for example) an enricher of an upper floor adds just before sending.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from standardwebhooks import Webhook as StandardWebhook

from apps.core.ids import encode_id
from apps.events.models import NATIVE, Event

JSON_TYPE = "application/json"


@dataclass(frozen=True, slots=True)
class EventView:
    """An event as formats see it. `extra` is what enrichers add; a test's type is `ping`, and no log holds it."""

    id: UUID
    type: str
    organization_id: UUID
    mailbox_id: UUID | None
    created_at: datetime
    data: Mapping[str, Any]
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class WebhookView:
    """A webhook as formats see it."""

    id: UUID
    organization_id: UUID
    url: str
    dialect: str
    for_mailbox: UUID | None = None


@dataclass(frozen=True, slots=True)
class Notice:
    """One request to make: who tells whom of what, when.

    `secrets`: the webhook's, as its owner was given it (`whsec_...`), and after a rotation, for a while, the one
    before. `event.id` stays the same however often a call is tried; `request_id` is new each time.
    """

    event: EventView
    webhook: WebhookView
    secrets: Sequence[str]
    now: datetime
    request_id: UUID


@dataclass(frozen=True, slots=True)
class HttpCall:
    """Headers and body of a POST; without a Content-Type it is JSON. Host and length are added."""

    headers: Mapping[str, str]
    body: bytes


Format = Callable[[Notice], HttpCall | None]
Enricher = Callable[[Sequence[Event]], Mapping[UUID, Mapping[str, Any]]]


@dataclass(frozen=True, slots=True)
class _Entry:
    format: Format
    enriched: bool


_formats: dict[str, _Entry] = {}
_enrichers: dict[str, list[Enricher]] = {}


def register_format(name: str, format: Format, *, enriched: bool = True) -> None:
    """Make a dialect's format known, when its app is loaded; `enriched` says whether it reads `event.extra`.

    The sender's process must register the same formats as the one that makes webhooks.
    """
    _formats[name] = _Entry(format, enriched)


def has_format(name: str) -> bool:
    """Whether webhooks of this dialect can be made."""
    return name in _formats


def list_formats() -> list[str]:
    """The dialects that have a format."""
    return sorted(_formats)


def register_enricher(event_type: str, enricher: Enricher) -> None:
    """Have `enricher` give what formats need beyond the event: event id -> names and values of `event.extra`.

    It gets all events of a batch (at most 50) at once, and should ask the database once. Several are joined.
    """
    known = _enrichers.setdefault(event_type, [])
    if enricher not in known:
        known.append(enricher)


def wants_extra(dialect: str) -> bool:
    """Whether the dialect's format reads what enrichers add."""
    entry = _formats.get(dialect)
    return entry is not None and entry.enriched


def collect_extra(events: Iterable[Event]) -> dict[UUID, dict[str, Any]]:
    """What the enrichers add to these events; raises what they raise."""
    by_type: dict[str, list[Event]] = {}
    for event in events:
        by_type.setdefault(event.type, []).append(event)
    extra: dict[UUID, dict[str, Any]] = {}
    for event_type, group in by_type.items():
        for enricher in _enrichers.get(event_type, ()):
            for event_id, values in enricher(group).items():
                extra.setdefault(event_id, {}).update(values)
    return extra


def build_call(notice: Notice) -> HttpCall | None:
    """The request that the webhook's dialect makes of it; None when it tells of no such event.

    Raises LookupError when the dialect has no format in this process, and what the format raises.
    """
    entry = _formats.get(notice.webhook.dialect)
    if entry is None:
        raise LookupError(f"There is no format named {notice.webhook.dialect}.")
    return entry.format(notice)


# --- our own


# Names of ids inside an event's data, and the prefix that the API shows them with.
_ID_PREFIXES = {
    "message_id": "msg", "thread_id": "thread", "delivery_id": "dlv", "inbox_id": "inbox", "domain_id": "dom",
    "webhook_id": "whk",
}  # fmt: skip


def show_event(event: EventView) -> dict[str, Any]:
    """The event as `GET /v1/events` shows it."""
    return {
        "id": encode_id("evt", event.id),
        "type": event.type,
        "created_at": _show_time(event.created_at),
        "inbox_id": None if event.mailbox_id is None else encode_id("inbox", event.mailbox_id),
        "data": {name: _show_value(name, value) for name, value in event.data.items()},
    }


def _show_value(name: str, value: Any) -> Any:
    prefix = _ID_PREFIXES.get(name)
    if prefix is None or not isinstance(value, str):
        return value
    try:
        return encode_id(prefix, UUID(value))
    except ValueError:
        return value


def _show_time(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def format_native(notice: Notice) -> HttpCall:
    """Standard Webhooks (standardwebhooks.com): `webhook-id` is the event's id, so that a receiver sees repetitions."""
    event = notice.event
    payload = {"type": event.type, "timestamp": _show_time(event.created_at), "data": show_event(event)}
    body = json.dumps(payload, ensure_ascii=False, separators=(",", ":"))
    event_id = encode_id("evt", event.id)
    now = notice.now.astimezone(UTC)
    signatures = [StandardWebhook(secret).sign(event_id, now, body) for secret in notice.secrets]
    headers = {
        "Content-Type": JSON_TYPE,
        "webhook-id": event_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": " ".join(signatures),
    }
    return HttpCall(headers, body.encode())


register_format(NATIVE, format_native, enriched=False)
