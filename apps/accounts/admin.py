"""Admin pages: organizations, users and their memberships, API keys."""

from typing import TYPE_CHECKING, Any, ClassVar

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.html import format_html
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget, UnfoldAdminTextareaWidget

from apps.accounts.admin_scope import OrganizationFilter, ScopedAdmin, is_operator
from apps.accounts.models import SCOPES, ApiKey, Membership, Organization, User
from apps.accounts.services import (
    create_api_key,
    create_organization,
    limit_organization,
    reinstate_organization,
    revoke_api_key,
    suspend_organization,
)
from apps.core.admin_base import (
    DASH,
    DialogForm,
    ModelAdmin,
    ReasonForm,
    ServiceForm,
    TabularInline,
    adopt,
    column,
    page_action,
    status_label,
)
from mailhost.address import domain_key
from mailhost.errors import InvalidDomain

if TYPE_CHECKING:
    BaseUserAdmin = DjangoUserAdmin[User]
else:
    BaseUserAdmin = DjangoUserAdmin

MAX_LINES = 1000
admin.site.unregister(Group)  # what a person may do follows from memberships (admin_scope.py)


class OperatorOnly:
    """Pages and inlines of the installation itself."""

    def has_module_permission(self, request: HttpRequest) -> bool:
        return is_operator(request)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return is_operator(request)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return is_operator(request)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return is_operator(request)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return is_operator(request)


class MembershipInline(OperatorOnly, TabularInline):
    """Who belongs to an organization, or where a user belongs: its people see it, operators change it."""

    model = Membership
    extra = 0
    hide_title = True
    autocomplete_fields = ("user", "organization")
    fields = ("user", "organization", "role")

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return True  # the page around it has been checked already

    def get_queryset(self, request: HttpRequest) -> QuerySet[Membership]:
        return Membership.objects.select_related("user", "organization").order_by("user__username")


class SuspendedFilter(admin.SimpleListFilter):
    """Active or suspended organizations."""

    title = "status"
    parameter_name = "status"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("active", "Active"), ("suspended", "Suspended")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.value() not in ("active", "suspended"):
            return queryset
        return queryset.filter(suspended_at__isnull=self.value() == "active")


class KeyStatusFilter(admin.SimpleListFilter):
    """Keys that work, and keys that do not."""

    title = "status"
    parameter_name = "status"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("active", "Active"), ("expired", "Expired"), ("revoked", "Revoked")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        expired = Q(expires_at__lte=timezone.now())
        match self.value():
            case "active":
                return queryset.filter(~expired | Q(expires_at__isnull=True), revoked_at__isnull=True)
            case "expired":
                return queryset.filter(expired, revoked_at__isnull=True)
            case "revoked":
                return queryset.filter(revoked_at__isnull=False)
        return queryset


class OrganizationAdmin(ScopedAdmin):
    """The tenants. Never deleted: mail, events and counters name them.

    apps/console/organizations.py registers it, with what lives on the floors above.
    """

    organization_field = "id"
    list_display: Any = ("name", "state", "created_at")
    list_filter = (SuspendedFilter,)
    search_fields = ("name",)
    search_help_text = "Name"
    ordering = ("name",)
    fields: ClassVar[Any] = ("name", "state", "suspended_at", "suspended_reason", "daily_send_limit", "created_at")
    readonly_fields: ClassVar[Any] = ("state", "suspended_at", "suspended_reason", "created_at")
    optional_fields: ClassVar[Any] = {"suspended_at": "suspended_at", "suspended_reason": "suspended_reason"}
    inlines = (MembershipInline,)
    actions_detail: ClassVar[list[Any]] = ["suspend", "reinstate"]

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Only an operator makes tenants."""
        return is_operator(request)

    def get_fields(self, request: HttpRequest, obj: Organization | None = None) -> Any:
        """A new organization has nothing but a name."""
        return ("name",) if obj is None else self.fields

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """What an organization may send in all is the operator's to say."""
        fields = super().get_readonly_fields(request, obj)
        return fields if is_operator(request) else (*fields, "daily_send_limit")

    def get_inlines(self, request: HttpRequest, obj: Organization | None) -> Any:
        """People are added once the organization is there."""
        return () if obj is None else self.inlines

    def save_model(self, request: HttpRequest, obj: Organization, form: Any, change: bool) -> None:
        """A new one is made by its service; a change is a new name, or a new limit."""
        if change:
            obj.save(update_fields=["name", "updated_at"])
            if "daily_send_limit" in form.changed_data:
                limit_organization(organization=obj, daily_send_limit=form.cleaned_data["daily_send_limit"])
        else:
            adopt(obj, create_organization(name=obj.name, now=timezone.now()))

    def get_actions_detail(self, request: HttpRequest, object_id: str) -> list[Any]:
        """Whoever is suspended cannot lift it: operators only."""
        return super().get_actions_detail(request, object_id) if is_operator(request) else []

    def changeable_object(self, request: HttpRequest, object_id: str) -> Any | None:
        """The buttons are the operator's."""
        return super().changeable_object(request, object_id) if is_operator(request) else None

    @page_action(
        description="Suspend",
        explanation="All sending of this organization stops at once. Its mailboxes go on receiving, and what waits in"
        " the queue stays there.",
        submit="Suspend the organization",
        icon="block",
        form_class=ReasonForm,
        applies_to=lambda organization: not organization.is_suspended,
    )
    def suspend(self, request: HttpRequest, obj: Organization, form: DialogForm) -> str:
        """Stop all sending."""
        suspend_organization(organization=obj, reason=form.cleaned_data["reason"], now=timezone.now())
        return f"{obj.name} is suspended: {obj.suspended_reason}"

    @page_action(
        description="Reinstate",
        explanation="The organization can send again, and what waits in its queue leaves.",
        submit="Reinstate the organization",
        icon="check_circle",
        applies_to=lambda organization: organization.is_suspended,
    )
    def reinstate(self, request: HttpRequest, obj: Organization, form: DialogForm) -> str:
        """Let it send again."""
        reinstate_organization(organization=obj)
        return f"{obj.name} is reinstated and can send again."

    @column(description="Status")
    def state(self, obj: Organization) -> str:
        """Active or suspended, in one word."""
        return status_label("suspended" if obj.is_suspended else "active")


