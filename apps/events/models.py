"""The event log: facts in the order in which they were committed; and who is told of them, the webhooks.

An id given before COMMIT does not order facts: a transaction that began early and committed late would put its rows
behind a reader's cursor. So each row keeps its inserting transaction's place (`position`, from
`pg_current_xact_id()`), and a reader stops below the oldest transaction that is still running
(`pg_snapshot_xmin`): everything below is settled for good. ARCHITECTURE.md, "Events in commit order".
"""

from datetime import datetime
from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.db.models.expressions import RawSQL

from apps.accounts.models import Organization
from apps.core.models import BaseModel
from apps.core.secretbox import decrypt_secret, encrypt_secret

NATIVE = "native"
"""The dialect of our own API's webhooks."""
PING = "ping"
"""The type of what a test sends: no fact, so no event of the log."""


class EventType(models.TextChoices):
    """Every event that webhooks and streams carry."""

    MESSAGE_RECEIVED = "message.received"
    MESSAGE_QUEUED = "message.queued"
    MESSAGE_HELD = "message.held"
    MESSAGE_SENT = "message.sent"
    MESSAGE_DELIVERED = "message.delivered"
    MESSAGE_DEFERRED = "message.deferred"
    MESSAGE_BOUNCED = "message.bounced"
    MESSAGE_COMPLAINED = "message.complained"
    MESSAGE_FAILED = "message.failed"
    DRAFT_APPROVAL_REQUESTED = "draft.approval_requested"
    DRAFT_APPROVED = "draft.approved"
    DRAFT_REJECTED = "draft.rejected"
    INBOX_CREATED = "inbox.created"
    INBOX_SUSPENDED = "inbox.suspended"
    INBOX_REINSTATED = "inbox.reinstated"
    INBOX_DELETED = "inbox.deleted"
    INBOX_LIMIT_REACHED = "inbox.limit_reached"
    DOMAIN_VERIFIED = "domain.verified"
    DOMAIN_DEGRADED = "domain.degraded"
    DOMAIN_FAILED = "domain.failed"
    WEBHOOK_DISABLED = "webhook.disabled"


class Event(BaseModel):
    """A fact. Insert-only, partitioned by month; nothing points at it."""

    organization_id = models.UUIDField()
    mailbox_id = models.UUIDField(null=True)
    type = models.CharField(max_length=40, choices=EventType)
    data = models.JSONField(default=dict)
    created_at = models.DateTimeField()
    position = models.BigIntegerField(
        db_default=RawSQL("events_position()", []), editable=False,
        help_text="The place in commit order, with id as the tie-breaker.",
    )  # fmt: skip

    class Meta:
        indexes: ClassVar = [
            models.Index(fields=["organization_id", "position", "id"], name="events_by_place"),
            models.Index(
                fields=["mailbox_id", "position", "id"], condition=Q(type="message.received"), name="events_received"
            ),
        ]

    def __str__(self) -> str:
        return self.type


class EventClock(models.Model):
    """At most one row: what is added to the cluster's transaction ids to make positions.

    A restored backup lands in a cluster whose transaction ids begin low again; restoring raises the offset so that
    positions go on growing and cursors that readers hold stay good.
    """

    id = models.SmallIntegerField(primary_key=True, default=1)
    position_offset = models.BigIntegerField(default=0)

    class Meta:
        constraints: ClassVar = [models.CheckConstraint(condition=models.Q(id=1), name="events_clock_single_row")]

    def __str__(self) -> str:
        return f"offset {self.position_offset}"


