"""Admin pages: mailboxes, their status, limits and counters.

apps/delivery/admin.py registers the page, with what ends a mailbox together with its queue and its mail.
"""

from collections.abc import Callable
from typing import Any, ClassVar, cast

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.utils import timezone
from unfold.widgets import UnfoldAdminTextInputWidget

from apps.accounts.admin_scope import OrganizationFilter, ScopedAdmin
from apps.core.admin_base import (
    ActionForm,
    DialogForm,
    ReasonForm,
    ServiceForm,
    adopt,
    column,
    error_text,
    page_action,
    status_label,
)
from apps.core.errors import DomainError
from apps.core.limit_forms import RampForm, describe_ramp
from apps.mailboxes.models import Mailbox
from apps.mailboxes.services import (
    NewMailbox,
    create_mailbox,
    next_midnight,
    reinstate_mailbox,
    suspend_mailbox,
    update_mailbox,
    warm_up_mailbox,
)

MAX_SELECTED = 1000
EDITABLE = ("display_name", "daily_send_limit")
_Status = Mailbox.Status


class MailboxForm(ServiceForm):
    """A new mailbox, of which everything but the organization may be left out, or the changes to one."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name, help_text in (
            ("username", "The part before the @. Empty: a readable one is made up."),
            ("domain", "A verified domain of the organization, or a shared one. Empty: the default domain."),
        ):
            if name in self.fields:
                self.fields[name].required = False
                self.fields[name].help_text = help_text


class MailboxRampForm(RampForm):
    """The warm-up of a mailbox."""

    model = Mailbox


class MailboxActionForm(ActionForm):
    """The choice of an action, and why, where the action tells the organization why."""

    reason = forms.CharField(
        label="",
        required=False,
        max_length=500,
        widget=UnfoldAdminTextInputWidget(
            attrs={"placeholder": "Reason", "aria-label": "Reason", "x-show": "action == 'suspend_selected'"}
        ),
    )


def _has_status(*statuses: str) -> Callable[[Mailbox], bool]:
    return lambda mailbox: mailbox.status in statuses


class MailboxAdmin(ScopedAdmin):
    """Addresses that send and receive."""

    form = MailboxForm
    action_form = MailboxActionForm
    list_display = ("address", "owner", "state", "today", "sent", "received", "bounces", "complaints", "created_at")
    list_filter = ("status", OrganizationFilter)
    list_select_related = ("organization", "usage")
    search_fields = ("address", "display_name")
    search_help_text = "Address or display name"
    ordering = ("-id",)
    sortable_by = ("address", "created_at", "sent", "bounces", "complaints", "received")
    autocomplete_fields = ("organization", "domain")
    fieldsets: ClassVar[Any] = (
        (
            None,
            {
                "fields": (
                    "address",
                    "owner",
                    "state",
                    "suspended_reason",
                    "display_name",
                    "daily_send_limit",
                    "warm_up_shown",
                )
            },
        ),
        ("Counters", {"fields": ("usage_table",)}),
        ("More", {"fields": ("client_id", "webhook_url", "metadata", "created_at", "updated_at", "deleted_at")}),
    )
    optional_fields: ClassVar[Any] = {
        name: name for name in ("suspended_reason", "client_id", "webhook_url", "metadata", "deleted_at")
    } | {"warm_up_shown": "ramp_since"}
    help_texts: ClassVar[Any] = {"address": ""}
    add_fieldsets = ((None, {"fields": ("organization", "username", "domain", "display_name", "daily_send_limit")}),)
    readonly_fields = (
        "address", "owner", "state", "suspended_reason", "warm_up_shown", "usage_table", "client_id", "webhook_url",
        "metadata", "created_at", "updated_at", "deleted_at",
    )  # fmt: skip
    actions: Any = ["pause_selected", "activate_selected", "suspend_selected", "reinstate_selected"]
    actions_detail: ClassVar[list[Any]] = ["pause", "activate", "suspend", "reinstate", "warm_up"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Mailbox]:
        """With what every page shows beside the mailbox."""
        return super().get_queryset(request).select_related("organization", "usage", "domain")

    def save_model(self, request: HttpRequest, obj: Mailbox, form: Any, change: bool) -> None:
        """Services make and change mailboxes."""
        now = timezone.now()
        if change:
            changes = {name: form.cleaned_data[name] for name in EDITABLE if name in form.changed_data}
            adopt(obj, update_mailbox(mailbox=obj, changes=changes, now=now))
            return
        wanted = NewMailbox(
            username=obj.username or None,
            domain=obj.domain.name if obj.domain_id else None,
            display_name=obj.display_name,
            daily_send_limit=obj.daily_send_limit,
        )
        adopt(obj, create_mailbox(organization=obj.organization, wanted=wanted, now=now)[0])

    @page_action(
        description="Pause",
        explanation="The mailbox goes on receiving, but does not send. Its agent can activate it again.",
        submit="Pause the mailbox",
        icon="pause_circle",
        applies_to=_has_status(_Status.ACTIVE),
    )
    def pause(self, request: HttpRequest, obj: Mailbox, form: DialogForm) -> str:
        """Stop it from sending."""
        update_mailbox(mailbox=obj, changes={"status": _Status.PAUSED}, now=timezone.now())
        return f"{obj.address} is paused."

    @page_action(
        description="Activate",
        explanation="The mailbox sends again.",
        submit="Activate the mailbox",
        icon="play_circle",
        applies_to=_has_status(_Status.PAUSED),
    )
    def activate(self, request: HttpRequest, obj: Mailbox, form: DialogForm) -> str:
        """Let it send again."""
        update_mailbox(mailbox=obj, changes={"status": _Status.ACTIVE}, now=timezone.now())
        return f"{obj.address} is active."

    @page_action(
        description="Suspend",
        explanation="The mailbox neither sends nor receives until somebody reinstates it here. Its agent cannot.",
        submit="Suspend the mailbox",
        icon="block",
        form_class=ReasonForm,
        applies_to=_has_status(_Status.ACTIVE, _Status.PAUSED),
    )
    def suspend(self, request: HttpRequest, obj: Mailbox, form: DialogForm) -> str:
        """Stop it from sending and receiving."""
        reason = form.cleaned_data["reason"]
        suspend_mailbox(mailbox=obj, reason=reason, now=timezone.now())
        return f"{obj.address} is suspended: {reason}"

    @page_action(
        description="Reinstate",
        explanation="The mailbox sends and receives again.",
        submit="Reinstate the mailbox",
        icon="check_circle",
        applies_to=_has_status(_Status.SUSPENDED),
    )
    def reinstate(self, request: HttpRequest, obj: Mailbox, form: DialogForm) -> str:
        """Let it work again."""
        self.reinstate_one(obj)
        return f"{obj.address} is reinstated."

    @page_action(
        description="Warm-up",
        explanation="The daily limit begins small and grows day by day, so that other servers get to know the address."
        " The mailbox's own limit holds beside it. Leave everything empty to end it.",
        submit="Set the warm-up",
        icon="trending_up",
        form_class=MailboxRampForm,
        applies_to=lambda mailbox: mailbox.deleted_at is None,
    )
    def warm_up(self, request: HttpRequest, obj: Mailbox, form: DialogForm) -> str:
        """Begin, change or end it."""
        ramp = cast(RampForm, form).ramp
        warm_up_mailbox(mailbox=obj, ramp=ramp, now=timezone.now())
        return f"Warm-up of {obj.address}: {describe_ramp(ramp)}."

    @admin.action(description="Pause", permissions=["change"])
    def pause_selected(self, request: HttpRequest, queryset: QuerySet[Mailbox]) -> None:
        """Stop several from sending."""
        self._set_status(request, queryset.filter(status=_Status.ACTIVE), _Status.PAUSED)

    @admin.action(description="Activate (end a pause)", permissions=["change"])
    def activate_selected(self, request: HttpRequest, queryset: QuerySet[Mailbox]) -> None:
        """Let several send again."""
        self._set_status(request, queryset.filter(status=_Status.PAUSED), _Status.ACTIVE)

    @admin.action(description="Suspend", permissions=["change"])
    def suspend_selected(self, request: HttpRequest, queryset: QuerySet[Mailbox]) -> None:
        """Stop several from sending and receiving."""
        reason = request.POST.get("reason", "").strip()[:500]
        if not reason:
            messages.error(request, "Say why: the reason is shown to the organization. Nothing was suspended.")
            return
        now = timezone.now()
        self._for_each(
            request,
            queryset,
            f"suspended: {reason}",
            lambda mailbox: suspend_mailbox(mailbox=mailbox, reason=reason, now=now),
        )

    @admin.action(description="Reinstate (end a suspension)", permissions=["change"])
    def reinstate_selected(self, request: HttpRequest, queryset: QuerySet[Mailbox]) -> None:
        """Let several work again."""
        self._for_each(request, queryset, "reinstated", self.reinstate_one)

    def reinstate_one(self, mailbox: Mailbox) -> bool:
        """Let one work again; whether it was suspended."""
        return reinstate_mailbox(mailbox=mailbox, now=timezone.now())

    def _set_status(self, request: HttpRequest, queryset: QuerySet[Mailbox], status: str) -> None:
        now = timezone.now()

        def change(mailbox: Mailbox) -> bool:
            update_mailbox(mailbox=mailbox, changes={"status": status}, now=now)
            return True

        self._for_each(request, queryset, str(status), change)

    def _for_each(
        self, request: HttpRequest, queryset: QuerySet[Mailbox], done: str, change: Callable[[Mailbox], bool]
    ) -> None:
        """Change each, at most a thousand, and say how many were changed; `change` says whether it did."""
        changed = []
        for mailbox in self.changeable(request, queryset)[:MAX_SELECTED]:
            try:
                if change(mailbox):
                    changed.append(mailbox)
            except DomainError as error:
                messages.error(request, f"{mailbox.address}: {error_text(error)}")
        self.log_changes(request, changed, done)
        count = len(changed)
        messages.success(request, f"{count} {'mailboxes are' if count != 1 else 'mailbox is'} now {done}.")

    @column(description="Organization", ordering="organization__name")
    def owner(self, obj: Mailbox) -> str:
        """Whose it is."""
        return str(obj.organization)

    @column(description="Warm-up")
    def warm_up_shown(self, obj: Mailbox) -> str:
        return f"{describe_ramp(obj.ramp)}, since {obj.ramp_since}"

    @column(description="Status")
    def state(self, obj: Mailbox) -> str:
        """Active, paused, suspended or deleted."""
        return status_label(obj.status)

    @column(description="Sends today")
    def today(self, obj: Mailbox) -> str:
        """Of the limit."""
        today = timezone.now().date()
        used, limit = obj.usage.sends_on(today), obj.limit_on(today)
        return f"{used} of {limit}" if limit is not None else f"{used}, no limit"

    @column(description="Sent", ordering="usage__total_sent")
    def sent(self, obj: Mailbox) -> int:
        return obj.usage.total_sent

    @column(description="Received", ordering="usage__total_received")
    def received(self, obj: Mailbox) -> int:
        return obj.usage.total_received

    @column(description="Bounces", ordering="usage__bounce_count")
    def bounces(self, obj: Mailbox) -> int:
        return obj.usage.bounce_count

    @column(description="Complaints", ordering="usage__complaint_count")
    def complaints(self, obj: Mailbox) -> int:
        return obj.usage.complaint_count

    @column(description="So far")
    def usage_table(self, obj: Mailbox) -> str:
        """Every counter of the mailbox."""
        now = timezone.now()
        used = obj.usage.sends_on(now.date())
        limit = obj.limit_on(now.date())
        context = {
            "usage": obj.usage,
            "used": used,
            "limit": limit,
            "left": None if limit is None else max(limit - used, 0),
            "resets_at": next_midnight(now),
        }
        return render_to_string("mailboxes/usage.html", context)
