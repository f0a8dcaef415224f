"""From claimed calls to requests: webhooks, events and what formats want to know besides, read for the whole batch."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import structlog
from django.db import InterfaceError, OperationalError

from apps.core.ids import new_id
from apps.events.models import PING, Event, Webhook
from apps.events.services.claim import ClaimedCall
from apps.events.services.record import CallResult, End
from apps.events.webhooks.formats import (
    EventView,
    HttpCall,
    Notice,
    WebhookView,
    build_call,
    collect_extra,
    wants_extra,
)

log = structlog.get_logger(__name__)

MAX_BODY = 1024 * 1024
_FAULT = "The request could not be prepared here."


@dataclass(frozen=True, slots=True)
class PreparedCall:
    """A request to make for a claimed call; `request_id` is the attempt's."""

    call: ClaimedCall
    request_id: UUID
    url: str
    http: HttpCall


@dataclass(frozen=True, slots=True)
class Preparation:
    """What can be sent, and what has ended or failed without a request."""

    calls: list[PreparedCall]
    results: list[CallResult]


def prepare_calls(*, calls: Sequence[ClaimedCall], now: datetime) -> Preparation:
    """The requests of claimed calls. One that cannot be prepared fails this try alone.

    Four queries at most and one per enricher, however many the calls.
    """
    if not calls:
        return Preparation([], [])
    webhooks = Webhook.objects.in_bulk([call.webhook_id for call in calls])
    events = Event.objects.in_bulk([call.event_id for call in calls if call.event_type != PING])
    extra = _collect(calls, webhooks, events)
    prepared: list[PreparedCall] = []
    results: list[CallResult] = []
    for call in calls:
        webhook = webhooks.get(call.webhook_id)
        event = _view(call, events.get(call.event_id), extra)
        if webhook is None or event is None:
            results.append(CallResult(call, now, end=End.CANCELED, error="The webhook or the event is gone."))
            continue
        if extra is None and wants_extra(webhook.dialect):
            results.append(CallResult(call, now, error=_FAULT))
            continue
        outcome = _prepare(call, webhook, event, now)
        if isinstance(outcome, CallResult):
            results.append(outcome)
        else:
            prepared.append(outcome)
    return Preparation(prepared, results)


def _collect(
    calls: Iterable[ClaimedCall], webhooks: Mapping[UUID, Webhook], events: Mapping[UUID, Event]
) -> Mapping[UUID, dict[str, Any]] | None:
    """What enrichers add to the events that a format wants more of; None when one of them failed."""
    wanted = {
        call.event_id: events[call.event_id]
        for call in calls
        if call.webhook_id in webhooks and call.event_id in events and wants_extra(webhooks[call.webhook_id].dialect)
    }
    try:
        return collect_extra(wanted.values())
    except (OperationalError, InterfaceError):
        raise
    except Exception:  # an upper floor's fault: the calls that need it wait, the others go
        log.exception("webhooks.enricher_failed")
        return None


def _view(call: ClaimedCall, event: Event | None, extra: Mapping[UUID, dict[str, Any]] | None) -> EventView | None:
    place = call.place
    if call.event_type == PING:
        data = {"webhook_id": str(call.webhook_id)}
        return EventView(call.event_id, PING, place.organization_id, None, call.created_at, data)
    if event is None or event.organization_id != place.organization_id:
        return None
    more = (extra or {}).get(event.id, {})
    return EventView(event.id, event.type, event.organization_id, event.mailbox_id, event.created_at, event.data, more)


def _prepare(call: ClaimedCall, webhook: Webhook, event: EventView, now: datetime) -> PreparedCall | CallResult:
    view = WebhookView(webhook.id, webhook.organization_id, webhook.url, webhook.dialect, webhook.for_mailbox)
    request_id = new_id()
    try:
        http = build_call(Notice(event, view, webhook.valid_secrets(now), now, request_id))
    except Exception:  # a format of an upper floor, or a secret of another installation: this call waits, no other
        log.exception("webhooks.format_failed", webhook=str(webhook.id), dialect=webhook.dialect)
        return CallResult(call, now, error=_FAULT)
    if http is None:
        return CallResult(call, now, end=End.SKIPPED)
    if len(http.body) > MAX_BODY:
        return CallResult(call, now, end=End.FAILED, error=f"The request would be larger than {MAX_BODY} octets.")
    return PreparedCall(call, request_id, webhook.url, http)
