"""A payment's row, from the first time that it is found good to the mailbox that it is used for.

    (no row) --verify--> verified --settle--> settled --a mailbox is made--> used
                             \\--> refused (verified again when it is sent again)

The facilitator is asked between transactions, never inside one. A row that is `verified` and not busy has been asked
about without an answer: the request ended, or the facilitator did. It may be paid or not; sent again it is only
settled, since the facilitator would find that an authorization that is carried out is good no more.
"""

import logging
from datetime import datetime, timedelta
from typing import Any

from django.db import DatabaseError
from django.db.models import Q
from django.db.models.functions import Now
from x402.schemas import PaymentRequirements, SettleResponse

from apps.accounts.models import Organization
from apps.mailboxes.errors import FacilitatorAway
from apps.mailboxes.models import ProvisioningPayment
from apps.mailboxes.provisioning import facilitator
from apps.mailboxes.provisioning.payments import Payment, PaymentRefused, check_payment
from mailhost.message.extract import storable

logger = logging.getLogger(__name__)

BUSY = timedelta(seconds=30)
"""A settlement ends, with or without an answer, in a third of it."""
_RETRY_AFTER_BUSY = 2
_UNANSWERED = "its settlement was asked for, and no answer came"
_PENDING = "its settlement is not confirmed yet"
_Status = ProvisioningPayment.Status


def settle_payment(
    *, organization: Organization, requirements: PaymentRequirements, payment: Payment, now: datetime
) -> ProvisioningPayment:
    """The payment's row once it is settled, or used already. Raises PaymentRefused, FacilitatorAway.

    Of parallel requests with one payment one settles it; the others are told to come again.
    """
    row = find_payment(payment)
    terms: dict[str, Any] | None = None
    if row is None or row.status == _Status.REFUSED:
        terms = requirements.model_dump(by_alias=True, exclude_none=True)
        check_payment(payment, requirements, now=now)
        try:
            _verify(payment, terms)
        except PaymentRefused:
            # A parallel request may have settled it since: then it is refused because it is paid.
            row, terms = find_payment(payment), None
            if row is None or row.status == _Status.REFUSED:
                raise
    if row is not None and row.organization_id != organization.id:
        raise PaymentRefused("the payment belongs to another organization")
    row, is_ours = _claim(organization, payment, terms)
    if not is_ours:
        if row.organization_id == organization.id and row.status in (_Status.SETTLED, _Status.USED):
            return row
        raise FacilitatorAway("Another request is settling this payment.", retry_after=_RETRY_AFTER_BUSY)
    return _settle(row, payment)


def find_payment(payment: Payment) -> ProvisioningPayment | None:
    """The payment's row, when it was found good before."""
    return ProvisioningPayment.objects.filter(payment_key=payment.key).first()


def _verify(payment: Payment, terms: dict[str, Any]) -> None:
    verdict = facilitator.verify(payment.payload, terms)
    if not verdict.is_valid:
        raise PaymentRefused(_join_reason(verdict.invalid_reason, verdict.invalid_message, "the payment is not valid"))


def _claim(
    organization: Organization, payment: Payment, terms: dict[str, Any] | None
) -> tuple[ProvisioningPayment, bool]:
    """The row, and whether this request is the one that settles it: by the database's clock, for BUSY.

    `terms` are what was verified just now; None: those of the row, verified before, hold.
    """
    if terms is not None:
        row, created = ProvisioningPayment.objects.get_or_create(
            payment_key=payment.key,
            defaults={
                "organization": organization,
                "status": _Status.VERIFIED,
                "terms": terms,
                "payer": payment.payer,
                "busy_until": Now() + BUSY,
            },
        )
        if created:
            return row, True
    rows = ProvisioningPayment.objects.filter(payment_key=payment.key, organization=organization)
    free = rows.filter(Q(busy_until=None) | Q(busy_until__lt=Now()))
    changes: dict[str, Any] = {"status": _Status.VERIFIED, "busy_until": Now() + BUSY, "updated_at": Now()}
    if terms is None:
        claimed = free.filter(status=_Status.VERIFIED).update(**changes)
    else:
        claimed = free.filter(status__in=[_Status.VERIFIED, _Status.REFUSED]).update(terms=terms, **changes)
    return ProvisioningPayment.objects.get(payment_key=payment.key), bool(claimed)


def _settle(row: ProvisioningPayment, payment: Payment) -> ProvisioningPayment:
    """Ask, and write down what came of it.

    No lease is checked here: what a late request learns is as true as what an early one does, and "paid" is never
    overwritten by less.
    """
    rows = ProvisioningPayment.objects.filter(id=row.id)
    try:
        answer = facilitator.settle(payment.payload, row.terms)
    except FacilitatorAway:
        rows.filter(status=_Status.VERIFIED).update(busy_until=None, reason=_UNANSWERED, updated_at=Now())
        raise
    if answer.success:
        return _record_settled(row, answer)
    if facilitator.is_pending(answer):
        rows.filter(status=_Status.VERIFIED).update(
            busy_until=None, reason=_PENDING, transaction=_clean(answer.transaction, 200), updated_at=Now()
        )
        raise FacilitatorAway("The payment is not confirmed yet.", retry_after=facilitator.RETRY_AFTER)
    reason = _join_reason(answer.error_reason, answer.error_message, "the payment was not settled")
    if row.reason in (_UNANSWERED, _PENDING):
        logger.warning("payment %s, whose settlement had no answer, is refused now: %s", row.payment_key, reason)
    rows.filter(status=_Status.VERIFIED).update(
        status=_Status.REFUSED, busy_until=None, reason=reason, updated_at=Now()
    )
    raise PaymentRefused(reason, answer)


def _record_settled(row: ProvisioningPayment, answer: SettleResponse) -> ProvisioningPayment:
    paid = {
        "status": _Status.SETTLED,
        "transaction": _clean(answer.transaction, 200),
        "payer": _clean(answer.payer or row.payer, 100),
        "reason": "",
        "busy_until": None,
    }
    try:
        ProvisioningPayment.objects.filter(id=row.id).exclude(status=_Status.USED).update(**paid, updated_at=Now())
        row.refresh_from_db()
    except DatabaseError:
        # The client has paid and gets nothing; all that an operator can go by is this line.
        logger.error("payment %s is settled by %s, which could not be written", row.payment_key, paid["transaction"])
        raise
    return row


def _join_reason(code: str | None, message: str | None, default: str) -> str:
    """The facilitator's words, on one line and bounded: they go into answers, logs and rows."""
    return _clean(": ".join(part for part in (code, message) if part) or default, 300)


def _clean(text: str, most: int) -> str:
    return "".join(char if char.isprintable() else " " for char in storable(text[:most]))
