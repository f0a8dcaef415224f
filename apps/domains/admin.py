"""Admin pages: domains, the DNS records to publish for them, and their signing keys."""

from typing import Any, ClassVar, cast

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.utils import timezone

from apps.accounts.admin_scope import OrganizationFilter, ScopedAdmin, is_operator
from apps.core.admin_base import DialogForm, TabularInline, adopt, column, error_text, page_action, status_label
from apps.core.errors import DomainError
from apps.core.limit_forms import LimitsForm, describe_ramp
from apps.domains.models import DkimKey, Domain
from apps.domains.selectors import dns_records
from apps.domains.services import create_domain, ensure_shared_domain, limit_domain, verify_domain

MAX_VERIFIED_AT_ONCE = 10
_PURPOSES = {
    "ownership": "Proves that the domain is yours",
    "mx": "Brings its mail here",
    "spf": "Allows this server to send for it",
    "dmarc": "Tells receivers what to do with forgeries",
    "dkim": "Lets receivers verify the signature",
}


class DomainLimitsForm(LimitsForm):
    """The limits of a domain."""

    model = Domain


class DkimKeyInline(TabularInline):
    """The signing keys, public halves only."""

    model = DkimKey
    extra = 0
    max_num = 0
    can_delete = False
    verbose_name_plural = "DKIM keys"
    hide_title = True
    fields = ("selector", "method", "active", "created_at")
    readonly_fields = fields

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """The page around it has been checked already."""
        return True

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    @column(description="Algorithm")
    def method(self, obj: DkimKey) -> str:
        """As the DKIM-Signature header names it."""
        return obj.algorithm

    def get_queryset(self, request: HttpRequest) -> QuerySet[DkimKey]:
        """Without the private key, which no page has a use for."""
        return DkimKey.objects.defer("private_key_encrypted").order_by("selector")


@admin.register(Domain)
class DomainAdmin(ScopedAdmin):
    """Domains: what to publish for them, and how the DNS was found at the last look."""

    shared_is_visible: ClassVar[bool] = True
    read_only_page = True
    list_display = ("name", "owner", "overall", "sending", "receiving", "last_checked_at", "created_at")
    list_filter = ("status", OrganizationFilter)
    list_select_related = ("organization",)
    search_fields = ("name",)
    search_help_text = "Name"
    ordering = ("name", "id")
    autocomplete_fields = ("organization",)
    fieldsets = (
        (None, {"fields": ("name", "owner", ("overall", "sending", "receiving"), "last_checked_at", "created_at")}),
        ("Limits", {"fields": ("daily_limit", "warm_up")}),
        (
            "DNS records",
            {
                "fields": ("records",),
                "description": "Publish these where the domain's DNS is kept, then press Verify now.",
            },
        ),
    )
    add_fieldsets = (
        (
            None,
            {
                "fields": ("name", "organization"),
                "description": "After this the page shows the DNS records to publish.",
            },
        ),
    )
    help_texts: ClassVar[Any] = {"name": ""}
    inlines = (DkimKeyInline,)
    actions = ["verify_selected"]
    actions_detail = ["verify", "limits"]

    def get_inlines(self, request: HttpRequest, obj: Domain | None) -> Any:
        """The keys are made with the domain."""
        return () if obj is None else self.inlines

    def save_model(self, request: HttpRequest, obj: Domain, form: Any, change: bool) -> None:
        """An organization's domain has to be proved; one without an organization is the installation's own."""
        if change:
            return
        now = timezone.now()
        if obj.organization is not None:
            adopt(obj, create_domain(organization=obj.organization, name=obj.name, now=now))
        elif is_operator(request):
            adopt(obj, ensure_shared_domain(name=obj.name, now=now))

    @page_action(
        description="Verify now",
        explanation="Every record is looked up in the DNS now, which takes up to some seconds, and the page shows what"
        " was found.",
        submit="Look the records up",
        icon="sync",
        applies_to=lambda domain: not domain.is_shared,
    )
    def verify(self, request: HttpRequest, obj: Domain, form: DialogForm) -> str:
        """Look every record up."""
        domain = verify_domain(domain=obj, now=timezone.now())
        return f"{domain.name} was looked up: {domain.status}."

    @page_action(
        description="Limits",
        explanation="How many recipients a day (UTC) all mailboxes of the domain together may write to. A warm-up"
        " begins small and grows day by day, so that other servers get to know the domain.",
        submit="Set the limits",
        icon="speed",
        form_class=DomainLimitsForm,
    )
    def limits(self, request: HttpRequest, obj: Domain, form: DialogForm) -> str:
        """Set them, or take them away."""
        limit, ramp = form.cleaned_data["daily_send_limit"], cast(LimitsForm, form).ramp
        limit_domain(domain=obj, daily_send_limit=limit, ramp=ramp, now=timezone.now())
        return f"{obj.name}: {_limit_text(limit)}; warm-up: {describe_ramp(ramp)}."

    @admin.action(description="Verify the selected domains", permissions=["change"])
    def verify_selected(self, request: HttpRequest, queryset: QuerySet[Domain]) -> None:
        """Look several domains up, one after the other."""
        domains = list(self.changeable(request, queryset).filter(organization__isnull=False)[:MAX_VERIFIED_AT_ONCE])
        for domain in domains:
            try:
                checked = verify_domain(domain=domain, now=timezone.now())
            except DomainError as error:
                messages.error(request, error_text(error))
                continue
            self.log_change(request, checked, f"Verified: {checked.status}.")
            messages.success(request, f"{checked.name}: {checked.status}")
        if len(domains) == MAX_VERIFIED_AT_ONCE:
            messages.info(request, f"At most {MAX_VERIFIED_AT_ONCE} domains are verified at once.")

    @column(description="Organization", ordering="organization__name")
    def owner(self, obj: Domain) -> str:
        """The organization, or that everybody uses it."""
        return str(obj.organization) if obj.organization else "Shared by all organizations"

    @column(description="Status", ordering="status")
    def overall(self, obj: Domain) -> str:
        return status_label(obj.status)

    @column(description="Sending", ordering="sending_status")
    def sending(self, obj: Domain) -> str:
        return status_label(obj.sending_status)

    @column(description="Receiving", ordering="receiving_status")
    def receiving(self, obj: Domain) -> str:
        return status_label(obj.receiving_status)

    @column(description="Recipients a day")
    def daily_limit(self, obj: Domain) -> str:
        return _limit_text(obj.daily_send_limit)

    @column(description="Warm-up")
    def warm_up(self, obj: Domain) -> str:
        return describe_ramp(obj.ramp) + (f", since {obj.ramp_since}" if obj.ramp_since else "")

    @column(description="Records")
    def records(self, obj: Domain) -> str:
        """The table of records: what to publish, what was found, what to do."""
        rows = [{"record": record, "why": _PURPOSES.get(record.purpose, "")} for record in dns_records(obj)]
        return render_to_string("domains/records.html", {"domain": obj, "rows": rows})


def _limit_text(limit: int | None) -> str:
    return "no limit" if limit is None else f"{limit} recipients a day"
