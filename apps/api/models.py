"""What the API remembers about requests: answers kept for a retried POST."""

from typing import ClassVar

from django.db import models


class IdempotencyRecord(models.Model):
    """The answer to a request that carried an idempotency key, kept for 24 hours.

    The row is inserted in the transaction of the work itself: a parallel twin waits at the unique constraint and then
    finds the answer, and work that fails leaves no row.
    """

    id = models.BigAutoField(primary_key=True)
    organization_id = models.UUIDField()
    key = models.CharField(max_length=256)
    fingerprint = models.BinaryField(max_length=32, help_text="SHA-256 of method, path and canonical body.")
    status = models.PositiveSmallIntegerField(null=True)
    body = models.JSONField(null=True)
    created_at = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["organization_id", "key"], name="api_idempotency_once"),
        ]
        indexes: ClassVar = [models.Index(fields=["created_at"], name="api_idempotency_age")]

    def __str__(self) -> str:
        return self.key
