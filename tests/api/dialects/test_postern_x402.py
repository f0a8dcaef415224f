"""Postern's paid provisioning: 402 first, a mailbox only after settlement (x402 version 2)."""

import http.client
import json
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.test import Client
from x402.http import x402HTTPClientSync
from x402.http.utils import decode_payment_response_header
from x402.schemas import PaymentRequired

from apps.accounts.models import SCOPES, Organization
from apps.accounts.services import create_api_key
from apps.domains.models import Domain
from apps.mailboxes.models import Mailbox, PaidProvisioning
from tests.apps.mailboxes.paying import PAY_TO, facilitator, offer, wallet
from tests.fakes.facilitator import FakeFacilitator, Wallet

__all__ = ["facilitator", "offer", "wallet"]
pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("shared_domain", "offer")]
PATH = "/dialects/postern/v1/inboxes"
Answer = tuple[int, Any, Any]


class Agent:
    """A client of Postern's that can pay."""

    def __init__(self, secret: str) -> None:
        self.secret = secret

    def create(self, payment: str | None = None, **body: Any) -> Answer:
        """POST /v1/inboxes: status, body, headers."""
        headers = {} if payment is None else {"HTTP_PAYMENT_SIGNATURE": payment}
        answer = Client().generic(
            *("POST", PATH, json.dumps(body).encode()),
            content_type="application/json",
            HTTP_AUTHORIZATION=f"Bearer {self.secret}",
            **headers,
        )
        return answer.status_code, json.loads(answer.content), answer.headers


@pytest.fixture
def agent(organization: Organization, now: datetime) -> Agent:
    return Agent(create_api_key(organization=organization, name="agent", scopes=SCOPES, now=now)[1])


def read_challenge(answer: Answer) -> PaymentRequired:
    """The challenge of a 402, as the package's client reads it."""
    status, body, headers = answer
    assert (status, body["error"]["code"]) == (402, "payment_required")
    assert set(body["error"]) == {"code", "message", "details", "request_id"}
    assert headers["X-Postern-Request-Id"] == body["error"]["request_id"]
    challenge = x402HTTPClientSync(None).get_payment_required_response(headers.get)
    assert isinstance(challenge, PaymentRequired)
    return challenge


def test_create_answers_402_with_a_challenge_and_makes_nothing(agent: Agent, facilitator: FakeFacilitator) -> None:
    challenge = read_challenge(agent.create(display_name="Support Bot"))
    assert challenge.resource is not None and challenge.resource.url.endswith(PATH)
    (terms,) = challenge.accepts
    assert (terms.scheme, terms.network, terms.amount, terms.pay_to) == ("exact", "eip155:84532", "50000", PAY_TO)
    assert not Mailbox.objects.exists()
    assert facilitator.calls == []


def test_signed_and_settled_it_is_201_with_a_receipt(
    agent: Agent, wallet: Wallet, facilitator: FakeFacilitator
) -> None:
    payment = wallet.sign(agent.create(username="support")[2]["PAYMENT-REQUIRED"])
    status, inbox, headers = agent.create(payment, username="support")
    assert status == 201
    assert set(inbox) == {"id", "address", "display_name", "domain", "status", "created_at"}
    assert (inbox["address"], inbox["status"]) == ("support@agents.localhost", "live")
    receipt = decode_payment_response_header(headers["PAYMENT-RESPONSE"])
    assert receipt.success and [receipt.transaction] == list(facilitator.settled.values())

    status, again, headers = agent.create(payment, username="support")
    assert (status, again) == (200, inbox)
    assert decode_payment_response_header(headers["PAYMENT-RESPONSE"]) == receipt
    status, answer, _ = agent.create(payment, username="other")
    assert (status, answer["error"]["code"]) == (409, "conflict")
    assert Mailbox.objects.count() == 1


@pytest.mark.parametrize("question", ["verify", "settle"])
def test_it_is_gated_on_settlement_not_on_the_receipt_of_a_payment(
    agent: Agent, wallet: Wallet, facilitator: FakeFacilitator, question: str
) -> None:
    payment = wallet.sign(agent.create()[2]["PAYMENT-REQUIRED"])
    facilitator.refuse[question] = "insufficient_funds"
    answer = agent.create(payment)
    assert read_challenge(answer).error == "insufficient_funds"
    assert "insufficient_funds" in answer[1]["error"]["message"]
    assert not Mailbox.objects.exists()


