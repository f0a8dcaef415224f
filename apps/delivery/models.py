"""The queue: deliveries, the lanes they are scheduled by, and the attempts made; and whom not to write to."""

from typing import ClassVar

from django.db import models
from django.db.models import Q

from apps.accounts.models import Organization
from apps.core.models import BaseModel
from apps.delivery.states import WAITING, DeliveryStatus
from apps.mail.models import Message


class Lane(models.Model):
    """Organization x destination: what the queue is scheduled by.

    `next_due_at` is when its earliest waiting delivery is due, empty when none waits. Whoever makes a delivery wait
    lowers it; only a claim raises it, and only under the lane's exclusive advisory lock (apps.delivery.lanes).
    """

    LOCAL = "[local]"

    id = models.BigAutoField(primary_key=True)
    organization_id = models.UUIDField()
    destination = models.CharField(max_length=255, help_text="A mail domain, or [local] for our own mailboxes.")
    next_due_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["organization_id", "destination"], name="delivery_lane_once"),
        ]
        indexes: ClassVar = [
            models.Index(
                fields=["organization_id", "next_due_at"],
                name="delivery_lane_due",
                condition=Q(next_due_at__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return self.destination


class Delivery(BaseModel):
    """One recipient of one outbound message: the row that the queue is made of."""

    class Kind(models.TextChoices):
        TO = "to"
        CC = "cc"
        BCC = "bcc"

    organization_id = models.UUIDField()
    mailbox_id = models.UUIDField()
    message = models.ForeignKey(Message, on_delete=models.CASCADE, related_name="deliveries")
    lane = models.ForeignKey(Lane, on_delete=models.PROTECT, db_index=False, db_constraint=False)
    kind = models.CharField(max_length=3, choices=Kind)
    address = models.CharField(max_length=320)
    status = models.CharField(max_length=10, choices=DeliveryStatus, default=DeliveryStatus.QUEUED)
    reason = models.CharField(max_length=60, blank=True, help_text="Why it is held, failed, suppressed or blocked.")
    attempt_count = models.PositiveIntegerField(default=0)
    next_attempt_at = models.DateTimeField(null=True)
    lease_token = models.UUIDField(null=True, editable=False)
    lease_expires_at = models.DateTimeField(null=True, editable=False)
    on_wire_at = models.DateTimeField(null=True, editable=False, help_text="Stamped just before DATA.")
    last_code = models.PositiveSmallIntegerField(null=True)
    last_enhanced_code = models.CharField(max_length=12, blank=True)
    last_text = models.TextField(blank=True, help_text="The remote's own words.")
    created_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True)

    class Meta:
        verbose_name_plural = "deliveries"
        indexes: ClassVar = [
            models.Index(fields=["lane", "next_attempt_at"], name="delivery_waiting", condition=Q(status__in=WAITING)),
            models.Index(
                fields=["lease_expires_at"],
                name="delivery_leased",
                condition=Q(status=DeliveryStatus.SENDING),
            ),
            models.Index(
                fields=["organization_id", "id"],
                name="delivery_held",
                condition=Q(status=DeliveryStatus.HELD),
            ),
            models.Index(fields=["mailbox_id", "-id"], name="delivery_by_mailbox"),
            models.Index(fields=["organization_id", "-id"], name="delivery_by_organization"),
        ]

    def __str__(self) -> str:
        return f"{self.address} ({self.status})"


class Attempt(BaseModel):
    """One try at a delivery. Insert-only, partitioned by month; names its delivery without a foreign key."""

    class Outcome(models.TextChoices):
        DELIVERED = "delivered"
        TEMPORARY = "temporary"
        PERMANENT = "permanent"
        UNCERTAIN = "uncertain"

    delivery_id = models.UUIDField()
    at = models.DateTimeField()
    host = models.CharField(max_length=255, blank=True)
    ip = models.GenericIPAddressField(null=True)
    tls = models.CharField(max_length=100, blank=True, help_text="Protocol and cipher, empty in plain text.")
    code = models.PositiveSmallIntegerField(null=True)
    enhanced_code = models.CharField(max_length=12, blank=True)
    text = models.TextField(blank=True)
    outcome = models.CharField(max_length=9, choices=Outcome)

    class Meta:
        indexes: ClassVar = [models.Index(fields=["delivery_id", "id"], name="delivery_attempt_by_delivery")]

    def __str__(self) -> str:
        return f"{self.outcome} {self.code or ''}".strip()


class Suppression(BaseModel):
    """An address that an organization must not write to: refused when sending, recipient by recipient.

    Written with every bounce that means the recipient, in batches of results: hence no constraint to the
    organization, whose row each of them would lock.
    """

    class Reason(models.TextChoices):
        HARD_BOUNCE = "hard_bounce", "hard bounce"
        COMPLAINT = "complaint"
        UNSUBSCRIBE = "unsubscribe"
        MANUAL = "manual"

    organization = models.ForeignKey(
        Organization, on_delete=models.CASCADE, related_name="suppressions", db_constraint=False, db_index=False
    )
    address = models.CharField(max_length=320, help_text="As it was first met.")
    address_key = models.CharField(max_length=320, editable=False, help_text="What addresses are compared by.")
    reason = models.CharField(max_length=11, choices=Reason, default=Reason.MANUAL)
    source = models.CharField(max_length=500, blank=True, help_text="Where it comes from: the server's words, a note.")
    expires_at = models.DateTimeField(null=True, blank=True, help_text="Until when; empty: for good.")
    created_at = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["organization", "address_key"], name="delivery_suppression_once"),
        ]
        indexes: ClassVar = [
            models.Index(fields=["organization", "-id"], name="delivery_suppression_newest"),
            models.Index(fields=["organization", "reason", "-id"], name="delivery_suppression_reason"),
            models.Index(
                fields=["expires_at"], name="delivery_suppression_expiry", condition=Q(expires_at__isnull=False)
            ),
        ]

    def __str__(self) -> str:
        return self.address
