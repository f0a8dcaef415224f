"""Webhooks and events for the tests of both."""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from ipaddress import ip_network
from typing import Any
from uuid import UUID

import pytest
from django.utils import timezone

from apps.accounts.models import Organization
from apps.core.ids import new_id
from apps.events.models import Event, EventType, Webhook, WebhookCall
from apps.events.services import NewEvent, create_webhook, record_events
from tests.fakes.dns import FakeDns
from tests.fakes.http import HttpReceiver

MakeWebhook = Callable[..., Webhook]
Record = Callable[..., Event]


def make_due() -> None:
    """Let every call that waits be due, also on the clock of a test's single transaction, which stands still."""
    waiting = WebhookCall.objects.filter(status=WebhookCall.Status.PENDING)
    waiting.update(next_attempt_at=timezone.now() - timedelta(minutes=1))


@pytest.fixture
def make_webhook(organization: Organization, now: datetime) -> MakeWebhook:
    """Makes a webhook of Acme's; its secret is `webhook.secret`."""

    def make(url: str = "https://hook.example/x", *, of: Organization | None = None, **fields: Any) -> Webhook:
        webhook, secret = create_webhook(organization=of or organization, url=url, now=now, **fields)
        assert secret == webhook.secret
        return webhook

    return make


@pytest.fixture
def record(organization: Organization) -> Record:
    """Records one fact of Acme's and gives its event."""

    def record_one(
        event: EventType = EventType.MESSAGE_RECEIVED,
        *,
        mailbox_id: UUID | None = None,
        of: Organization | None = None,
        **data: Any,
    ) -> Event:
        data = {"message_id": str(new_id()), "subject": "Hello"} | data
        fact = NewEvent(event, (of or organization).id, mailbox_id, data)
        record_events(events=[fact], now=timezone.now())
        return Event.objects.order_by("-id")[0]

    return record_one


@pytest.fixture
def world(settings: object) -> Iterator[FakeDns]:
    """Webhooks may go to loopback, and names are asked of the tests' own DNS."""
    settings.MAILHOST_PRIVATE_TARGETS = [ip_network("127.0.0.1/32")]  # type: ignore[attr-defined]
    with FakeDns() as dns:
        settings.MAILHOST_DNS_SERVERS = [dns.address]  # type: ignore[attr-defined]
        yield dns


@pytest.fixture
def receiver() -> Iterator[HttpReceiver]:
    with HttpReceiver() as server:
        yield server


@pytest.fixture
def other() -> Iterator[HttpReceiver]:
    with HttpReceiver() as server:
        yield server
