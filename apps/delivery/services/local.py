"""Delivery between our own mailboxes: the deposit and the delivery's end are one transaction."""

from collections.abc import Sequence
from datetime import datetime

import structlog
from django.db import DatabaseError, InterfaceError, OperationalError, transaction

from apps.delivery.services.claim import ClaimedDelivery, stamp_on_wire
from apps.delivery.services.record import DeliveryResult, record_results
from apps.mail.blobs import read_blobs
from apps.mail.services import Deposit, deposit_messages
from apps.mail.services.outbound import OWN_AUTHENTICATION
from apps.mailboxes.errors import InboxDeleted
from apps.mailboxes.selectors import RecipientState
from apps.mailboxes.services import Usage
from mailhost.message.parse import parse_message
from mailhost.smtp.replies import Outcome

log = structlog.get_logger(__name__)

_ANSWERS = {
    RecipientState.ACCEPTS: (Outcome.DELIVERED, 250, "2.1.5", "Delivered to a mailbox here"),
    RecipientState.UNKNOWN: (Outcome.PERMANENT, 550, "5.1.1", "No such mailbox here"),
    RecipientState.DELETED: (Outcome.PERMANENT, 550, "5.1.1", "No such mailbox here"),
    RecipientState.SUSPENDED: (Outcome.PERMANENT, 550, "5.2.1", "This mailbox is disabled"),
    RecipientState.INVALID: (Outcome.PERMANENT, 553, "5.1.3", "That is not a mail address"),
}


def deliver_locally(*, deliveries: Sequence[ClaimedDelivery], now: datetime) -> None:
    """Deposit mails in the mailboxes of their recipients and record the results.

    One bad mail does not hold up its neighbours: when the batch fails, each is tried by itself, and the culprit is
    deferred. A database that is away raises OperationalError or InterfaceError; the leases then run out.
    """
    try:
        _deliver_together(deliveries, now)
        return
    except (OperationalError, InterfaceError):
        raise
    except (DatabaseError, ValueError, InboxDeleted) as error:  # deleted since we looked: looked up anew below
        log.warning("delivery.local_batch_failed", error=str(error), mails=len(deliveries))
    for delivery in deliveries:
        try:
            _deliver_together([delivery], now)
        except (DatabaseError, ValueError, InboxDeleted) as error:
            log.error("delivery.local_failed", error=str(error), delivery=str(delivery.id))
            words = "The mailbox could not take this mail now"
            result = DeliveryResult(delivery, Outcome.TEMPORARY, now, 451, "4.3.0", words, is_local=True)
            record_results(results=[result], now=now)


def _deliver_together(deliveries: Sequence[ClaimedDelivery], now: datetime) -> None:
    with transaction.atomic():
        # Locks the rows and leaves out what was canceled or reclaimed meanwhile.
        held = stamp_on_wire(deliveries=deliveries)
        mine = [delivery for delivery in deliveries if delivery.id in held]
        raws = read_blobs([delivery.blob_id for delivery in mine])
        parsed = {blob_id: parse_message(raw) for blob_id, raw in raws.items()}
        deposits = [
            Deposit(
                recipients=[delivery.address],
                raw=raws[delivery.blob_id],
                parsed=parsed[delivery.blob_id],
                mail_from=delivery.sender,
                authentication=OWN_AUTHENTICATION,
                blob_id=delivery.blob_id,
            )
            for delivery in mine
        ]
        results = []
        usage: Usage = {}
        stored = deposit_messages(deposits=deposits, now=now, usage=usage)
        for delivery, outcomes in zip(mine, stored, strict=True):
            outcome, code, enhanced, text = _ANSWERS[outcomes[0].state]
            results.append(DeliveryResult(delivery, outcome, now, code, enhanced, text, host="local"))
        record_results(results=results, now=now, usage=usage)
