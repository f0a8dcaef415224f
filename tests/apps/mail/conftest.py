"""Mails of the tests, and depositing them."""

from collections.abc import Callable
from datetime import datetime

import pytest
from django.db import transaction

from apps.mail.models import Message
from apps.mail.services import Deposit, DepositResult, deposit_messages
from mailhost.message.parse import parse_message


def write_mail(body: str = "Hello", **fields: str) -> bytes:
    """A mail; header fields by name with _ for -, `from_` for From."""
    header = {"from_": "Bob <bob@remote.example>", "to": "alice@agents.localhost", "subject": "Hi", **fields}
    lines = [f"{name.strip('_').replace('_', '-').title()}: {value}" for name, value in header.items()]
    return "\r\n".join([*lines, "", *body.split("\n"), ""]).encode()


DepositMail = Callable[..., list[DepositResult]]


@pytest.fixture
def deposit(now: datetime) -> DepositMail:
    """Deposits one mail, as it is or as written by `write_mail`, for one or more recipients."""

    def act(raw: bytes | None = None, *recipients: str, mail_from: str = "bob@remote.example", **fields: str):
        raw = write_mail(**fields) if raw is None else raw
        mail = Deposit(recipients or ["alice@agents.localhost"], raw, parse_message(raw), mail_from)
        with transaction.atomic():
            return deposit_messages(deposits=[mail], now=now)[0]

    return act


def message_of(result: DepositResult) -> Message:
    return Message.objects.select_related("body", "thread").get(id=result.message_id)
