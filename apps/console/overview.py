"""The admin's first page."""

from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.utils import timezone

from apps.accounts.admin_scope import attach_organization_names, is_operator, visible_organization_ids
from apps.console.selectors import domains_to_look_at, last_events, mailbox_counts, queue_states
from apps.core.heartbeat import list_living_processes
from apps.events.admin import describe_event

PROCESSES = ("smtp", "worker", "beat")


def build_overview(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """What `/admin/` shows to this person (UNFOLD["DASHBOARD_CALLBACK"])."""
    ids = visible_organization_ids(request)
    context.update({"title": "Overview", "now": timezone.now(), "is_member": ids is None or bool(ids)})
    if not context["is_member"]:
        return context
    events = last_events(ids)
    attach_organization_names(events)
    mailboxes = mailbox_counts(ids)
    context.update(
        {
            "queue": queue_states(ids),
            "mailboxes": mailboxes,
            "has_mailboxes": any(mailboxes.values()),
            "domains": domains_to_look_at(ids),
            "events": [{"event": event, "about": describe_event(event)} for event in events],
            "delivery_mode": settings.MAILHOST_DELIVERY,
        }
    )
    if is_operator(request):
        living = list_living_processes()
        context["processes"] = [{"name": name, "alive": name in living} for name in PROCESSES]
    return context
