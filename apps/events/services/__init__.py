"""What changes events and webhooks."""

from apps.events.services.facts import CALL_TASK, NewEvent, record_events

__all__ = ["CALL_TASK", "NewEvent", "record_events"]
