"""Mailboxes: making, changing and ending them, and their counters."""

from apps.mailboxes.services.manage import (
    NewMailbox,
    create_mailbox,
    ensure_default_pod,
    update_mailbox,
    warm_up_mailbox,
)
from apps.mailboxes.services.status import RESERVED_AFTER_PURGE, close_mailbox, reinstate_mailbox, suspend_mailbox
from apps.mailboxes.services.usage import (
    Usage,
    add_usage,
    check_limits,
    count_outcome,
    count_sends,
    give_back_sends,
    next_midnight,
    reset_daily_counters,
)

__all__ = [
    "RESERVED_AFTER_PURGE",
    "NewMailbox",
    "Usage",
    "add_usage",
    "check_limits",
    "close_mailbox",
    "count_outcome",
    "count_sends",
    "create_mailbox",
    "ensure_default_pod",
    "give_back_sends",
    "next_midnight",
    "reinstate_mailbox",
    "reset_daily_counters",
    "suspend_mailbox",
    "update_mailbox",
    "warm_up_mailbox",
]
