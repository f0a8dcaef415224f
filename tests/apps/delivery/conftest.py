"""What the tests of the queue share."""

from collections.abc import Callable

import pytest
from django.utils import timezone

from apps.delivery.models import Delivery
from apps.delivery.services import SendRequest, send_message
from apps.mailboxes.models import Mailbox

Send = Callable[..., list[Delivery]]


@pytest.fixture
def direct(settings: object) -> None:
    """Mail for other domains is queued instead of held."""
    settings.MAILHOST_DELIVERY = "direct"  # type: ignore[attr-defined]


@pytest.fixture
def send(direct: None) -> Send:
    """Sends one message and gives its deliveries."""

    def send_one(mailbox: Mailbox, *to: str, **fields: object) -> list[Delivery]:
        fields = {"subject": "Hello", "text": "Reporting in."} | fields
        request = SendRequest(to=to or ("ops@acme.test",), **fields)  # type: ignore[arg-type]
        return send_message(mailbox=mailbox, request=request, now=timezone.now()).deliveries

    return send_one
