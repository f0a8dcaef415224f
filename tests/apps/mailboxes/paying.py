"""Fixtures of the tests in which mailboxes are paid for."""

import base64
import json
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import pytest
from x402.http.utils import decode_payment_required_header

from apps.accounts.models import ApiKey, Organization
from apps.mailboxes.errors import PaymentRequired
from apps.mailboxes.models import PaidProvisioning
from apps.mailboxes.provisioning import Provisioned, provision_mailbox, turn_on
from apps.mailboxes.services import NewMailbox
from tests.fakes.facilitator import FakeFacilitator, Wallet

PAY_TO = "0x" + "Ab" * 20
Provision = Callable[..., Provisioned]


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


@pytest.fixture
def provision(organization: Organization, key: ApiKey, now: datetime) -> Provision:
    """Asks for a mailbox of Acme's."""

    def ask(payment: str | None = None, by: ApiKey | None = None, **wanted: Any) -> Provisioned:
        return provision_mailbox(
            organization=organization,
            wanted=NewMailbox(**wanted),
            key=by or key,
            now=now,
            payment_header=payment,
            resource_url="https://mail.test/v1/inboxes",
        )

    return ask


@pytest.fixture
def sign(provision: Provision, wallet: Wallet) -> Callable[[], str]:
    """A new payment, as the wallet signs it when it is challenged."""
    return lambda: wallet.sign(challenge_of(provision))


def challenge_of(provision: Provision, **wanted: Any) -> str:
    with pytest.raises(PaymentRequired) as refused:
        provision(**wanted)
    return str(refused.value.data["headers"]["PAYMENT-REQUIRED"])


def reason_of(error: pytest.ExceptionInfo[PaymentRequired]) -> str:
    challenge = decode_payment_required_header(error.value.data["headers"]["PAYMENT-REQUIRED"])
    assert challenge.error is not None
    assert challenge.error in error.value.message
    return challenge.error


def rewrite(payment: str, change: Callable[[dict[str, Any]], Any]) -> str:
    data = json.loads(base64.b64decode(payment))
    change(data)
    return base64.b64encode(json.dumps(data).encode()).decode()
