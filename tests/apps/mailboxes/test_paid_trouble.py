"""Payments when several requests come at once, and when the facilitator does not answer as it should."""

import json
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connections
from x402.http.utils import decode_payment_response_header

from apps.accounts.models import Organization
from apps.mailboxes.errors import AddressTaken, FacilitatorAway, PaymentRequired
from apps.mailboxes.models import Mailbox, ProvisioningPayment
from apps.mailboxes.provisioning import Provisioned, turn_on
from apps.mailboxes.provisioning import facilitator as client
from apps.mailboxes.services import NewMailbox, create_mailbox
from tests.apps.mailboxes.paying import PAY_TO, Provision, reason_of
from tests.apps.threads import run_together
from tests.fakes.facilitator import FakeFacilitator

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("shared_domain", "offer")]


@pytest.mark.django_db(transaction=True)
class TestAtOnce:
    def test_a_name_lost_after_settling_leaves_the_payment_good(
        self, organization: Organization, provision: Provision, sign: Any, now: datetime, facilitator: FakeFacilitator
    ) -> None:
        payment = sign()

        def take_name(question: str) -> None:
            if question == "settle":
                create_mailbox(organization=organization, wanted=NewMailbox(username="alice"), now=now)
                connections["default"].close()

        facilitator.on_call = take_name
        with pytest.raises(AddressTaken) as taken:
            provision(payment, username="alice")
        assert "stays good" in taken.value.fix_text
        assert decode_payment_response_header(taken.value.data["headers"]["PAYMENT-RESPONSE"]).success
        row = ProvisioningPayment.objects.get()
        assert (row.status, row.mailbox_id) == ("settled", None)

        turn_on(organization=organization, price="1", pay_to=PAY_TO)  # what is paid stays good
        facilitator.calls.clear()
        made = provision(payment, username="bob")
        assert (made.created, made.mailbox.username) == (True, "bob")
        assert facilitator.calls == []
        assert ProvisioningPayment.objects.get().status == "used"

    @pytest.mark.parametrize("wanted", [{}, {"username": "alice"}, {"client_id": "agent-7"}])
    def test_five_requests_with_one_payment_settle_it_once_and_make_one_mailbox(
        self, provision: Provision, sign: Any, facilitator: FakeFacilitator, wanted: dict[str, str]
    ) -> None:
        payment = sign()
        results = run_together(lambda _: _until_answered(lambda: provision(payment, **wanted)), 5)
        assert [result for result in results if isinstance(result, Exception)] == []
        assert {result.mailbox.id for result in results} == {Mailbox.objects.get().id}
        assert sum(result.created for result in results) == 1
        assert facilitator.count("settle") == len(facilitator.settled) == 1

    def test_a_payment_found_used_up_because_a_parallel_request_settled_it_is_paid(
        self, provision: Provision, sign: Any, facilitator: FakeFacilitator
    ) -> None:
        payment = sign()
        others: list[Provisioned] = []

        def overtake(question: str) -> None:
            facilitator.on_call = lambda question: None
            others.append(provision(payment, username="alice"))
            connections["default"].close()

        facilitator.on_call = overtake
        made = provision(payment, username="alice")
        assert (others[0].created, made.created) == (True, False)
        assert made.mailbox.id == others[0].mailbox.id
        assert facilitator.calls == ["verify", "verify", "settle"]

    def test_while_one_request_settles_another_is_told_to_come_again(
        self, provision: Provision, sign: Any, facilitator: FakeFacilitator
    ) -> None:
        payment = sign()
        facilitator.hold["settle"] = threading.Event()
        first: list[Any] = []
        thread = threading.Thread(target=lambda: first.extend(run_together(lambda _: provision(payment), 1)))
        thread.start()
        for _ in range(2):
            assert facilitator.asked.acquire(timeout=10)
        with pytest.raises(FacilitatorAway) as busy:
            provision(payment)
        assert busy.value.data["retry_after"] > 0
        facilitator.hold["settle"].set()
        thread.join(10)
        assert first[0].created
        assert provision(payment).mailbox.id == first[0].mailbox.id
        assert facilitator.count("settle") == 1

    def test_a_facilitator_that_hangs_takes_three_threads_and_no_more(
        self, provision: Provision, sign: Any, facilitator: FakeFacilitator
    ) -> None:
        payments = [sign() for _ in range(4)]
        facilitator.hold["verify"] = threading.Event()
        held: list[Any] = []
        thread = threading.Thread(target=lambda: held.extend(run_together(lambda n: provision(payments[n]), 3)))
        thread.start()
        for _ in range(3):
            assert facilitator.asked.acquire(timeout=10)
        with pytest.raises(FacilitatorAway):
            provision(payments[3])
        assert facilitator.count("verify") == 3
        facilitator.hold["verify"].set()
        thread.join(20)
        assert [made.created for made in held] == [True] * 3
        assert provision(payments[3]).created


