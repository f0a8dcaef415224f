"""The event log: facts in the order in which they were committed.

An id given before COMMIT does not order facts: a transaction that began early and committed late would put its rows
behind a reader's cursor. So each row keeps its inserting transaction's place (`position`, from
`pg_current_xact_id()`), and a reader stops below the oldest transaction that is still running
(`pg_snapshot_xmin`): everything below is settled for good. ARCHITECTURE.md, "Events in commit order".
"""

from typing import ClassVar

from django.db import models
from django.db.models.expressions import RawSQL

from apps.core.models import BaseModel


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
