"""Erasing the mail of a mailbox, for good."""

from uuid import UUID

from django.db import transaction

from apps.core.locks import wait_lock
from apps.mail.blobs import delete_blobs
from apps.mail.models import Message, Thread
from apps.mailboxes.services import add_usage

_BATCH = 500


def erase_mailbox_mail(*, mailbox_id: UUID) -> int:
    """Delete every message and thread of a mailbox in batches; how many messages went.

    A raw mail goes with the last message that refers to it: one that was delivered to another of our mailboxes
    stays for that one. Safe to run again after an interruption.
    """
    erased = 0
    while batch := _erase_batch(mailbox_id):
        erased += batch
    Thread.objects.filter(mailbox_id=mailbox_id).delete()
    return erased


@transaction.atomic
def _erase_batch(mailbox_id: UUID) -> int:
    # One at a time: of two that erase the last messages of one raw mail, each would leave it to the other.
    wait_lock("erase")
    rows = (
        Message.objects.filter(mailbox_id=mailbox_id).order_by("id").values_list("id", "blob_id", "direction", "size")
    )
    batch = list(rows[:_BATCH])
    Message.objects.filter(id__in=[message_id for message_id, *_ in batch]).delete()
    blob_ids = {blob_id for _, blob_id, *_ in batch}
    still_used = Message.objects.filter(blob_id__in=blob_ids).values_list("blob_id", flat=True)
    delete_blobs(sorted(blob_ids - set(still_used)))
    counted = sum(size for *_, direction, size in batch if direction == Message.Direction.INBOUND)
    if batch:
        add_usage(deltas={mailbox_id: {"stored_bytes": -counted, "message_count": -len(batch)}})
    return len(batch)
