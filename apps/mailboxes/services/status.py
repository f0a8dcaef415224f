"""The status of a mailbox: suspended, reinstated, ended; and how many of each an organization has."""

from datetime import datetime, timedelta
from typing import Any

from django.db import connection, transaction

from apps.core.texts import check_text
from apps.events.models import EventType
from apps.events.services import NewEvent, record_events
from apps.mailboxes.models import AddressReservation, Mailbox, MailboxCount, MailboxUsage

RESERVED_AFTER_PURGE = timedelta(days=30)


def record_change(mailbox: Mailbox, event: EventType, now: datetime, **data: Any) -> None:
    data = {"address": mailbox.address, "status": mailbox.status, **data}
    record_events(events=[NewEvent(event, mailbox.organization_id, mailbox.id, data)], now=now)


_COUNT_STATUS = """
INSERT INTO mailboxes_mailboxcount AS total (organization_id, status, slot, count)
SELECT %s, change.status, (pg_current_xact_id()::text::bigint %% %s)::smallint, change.delta
  FROM unnest(%s::text[], %s::bigint[]) AS change(status, delta) ORDER BY change.status
    ON CONFLICT (organization_id, status, slot) DO UPDATE SET count = total.count + excluded.count
"""


def count_status(mailbox: Mailbox, *, before: str | None) -> None:
    """Move a mailbox from the count of its status `before` (None: it is new) to that of its present one.

    The last statement before COMMIT, or next to it. The slot follows from the transaction's number: neighbours in
    time write different rows, and one transaction always the same, locked in the order of their statuses.
    """
    if before == mailbox.status:
        return
    changes = {mailbox.status: 1} if before is None else {mailbox.status: 1, before: -1}
    with connection.cursor() as cursor:
        cursor.execute(
            _COUNT_STATUS, [mailbox.organization_id, MailboxCount.SLOTS, list(changes), list(changes.values())]
        )


def suspend_mailbox(*, mailbox: Mailbox, reason: str, now: datetime) -> bool:
    """Stop a mailbox from sending and receiving; False when it is suspended or deleted already."""
    check_text("reason", reason, most=500)
    with transaction.atomic():
        locked = Mailbox.objects.filter(id=mailbox.id).select_for_update()
        before = locked.values_list("status", flat=True).get()
        changed = before in (Mailbox.Status.ACTIVE, Mailbox.Status.PAUSED)
        if changed:
            Mailbox.objects.filter(id=mailbox.id).update(
                status=Mailbox.Status.SUSPENDED, suspended_reason=reason, updated_at=now
            )
        mailbox.refresh_from_db()
        if changed:
            record_change(mailbox, EventType.INBOX_SUSPENDED, now, reason=reason)
            count_status(mailbox, before=before)
    return changed


def reinstate_mailbox(*, mailbox: Mailbox, now: datetime) -> bool:
    """Let a suspended mailbox work again, judged anew from here; False when it was not suspended."""
    with transaction.atomic():
        # The counters first, as whoever suspends a mailbox by its counters holds them first.
        usage = MailboxUsage.objects.filter(mailbox_id=mailbox.id)
        usage.select_for_update().values_list("pk").first()
        changed = Mailbox.objects.filter(id=mailbox.id, status=Mailbox.Status.SUSPENDED).update(
            status=Mailbox.Status.ACTIVE, suspended_reason="", updated_at=now
        )
        mailbox.refresh_from_db()
        if changed:
            usage.update(judged_since=now.date(), judged_sent=0, judged_bounces=0, judged_complaints=0)
            record_change(mailbox, EventType.INBOX_REINSTATED, now)
            count_status(mailbox, before=Mailbox.Status.SUSPENDED)
    return bool(changed)


def close_mailbox(
    *, mailbox: Mailbox, release_address: bool, kept_for: timedelta = RESERVED_AFTER_PURGE, now: datetime
) -> bool:
    """Mark a mailbox deleted: from the commit on it neither sends nor receives. False when it was already.

    `release_address` frees the address, `kept_for` this organization first; otherwise it stays reserved.
    Mail and queue are not touched: apps.delivery.services.delete_mailbox does the whole.
    """
    with transaction.atomic():
        # A transaction that found the mailbox alive and has not counted yet counts in vain; one that has counted
        # commits first, so that whoever cancels and erases after this finds all that there is.
        MailboxUsage.objects.filter(mailbox_id=mailbox.id).update(closed=True)
        locked = Mailbox.objects.select_for_update().get(id=mailbox.id)
        before = locked.status
        changed = before != Mailbox.Status.DELETED
        if changed:
            locked.status, locked.deleted_at = Mailbox.Status.DELETED, now
        if release_address and locked.address_key:
            AddressReservation.objects.update_or_create(
                address_key=locked.address_key,
                defaults={"organization_id": locked.organization_id, "until": now + kept_for},
            )
            locked.address_key = None
        locked.save()
        if changed:
            record_change(locked, EventType.INBOX_DELETED, now)
        count_status(locked, before=before)
    mailbox.refresh_from_db()
    return changed
