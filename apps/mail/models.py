"""Messages and threads, and the raw mail they were read from.

The hot tables name their organization and mailbox without a foreign key: checking one would write a lock on the same
parent row for every mail. Mailboxes are never deleted under them; a purge removes the children first.
"""

from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.db import models

from apps.accounts.models import Organization
from apps.core.models import BaseModel
from apps.mailboxes.models import Mailbox


class Thread(BaseModel):
    """Messages of one mailbox that belong together."""

    organization_id = models.UUIDField()
    mailbox = models.ForeignKey(Mailbox, on_delete=models.DO_NOTHING, db_constraint=False, related_name="threads")
    subject = models.TextField(blank=True)
    subject_key = models.CharField(max_length=200, blank=True, help_text="The subject without Re: and Fwd:.")
    participants = models.JSONField(default=list)
    preview = models.CharField(max_length=300, blank=True)
    message_count = models.PositiveIntegerField(default=0)
    unread_count = models.PositiveIntegerField(default=0)
    last_message_id = models.UUIDField(null=True)
    last_message_at = models.DateTimeField()

    class Meta:
        indexes: ClassVar = [
            models.Index(fields=["mailbox", "-last_message_at", "-id"], name="mail_thread_recent"),
        ]

    def __str__(self) -> str:
        return self.subject or "(no subject)"


class Message(BaseModel):
    """One stored mail, inbound or outbound. Its bodies are in MessageBody, so that lists stay narrow."""

    class Direction(models.TextChoices):
        INBOUND = "inbound"
        OUTBOUND = "outbound"

    organization = models.ForeignKey(
        Organization,
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        db_index=False,
        related_name="messages",
    )
    mailbox = models.ForeignKey(
        Mailbox, on_delete=models.DO_NOTHING, db_constraint=False, db_index=False, related_name="messages"
    )
    thread = models.ForeignKey(Thread, on_delete=models.CASCADE, db_index=False, related_name="messages")
    direction = models.CharField(max_length=8, choices=Direction)
    rfc_message_id = models.CharField(max_length=1000, blank=True, help_text="The Message-ID header, with brackets.")
    rfc_message_id_hash = models.UUIDField(null=True, help_text="Finds a Message-ID by a small index.")
    in_reply_to = models.TextField(blank=True)
    references = ArrayField(models.TextField(), default=list)
    from_address = models.CharField(max_length=320, blank=True)
    from_name = models.CharField(max_length=300, blank=True)
    to = models.JSONField(default=list, help_text="List of {address, name}.")
    cc = models.JSONField(default=list)
    bcc = models.JSONField(default=list)
    reply_to = models.JSONField(default=list)
    delivered_to = models.CharField(max_length=320, blank=True, help_text="The envelope recipient, its +tag kept.")
    mail_from = models.CharField(max_length=320, blank=True, help_text="The envelope sender, empty for <>.")
    subject = models.TextField(blank=True)
    preview = models.CharField(max_length=300, blank=True)
    labels = ArrayField(models.CharField(max_length=100), default=list)
    unread = models.BooleanField(default=False)
    has_attachments = models.BooleanField(default=False)
    auto_submitted = models.BooleanField(default=False)
    automatic = models.CharField(
        max_length=12, blank=True, default="", db_default="", editable=False,
        help_text="Why an inbound mail is not a person's: generated, replied, notified, bulk or report.",
    )  # fmt: skip
    authentication = models.JSONField(default=dict)
    defects = ArrayField(models.CharField(max_length=200), default=list)
    size = models.PositiveIntegerField(default=0, help_text="Octets of the raw mail.")
    blob_id = models.UUIDField()
    created_at = models.DateTimeField()
    sent_at = models.DateTimeField(null=True, help_text="The Date header of an inbound mail; when ours was accepted.")

    class Meta:
        indexes: ClassVar = [
            models.Index(fields=["mailbox", "-id"], name="mail_message_by_mailbox"),
            models.Index(fields=["organization", "-id"], name="mail_message_by_org"),
            models.Index(fields=["mailbox", "direction", "-id"], name="mail_message_by_direction"),
            models.Index(fields=["mailbox", "-id"], name="mail_message_unread", condition=models.Q(unread=True)),
            models.Index(fields=["thread", "id"], name="mail_message_by_thread"),
            models.Index(fields=["mailbox", "rfc_message_id_hash"], name="mail_message_by_rfc_id"),
            models.Index(fields=["blob_id"], name="mail_message_by_blob"),
        ]

    def __str__(self) -> str:
        return self.subject or "(no subject)"


class MessageBody(models.Model):
    """What a single message shows and lists leave out."""

    message = models.OneToOneField(Message, on_delete=models.CASCADE, primary_key=True, related_name="body")
    text = models.TextField(blank=True)
    html = models.TextField(blank=True)
    extracted_text = models.TextField(blank=True)
    headers = models.JSONField(default=list, help_text="List of [name, value] in the order of the mail.")

    def __str__(self) -> str:
        return str(self.message_id)


class MessageLabel(models.Model):
    """A word on a message, as a row, so that a list of one label pages by its own index."""

    pk = models.CompositePrimaryKey("mailbox_id", "label", "message_id")
    mailbox_id = models.UUIDField()
    label = models.CharField(max_length=100)
    message = models.ForeignKey(Message, on_delete=models.CASCADE, related_name="label_rows")

    def __str__(self) -> str:
        return self.label


class Attachment(BaseModel):
    """A part of a message that is a file. Its bytes stay in the raw mail; `part` says where."""

    message = models.ForeignKey(Message, on_delete=models.CASCADE, related_name="attachments")
    position = models.PositiveSmallIntegerField()
    part = models.CharField(max_length=200)
    filename = models.CharField(max_length=500, blank=True)
    content_type = models.CharField(max_length=255)
    size = models.PositiveIntegerField(help_text="Octets after decoding.")
    content_id = models.CharField(max_length=500, null=True)
    disposition = models.CharField(max_length=20)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["message", "position"], name="mail_attachment_position"),
        ]

    def __str__(self) -> str:
        return self.filename or self.part


class BlobChunk(models.Model):
    """Up to 1 MB of a raw mail. Insert-only, partitioned by month; read and written by apps.mail.blobs alone."""

    class Encoding(models.IntegerChoices):
        PLAIN = 0
        ZSTD = 1

    pk = models.CompositePrimaryKey("blob_id", "sequence")
    blob_id = models.UUIDField()
    sequence = models.SmallIntegerField()
    encoding = models.SmallIntegerField(choices=Encoding)
    data = models.BinaryField()

    def __str__(self) -> str:
        return f"{self.blob_id}:{self.sequence}"
