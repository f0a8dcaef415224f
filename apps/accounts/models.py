"""Who uses the installation: organizations, people, and the API keys of agents."""

from datetime import datetime
from typing import ClassVar

from django.contrib.auth.models import AbstractUser
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q

from apps.core.models import BaseModel

SCOPES = (
    "inboxes:read",
    "inboxes:write",
    "messages:read",
    "messages:write",
    "messages:send",
    "messages:approve",
    "domains:read",
    "domains:write",
    "webhooks:read",
    "webhooks:write",
    "suppressions:read",
    "suppressions:write",
    "events:read",
    "metrics:read",
    "keys:write",
    "admin",
)
"""Every scope that a key can carry."""


class Organization(BaseModel):
    """The tenant: everything below it belongs to exactly one."""

    name = models.CharField(max_length=200)
    suspended_at = models.DateTimeField(null=True, blank=True)
    suspended_reason = models.CharField(max_length=500, blank=True)
    daily_send_limit = models.PositiveIntegerField(
        null=True, blank=True, help_text="Recipients a UTC day, of all its mailboxes together; empty: no limit."
    )
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    def __str__(self) -> str:
        return self.name

    @property
    def is_suspended(self) -> bool:
        return self.suspended_at is not None


class User(AbstractUser):
    """A person who signs in to the admin."""

    organizations: "models.ManyToManyField[Organization, Membership]" = models.ManyToManyField(
        Organization, through="Membership", related_name="users"
    )


class Membership(BaseModel):
    """What a person may do in one organization."""

    class Role(models.TextChoices):
        OWNER = "owner"
        ADMIN = "admin"
        VIEWER = "viewer"

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="memberships")
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=10, choices=Role, default=Role.VIEWER)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["user", "organization"], name="accounts_membership_once")
        ]

    def __str__(self) -> str:
        return f"{self.user} ({self.role})"


class ApiKey(BaseModel):
    """A bearer secret of an organization; a platform key has none. The secret itself is never stored."""

    organization = models.ForeignKey(
        Organization, null=True, blank=True, on_delete=models.CASCADE, related_name="api_keys",
        help_text="Empty for a platform key, which may only make and manage organizations.",
    )  # fmt: skip
    name = models.CharField(max_length=200)
    prefix = models.CharField(max_length=16, editable=False, help_text="The first characters, to recognise a key by.")
    key_hash = models.BinaryField(max_length=32, unique=True, editable=False)
    scopes = ArrayField(models.CharField(max_length=40), default=list)
    allowed_domains = ArrayField(models.CharField(max_length=255), null=True, blank=True)
    inbox_ids = ArrayField(models.UUIDField(), null=True, blank=True)
    max_inboxes = models.PositiveIntegerField(null=True, blank=True)
    used_count = models.PositiveIntegerField(default=0, editable=False)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True, editable=False)
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name = "API key"
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(max_inboxes__isnull=True) | Q(used_count__lte=models.F("max_inboxes")),
                name="accounts_apikey_quota",
            )
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"

    def is_expired(self, now: datetime) -> bool:
        return self.expires_at is not None and self.expires_at <= now
