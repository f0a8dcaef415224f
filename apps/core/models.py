"""The base model. Product tables live in their own apps."""

from django.db import models

from apps.core.ids import new_id


class BaseModel(models.Model):
    """A row with a UUIDv7 key, which also orders rows by age."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)

    class Meta:
        abstract = True


class Heartbeat(models.Model):
    """A long-running process that was alive at `at`; apps/core/heartbeat.py writes and reads it."""

    process = models.CharField(max_length=20)
    host = models.CharField(max_length=255)
    pid = models.PositiveIntegerField()
    at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["process", "host", "pid"], name="core_heartbeat_process")]