def test_while_the_facilitator_is_away_it_is_503_with_retry_after(
    agent: Agent, wallet: Wallet, facilitator: FakeFacilitator
) -> None:
    payment = wallet.sign(agent.create()[2]["PAYMENT-REQUIRED"])
    facilitator.stop()
    status, answer, headers = agent.create(payment)
    assert (status, answer["error"]["code"]) == (503, "internal_error")
    assert int(headers["Retry-After"]) > 0
    assert not Mailbox.objects.exists()


def test_what_would_be_refused_is_refused_before_anybody_pays(
    agent: Agent, wallet: Wallet, facilitator: FakeFacilitator
) -> None:
    payment = wallet.sign(agent.create()[2]["PAYMENT-REQUIRED"])
    for header in (None, payment):
        assert agent.create(header, username="postmaster")[0] == 409
        assert agent.create(header, username="a b")[0] == 422
        assert agent.create(header, inbound_webhook_url="http://10.0.0.1/")[0] == 422
    assert facilitator.calls == []


def test_a_repeated_client_id_is_free(agent: Agent, wallet: Wallet, facilitator: FakeFacilitator) -> None:
    payment = wallet.sign(agent.create()[2]["PAYMENT-REQUIRED"])
    _, inbox, _ = agent.create(payment, client_id="create-12")
    assert agent.create(client_id="create-12")[:2] == (200, inbox)
    assert facilitator.count("settle") == 1


def test_a_webhook_is_told_its_secret_with_the_paid_answer(agent: Agent, wallet: Wallet) -> None:
    payment = wallet.sign(agent.create()[2]["PAYMENT-REQUIRED"])
    status, inbox, _ = agent.create(payment, inbound_webhook_url="https://my-agent.example.com/inbound")
    assert status == 201
    assert inbox["inbound_webhook_secret"]


@pytest.mark.parametrize("header", ["", "x", "e30=", "\x00", "é", "a" * 20_000])
def test_garbage_gets_the_challenge_again(agent: Agent, facilitator: FakeFacilitator, header: str) -> None:
    assert read_challenge(agent.create(header)).error
    assert facilitator.calls == []


def test_an_organization_without_a_price_asks_nobody(
    agent: Agent, stranger: Organization, now: datetime, facilitator: FakeFacilitator
) -> None:
    other = Agent(create_api_key(organization=stranger, name="agent", scopes=SCOPES, now=now)[1])
    assert other.create()[0] == 201
    PaidProvisioning.objects.all().delete()
    assert agent.create("nonsense")[0] == 201
    assert facilitator.calls == []


def test_the_native_api_makes_none_for_nothing(agent: Agent) -> None:
    answer = Client().post(
        "/v1/inboxes", {}, content_type="application/json", HTTP_AUTHORIZATION=f"Bearer {agent.secret}"
    )
    assert (answer.status_code, answer.json()["error"]["code"]) == (402, "payment_required")
    assert not Mailbox.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_the_package_s_client_pays_a_running_server(
    agent: Agent, shared_domain: Domain, wallet: Wallet, live_server: Any, facilitator: FakeFacilitator
) -> None:
    def ask(extra: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(urlsplit(live_server.url).netloc, timeout=20)
        headers = {"Authorization": f"Bearer {agent.secret}", "Content-Type": "application/json", **extra}
        connection.request("POST", PATH, b'{"display_name": "Support Bot"}', headers)
        response = connection.getresponse()
        body = response.read()
        connection.close()
        return response.status, dict(response.getheaders()), body

    status, headers, body = ask({})
    assert status == 402
    payment, _ = wallet.http.handle_402_response(headers, body, live_server.url + PATH)
    status, headers, body = ask(payment)
    assert status == 201
    assert wallet.http.get_payment_settle_response(headers.get).success
    assert json.loads(body)["address"] == Mailbox.objects.get().address
    assert facilitator.calls == ["verify", "settle"]
