"""Erasing the mail of a mailbox, for good."""

from uuid import UUID

from django.db import transaction

from apps.mail.blobs import delete_blobs
from apps.mail.models import Message, Thread

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
    rows = list(Message.objects.filter(mailbox_id=mailbox_id).order_by("id").values_list("id", "blob_id")[:_BATCH])
    Message.objects.filter(id__in=[message_id for message_id, _ in rows]).delete()
    blob_ids = {blob_id for _, blob_id in rows}
    still_used = Message.objects.filter(blob_id__in=blob_ids).values_list("blob_id", flat=True)
    delete_blobs(sorted(blob_ids - set(still_used)))
    return len(rows)
