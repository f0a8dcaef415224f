"""Writing mail: a deposit into a mailbox, and the sender's own copy of what leaves."""

from apps.mail.services.deposit import Deposit, DepositResult, deposit_messages
from apps.mail.services.erase import erase_mailbox_mail
from apps.mail.services.outbound import OutboundMail, store_outbound
from apps.mail.services.threads import hash_message_id

__all__ = [
    "Deposit",
    "DepositResult",
    "OutboundMail",
    "deposit_messages",
    "erase_mailbox_mail",
    "hash_message_id",
    "store_outbound",
]
