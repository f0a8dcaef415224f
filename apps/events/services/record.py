"""Writing down what became of calls: state, attempt, and the webhook's health, in one transaction per batch."""

import enum
import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import structlog
from django.db import connection, transaction

from apps.events.models import EventType, WebhookAttempt, WebhookCall
from apps.events.services.claim import ClaimedCall
from apps.events.services.facts import NewEvent, record_events
from mailhost.message.extract import storable

log = structlog.get_logger(__name__)

GIVE_UP_AFTER = timedelta(days=3)
"""How long after its first try a call is given up; and how long everything must have failed until a webhook is
disabled."""
MAX_PAUSE = timedelta(hours=12)
_PAUSES = tuple(timedelta(seconds=seconds) for seconds in (5, 30, 120, 600, 1800, 3600, 3 * 3600, 6 * 3600, 12 * 3600))
_JITTER = 0.1
_GONE = 410
_WORDS = 500
_LOGGED = 2048
_jitter = random.SystemRandom()


class End(enum.StrEnum):
    """Ends of a call that no answer decides."""

    SKIPPED = WebhookCall.Status.SKIPPED
    CANCELED = WebhookCall.Status.CANCELED
    FAILED = WebhookCall.Status.FAILED


@dataclass(frozen=True, slots=True)
class CallResult:
    """How one try at a call ended.

    With a `request_id` a request was made: `request` and `response` are the beginnings of both bodies. Without one
    nothing was sent, and the webhook's URL is not to blame. `retry_after` is what the answer asked for.
    """

    call: ClaimedCall
    at: datetime
    request_id: UUID | None = None
    url: str = ""
    request: str = ""
    status_code: int | None = None
    response: str = ""
    error: str = ""
    duration_ms: int = 0
    retry_after: timedelta | None = None
    end: End | None = None

    @property
    def succeeded(self) -> bool:
        """Whether the receiver took it: any 2xx."""
        return self.status_code is not None and 200 <= self.status_code < 300

    @property
    def is_gone(self) -> bool:
        """Whether the receiver wants nothing any more (RFC 9110, section 15.5.11)."""
        return self.status_code == _GONE


def record_calls(*, results: Sequence[CallResult], now: datetime) -> int:
    """Record a batch; how many counted. A result whose lease was lost changes nothing, but stands in the log."""
    if not results:
        return 0
    with transaction.atomic():
        held = _write_states(results, now)
        WebhookAttempt.objects.bulk_create(_make_attempt(result) for result in results if result.request_id is not None)
        _write_health([result for result in results if result.request_id is not None], now)
    if len(held) < len(results):
        log.warning("webhooks.lease_lost", calls=len(results) - len(held))
    return len(held)


def pause_after(result: CallResult, now: datetime) -> datetime | None:
    """When a failed call is tried again: after growing pauses, or as late as the answer asked for; None: never."""
    first = result.call.first_attempt_at or result.at
    last = first + GIVE_UP_AFTER
    if now >= last:
        return None
    tries = result.call.attempt_count
    pause = _PAUSES[tries] if tries < len(_PAUSES) else MAX_PAUSE
    pause *= 1 + _jitter.uniform(-_JITTER, _JITTER)
    if result.retry_after is not None:
        pause = max(pause, min(result.retry_after, MAX_PAUSE))
    return min(now + pause, last)


def _decide(result: CallResult, now: datetime) -> tuple[str, datetime | None]:
    """The call's new status, and when it is due again if it waits."""
    if result.end is not None:
        return result.end.value, None
    if result.succeeded:
        return WebhookCall.Status.DELIVERED.value, None
    again = None if result.is_gone else pause_after(result, now)
    return (WebhookCall.Status.FAILED.value if again is None else WebhookCall.Status.PENDING.value), again