def _until_answered(call: Callable[[], Provisioned]) -> Provisioned:
    """As a client does that heeds Retry-After, only faster."""
    for _ in range(200):
        try:
            return call()
        except FacilitatorAway:
            threading.Event().wait(0.02)
    raise AssertionError("never answered")


class TestFacilitatorAway:
    def test_nobody_listens(self, provision: Provision, sign: Any, facilitator: FakeFacilitator) -> None:
        payment = sign()
        facilitator.stop()
        with pytest.raises(FacilitatorAway) as away:
            provision(payment)
        assert away.value.code == "unavailable" and away.value.data["retry_after"] > 0
        assert not Mailbox.objects.exists() and not ProvisioningPayment.objects.exists()

    def test_none_is_configured_any_more(self, provision: Provision, sign: Any, settings: Any) -> None:
        payment = sign()
        settings.MAILHOST_X402_FACILITATOR = None
        with pytest.raises(FacilitatorAway):
            provision(payment)

    @pytest.mark.parametrize("question", ["verify", "settle"])
    def test_one_that_hangs_is_left_after_a_time(
        self, monkeypatch: Any, provision: Provision, sign: Any, facilitator: FakeFacilitator, question: str
    ) -> None:
        payment = sign()
        monkeypatch.setattr(client, "TIMEOUT", 0.3)
        facilitator.hold[question] = threading.Event()
        with pytest.raises(FacilitatorAway):
            provision(payment)
        assert not Mailbox.objects.exists()

    @pytest.mark.parametrize("question", ["verify", "settle"])
    @pytest.mark.parametrize(
        ("status", "body"),
        [
            (200, b"<html>"),
            (200, b"{}"),
            (200, b"[" * 10000),
            (200, b'{"isValid": true, "success": true, "transaction": "0x1", "network": "x", "x": "' + b"x" * 70000),
            (500, b'{"isValid": false, "success": false, "transaction": "", "network": "x"}'),
            (401, b'{"isValid": false, "success": false, "transaction": "", "network": "x"}'),
            (429, b""),
            (202, b'{"isValid": true, "success": true, "transaction": "0x1", "network": "x"}'),
            (302, b'{"isValid": true, "success": true, "transaction": "0x1", "network": "x"}'),
        ],
    )
    def test_what_is_no_answer_provisions_nothing(
        self,
        provision: Provision,
        sign: Any,
        facilitator: FakeFacilitator,
        question: str,
        status: int,
        body: bytes,
    ) -> None:
        payment = sign()
        facilitator.answers[question] = (status, body)
        with pytest.raises(FacilitatorAway):
            provision(payment)
        assert not Mailbox.objects.exists()
        assert ProvisioningPayment.objects.filter(status="verified").count() == (question == "settle")

        facilitator.answers.clear()
        facilitator.calls.clear()
        assert provision(payment).created
        assert facilitator.calls == (["verify", "settle"] if question == "verify" else ["settle"])

    def test_a_settlement_that_is_not_confirmed_yet_is_asked_for_again(
        self, provision: Provision, sign: Any, facilitator: FakeFacilitator
    ) -> None:
        pending = {"success": False, "errorReason": "settlement_pending", "transaction": "0x7", "network": "x"}
        facilitator.answers["settle"] = (200, json.dumps(pending).encode())
        payment = sign()
        with pytest.raises(FacilitatorAway) as away:
            provision(payment)
        assert away.value.data["retry_after"] > 0
        row = ProvisioningPayment.objects.get()
        assert (row.status, row.transaction) == ("verified", "0x7")
        facilitator.answers["settle"] = (200, json.dumps(pending | {"success": True, "errorReason": None}).encode())
        assert provision(payment).created
        assert facilitator.calls == ["verify", "settle", "settle"]

    def test_an_answer_lost_after_settling_is_told_when_the_facilitator_refuses_afterwards(
        self, provision: Provision, sign: Any, facilitator: FakeFacilitator, caplog: Any
    ) -> None:
        payment = sign()
        facilitator.lose_answers = True
        with pytest.raises(FacilitatorAway):
            provision(payment)
        facilitator.lose_answers = False
        with pytest.raises(PaymentRequired) as refused:
            provision(payment)
        assert reason_of(refused) == "invalid_exact_evm_nonce_already_used"
        assert "whose settlement had no answer, is refused now" in caplog.text
        assert not Mailbox.objects.exists()

    def test_a_request_that_died_while_settling_is_taken_over_when_its_time_is_up(
        self, provision: Provision, sign: Any, now: datetime, facilitator: FakeFacilitator
    ) -> None:
        payment = sign()
        facilitator.answers["settle"] = (500, b"")
        with pytest.raises(FacilitatorAway):
            provision(payment)
        facilitator.answers.clear()
        ProvisioningPayment.objects.update(busy_until=now + timedelta(seconds=20))
        with pytest.raises(FacilitatorAway):
            provision(payment)
        ProvisioningPayment.objects.update(busy_until=now - timedelta(seconds=20))
        assert provision(payment).created
        assert facilitator.calls == ["verify", "settle", "settle"]
