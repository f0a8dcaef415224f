"""Mailboxes that are paid for by x402: who is asked, who has paid, and that nothing is paid twice or for nothing."""

import base64
import json
from datetime import datetime
from typing import Any

import pytest
from django.db import connections
from x402.http.utils import (
    decode_payment_required_header,
    decode_payment_response_header,
    decode_payment_signature_header,
)

from apps.accounts.errors import QuotaExhausted, ScopeDenied
from apps.accounts.models import ApiKey, Organization
from apps.accounts.services import create_api_key
from apps.core.errors import Conflict, DomainError, ValidationFailed
from apps.events.models import Event
from apps.mailboxes.errors import AddressTaken, PaymentRequired
from apps.mailboxes.models import Mailbox, ProvisioningPayment
from apps.mailboxes.provisioning import provision_mailbox, turn_off, turn_on
from apps.mailboxes.provisioning.payments import MAX_HEADER
from apps.mailboxes.services import NewMailbox, close_mailbox, create_mailbox
from tests.apps.mailboxes.paying import PAY_TO, Provision, challenge_of, reason_of, rewrite
from tests.fakes.facilitator import FakeFacilitator, Wallet

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("shared_domain", "offer")]
USDC = "0x036CbD53842c5426634e7929541eC2318f3dCF7e"


class TestWhoIsAsked:
    def test_without_a_price_nobody_is(
        self, organization: Organization, provision: Provision, facilitator: FakeFacilitator
    ) -> None:
        assert turn_off(organization=organization) and not turn_off(organization=organization)
        made = provision(username="alice", payment="nonsense")
        assert (made.created, made.mailbox.address, dict(made.headers)) == (True, "alice@agents.localhost", {})
        assert facilitator.calls == []

    def test_the_challenge_is_one_that_the_package_s_client_reads(
        self, provision: Provision, wallet: Wallet, facilitator: FakeFacilitator
    ) -> None:
        header = challenge_of(provision)
        challenge = wallet.http.get_payment_required_response({"PAYMENT-REQUIRED": header}.get)
        assert challenge.x402_version == 2
        assert challenge.resource.url == "https://mail.test/v1/inboxes"
        (terms,) = challenge.accepts
        assert (terms.scheme, terms.network, terms.asset) == ("exact", "eip155:84532", USDC)
        assert (terms.amount, terms.pay_to) == ("50000", PAY_TO)
        assert (terms.max_timeout_seconds, terms.extra) == (300, {"name": "USDC", "version": "2"})
        assert not Mailbox.objects.exists() and not Event.objects.exists()
        assert facilitator.calls == []

    def test_nobody_is_asked_to_pay_for_a_request_that_is_refused_anyway(
        self, organization: Organization, provision: Provision, sign: Any, now: datetime, facilitator: FakeFacilitator
    ) -> None:
        create_mailbox(organization=organization, wanted=NewMailbox(username="taken"), now=now)
        spent, _ = create_api_key(organization=organization, name="s", scopes=[], max_inboxes=0, now=now)
        narrowed, _ = create_api_key(
            organization=organization, name="n", scopes=[], allowed_domains=["x.test"], now=now
        )
        payment = sign()
        refusals: list[tuple[type[DomainError], dict[str, Any]]] = [
            (AddressTaken, {"username": "Taken"}),
            (AddressTaken, {"username": "postmaster"}),
            (ValidationFailed, {"username": "a b"}),
            (ValidationFailed, {"display_name": "a\r\nb"}),
            (DomainError, {"domain": "unknown.test"}),
            (QuotaExhausted, {"by": spent}),
            (ScopeDenied, {"by": narrowed, "domain": "agents.localhost"}),
        ]
        for error, wanted in refusals:
            for header in (None, payment):
                with pytest.raises(error) as refused:
                    provision(header, **wanted)
                assert not isinstance(refused.value, PaymentRequired)
        assert facilitator.calls == []
        assert Mailbox.objects.count() == 1

    def test_asking_costs_no_place_of_the_key_and_leaves_no_trace(
        self, organization: Organization, provision: Provision, wallet: Wallet, now: datetime
    ) -> None:
        key, _ = create_api_key(organization=organization, name="one", scopes=[], max_inboxes=1, now=now)
        payment = wallet.sign(challenge_of(provision, by=key, username="alice"))
        assert provision(payment, by=key, username="alice").created
        key.refresh_from_db()
        assert key.used_count == 1
        assert Event.objects.count() == Mailbox.objects.count() == 1

    def test_a_repeated_client_id_costs_nothing(
        self, provision: Provision, sign: Any, facilitator: FakeFacilitator
    ) -> None:
        made = provision(sign(), client_id="agent-7")
        facilitator.calls.clear()
        for payment in (None, sign()):
            again = provision(payment, client_id="agent-7")
            assert (again.mailbox.id, again.created) == (made.mailbox.id, False)
        assert facilitator.calls == []

    def test_no_other_door_makes_a_mailbox_for_nothing(
        self, organization: Organization, key: ApiKey, now: datetime
    ) -> None:
        with pytest.raises(PaymentRequired):
            create_mailbox(organization=organization, wanted=NewMailbox(), key=key, now=now)
        assert create_mailbox(organization=organization, wanted=NewMailbox(), now=now)[1]  # an administrator does


