"""The health of sending: a mailbox whose mail bounces, or is complained about, too often is suspended.

Judged are rates: hard bounces and complaints of the recipients accepted. Transient and other soft bounces never
count. The counters are halved every MAILHOST_SUSPEND_WINDOW_DAYS (apps/mailboxes/services/usage.py), which keeps the
rates and lets what is old fade: no date on which a mailbox begins anew, and none whose mistakes stay for ever. An
administrator who reinstates a mailbox lets it begin with nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.conf import settings

from apps.mailboxes.models import Mailbox
from apps.mailboxes.services.status import suspend_mailbox

_SENDING = (Mailbox.Status.ACTIVE, Mailbox.Status.PAUSED)


@dataclass(frozen=True, slots=True)
class Tally:
    """What a mailbox is judged by."""

    mailbox_id: UUID
    sent: int
    bounces: int
    complaints: int

    @property
    def fault(self) -> str:
        """Why the mailbox must not go on, or nothing."""
        if self.sent < settings.MAILHOST_SUSPEND_MIN_SENT:
            return ""
        for count, most, what in (
            (self.bounces, settings.MAILHOST_SUSPEND_BOUNCE_PERCENT, "bounced for good"),
            (self.complaints, settings.MAILHOST_SUSPEND_COMPLAINT_PERCENT, "complained"),
        ):
            if count * 100 > most * self.sent:
                return f"{count} of {self.sent} recipients {what}; at most {most} % may."
        return ""


def suspend_unhealthy(*, tallies: Sequence[Tally], now: datetime) -> None:
    """Suspend the mailboxes that are at fault, with event and reason, in the transaction that has counted it.

    Their usage rows are locked by now; whoever locks a mailbox and its usage locks the usage first.
    """
    faults = {tally.mailbox_id: tally.fault for tally in tallies if tally.fault}
    if not faults:
        return
    for mailbox in Mailbox.objects.filter(id__in=faults, status__in=_SENDING).order_by("organization_id", "id"):
        suspend_mailbox(mailbox=mailbox, reason=faults[mailbox.id], now=now)