@admin.register(User)
class UserAdmin(OperatorOnly, BaseUserAdmin, ModelAdmin):
    """People who sign in to this admin. What they may do follows from their memberships."""

    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    list_display = ("username", "name", "email", "rights", "is_active", "last_login")
    list_filter = ("is_superuser", "is_active")
    search_fields = ("username", "email", "first_name", "last_name")
    filter_horizontal = ()
    ordering = ("username",)
    readonly_fields = ("last_login", "date_joined")
    inlines = (MembershipInline,)
    fieldsets = (
        (None, {"fields": ("username", "password", "first_name", "last_name", "email")}),
        (
            "Rights",
            {
                "fields": ("is_active", "is_superuser", "is_staff"),
                "description": "A superuser runs the installation and sees all of it. Everybody else sees the"
                " organizations listed under memberships, and needs staff status to sign in here.",
            },
        ),
        ("Dates", {"fields": ("last_login", "date_joined")}),
    )
    add_fieldsets = ((None, {"fields": ("username", "email", "password1", "password2")}),)

    def get_queryset(self, request: HttpRequest) -> QuerySet[User]:
        return super().get_queryset(request).annotate(memberships_count=Count("memberships"))

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """The history names people: somebody who left is made inactive."""
        return False

    def save_model(self, request: HttpRequest, obj: User, form: Any, change: bool) -> None:
        """Who is added here is meant to sign in here."""
        if not change:
            obj.is_staff = True
        super().save_model(request, obj, form, change)

    def get_inlines(self, request: HttpRequest, obj: User | None) -> Any:
        """Memberships are given once the user is there."""
        return () if obj is None else self.inlines

    @column(description="Name")
    def name(self, obj: User) -> str:
        return obj.get_full_name() or DASH

    @column(description="Sees")
    def rights(self, obj: Any) -> str:
        if obj.is_superuser:
            return "everything"
        count = obj.memberships_count
        return f"{count} organization{'s' if count != 1 else ''}" if count and obj.is_staff else "nothing"


class LinesField(forms.CharField):
    """Several values, one per line; empty means no limit (None)."""

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("widget", UnfoldAdminTextareaWidget(attrs={"rows": 3}))
        super().__init__(required=False, max_length=100_000, **kwargs)

    def clean(self, value: Any) -> list[str] | None:
        """The lines, each once."""
        lines = [line.strip() for line in super().clean(value).replace(",", "\n").splitlines()]
        found = list(dict.fromkeys(line for line in lines if line))
        if len(found) > MAX_LINES:
            raise forms.ValidationError(f"At most {MAX_LINES} lines.")
        return found or None


class ApiKeyForm(ServiceForm):
    """A new key. Nothing of a key can be edited later."""

    scopes = forms.MultipleChoiceField(
        choices=[(scope, scope) for scope in SCOPES],
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
        help_text="What the key may do. Admin covers the queue and the limits of mailboxes.",
    )
    allowed_domains = LinesField(
        label="Only these domains", help_text="One per line. The key sees and makes mailboxes on these domains only."
    )

    def clean_allowed_domains(self) -> list[str] | None:
        """Domains as they are compared."""
        names: list[str] | None = self.cleaned_data["allowed_domains"]
        try:
            return None if names is None else [domain_key(name) for name in names]
        except InvalidDomain as error:
            raise forms.ValidationError(str(error)) from None


