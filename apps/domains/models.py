"""Mail domains and the keys that sign for them."""

from datetime import date
from typing import ClassVar, cast

from django.db import models
from django.db.models import Q

from apps.accounts.models import Organization
from apps.core.models import BaseModel
from apps.core.secretbox import decrypt_secret, encrypt_secret
from apps.core.warmup import WarmUp, ramp_is_whole
from mailhost.auth.dkim import Algorithm as SigningAlgorithm


class Domain(WarmUp, BaseModel):
    """A name that mailboxes live under: an organization's own, or shared by the installation."""

    class Status(models.TextChoices):
        PENDING = "pending"
        VERIFIED = "verified"
        DEGRADED = "degraded"
        FAILED = "failed"

    organization = models.ForeignKey(
        Organization, null=True, blank=True, on_delete=models.CASCADE, related_name="domains",
        help_text="Empty for a domain that the installation shares with every organization.",
    )  # fmt: skip
    name = models.CharField(max_length=255, help_text="Lower-case A-labels.")
    status = models.CharField(max_length=10, choices=Status, default=Status.PENDING)
    sending_status = models.CharField(max_length=10, choices=Status, default=Status.PENDING)
    receiving_status = models.CharField(max_length=10, choices=Status, default=Status.PENDING)
    ownership_token = models.CharField(max_length=64, editable=False)
    ownership_verified_at = models.DateTimeField(null=True, blank=True, editable=False)
    record_checks = models.JSONField(default=dict, editable=False, help_text="Purpose -> {status, found, fix}.")
    last_checked_at = models.DateTimeField(null=True, blank=True, editable=False)
    daily_send_limit = models.PositiveIntegerField(
        null=True, blank=True, help_text="Recipients a UTC day, of all its mailboxes together; empty: no limit."
    )
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints: ClassVar = [
            # Several organizations may claim a name; one can have proved it.
            models.UniqueConstraint(
                fields=["name"],
                condition=Q(ownership_verified_at__isnull=False) | Q(organization__isnull=True),
                name="domains_domain_one_owner",
            ),
            models.UniqueConstraint(fields=["organization", "name"], name="domains_domain_one_claim"),
            ramp_is_whole("domains_domain_ramp"),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def is_shared(self) -> bool:
        return self.organization_id is None

    @property
    def can_send(self) -> bool:
        """Ownership and DKIM stand; a degraded domain still sends."""
        return self.sending_status == self.Status.VERIFIED

    def limit_on(self, day: date) -> int | None:
        """Recipients that all its mailboxes together may write to on that UTC day; None: no limit."""
        return self.narrow_limit(self.daily_send_limit, day)


class DkimKey(BaseModel):
    """A signing key; its selector's TXT record carries the public half (RFC 6376, section 3.6.1)."""

    class Algorithm(models.TextChoices):
        RSA = "rsa-sha256"
        ED25519 = "ed25519-sha256"

    domain = models.ForeignKey(Domain, on_delete=models.CASCADE, related_name="dkim_keys")
    selector = models.CharField(max_length=63)
    algorithm = models.CharField(max_length=20, choices=Algorithm)
    private_key_encrypted = models.BinaryField(editable=False)
    public_key = models.TextField(help_text="Base64, the p= tag of the DNS record.")
    active = models.BooleanField(default=True, help_text="Signs new mail; a retired key stays published for a week.")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name = "DKIM key"
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["domain", "selector"], name="domains_dkimkey_selector"),
        ]

    def __str__(self) -> str:
        return f"{self.selector} ({self.algorithm})"

    @property
    def dkim_algorithm(self) -> SigningAlgorithm:
        """The algorithm, as the engine names it."""
        return cast(SigningAlgorithm, self.algorithm)

    @property
    def private_pem(self) -> bytes:
        """The private key, decrypted; raises SecretUnreadable."""
        return decrypt_secret(self.private_key_encrypted)

    @private_pem.setter
    def private_pem(self, pem: bytes) -> None:
        self.private_key_encrypted = encrypt_secret(pem)
