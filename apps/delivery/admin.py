"""Admin pages: the queue (deliveries and their attempts), and what other pages gain by it: recipients on a message,
the end of a mailbox."""

from collections.abc import Callable
from typing import Any, ClassVar

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html

from apps.accounts.admin_scope import OrganizationFilter, ScopedAdmin
from apps.core.admin_base import DASH, DialogForm, column, page_action, status_label
from apps.core.admin_lists import LargeTableAdmin, MailboxFilter, PeriodFilter, read_id
from apps.delivery import admin_suppressions  # noqa: F401 - registers its page
from apps.delivery.models import Delivery, Lane
from apps.delivery.selectors import Recipient, list_recipients
from apps.delivery.services import (
    cancel_waiting,
    delete_mailbox,
    hold_waiting,
    reinstate_sending,
    release_held,
    retry_now,
)
from apps.delivery.states import DeliveryStatus, sources_of
from apps.mail.admin import MessageAdmin
from apps.mail.models import Message
from apps.mailboxes.admin import MailboxAdmin
from apps.mailboxes.models import Mailbox

IN_QUEUE = (
    DeliveryStatus.SCHEDULED,
    DeliveryStatus.HELD,
    DeliveryStatus.QUEUED,
    DeliveryStatus.SENDING,
    DeliveryStatus.DEFERRED,
)
MAX_LANES = 1000
MAX_LOGGED = 1000
_SHOWN_REPLY = 160


class StatusFilter(admin.SimpleListFilter):
    """By status, or all that has not ended."""

    title = "status"
    parameter_name = "status"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("in_queue", "In the queue"), *((status.value, status.value) for status in DeliveryStatus)]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Delivery]) -> QuerySet[Delivery]:
        if self.value() == "in_queue":
            return queryset.filter(status__in=IN_QUEUE)
        return queryset.filter(status=self.value()) if self.value() else queryset


class DestinationFilter(admin.SimpleListFilter):
    """By destination, for links that lead here; offered only while it is used. People type it into the search."""

    title = "destination"
    parameter_name = "destination"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(self.value() or "", self.value() or "")] if self.value() else []

    def queryset(self, request: HttpRequest, queryset: QuerySet[Delivery]) -> QuerySet[Delivery]:
        return _going_to(queryset, self.value() or "") if self.value() else queryset


def _going_to(queryset: QuerySet[Delivery], destination: str) -> QuerySet[Delivery]:
    """Lanes are few and found by name; what is in them follows."""
    lanes = Lane.objects.filter(destination=destination.strip().lower()).values_list("id", flat=True)
    return queryset.filter(lane_id__in=list(lanes[:MAX_LANES]))


def _may_become(*targets: DeliveryStatus) -> Callable[[Delivery], bool]:
    states = {state for target in targets for state in sources_of(target)}
    return lambda delivery: delivery.status in states