class Webhook(BaseModel):
    """A URL that is told of an organization's events. `failing_since`: no call has succeeded since that moment."""

    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="webhooks")
    url = models.CharField(max_length=2000)
    host = models.CharField(
        max_length=300, editable=False, help_text="The URL's host and port: requests to one at once are limited."
    )
    event_types = ArrayField(
        models.CharField(max_length=40), null=True, blank=True, help_text="What it is told; empty: everything."
    )
    mailbox_ids = ArrayField(
        models.UUIDField(), null=True, blank=True, help_text="Whose events; empty: all of the organization's."
    )
    for_mailbox = models.UUIDField(
        null=True, blank=True, editable=False, help_text="The mailbox whose own webhook_url this is."
    )
    dialect = models.CharField(max_length=20, default=NATIVE, help_text="Whose format its requests have.")
    secret_encrypted = models.BinaryField(editable=False)
    previous_secret_encrypted = models.BinaryField(null=True, editable=False)
    previous_secret_until = models.DateTimeField(null=True, blank=True, editable=False)
    enabled = models.BooleanField(default=True)
    disabled_at = models.DateTimeField(null=True, blank=True, editable=False)
    disabled_reason = models.CharField(max_length=500, blank=True, editable=False)
    failing_since = models.DateTimeField(null=True, blank=True, editable=False)
    client_id = models.CharField(max_length=256, null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["organization", "client_id"], name="events_webhook_client_id"),
            models.UniqueConstraint(
                fields=["for_mailbox"], condition=Q(for_mailbox__isnull=False), name="events_webhook_one_a_mailbox"
            ),
        ]
        indexes: ClassVar = [
            models.Index(
                fields=["organization", "id"],
                condition=Q(for_mailbox__isnull=True),
                name="events_webhook_by_organization",
            ),
        ]

    def __str__(self) -> str:
        return self.url

    @property
    def secret(self) -> str:
        """What signs its requests, decrypted; raises SecretUnreadable."""
        return decrypt_secret(self.secret_encrypted).decode()

    @secret.setter
    def secret(self, secret: str) -> None:
        self.secret_encrypted = encrypt_secret(secret.encode())

    def valid_secrets(self, now: datetime) -> tuple[str, ...]:
        """The secret, and for a while after a rotation the one before it; raises SecretUnreadable."""
        if self.previous_secret_encrypted is None or (self.previous_secret_until or now) <= now:
            return (self.secret,)
        return (self.secret, decrypt_secret(self.previous_secret_encrypted).decode())


class SigningKey(BaseModel):
    """A secret that signs all of an organization's webhooks of one dialect, where the vendor has one key for all of
    them instead of one for each."""

    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="signing_keys")
    dialect = models.CharField(max_length=20)
    secret_encrypted = models.BinaryField(editable=False)
    created_at = models.DateTimeField(help_text="When it was made, or made anew.")

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["organization", "dialect"], name="events_signingkey_one_a_dialect"),
        ]

    def __str__(self) -> str:
        return self.dialect

    @property
    def secret(self) -> str:
        """What signs, decrypted; raises SecretUnreadable."""
        return decrypt_secret(self.secret_encrypted).decode()


class WebhookCall(BaseModel):
    """The outbox: one event that one webhook is to be told of, written in the event's own transaction.

    `next_attempt_at` is when it is due; while a sender holds it (`lease_token`) that lies a lease ahead, so that a
    call whose sender died becomes due by itself. Names webhook and event without foreign keys, which would lock the
    webhook's row for every event.
    """

    class Status(models.TextChoices):
        PENDING = "pending"
        DELIVERED = "delivered"
        FAILED = "failed", "Failed (given up)"
        CANCELED = "canceled", "Canceled (the webhook was disabled or removed)"
        SKIPPED = "skipped", "Skipped (not told in this dialect)"

    organization_id = models.UUIDField()
    webhook_id = models.UUIDField()
    event_id = models.UUIDField()
    event_type = models.CharField(max_length=40)
    status = models.CharField(max_length=9, choices=Status, default=Status.PENDING)
    attempt_count = models.PositiveIntegerField(default=0)
    first_attempt_at = models.DateTimeField(null=True)
    next_attempt_at = models.DateTimeField(null=True)
    lease_token = models.UUIDField(null=True, editable=False)
    last_status_code = models.PositiveSmallIntegerField(null=True)
    last_error = models.CharField(max_length=500, blank=True)
    created_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True)

    class Meta:
        indexes: ClassVar = [
            models.Index(
                fields=["webhook_id", "next_attempt_at"], condition=Q(status="pending"), name="events_call_pending"
            ),
            models.Index(fields=["webhook_id", "-id"], name="events_call_by_webhook"),
        ]

    def __str__(self) -> str:
        return f"{self.event_type} ({self.status})"


class WebhookAttempt(BaseModel):
    """One request of a call, with what came back. Insert-only, partitioned by month; `id` is the request's id."""

    call_id = models.UUIDField()
    at = models.DateTimeField()
    duration_ms = models.PositiveIntegerField()
    url = models.CharField(max_length=2000)
    request = models.TextField(blank=True, help_text="The beginning of what was sent.")
    status_code = models.PositiveSmallIntegerField(null=True)
    response = models.TextField(blank=True, help_text="The beginning of what came back.")
    error = models.CharField(max_length=500, blank=True, help_text="Why there is no answer, or none that counts.")

    class Meta:
        indexes: ClassVar = [models.Index(fields=["call_id", "id"], name="events_attempt_by_call")]

    def __str__(self) -> str:
        return str(self.status_code or self.error)
