"""Mailboxes: addresses that send and receive, their groups, and their counters."""

from datetime import date
from typing import ClassVar

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from apps.accounts.models import Organization
from apps.core.models import BaseModel
from apps.core.warmup import WarmUp, ramp_is_whole
from apps.domains.models import Domain
from apps.mailboxes.querysets import MailboxQuerySet

DEFAULT_DAILY_SEND_LIMIT = 1000
"""Recipients a day that a new mailbox may write to, unless an administrator says otherwise."""


class Pod(BaseModel):
    """A named group of mailboxes inside an organization; each organization has one default pod."""

    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="pods")
    name = models.CharField(max_length=200)
    client_id = models.CharField(max_length=256, null=True, blank=True)
    is_default = models.BooleanField(default=False, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["organization"], condition=Q(is_default=True), name="mailboxes_pod_one_default"
            ),
            models.UniqueConstraint(fields=["organization", "client_id"], name="mailboxes_pod_client_id"),
        ]

    def __str__(self) -> str:
        return self.name


class Mailbox(WarmUp, BaseModel):
    """An address that sends and receives. The REST API calls it an inbox."""

    class Status(models.TextChoices):
        ACTIVE = "active"
        PAUSED = "paused"
        SUSPENDED = "suspended"
        DELETED = "deleted"

    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="mailboxes")
    pod = models.ForeignKey(Pod, on_delete=models.PROTECT, related_name="mailboxes")
    domain = models.ForeignKey(Domain, on_delete=models.PROTECT, related_name="mailboxes")
    username = models.CharField(max_length=64)
    address = models.CharField(max_length=320, help_text="As given when it was created.")
    address_key = models.CharField(
        max_length=320, null=True, blank=True, unique=True, editable=False,
        help_text="What addresses are compared by; empty once the address is free again.",
    )  # fmt: skip
    display_name = models.CharField(max_length=255, blank=True)
    status = models.CharField(max_length=10, choices=Status, default=Status.ACTIVE)
    suspended_reason = models.CharField(max_length=500, blank=True)
    daily_send_limit = models.PositiveIntegerField(
        null=True,
        blank=True,
        default=DEFAULT_DAILY_SEND_LIMIT,
        help_text="Recipients a UTC day; empty: no limit.",
    )
    client_id = models.CharField(max_length=256, null=True, blank=True)
    metadata = models.JSONField(default=dict, blank=True)
    webhook_url = models.CharField(max_length=2000, null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)
    deleted_at = models.DateTimeField(null=True, blank=True, editable=False)

    objects = MailboxQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "mailboxes"
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["organization", "client_id"],
                condition=Q(deleted_at__isnull=True),
                name="mailboxes_mailbox_client_id",
            ),
            models.CheckConstraint(
                condition=Q(status="deleted", deleted_at__isnull=False)
                | (~Q(status="deleted") & Q(deleted_at__isnull=True)),
                name="mailboxes_mailbox_deleted_at",
            ),
            ramp_is_whole("mailboxes_mailbox_ramp"),
        ]
        indexes: ClassVar = [models.Index(fields=["organization", "-id"], name="mailboxes_by_organization")]

    def __str__(self) -> str:
        return self.address

    @property
    def is_purged(self) -> bool:
        """Deleted with its mail: its address is free, and nothing of it is shown any more."""
        return self.address_key is None

    def limit_on(self, day: date) -> int | None:
        """Recipients that it may write to on that UTC day, its warm-up included; None: no limit."""
        return self.narrow_limit(self.daily_send_limit, day)


class Identity(BaseModel):
    """An agent's handle inside an organization; it has at most one mailbox."""

    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="identities")
    handle = models.CharField(max_length=100, help_text="Without a leading @, lower case.")
    display_name = models.CharField(max_length=255, blank=True)
    mailbox = models.OneToOneField(Mailbox, null=True, blank=True, on_delete=models.SET_NULL, related_name="identity")
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        verbose_name_plural = "identities"
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["organization", "handle"], name="mailboxes_identity_handle"),
        ]

    def __str__(self) -> str:
        return f"@{self.handle}"

    @property
    def live_mailbox(self) -> Mailbox | None:
        """Its mailbox, unless that was deleted: a deleted one stays linked until another takes its place."""
        return self.mailbox if self.mailbox is not None and self.mailbox.deleted_at is None else None


class MailboxCount(models.Model):
    """How many mailboxes of each status an organization has: the sum of a few rows.

    Several rows, one of which a change picks by its transaction's number, so that creations do not wait for each
    other's COMMIT. A single row may be negative; the sum is not.
    """

    SLOTS = 8

    pk = models.CompositePrimaryKey("organization_id", "status", "slot")
    organization_id = models.UUIDField()
    status = models.CharField(max_length=10, choices=Mailbox.Status)
    slot = models.SmallIntegerField()
    count = models.BigIntegerField(default=0)

    def __str__(self) -> str:
        return f"{self.count} {self.status}"


