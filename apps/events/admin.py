"""Admin pages: the event log, read-only."""

from collections.abc import Sequence
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html

from apps.accounts.admin_scope import (
    OrganizationFilter,
    ScopedAdmin,
    attach_organization_names,
    visible_organization_ids,
)
from apps.core.admin_base import DASH, column
from apps.core.admin_lists import LargeTableAdmin, MailboxFilter, PeriodFilter
from apps.events.models import Event, EventType

_ABOUT = ("subject", "address", "domain", "recipients", "reason")
_SHOWN = 120


def describe_event(event: Event) -> str:
    """What a person recognises an event by: a subject, an address, a domain."""
    for name in _ABOUT:
        value = event.data.get(name)
        if value:
            text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            return text[:_SHOWN]
    return DASH


class TypeFilter(admin.SimpleListFilter):
    """By type."""

    title = "type"
    parameter_name = "type"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(kind.value, kind.value) for kind in EventType]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Event]) -> QuerySet[Event]:
        return queryset.filter(type=self.value()) if self.value() else queryset


@admin.register(Event)
class EventAdmin(LargeTableAdmin, ScopedAdmin):
    """What happened, newest first."""

    read_only_page = True
    list_display = ("created_at", "kind", "about", "owner")
    list_filter = (TypeFilter, PeriodFilter, OrganizationFilter, MailboxFilter)
    fields = ("kind", "created_at", "owner", "mailbox_link", "data", "position")

    def get_place(self, request: HttpRequest) -> Sequence[str]:
        """Within one organization the order of commits, which an index holds; else the order of ids."""
        ids = visible_organization_ids(request)
        one = OrganizationFilter.parameter_name in request.GET or (ids is not None and len(ids) == 1)
        return ("position", "id") if one else ("id",)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """A fact stays as it is."""
        return False

    def complete_rows(self, rows: Sequence[Any]) -> None:
        """The names of the organizations."""
        attach_organization_names(rows)

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        """With the name of its organization."""
        event = super().get_object(request, object_id, from_field)
        if event is not None:
            attach_organization_names([event])
        return event

    @column(description="Type")
    def kind(self, obj: Event) -> str:
        """As webhooks and the API name it."""
        return obj.type

    @column(description="Organization")
    def owner(self, obj: Any) -> str:
        """Whose event it is."""
        return obj.organization_name or DASH

    @column(description="About")
    def about(self, obj: Event) -> str:
        """What a person recognises it by."""
        return describe_event(obj)

    @column(description="Mailbox")
    def mailbox_link(self, obj: Event) -> str:
        """To the mailbox's page."""
        if obj.mailbox_id is None:
            return DASH
        url = reverse("admin:mailboxes_mailbox_change", args=[obj.mailbox_id])
        return format_html('<a class="mh-link" href="{}">{}</a>', url, obj.data.get("address") or "the mailbox")
