"""Reading what a client signed: the PAYMENT-SIGNATURE header, and the EIP-3009 authorization in it.

https://eips.ethereum.org/EIPS/eip-3009 - whoever signs it lets a sum go from one address to another, once: the chain
remembers each address's nonces. Signatures are the facilitator's to check.
"""

import base64
import binascii
import hashlib
import json
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NoReturn

from pydantic import ValidationError
from x402.schemas import PaymentPayload, PaymentRequirements, SettleResponse

MAX_HEADER = 16 * 1024
"""Characters; the signature of a smart wallet that is not deployed yet (ERC-6492) takes some three thousand."""
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")
_NONCE = re.compile(r"0x[0-9a-fA-F]{64}")
_NUMBER = re.compile(r"[0-9]{1,78}")
_SIGNATURE = re.compile(r"0x(?:[0-9a-fA-F]{2})+")


class PaymentRefused(Exception):
    """The payment is no good; the message says why, to the client. `settlement`: what the facilitator said of it."""

    def __init__(self, reason: str, settlement: SettleResponse | None = None) -> None:
        super().__init__(reason)
        self.settlement = settlement


@dataclass(frozen=True, slots=True)
class Payment:
    """A payment as it was sent."""

    payload: PaymentPayload
    payer: str
    pay_to: str
    value: int
    valid_after: int
    valid_before: int
    key: str
    """The same for each wording of one authorization: what is paid once must count once."""


def read_payment(header: str) -> Payment:
    """The payment in the header; raises PaymentRefused."""
    if len(header) > MAX_HEADER:
        raise PaymentRefused(f"PAYMENT-SIGNATURE has more than {MAX_HEADER} characters")
    try:
        data = json.loads(base64.b64decode(header, validate=True), parse_constant=_refuse_constant)
    except (ValueError, binascii.Error, RecursionError):
        raise PaymentRefused("PAYMENT-SIGNATURE is not JSON in base64") from None
    if not isinstance(data, dict) or data.get("x402Version") != 2:
        raise PaymentRefused("only x402 version 2 is spoken here")
    try:
        payload = PaymentPayload.model_validate(data)
    except (ValidationError, RecursionError):
        raise PaymentRefused("PAYMENT-SIGNATURE is not a payment of x402 version 2") from None
    return _read_authorization(payload)


def check_payment(payment: Payment, requirements: PaymentRequirements, *, now: datetime) -> None:
    """That it pays what is asked to whom it is asked for, at this time; raises PaymentRefused."""
    accepted = payment.payload.accepted
    if not requirements.extra.items() <= accepted.extra.items() or (
        requirements.model_copy(update={"extra": accepted.extra}) != accepted
    ):
        raise PaymentRefused("the payment accepts other terms than those that are asked")
    if payment.pay_to.lower() != requirements.pay_to.lower() or payment.value != int(requirements.amount):
        raise PaymentRefused("the authorization is for another sum or another receiver")
    if not payment.valid_after <= now.timestamp() < payment.valid_before:
        raise PaymentRefused("the authorization is not valid at this time")


def _read_authorization(payload: PaymentPayload) -> Payment:
    given = payload.payload.get("authorization")
    authorization = given if isinstance(given, dict) else {}
    payer, nonce = _match(authorization, "from", _ADDRESS), _match(authorization, "nonce", _NONCE)
    _match(payload.payload, "signature", _SIGNATURE)
    return Payment(
        payload=payload,
        payer=payer,
        pay_to=_match(authorization, "to", _ADDRESS),
        value=int(_match(authorization, "value", _NUMBER)),
        valid_after=int(_match(authorization, "validAfter", _NUMBER)),
        valid_before=int(_match(authorization, "validBefore", _NUMBER)),
        key=_make_key(payload.accepted.network, payload.accepted.asset, payer, nonce),
    )


def _match(values: dict[str, Any], name: str, pattern: re.Pattern[str]) -> str:
    value = values.get(name)
    if not isinstance(value, str) or pattern.fullmatch(value) is None:
        raise PaymentRefused(f"the payment is not an EIP-3009 authorization: {name} is missing or malformed")
    return value


def _make_key(network: str, asset: str, payer: str, nonce: str) -> str:
    return hashlib.sha256("|".join((network, asset.lower(), payer.lower(), nonce.lower())).encode()).hexdigest()


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
