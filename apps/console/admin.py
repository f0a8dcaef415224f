"""Admin pages that need several floors at once: organizations with what they have, API keys with their mailboxes."""

from collections.abc import Sequence
from typing import Any, ClassVar
from uuid import UUID

from django import forms
from django.contrib import admin
from django.db.models import Count, IntegerField, Model, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html, format_html_join

from apps.accounts.admin import ApiKeyAdmin, ApiKeyForm, LinesField, OrganizationAdmin
from apps.accounts.models import ApiKey, Organization
from apps.core.admin_base import column
from apps.domains.models import Domain
from apps.mailboxes.models import Mailbox
from apps.mailboxes.selectors import find_recipients

_SHOWN_INBOXES = 50
_LISTS = (
    ("Mailboxes", "mailboxes_mailbox"),
    ("Domains", "domains_domain"),
    ("API keys", "accounts_apikey"),
    ("Messages", "mail_message"),
    ("Deliveries", "delivery_delivery"),
    ("Suppressions", "delivery_suppression"),
    ("Events", "events_event"),
)


def _count_of(model: type[Model]) -> Coalesce:
    """How many rows of a model each organization of the page has, by an index."""
    rows = model._default_manager.filter(organization_id=OuterRef("pk")).order_by().values("organization_id")
    return Coalesce(Subquery(rows.annotate(rows=Count("*")).values("rows"), output_field=IntegerField()), 0)


@admin.register(Organization)
class OrganizationWithCountsAdmin(OrganizationAdmin):
    """An organization, and the way to what belongs to it."""

    list_display: Any = ("name", "state", "mailbox_count", "domain_count", "key_count", "created_at")
    fields: ClassVar[Any] = (*OrganizationAdmin.fields, "links")
    readonly_fields: ClassVar[Any] = (*OrganizationAdmin.readonly_fields, "links")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Organization]:
        """With the counts of what is few; mail is counted by its mailboxes' counters."""
        counts = {"mailboxes_n": Mailbox, "domains_n": Domain, "keys_n": ApiKey}
        organizations: QuerySet[Organization] = super().get_queryset(request)
        return organizations.annotate(**{name: _count_of(model) for name, model in counts.items()})

    @column(description="Mailboxes", ordering="mailboxes_n")
    def mailbox_count(self, obj: Any) -> str:
        return _link("mailboxes_mailbox", obj, obj.mailboxes_n)

    @column(description="Domains", ordering="domains_n")
    def domain_count(self, obj: Any) -> str:
        return _link("domains_domain", obj, obj.domains_n)

    @column(description="API keys", ordering="keys_n")
    def key_count(self, obj: Any) -> str:
        return _link("accounts_apikey", obj, obj.keys_n)

    @column(description="See")
    def links(self, obj: Organization) -> str:
        """To the lists of what belongs to it."""
        return format_html_join(" · ", "{}", ((_link(model, obj, title),) for title, model in _LISTS))


def _link(model: str, organization: Organization, text: Any) -> str:
    url = reverse(f"admin:{model}_changelist")
    return format_html('<a class="mh-link" href="{}?organization={}">{}</a>', url, organization.pk, text)


class ApiKeyWithMailboxesForm(ApiKeyForm):
    """A new key, which may be narrowed to mailboxes named by their addresses."""

    inboxes = LinesField(label="Only these mailboxes", help_text="Addresses, one per line.")

    def clean(self) -> dict[str, Any] | None:
        """The ids of the mailboxes, which have to be the organization's."""
        cleaned = super().clean()
        data = self.cleaned_data
        if data.get("inboxes"):
            try:
                data["inboxes"] = _find_mailboxes(data["inboxes"], data.get("organization"))
            except forms.ValidationError as error:
                self.add_error("inboxes", error)
        return cleaned


def _find_mailboxes(addresses: Sequence[str], organization: Organization | None) -> list[UUID]:
    if organization is None:
        raise forms.ValidationError("A platform key has no mailboxes: choose an organization.")
    found = []
    for recipient in find_recipients(addresses):
        if recipient.mailbox is None or recipient.mailbox.organization_id != organization.id:
            raise forms.ValidationError(f"{recipient.address} is not a mailbox of {organization}.")
        found.append(recipient.mailbox.id)
    return found


@admin.register(ApiKey)
class ApiKeyWithMailboxesAdmin(ApiKeyAdmin):
    """API keys, with the mailboxes that they are narrowed to."""

    form = ApiKeyWithMailboxesForm
    add_fields: tuple[str, ...] = (*ApiKeyAdmin.add_fields[:4], "inboxes", *ApiKeyAdmin.add_fields[4:])
    fields: ClassVar[Any] = (*ApiKeyAdmin.fields[:6], "inbox_list", *ApiKeyAdmin.fields[6:])

    @column(description="Only these mailboxes")
    def inbox_list(self, obj: ApiKey) -> str:
        """Their addresses."""
        if obj.inbox_ids is None:
            return "Any"
        mailboxes = Mailbox.objects.filter(id__in=obj.inbox_ids).order_by("address")
        shown = list(mailboxes.values_list("address", flat=True)[:_SHOWN_INBOXES])
        more = len(obj.inbox_ids) - len(shown)
        return ", ".join(shown) + (f" and {more} more" if more > 0 else "")
