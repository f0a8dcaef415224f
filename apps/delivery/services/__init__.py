"""Mail that leaves: accepting it, taking it from the queue, recording what became of it, operating the queue."""

from apps.delivery.services.claim import (
    Claim,
    ClaimedDelivery,
    claim_deliveries,
    reclaim_expired,
    release_deliveries,
    renew_leases,
    stamp_on_wire,
)
from apps.delivery.services.local import deliver_locally
from apps.delivery.services.operate import (
    cancel_waiting,
    delete_mailbox,
    hold_waiting,
    reinstate_sending,
    release_held,
    retry_now,
)
from apps.delivery.services.record import DeliveryResult, record_results
from apps.delivery.services.reply import ReplyRequest, reply_message
from apps.delivery.services.reports import ArrivedReport, record_reports
from apps.delivery.services.send import DELIVER_TASK, SendRequest, SentMessage, send_message
from apps.delivery.services.suppress import (
    MAX_IMPORTED,
    NewSuppression,
    create_suppression,
    forget_expired,
    import_suppressions,
    remove_suppression,
    suppress_addresses,
)
from apps.delivery.services.unsubscribe import UnsubscribeLink, read_unsubscribe_link, unsubscribe

__all__ = [
    "DELIVER_TASK",
    "MAX_IMPORTED",
    "ArrivedReport",
    "Claim",
    "ClaimedDelivery",
    "DeliveryResult",
    "NewSuppression",
    "ReplyRequest",
    "SendRequest",
    "SentMessage",
    "UnsubscribeLink",
    "cancel_waiting",
    "claim_deliveries",
    "create_suppression",
    "delete_mailbox",
    "deliver_locally",
    "forget_expired",
    "hold_waiting",
    "import_suppressions",
    "read_unsubscribe_link",
    "reclaim_expired",
    "record_reports",
    "record_results",
    "reinstate_sending",
    "release_deliveries",
    "release_held",
    "remove_suppression",
    "renew_leases",
    "reply_message",
    "retry_now",
    "send_message",
    "stamp_on_wire",
    "suppress_addresses",
    "unsubscribe",
]