def _write_states(results: Sequence[CallResult], now: datetime) -> set[UUID]:
    """Change the calls that are still under their lease; their ids."""
    rows: list[list[Any]] = []
    for result in sorted(results, key=lambda result: result.call.id):
        status, again = _decide(result, now)
        tries = 0 if result.end is not None else 1
        state = [status, again, None if again is not None else now, tries, result.at]
        rows.append([result.call.id, result.call.lease_token, *state, result.status_code, _words(result.error)])
    columns = [list(column) for column in zip(*rows, strict=True)]
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE events_webhookcall AS call SET status = result.status, next_attempt_at = result.next_at,"
            " finished_at = result.finished_at, attempt_count = call.attempt_count + result.tries,"
            " first_attempt_at = coalesce(call.first_attempt_at, result.at), last_status_code = result.code,"
            " last_error = result.error, lease_token = NULL"
            " FROM (SELECT result.* FROM events_webhookcall AS held JOIN"
            " unnest(%s::uuid[], %s::uuid[], %s::text[], %s::timestamptz[], %s::timestamptz[], %s::int[],"
            " %s::timestamptz[], %s::smallint[], %s::text[])"
            " AS result(id, token, status, next_at, finished_at, tries, at, code, error)"
            " ON held.id = result.id AND held.lease_token = result.token"
            " WHERE held.status = 'pending' ORDER BY held.id FOR NO KEY UPDATE OF held) AS result"
            " WHERE call.id = result.id RETURNING call.id",
            columns,
        )
        return {row[0] for row in cursor.fetchall()}


def _make_attempt(result: CallResult) -> WebhookAttempt:
    assert result.request_id is not None
    return WebhookAttempt(
        id=result.request_id,
        call_id=result.call.id,
        at=result.at,
        duration_ms=result.duration_ms,
        url=result.url,
        request=storable(result.request[:_LOGGED]),
        status_code=result.status_code,
        response=storable(result.response[:_LOGGED]),
        error=_words(result.error),
    )


def _words(error: str) -> str:
    return storable(error)[:_WORDS]


# A healthy webhook's row is not touched. Rows are locked in id order, so that two batches never wait in a circle.
_HEALTH = """
UPDATE events_webhook AS webhook
   SET failing_since = CASE WHEN news.good THEN NULL ELSE coalesce(webhook.failing_since, news.at) END,
       enabled = webhook.enabled AND NOT news.dead,
       disabled_at = CASE WHEN news.dead THEN %(now)s ELSE webhook.disabled_at END,
       disabled_reason = CASE WHEN news.dead THEN news.reason ELSE webhook.disabled_reason END
  FROM (
    SELECT held.id, news.good, news.at,
           NOT news.good AND held.enabled AND (news.gone OR held.failing_since <= %(limit)s) IS TRUE AS dead,
           CASE WHEN news.gone THEN %(gone)s ELSE %(dead)s END AS reason
      FROM events_webhook AS held
      JOIN unnest(%(ids)s::uuid[], %(goods)s::boolean[], %(gones)s::boolean[], %(ats)s::timestamptz[])
           AS news(id, good, gone, at) ON news.id = held.id
     WHERE (news.good AND held.failing_since IS NOT NULL)
        OR (NOT news.good AND (held.failing_since IS NULL OR held.failing_since <= %(limit)s OR news.gone))
     ORDER BY held.id FOR NO KEY UPDATE OF held
  ) AS news
 WHERE webhook.id = news.id
RETURNING webhook.id, webhook.organization_id, webhook.for_mailbox, webhook.url, news.reason, news.dead
"""


def _write_health(results: Sequence[CallResult], now: datetime) -> None:
    """Note since when a webhook fails, and disable one that wants nothing or has failed for three days."""
    news: dict[UUID, tuple[bool, bool, datetime]] = {}
    for result in results:
        good, gone, at = news.get(result.call.webhook_id, (False, False, result.at))
        news[result.call.webhook_id] = (good or result.succeeded, gone or result.is_gone, min(at, result.at))
    if not news:
        return
    goods, gones, ats = (list(column) for column in zip(*news.values(), strict=True))
    values: dict[str, Any] = {
        "now": now,
        "limit": now - GIVE_UP_AFTER,
        "gone": "Its URL answered 410 Gone.",
        "dead": "Nothing it was sent has been taken for three days.",
        "ids": list(news),
        "goods": goods,
        "gones": gones,
        "ats": ats,
    }
    with connection.cursor() as cursor:
        cursor.execute(_HEALTH, values)
        disabled = [row for row in cursor.fetchall() if row[-1]]
    record_events(events=[_disabled(*row[:-1]) for row in disabled], now=now)


def _disabled(webhook_id: UUID, organization_id: UUID, for_mailbox: UUID | None, url: str, reason: str) -> NewEvent:
    log.info("webhooks.disabled", webhook=str(webhook_id), reason=reason)
    shown = urlsplit(url)._replace(query="").geturl()  # a query may hold a secret, and other webhooks are told of this
    data = {"webhook_id": str(webhook_id), "url": shown, "reason": reason}
    return NewEvent(EventType.WEBHOOK_DISABLED, organization_id, for_mailbox, data)