class ApiKeyAdmin(ScopedAdmin):
    """API keys: made here, shown once, revoked here.

    apps/console/api_keys.py registers it, with the mailboxes that a key may be narrowed to.
    """

    form = ApiKeyForm
    read_only_page = True
    list_display = ("name", "shown_prefix", "owner", "state", "scope_list", "last_used_at", "expires_at", "created_at")
    list_filter = (OrganizationFilter, KeyStatusFilter)
    list_select_related = ("organization",)
    search_fields = ("name", "prefix")
    search_help_text = "Name, or the first characters of the key"
    ordering = ("-id",)
    autocomplete_fields = ("organization",)
    add_fields: tuple[str, ...] = (
        "name", "organization", "scopes", "allowed_domains", "max_inboxes", "expires_at",
    )  # fmt: skip
    fields: ClassVar[Any] = (
        "name", "shown_prefix", "owner", "state", "scope_list", "allowed_domain_list", "max_inboxes", "used_count",
        "expires_at", "revoked_at", "last_used_at", "created_at",
    )  # fmt: skip
    actions = ["revoke_selected"]
    optional_fields: ClassVar[Any] = {
        "max_inboxes": "max_inboxes",
        "used_count": "max_inboxes",
        "expires_at": "expires_at",
        "revoked_at": "revoked_at",
    }
    help_texts: ClassVar[Any] = {
        "max_inboxes": "How many mailboxes the key may ever make. Empty: no limit.",
        "expires_at": "Empty: never.",
    }
    labels: ClassVar[Any] = {"max_inboxes": "Most mailboxes", "used_count": "Mailboxes made"}
    actions_detail: ClassVar[list[Any]] = ["revoke"]

    def get_fields(self, request: HttpRequest, obj: ApiKey | None = None) -> Any:
        """What a new key may say, or what a key is."""
        return self.add_fields if obj is None else self.fields

    def save_model(self, request: HttpRequest, obj: ApiKey, form: Any, change: bool) -> None:
        """Make the key; its secret lives until the answer to this request is written."""
        if change:
            return
        key, secret = create_api_key(
            organization=obj.organization,
            name=obj.name,
            scopes=form.cleaned_data["scopes"],
            allowed_domains=form.cleaned_data["allowed_domains"],
            inbox_ids=form.cleaned_data.get("inboxes"),
            max_inboxes=obj.max_inboxes,
            expires_at=obj.expires_at,
            now=timezone.now(),
        )
        adopt(obj, key)
        request.new_secret = secret  # type: ignore[attr-defined]

    def response_add(self, request: HttpRequest, obj: ApiKey, post_url_continue: str | None = None) -> HttpResponse:
        """Show the secret in this very answer: a redirect would have to keep it in a cookie or in the database."""
        context = {
            **self.admin_site.each_context(request),
            "title": "The new API key",
            "opts": self.opts,
            "key": obj,
            "secret": getattr(request, "new_secret", ""),
            "api_url": settings.MAILHOST_PUBLIC_URL,
        }
        response = TemplateResponse(request, "accounts/new_key.html", context)
        response["Cache-Control"] = "no-store"
        return response

    @page_action(
        description="Revoke",
        explanation="Whoever uses this key is refused from the next request on. This cannot be undone.",
        submit="Revoke the key",
        icon="key_off",
        applies_to=lambda key: key.revoked_at is None,
    )
    def revoke(self, request: HttpRequest, obj: ApiKey, form: DialogForm) -> str:
        """End the key at once."""
        revoke_api_key(key=obj, now=timezone.now())
        return f"The key {obj} is revoked."

    @admin.action(description="Revoke the selected keys", permissions=["change"])
    def revoke_selected(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        """End several keys at once."""
        keys = list(self.changeable(request, queryset).filter(revoked_at__isnull=True))
        for key in keys:
            revoke_api_key(key=key, now=timezone.now())
            self.log_change(request, key, "Revoked.")
        messages.success(request, f"{len(keys)} {'keys are' if len(keys) != 1 else 'key is'} revoked.")

    @column(description="Key")
    def shown_prefix(self, obj: ApiKey) -> str:
        """The first characters, to recognise it by."""
        return format_html('<code class="mh-code mh-line">{}…</code>', obj.prefix)

    @column(description="Organization", ordering="organization__name")
    def owner(self, obj: ApiKey) -> str:
        """The organization, or that there is none."""
        return str(obj.organization) if obj.organization else "Platform key"

    @column(description="Status")
    def state(self, obj: ApiKey) -> str:
        """Active, expired or revoked."""
        if obj.revoked_at is not None:
            return status_label("revoked")
        return status_label("expired" if obj.is_expired(timezone.now()) else "active")

    @column(description="Scopes")
    def scope_list(self, obj: ApiKey) -> str:
        """The scopes, or that it has all."""
        return "all scopes" if len(obj.scopes) == len(SCOPES) else ", ".join(obj.scopes) or DASH

    @column(description="Only these domains")
    def allowed_domain_list(self, obj: ApiKey) -> str:
        """What it is narrowed to."""
        return "Any" if obj.allowed_domains is None else ", ".join(obj.allowed_domains)
