"""The admin page of suppressions."""

from typing import Any, ClassVar

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone

from apps.accounts.admin_scope import OrganizationFilter, ScopedAdmin
from apps.core.admin_base import DASH, adopt, column
from apps.core.admin_lists import LargeTableAdmin, PeriodFilter
from apps.delivery.models import Suppression
from apps.delivery.services import NewSuppression, create_suppression, remove_suppression

_SHOWN_SOURCE = 120


@admin.register(Suppression)
class SuppressionAdmin(LargeTableAdmin, ScopedAdmin):
    """Addresses that an organization does not write to: added by hand here, and let go here."""

    read_only_page = True
    list_display = ("created_at", "address", "why", "known_from", "expires_at", "owner")
    list_display_links = ("address",)
    list_filter = ("reason", PeriodFilter, OrganizationFilter)
    list_select_related = ("organization",)
    search_fields = ("address",)
    search_help_text = "Part of the address"
    fieldsets = ((None, {"fields": ("address", "owner", "why", "source", "expires_at", "created_at")}),)
    add_fieldsets = (
        (
            None,
            {
                "fields": ("organization", "address", "source", "expires_at"),
                "description": "Nothing more is sent to the address. What weighs more (a complaint, an unsubscribe)"
                " stays as it is.",
            },
        ),
    )
    optional_fields: ClassVar[Any] = {"source": "source", "expires_at": "expires_at"}
    help_texts: ClassVar[Any] = {"address": "", "source": "A note: where this is known from."}
    labels: ClassVar[Any] = {"source": "Known from", "expires_at": "Until"}

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """People may add what no mail has told us."""
        return ScopedAdmin.has_add_permission(self, request)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Whoever changes the organization lets an address go: nothing hangs on an entry."""
        return self.has_change_permission(request, obj)

    def save_model(self, request: HttpRequest, obj: Suppression, form: Any, change: bool) -> None:
        """Its service makes an entry."""
        if change:
            return
        wanted = NewSuppression(obj.address.strip(), source=obj.source, expires_at=obj.expires_at)
        adopt(obj, create_suppression(organization=obj.organization, wanted=wanted, now=timezone.now())[0])

    def delete_model(self, request: HttpRequest, obj: Suppression) -> None:
        remove_suppression(suppression=obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Suppression]) -> None:
        """Of a selection what the person may change."""
        for entry in self.changeable(request, queryset):
            remove_suppression(suppression=entry)

    @column(description="Organization")
    def owner(self, obj: Suppression) -> str:
        return str(obj.organization)

    @column(description="Reason")
    def why(self, obj: Suppression) -> str:
        return obj.get_reason_display()

    @column(description="Known from")
    def known_from(self, obj: Suppression) -> str:
        """The server's words, or the note."""
        return obj.source[:_SHOWN_SOURCE] or DASH
