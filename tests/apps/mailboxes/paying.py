"""Fixtures of the tests in which mailboxes are paid for."""

from collections.abc import Iterator
from typing import Any

import pytest

from apps.accounts.models import Organization
from apps.mailboxes.models import PaidProvisioning
from apps.mailboxes.provisioning import turn_on
from tests.fakes.facilitator import FakeFacilitator, Wallet

PAY_TO = "0x" + "Ab" * 20


@pytest.fixture
def facilitator(settings: Any) -> Iterator[FakeFacilitator]:
    with FakeFacilitator() as fake:
        settings.MAILHOST_X402_FACILITATOR = fake.url
        yield fake


@pytest.fixture
def offer(organization: Organization, facilitator: FakeFacilitator) -> PaidProvisioning:
    """Acme's mailboxes cost five cents."""
    offer = turn_on(organization=organization, price="0.05", pay_to=PAY_TO)
    facilitator.calls.clear()
    return offer


@pytest.fixture
def wallet() -> Wallet:
    return Wallet()