@admin.register(Delivery)
class DeliveryAdmin(LargeTableAdmin, ScopedAdmin):
    """One line per recipient of an outbound message, newest first."""

    read_only_page = True
    list_display = ("created_at", "state", "address", "destination", "sender", "tries", "reply", "next_try")
    list_display_links = ("address",)
    list_filter = (StatusFilter, DestinationFilter, PeriodFilter, OrganizationFilter, MailboxFilter)
    search_fields = ("id",)
    search_help_text = "Recipient, destination, or id"
    fieldsets = (
        (
            None,
            {
                "fields": (
                    "address", "kind", "state", "reason", "destination", "message_link", "sender", "created_at",
                    "next_try", "finished_at",
                ),
            },
        ),
        ("Attempts", {"fields": ("attempts",)}),
    )  # fmt: skip
    optional_fields: ClassVar[Any] = {
        "reason": "reason",
        "next_try": "next_attempt_at",
        "finished_at": "finished_at",
    }
    help_texts: ClassVar[Any] = {"reason": ""}
    actions = ["hold_selected", "release_selected", "retry_selected", "cancel_selected"]
    actions_detail: ClassVar[list[Any]] = ["hold", "release", "retry", "cancel"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Delivery]:
        """With lane, message and mailbox, by one query."""
        return super().get_queryset(request).select_related("lane", "message__mailbox")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """By id through an index; by recipient or destination newest first, bounded in time as every list is."""
        term = search_term.strip()
        if not term:
            return queryset, False
        message_id = read_id(term, "msg")
        if message_id is not None:
            by_message = queryset.filter(message_id=message_id)
            return by_message if by_message.exists() else queryset.filter(id=message_id), False
        return queryset.filter(address__iexact=term) if "@" in term else _going_to(queryset, term), False

    @page_action(
        description="Hold",
        explanation="It stays in the queue and does not leave until somebody releases it.",
        submit="Hold",
        icon="front_hand",
        applies_to=_may_become(DeliveryStatus.HELD),
    )
    def hold(self, request: HttpRequest, obj: Delivery, form: DialogForm) -> str:
        """Keep it from leaving."""
        return _said(hold_waiting(deliveries=_only(obj)), obj, "is held")

    @page_action(
        description="Release",
        explanation="It leaves at once.",
        submit="Release",
        icon="send",
        applies_to=lambda delivery: delivery.status == DeliveryStatus.HELD,
    )
    def release(self, request: HttpRequest, obj: Delivery, form: DialogForm) -> str:
        """Send what is held."""
        return _said(release_held(deliveries=_only(obj), now=timezone.now()), obj, "is released")

    @page_action(
        description="Retry now",
        explanation="It is tried at once instead of at its time.",
        submit="Retry now",
        icon="replay",
        applies_to=lambda delivery: delivery.status == DeliveryStatus.DEFERRED,
    )
    def retry(self, request: HttpRequest, obj: Delivery, form: DialogForm) -> str:
        """Try what is deferred at once."""
        return _said(retry_now(deliveries=_only(obj), now=timezone.now()), obj, "is tried again now")

    @page_action(
        description="Cancel",
        explanation="It is never sent to this recipient. This cannot be undone.",
        submit="Cancel the delivery",
        icon="cancel",
        applies_to=_may_become(DeliveryStatus.CANCELED),
    )
    def cancel(self, request: HttpRequest, obj: Delivery, form: DialogForm) -> str:
        """End it unless it is on the wire."""
        return _said(cancel_waiting(deliveries=_only(obj), now=timezone.now()), obj, "is canceled")

    @admin.action(description="Hold", permissions=["change"])
    def hold_selected(self, request: HttpRequest, queryset: QuerySet[Delivery]) -> None:
        """Keep what waits from leaving."""
        self._operate(request, queryset, "held", lambda rows: hold_waiting(deliveries=rows))

    @admin.action(description="Release what is held", permissions=["change"])
    def release_selected(self, request: HttpRequest, queryset: QuerySet[Delivery]) -> None:
        """Send what is held."""
        now = timezone.now()
        self._operate(request, queryset, "released", lambda rows: release_held(deliveries=rows, now=now))

    @admin.action(description="Retry now what is deferred", permissions=["change"])
    def retry_selected(self, request: HttpRequest, queryset: QuerySet[Delivery]) -> None:
        """Try at once."""
        now = timezone.now()
        self._operate(request, queryset, "tried again now", lambda rows: retry_now(deliveries=rows, now=now))

    @admin.action(description="Cancel", permissions=["change"])
    def cancel_selected(self, request: HttpRequest, queryset: QuerySet[Delivery]) -> None:
        """End what is not yet on the wire."""
        now = timezone.now()
        self._operate(request, queryset, "canceled", lambda rows: cancel_waiting(deliveries=rows, now=now))

    def _operate(
        self,
        request: HttpRequest,
        queryset: QuerySet[Delivery],
        done: str,
        operate: Callable[[QuerySet[Delivery]], int],
    ) -> None:
        """Hand the selection to a service, which takes of it what is in the right state, and say how many it took."""
        ids = list(self.changeable(request, queryset).values_list("id", flat=True))
        rows = Delivery.objects.filter(id__in=ids)
        count = operate(rows)
        self.log_changes(request, list(rows[:MAX_LOGGED]), f"Among {len(ids)} selected: {done}")
        messages.success(request, f"{count} {'deliveries are' if count != 1 else 'delivery is'} {done}.")
        if count < len(ids):
            messages.info(request, f"{len(ids) - count} of the selected were not in a state for this.")

    @column(description="Status")
    def state(self, obj: Delivery) -> str:
        return status_label(obj.status)

    @column(description="Destination")
    def destination(self, obj: Delivery) -> str:
        """Where it goes, or that it never leaves."""
        return "a mailbox here" if obj.lane.destination == Lane.LOCAL else obj.lane.destination

    @column(description="From")
    def sender(self, obj: Delivery) -> str:
        return obj.message.mailbox.address

    @column(description="Attempts")
    def tries(self, obj: Delivery) -> int:
        return obj.attempt_count

    @column(description="Last reply")
    def reply(self, obj: Delivery) -> str:
        """The remote's last words."""
        words = " ".join(filter(None, (str(obj.last_code or ""), obj.last_enhanced_code, obj.last_text)))
        return words[:_SHOWN_REPLY] or DASH

    @column(description="Next attempt")
    def next_try(self, obj: Delivery) -> Any:
        """Only where there will be one."""
        return obj.next_attempt_at if obj.status in IN_QUEUE else None

    @column(description="Message")
    def message_link(self, obj: Delivery) -> str:
        """To the message's page."""
        url = reverse("admin:mail_message_change", args=[obj.message_id])
        return format_html('<a class="mh-link" href="{}">{}</a>', url, obj.message)

    @column(description="So far")
    def attempts(self, obj: Delivery) -> str:
        """The timeline of attempts."""
        recipient = list_recipients(deliveries=[obj])[0]
        return render_to_string("delivery/attempts.html", {"recipient": recipient})