class MailboxUsage(models.Model):
    """The counters of a mailbox, in a narrow row of their own, since every send writes it.

    `sends_today` belongs to `day`: on any other day it counts as 0, so that no limit depends on a clock task. The
    `judged_` counters are what the rates of bounces and complaints are worked out from
    (apps/mailboxes/services/health.py).
    """

    mailbox = models.OneToOneField(Mailbox, on_delete=models.CASCADE, primary_key=True, related_name="usage")
    day = models.DateField()
    sends_today = models.PositiveIntegerField(default=0)
    total_sent = models.PositiveBigIntegerField(default=0)
    total_received = models.PositiveBigIntegerField(default=0)
    bounce_count = models.PositiveBigIntegerField(default=0)
    complaint_count = models.PositiveBigIntegerField(default=0)
    stored_bytes = models.BigIntegerField(default=0)
    message_count = models.BigIntegerField(default=0, help_text="Messages that it holds, both ways.")
    judged_since = models.DateField(db_default=Now(), help_text="When the judged counters were last halved.")
    judged_sent = models.PositiveBigIntegerField(default=0)
    judged_bounces = models.PositiveBigIntegerField(default=0, help_text="For good, and because of the recipient.")
    judged_complaints = models.PositiveBigIntegerField(default=0)
    closed = models.BooleanField(
        default=False, help_text="The mailbox was deleted. Here too, since this is the row that sends and mail lock."
    )

    class Meta:
        verbose_name_plural = "mailbox usage"

    def __str__(self) -> str:
        return f"{self.sends_today} on {self.day}"

    def sends_on(self, day: date) -> int:
        """Recipients accepted for sending on that UTC day."""
        return self.sends_today if self.day == day else 0


class DayUsage(models.Model):
    """Recipients accepted on a day by all mailboxes of something that has a limit of its own.

    Made by the first send that meets the limit. `sends_today` belongs to `day`, as in MailboxUsage.
    """

    day = models.DateField()
    sends_today = models.PositiveBigIntegerField(default=0)

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return f"{self.sends_today} on {self.day}"


class OrganizationUsage(DayUsage):
    """What an organization has sent today; only where it has a limit."""

    organization = models.OneToOneField(Organization, on_delete=models.CASCADE, primary_key=True, related_name="usage")


class DomainUsage(DayUsage):
    """What was sent from a domain today; only where it has a limit."""

    domain = models.OneToOneField(Domain, on_delete=models.CASCADE, primary_key=True, related_name="usage")


class AddressReservation(models.Model):
    """An address freed by a purge, kept for its organization for a while so that nobody else gets its mail."""

    address_key = models.CharField(max_length=320, primary_key=True)
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE)
    until = models.DateTimeField()

    def __str__(self) -> str:
        return self.address_key


class PaidProvisioning(models.Model):
    """What a mailbox of this organization costs whoever makes it through an API; without a row it costs nothing."""

    organization = models.OneToOneField(
        Organization, on_delete=models.CASCADE, primary_key=True, related_name="paid_provisioning"
    )
    price = models.CharField(max_length=100, help_text="With its unit, for people.")
    amount = models.CharField(max_length=78, help_text="The price in the smallest unit of the asset.")
    asset = models.CharField(max_length=42, help_text="The contract of the token that is paid with.")
    asset_name = models.CharField(max_length=100, help_text="The token's name, as its EIP-712 domain has it.")
    asset_version = models.CharField(max_length=20, help_text="The version in its EIP-712 domain.")
    network = models.CharField(max_length=64, help_text="CAIP-2: eip155 and the number of the chain.")
    pay_to = models.CharField(max_length=42, help_text="The address that is paid.")
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        verbose_name_plural = "paid provisioning"

    def __str__(self) -> str:
        return f"{self.price} to {self.pay_to} on {self.network}"


class ProvisioningPayment(BaseModel):
    """A signed payment that a facilitator has found good, and what became of it.

    One row for each authorization that was signed, however often and in whatever wording it is sent.
    """

    class Status(models.TextChoices):
        VERIFIED = "verified"  # found good; its settlement was asked for, and no answer is known
        SETTLED = "settled"  # paid; a mailbox may be made for it
        USED = "used"  # paid, and the mailbox is made
        REFUSED = "refused"  # its settlement failed

    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="provisioning_payments")
    payment_key = models.CharField(max_length=64, unique=True, help_text="SHA-256 of what makes the payment this one.")
    status = models.CharField(max_length=10, choices=Status)
    terms = models.JSONField(help_text="The requirements that it was verified against, and is settled by.")
    payer = models.CharField(max_length=100, blank=True)
    transaction = models.CharField(max_length=200, blank=True, help_text="Where the chain has it.")
    reason = models.CharField(max_length=300, blank=True, help_text="Why it is not settled.")
    busy_until = models.DateTimeField(null=True, blank=True, help_text="Until then one request may be settling it.")
    mailbox = models.ForeignKey(Mailbox, null=True, blank=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(mailbox__isnull=True) | Q(status="used"), name="mailboxes_provisioningpayment_used"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.status}: {self.payment_key[:12]}"
