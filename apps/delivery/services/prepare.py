"""The last steps before the wire: the octets, the signature, and the stamp."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import structlog

from apps.core.errors import NotFound
from apps.core.secretbox import SecretUnreadable
from apps.delivery.services.claim import ClaimedDelivery, stamp_on_wire
from apps.delivery.services.record import DeliveryResult
from apps.domains.models import DkimKey
from apps.mail.blobs import read_blobs
from mailhost.address import parse_address
from mailhost.auth.dkim import DkimSigner, sign_message
from mailhost.envelope import Envelope
from mailhost.errors import MailError
from mailhost.smtp.replies import Outcome

log = structlog.get_logger(__name__)
_SIGNERS_FOR_SECONDS = 30.0
_signers: dict[UUID, tuple[float, list[DkimSigner]]] = {}


@dataclass(frozen=True, slots=True)
class PreparedMail:
    """A signed mail that may go on the wire now."""

    delivery: ClaimedDelivery
    envelope: Envelope


@dataclass(frozen=True, slots=True)
class Preparation:
    """What may be sent, and what failed before it came to that. What is in neither was lost to somebody else."""

    mails: list[PreparedMail]
    failures: list[DeliveryResult]


def prepare_mails(*, deliveries: Sequence[ClaimedDelivery], now: datetime) -> Preparation:
    """Read, sign with the domains' current keys and stamp the next few mails of a connection.

    A mail that cannot be signed is deferred, never sent unsigned (RFC 6376 says nothing; our promise does).
    """
    mails: list[PreparedMail] = []
    failures: list[DeliveryResult] = []
    raws = _read(deliveries)
    for delivery in deliveries:
        raw = raws.get(delivery.blob_id)
        if raw is None:
            words = "The stored mail is gone"
            failures.append(DeliveryResult(delivery, Outcome.PERMANENT, now, None, "5.3.0", words, is_local=True))
            continue
        try:
            mails.append(PreparedMail(delivery, _make_envelope(delivery, raw)))
        except (MailError, SecretUnreadable) as error:
            log.error("delivery.not_signed", delivery=str(delivery.id), error=str(error))
            words = f"This mail could not be signed: {error}"
            failures.append(DeliveryResult(delivery, Outcome.TEMPORARY, now, None, "4.7.0", words, is_local=True))
    held = stamp_on_wire(deliveries=[mail.delivery for mail in mails])
    return Preparation([mail for mail in mails if mail.delivery.id in held], failures)


def _read(deliveries: Sequence[ClaimedDelivery]) -> dict[UUID, bytes]:
    try:
        return read_blobs([delivery.blob_id for delivery in deliveries])
    except NotFound:
        found: dict[UUID, bytes] = {}
        for delivery in deliveries:
            try:
                found |= read_blobs([delivery.blob_id])
            except NotFound:
                log.error("delivery.blob_missing", delivery=str(delivery.id))
        return found


def _make_envelope(delivery: ClaimedDelivery, raw: bytes) -> Envelope:
    signers = current_signers(delivery.domain_id)
    head = raw.partition(b"\r\n\r\n")[0]
    utf8 = not head.isascii() or any(parse_address(text).needs_smtputf8 for text in (delivery.sender, delivery.address))
    return Envelope(delivery.sender, delivery.address, sign_message(raw, signers), utf8)


def current_signers(domain_id: UUID) -> list[DkimSigner]:
    """The domain's active keys, ready to sign; kept for half a minute. Raises NoUsableKey without one."""
    kept = _signers.get(domain_id)
    if kept is not None and kept[0] > time.monotonic():
        return kept[1]
    keys = DkimKey.objects.select_related("domain").filter(domain_id=domain_id, active=True).order_by("-algorithm")
    signers = [DkimSigner(key.domain.name, key.selector, key.dkim_algorithm, key.private_pem) for key in keys]
    if not signers:
        raise NoUsableKey
    if len(_signers) > 10_000:
        _signers.clear()
    _signers[domain_id] = (time.monotonic() + _SIGNERS_FOR_SECONDS, signers)
    return signers


class NoUsableKey(MailError):
    """The sender's domain has no active DKIM key."""

    code = "no_usable_key"