def _only(delivery: Delivery) -> QuerySet[Delivery]:
    return Delivery.objects.filter(id=delivery.id)


def _said(count: int, delivery: Delivery, done: str) -> str:
    return f"The delivery to {delivery.address} {done}." if count else "It was not in a state for this any more."


@admin.register(Message)
class MessageWithRecipientsAdmin(MessageAdmin):
    """A message, with every recipient and every attempt."""

    def build_context(self, request: HttpRequest, message: Message) -> dict[str, Any]:
        """The content, and the recipients of an outbound message."""
        recipients: list[Recipient] | None = None
        if message.direction == Message.Direction.OUTBOUND:
            deliveries = Delivery.objects.filter(message_id=message.id).select_related("lane").order_by("id")
            recipients = list_recipients(deliveries=list(deliveries))
        return {**super().build_context(request, message), "recipients": recipients}


@admin.register(Mailbox)
class MailboxWithQueueAdmin(MailboxAdmin):
    """A mailbox, with what hangs on it: its mail and its queue."""

    fieldsets: ClassVar[Any] = (
        (
            None,
            {
                "fields": (
                    "address", "owner", "state", "suspended_reason", "display_name", "daily_send_limit",
                    "warm_up_shown", "links",
                )
            },
        ),
        *MailboxAdmin.fieldsets[1:],
    )  # fmt: skip
    readonly_fields: ClassVar[Any] = (*MailboxAdmin.readonly_fields, "links")
    actions_detail: ClassVar[list[Any]] = [
        *MailboxAdmin.actions_detail,
        {"title": "Remove", "icon": "delete", "items": ["delete_keeping_mail", "purge"]},
    ]

    def reinstate_one(self, mailbox: Mailbox) -> bool:
        """With what its queue held meanwhile."""
        return reinstate_sending(mailbox=mailbox, now=timezone.now())

    @page_action(
        description="Delete",
        explanation="The mailbox neither sends nor receives any more, and what waits in its queue is canceled. Its mail"
        " can still be read, and its address stays reserved. This cannot be undone.",
        submit="Delete the mailbox",
        icon="delete",
        applies_to=lambda mailbox: mailbox.deleted_at is None,
    )
    def delete_keeping_mail(self, request: HttpRequest, obj: Mailbox, form: DialogForm) -> str:
        """End it and keep its mail."""
        delete_mailbox(mailbox=obj, purge=False, now=timezone.now())
        return f"{obj.address} is deleted; its mail is kept."

    @page_action(
        description="Purge",
        explanation="The mailbox and all of its mail are erased. The address can be used again, for 30 days only by the"
        " same organization. This cannot be undone.",
        submit="Erase the mailbox and its mail",
        icon="delete_forever",
        applies_to=lambda mailbox: mailbox.address_key is not None,
    )
    def purge(self, request: HttpRequest, obj: Mailbox, form: DialogForm) -> str:
        """End it and erase its mail."""
        delete_mailbox(mailbox=obj, purge=True, now=timezone.now())
        return f"{obj.address} and its mail are erased."

    @column(description="See")
    def links(self, obj: Mailbox) -> str:
        """To what belongs to the mailbox."""
        lists = (
            ("Messages", "admin:mail_message_changelist"),
            ("Deliveries", "admin:delivery_delivery_changelist"),
            ("Events", "admin:events_event_changelist"),
        )
        shown = [
            format_html('<a class="mh-link" href="{}?mailbox={}">{}</a>', reverse(name), obj.pk, title)
            for title, name in lists
        ]
        return format_html("{} · {} · {}", *shown)