class TestPaying:
    def test_a_settled_payment_makes_a_mailbox_and_gets_its_receipt(
        self, provision: Provision, wallet: Wallet, facilitator: FakeFacilitator
    ) -> None:
        header = challenge_of(provision)
        made = provision(wallet.sign(header), username="alice")
        assert (made.created, made.mailbox.address) == (True, "alice@agents.localhost")
        assert facilitator.calls == ["verify", "settle"]
        (transaction,) = facilitator.settled.values()
        receipt = decode_payment_response_header(made.headers["PAYMENT-RESPONSE"])
        assert (receipt.success, receipt.transaction, receipt.payer) == (True, transaction, wallet.address)
        assert (receipt.network, receipt.amount) == ("eip155:84532", "50000")
        payment = ProvisioningPayment.objects.get()
        assert (payment.status, payment.transaction, payment.mailbox) == ("used", transaction, made.mailbox)

    def test_the_facilitator_is_asked_with_our_terms(
        self, provision: Provision, wallet: Wallet, facilitator: FakeFacilitator
    ) -> None:
        header = challenge_of(provision)
        payment = wallet.sign(header)
        provision(payment)
        asked = decode_payment_required_header(header).accepts[0].model_dump(by_alias=True)
        sent = decode_payment_signature_header(payment).model_dump(by_alias=True, exclude_none=True)
        for body in facilitator.bodies[-2:]:
            assert body == {"x402Version": 2, "paymentPayload": sent, "paymentRequirements": asked}

    @pytest.mark.django_db(transaction=True)
    def test_the_facilitator_is_never_asked_inside_a_transaction(
        self, provision: Provision, sign: Any, facilitator: FakeFacilitator
    ) -> None:
        states: list[str] = []

        def look(question: str) -> None:
            with connections["default"].cursor() as cursor:
                cursor.execute(
                    "SELECT state FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
                    " AND backend_type = 'client backend'"
                )
                states.extend(row[0] for row in cursor.fetchall())
            connections["default"].close()

        facilitator.on_call = look
        provision(sign())
        assert states and not any(state.startswith("idle in transaction") for state in states)

    def test_a_payment_sent_again_gets_the_same_mailbox(
        self, provision: Provision, sign: Any, facilitator: FakeFacilitator
    ) -> None:
        payment = sign()
        made = provision(payment, username="alice", domain="agents.localhost")
        for wanted in ({"username": "Alice", "domain": "AGENTS.localhost"}, {}):
            again = provision(payment, **wanted)
            assert (again.mailbox.id, again.created, again.headers) == (made.mailbox.id, False, made.headers)
        assert facilitator.calls == ["verify", "settle"]

    @pytest.mark.parametrize(
        "wanted", [{"username": "bob"}, {"client_id": "b"}, {"domain": "other.test"}, {"domain": "-"}]
    )
    def test_a_used_payment_makes_no_other_mailbox(
        self, provision: Provision, sign: Any, wanted: dict[str, str]
    ) -> None:
        payment = sign()
        provision(payment, username="alice")
        with pytest.raises(Conflict):
            provision(payment, **wanted)
        assert Mailbox.objects.count() == 1

    def test_a_used_payment_does_not_bring_a_deleted_mailbox_back(
        self, provision: Provision, sign: Any, now: datetime
    ) -> None:
        payment = sign()
        made = provision(payment, username="alice")
        close_mailbox(mailbox=made.mailbox, release_address=True, now=now)
        with pytest.raises(Conflict):
            provision(payment, username="alice")

    def test_another_wording_of_a_payment_is_the_same_payment(
        self, provision: Provision, sign: Any, facilitator: FakeFacilitator
    ) -> None:
        payment = sign()
        made = provision(payment)

        def reword(data: dict[str, Any]) -> None:
            authorization = data["payload"]["authorization"]
            authorization["nonce"] = "0x" + authorization["nonce"][2:].upper()
            authorization["from"] = "0x" + authorization["from"][2:].upper()
            data["resource"] = {"url": "https://elsewhere.test"}
            data["payload"]["signature"] += "00"

        again = provision(rewrite(payment, reword))
        assert (again.mailbox.id, again.created) == (made.mailbox.id, False)
        assert facilitator.count("settle") == 1

    def test_a_stranger_cannot_use_a_payment_of_acme_s(
        self, provision: Provision, sign: Any, stranger: Organization, now: datetime, facilitator: FakeFacilitator
    ) -> None:
        turn_on(organization=stranger, price="0.05", pay_to=PAY_TO)
        strangers_key, _ = create_api_key(organization=stranger, name="k", scopes=[], now=now)
        payment = sign()
        provision(payment)
        ProvisioningPayment.objects.update(status="settled", mailbox=None)
        for status in ("settled", "used", "verified", "refused"):
            ProvisioningPayment.objects.update(status=status)
            with pytest.raises(PaymentRequired):
                provision_mailbox(
                    organization=stranger, wanted=NewMailbox(), key=strangers_key, now=now, payment_header=payment
                )
        assert facilitator.count("settle") == 1


