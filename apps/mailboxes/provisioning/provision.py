"""Making a mailbox where it may have to be paid for first."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from django.db import transaction
from x402.http.constants import PAYMENT_REQUIRED_HEADER, PAYMENT_RESPONSE_HEADER
from x402.http.utils import encode_payment_required_header, encode_payment_response_header
from x402.schemas import SettleResponse

from apps.accounts.models import ApiKey, Organization
from apps.core.errors import Conflict, DomainError
from apps.mailboxes.errors import PaymentRequired
from apps.mailboxes.models import Mailbox, PaidProvisioning, ProvisioningPayment
from apps.mailboxes.provisioning.payments import Payment, PaymentRefused, read_payment
from apps.mailboxes.provisioning.settlement import find_payment, settle_payment
from apps.mailboxes.provisioning.terms import make_challenge, make_requirements
from apps.mailboxes.services import NewMailbox, create_mailbox
from mailhost.address import domain_key
from mailhost.errors import InvalidDomain

_Status = ProvisioningPayment.Status


@dataclass(frozen=True, slots=True)
class Provisioned:
    """A mailbox, whether this request made it, and the headers that an answer about a payment carries."""

    mailbox: Mailbox
    created: bool
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Request:
    organization: Organization
    wanted: NewMailbox
    key: ApiKey
    now: datetime


def provision_mailbox(
    *,
    organization: Organization,
    wanted: NewMailbox,
    key: ApiKey,
    now: datetime,
    payment_header: str | None = None,
    resource_url: str = "",
) -> Provisioned:
    """As create_mailbox; where the organization has a price, only for a payment that is settled.

    `payment_header` is what came as PAYMENT-SIGNATURE. A repeated client_id costs nothing, and nobody is asked to pay
    for a request that would be refused. A payment that is settled and not used, because its mailbox could not be made
    any more, is good for another request. Sent again after its use it answers with the mailbox that it made, or
    Conflict when that is gone or the request asks for another. Raises PaymentRequired with the challenge as a header
    in its data, FacilitatorAway, Conflict, and what create_mailbox raises.
    """
    request = _Request(organization, wanted, key, now)
    offer = PaidProvisioning.objects.filter(organization=organization).first()
    if offer is None:
        mailbox, created = create_mailbox(organization=organization, wanted=wanted, key=key, now=now, paid=True)
        return Provisioned(mailbox, created)
    try:
        return _provision_paid(request, offer, read_payment(payment_header) if payment_header else None)
    except PaymentRefused as refusal:
        raise _ask_payment(offer, resource_url, refusal) from None


def _provision_paid(request: _Request, offer: PaidProvisioning, payment: Payment | None) -> Provisioned:
    row = _find_used(request, payment)
    if row is not None:
        return _repeat(request, row)
    try:
        known = _try_creation(request)
    except DomainError:
        row = _find_used(request, payment)
        if row is not None:  # a parallel request with this payment has just taken the name
            return _repeat(request, row)
        raise
    if known is not None:
        return Provisioned(known, created=False)
    if payment is None:
        raise PaymentRefused("PAYMENT-SIGNATURE header is required")
    row = settle_payment(
        organization=request.organization, requirements=make_requirements(offer), payment=payment, now=request.now
    )
    return _use(request, row)


def _find_used(request: _Request, payment: Payment | None) -> ProvisioningPayment | None:
    row = None if payment is None else find_payment(payment)
    is_used = row is not None and row.organization_id == request.organization.id and row.status == _Status.USED
    return row if is_used else None


def _try_creation(request: _Request) -> Mailbox | None:
    """Make the mailbox and undo it, so that everything is checked that making it checks. The mailbox that is there
    already by its client_id; None when there is none and one could be made."""
    with transaction.atomic():
        mailbox, created = _create(request)
        if created:
            transaction.set_rollback(True)
    return None if created else mailbox


def _create(request: _Request) -> tuple[Mailbox, bool]:
    return create_mailbox(
        organization=request.organization, wanted=request.wanted, key=request.key, now=request.now, paid=True
    )


def _use(request: _Request, row: ProvisioningPayment) -> Provisioned:
    """Make the mailbox that is paid for. What fails here leaves the payment as it is: settled, and good for another."""
    try:
        with transaction.atomic():
            locked = ProvisioningPayment.objects.select_for_update().get(id=row.id)
            if locked.status != _Status.USED:
                mailbox, created = _create(request)
                if created:
                    locked.status, locked.mailbox = _Status.USED, mailbox
                    locked.save(update_fields=["status", "mailbox", "updated_at"])
                return Provisioned(mailbox, created, _make_receipt(locked))
    except DomainError as error:
        error.fix_text = (
            f"{error.fix_text} The payment is settled and stays good: send it with the next request.".strip()
        )
        error.data["headers"] = {**error.data.get("headers", {}), **_make_receipt(row)}
        raise
    return _repeat(request, locked)


def _repeat(request: _Request, row: ProvisioningPayment) -> Provisioned:
    """The answer to a payment that was used before."""
    mailbox = None
    if row.mailbox_id is not None:
        mailboxes = Mailbox.objects.visible_to(request.key).filter(deleted_at__isnull=True, id=row.mailbox_id)
        mailbox = mailboxes.select_related("usage", "domain").first()
    if mailbox is None or not _is_what_was_wanted(mailbox, request.wanted):
        raise Conflict("This payment has been used for another inbox.", fix="Sign a new payment for a new inbox.")
    return Provisioned(mailbox, created=False, headers=_make_receipt(row))


def _is_what_was_wanted(mailbox: Mailbox, wanted: NewMailbox) -> bool:
    return (
        (not wanted.username or mailbox.username.lower() == wanted.username.lower())
        and (not wanted.domain or mailbox.domain.name == _read_domain(wanted.domain))
        and (not wanted.client_id or mailbox.client_id == wanted.client_id)
    )


def _read_domain(name: str) -> str | None:
    try:
        return domain_key(name)
    except InvalidDomain:
        return None


def _make_receipt(row: ProvisioningPayment) -> dict[str, str]:
    receipt = SettleResponse(
        success=True,
        payer=row.payer,
        transaction=row.transaction,
        network=row.terms["network"],
        amount=row.terms["amount"],
    )
    return {PAYMENT_RESPONSE_HEADER: encode_payment_response_header(receipt)}


def _ask_payment(offer: PaidProvisioning, resource_url: str, refusal: PaymentRefused) -> PaymentRequired:
    challenge = make_challenge(make_requirements(offer), resource_url=resource_url, reason=str(refusal))
    headers = {PAYMENT_REQUIRED_HEADER: encode_payment_required_header(challenge)}
    if refusal.settlement is not None:
        receipt = SettleResponse(
            success=False,
            error_reason=str(refusal),
            transaction="",
            network=offer.network,
        )
        headers[PAYMENT_RESPONSE_HEADER] = encode_payment_response_header(receipt)
    return PaymentRequired(f"An inbox costs {offer.price}: {refusal}.", headers=headers)