class TestRefusals:
    def test_what_verify_refuses_is_not_settled_and_not_remembered(
        self, provision: Provision, sign: Any, facilitator: FakeFacilitator
    ) -> None:
        payment = sign()
        facilitator.refuse["verify"] = "insufficient_funds"
        with pytest.raises(PaymentRequired) as refused:
            provision(payment)
        assert reason_of(refused) == "insufficient_funds"
        assert facilitator.calls == ["verify"]
        assert not ProvisioningPayment.objects.exists() and not Mailbox.objects.exists()

    def test_what_settle_refuses_makes_nothing_and_may_be_tried_again(
        self, provision: Provision, sign: Any, facilitator: FakeFacilitator
    ) -> None:
        payment = sign()
        facilitator.refuse["settle"] = "transaction_failed"
        with pytest.raises(PaymentRequired) as refused:
            provision(payment)
        assert reason_of(refused) == "transaction_failed"
        receipt = decode_payment_response_header(refused.value.data["headers"]["PAYMENT-RESPONSE"])
        assert (receipt.success, receipt.error_reason) == (False, "transaction_failed")
        row = ProvisioningPayment.objects.get()
        assert (row.status, row.reason, row.busy_until) == ("refused", "transaction_failed", None)
        assert not Mailbox.objects.exists()

        facilitator.refuse.clear()
        assert provision(payment).created
        assert facilitator.calls == ["verify", "settle"] * 2

    @pytest.mark.parametrize("question", ["verify", "settle"])
    def test_a_refusal_may_come_with_a_status_of_its_own(
        self, provision: Provision, sign: Any, facilitator: FakeFacilitator, question: str
    ) -> None:
        refusal = {"isValid": False, "invalidReason": "no\r\nX: y\0" + "z" * 500}
        if question == "settle":
            refusal = {"success": False, "errorReason": refusal["invalidReason"], "transaction": "", "network": "x"}
        facilitator.answers[question] = (400, json.dumps(refusal).encode())
        payment = sign()
        with pytest.raises(PaymentRequired) as refused:
            provision(payment)
        assert reason_of(refused).startswith("no  X: y")
        assert len(reason_of(refused)) == 300

    @pytest.mark.parametrize(
        ("path", "value"),
        [
            (("accepted", "amount"), "1"),
            (("accepted", "payTo"), "0x" + "11" * 20),
            (("accepted", "asset"), "0x" + "11" * 20),
            (("accepted", "network"), "eip155:8453"),
            (("accepted", "scheme"), "upto"),
            (("accepted", "maxTimeoutSeconds"), 999999),
            (("accepted", "extra"), {}),
            (("accepted", "extra"), {"name": "USDC", "version": "1"}),
            (("payload", "authorization", "to"), "0x" + "11" * 20),
            (("payload", "authorization", "value"), "49999"),
            (("payload", "authorization", "value"), "50001"),
            (("payload", "authorization", "validBefore"), "1000"),
            (("payload", "authorization", "validAfter"), "99999999999"),
            (("payload", "authorization", "nonce"), "0x12"),
            (("payload", "authorization", "nonce"), 7),
            (("payload", "authorization", "from"), None),
            (("payload", "authorization", "value"), "1" * 79),
            (("payload", "authorization", "value"), "\u0665" + "0000"),
            (("payload", "authorization"), "text"),
            (("payload", "signature"), "0xzz"),
            (("payload", "signature"), None),
            (("payload",), []),
            (("accepted",), None),
            (("x402Version",), 1),
            (("x402Version",), "2"),
        ],
    )
    def test_other_terms_than_ours_are_refused_before_anybody_is_asked(
        self, provision: Provision, sign: Any, facilitator: FakeFacilitator, path: tuple[str, ...], value: Any
    ) -> None:
        def change(data: dict[str, Any]) -> None:
            for name in path[:-1]:
                data = data[name]
            data[path[-1]] = value

        with pytest.raises(PaymentRequired) as refused:
            provision(rewrite(sign(), change))
        assert reason_of(refused)
        assert facilitator.calls == [] and not ProvisioningPayment.objects.exists()

    @pytest.mark.parametrize(
        "header",
        [
            "x",
            "é",
            "e30",
            "e30=",
            "W10=",
            "null",
            base64.b64encode(b"\xff\xfe").decode(),
            base64.b64encode(b"[" * 9000).decode(),
            base64.b64encode(b'{"x402Version":2,"payload":' + b'{"a":' * 2000 + b"1" + b"}" * 2001).decode(),
            base64.b64encode(b'{"x402Version": NaN}').decode(),
            base64.b64encode(b'{"x402Version":2,"n":' + b"9" * 5000 + b"}").decode(),
            base64.b64encode(b'{"x402Version":2,"payload":{},"accepted":{"scheme":"\\ud800"}}').decode(),
            "A" * (MAX_HEADER + 1),
            "A" * (MAX_HEADER + 4),
        ],
        ids=lambda header: header[:12],
    )
    def test_garbage_gets_the_challenge_again(
        self, provision: Provision, facilitator: FakeFacilitator, header: str
    ) -> None:
        with pytest.raises(PaymentRequired) as refused:
            provision(header)
        assert reason_of(refused)
        assert facilitator.calls == []

    def test_a_forged_signature_is_the_facilitator_s_to_find(
        self, provision: Provision, sign: Any, facilitator: FakeFacilitator
    ) -> None:
        forged = rewrite(sign(), lambda data: data["payload"].update(signature="0x" + "00" * 65))
        with pytest.raises(PaymentRequired) as refused:
            provision(forged)
        assert reason_of(refused) == "invalid_exact_evm_signature"
        assert facilitator.calls == ["verify"]

    def test_the_old_price_is_not_good_any_more(
        self, organization: Organization, provision: Provision, sign: Any, facilitator: FakeFacilitator
    ) -> None:
        payment = sign()
        turn_on(organization=organization, price="0.06", pay_to=PAY_TO)
        facilitator.calls.clear()
        with pytest.raises(PaymentRequired):
            provision(payment)
        assert facilitator.calls == []
