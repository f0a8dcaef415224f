"""Lists of tables of any size: newest first, paged by place instead of by number, never counted, bounded in time."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, ClassVar
from uuid import UUID

from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.core.paginator import Paginator
from django.db import OperationalError, connection, transaction
from django.db.models import Model, Q, QuerySet
from django.http import HttpRequest
from django.utils import timezone
from psycopg.errors import QueryCanceled

from apps.core.admin_base import ChangeList, ServiceAdmin
from apps.core.ids import decode_id, id_floor

__all__ = [
    "LargeTableAdmin",
    "LinkedFilter",
    "MailboxFilter",
    "PeriodFilter",
    "PlacedChangeList",
    "read_id",
]

OLDER = "older"
"""The query parameter that says below which place the page begins."""
LIST_TIMEOUT = timedelta(seconds=10)
_TOO_SLOW = "This list took longer than 10 seconds. Choose a time, or another filter that narrows it."
_MAX_TEXT = 320


class PlacePaginator(Paginator):  # type: ignore[type-arg]
    """Only names the template: there are no page numbers to count."""

    template_name = "core/older_newer.html"
    count = 0


class PlacedChangeList(ChangeList):
    """A page of rows that begins below a place: page 10,000 costs what page 1 does, and nothing is skipped when rows
    are added meanwhile."""

    model_admin: Any
    older_url = ""
    newest_url = ""

    def get_filters_params(self, params: Any = None) -> dict[str, Any]:
        """The place is not a filter."""
        lookups: dict[str, Any] = super().get_filters_params(params)
        lookups.pop(OLDER, None)
        return lookups

    def get_ordering(self, request: HttpRequest, queryset: QuerySet[Any]) -> list[Any]:
        """Always by place: another order would sort the whole table."""
        return [f"-{field}" for field in self.model_admin.get_place(request)]

    def get_results(self, request: HttpRequest) -> None:
        """Read one row more than the page shows, to know whether there is an older page."""
        token = request.GET.get(OLDER, "")
        place = self.model_admin.get_place(request)
        rows = self._read_rows(request, _below(self.model, place, token, self.queryset))
        self.result_list = rows[: self.list_per_page]
        if len(rows) > self.list_per_page:
            last = self.result_list[-1]
            self.older_url = self.get_query_string({OLDER: "~".join(str(getattr(last, field)) for field in place)})
        if token:
            self.newest_url = self.get_query_string(remove=[OLDER])
        self.model_admin.complete_rows(self.result_list)
        self.result_count = len(self.result_list)
        self.full_result_count = self.result_count
        self.show_full_result_count = False
        self.show_admin_actions = True
        self.can_show_all = self.multi_page = False
        self.paginator = PlacePaginator(self.result_list, self.list_per_page)

    def _read_rows(self, request: HttpRequest, queryset: QuerySet[Any]) -> list[Any]:
        try:
            with transaction.atomic(), connection.cursor() as cursor:
                milliseconds = int(LIST_TIMEOUT.total_seconds() * 1000)
                cursor.execute("SELECT set_config('statement_timeout', %s, true)", [str(milliseconds)])
                return list(queryset[: self.list_per_page + 1])
        except OperationalError as error:
            if not isinstance(error.__cause__, QueryCanceled):
                raise
            messages.warning(request, _TOO_SLOW)
            return []


def _below(model: type[Model], place: Sequence[str], token: str, queryset: QuerySet[Any]) -> QuerySet[Any]:
    """The rows below a place; a token that is none begins at the newest."""
    if not token:
        return queryset
    try:
        values = [
            model._meta.get_field(name).to_python(text)  # type: ignore[union-attr]
            for name, text in zip(place, token.split("~"), strict=True)
        ]
    except (ValidationError, ValueError):
        return queryset
    if len(place) == 1:
        return queryset.filter(**{f"{place[0]}__lt": values[0]})
    (first, second), (head, tail) = place, values
    beside = Q(**{first: head, f"{second}__lt": tail})
    return queryset.filter(Q(**{f"{first}__lt": head}) | beside, **{f"{first}__lte": head})


class LargeTableAdmin(ServiceAdmin):
    """The list of a table that may hold millions of rows, read-only but for its actions."""

    ordering = ("-id",)
    sortable_by = ()
    list_disable_select_all = True
    show_facets = admin.ShowFacets.NEVER

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> Any:
        """Pages by place."""
        return PlacedChangeList

    def get_place(self, request: HttpRequest) -> Sequence[str]:
        """The columns, one or two, that the list is ordered by, newest first: an index has to lead with them, or with
        what the request narrows the list to."""
        return ("id",)

    def complete_rows(self, rows: Sequence[Any]) -> None:
        """Attach to a page's rows what one query for all of them can bring."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Rows come from mail, never from a form."""
        return False


class PeriodFilter(admin.SimpleListFilter):
    """By age, through the UUIDv7 key, which is an index range."""

    title = "time"
    parameter_name = "period"
    _PERIODS: ClassVar[dict[str, tuple[str, timedelta]]] = {
        "hour": ("Last hour", timedelta(hours=1)),
        "day": ("Last 24 hours", timedelta(days=1)),
        "week": ("Last 7 days", timedelta(days=7)),
        "month": ("Last 30 days", timedelta(days=30)),
    }

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, title) for name, (title, _) in self._PERIODS.items()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        period = self._PERIODS.get(self.value() or "")
        return queryset if period is None else queryset.filter(id__gte=id_floor(timezone.now() - period[1]))


class LinkedFilter(admin.SimpleListFilter):
    """By the id of something else, for links that lead here; offered only while it is used."""

    field: ClassVar[str]

    def lookups(self, request: HttpRequest, model_admin: Any) -> Sequence[tuple[str, str]]:
        return [(self.value() or "", "The chosen one")] if self.value() else ()

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if not self.value():
            return queryset
        try:
            return queryset.filter(**{self.field: UUID(self.value() or "")})
        except ValueError:
            return queryset.none()


class MailboxFilter(LinkedFilter):
    """By mailbox."""

    title = "mailbox"
    parameter_name = "mailbox"
    field = "mailbox_id"


def read_id(text: str, *prefixes: str) -> UUID | None:
    """The id that a person pasted: a TypeID of one of these prefixes, or a UUID; else None."""
    text = text.strip()[:_MAX_TEXT]
    for prefix in prefixes:
        found = decode_id(prefix, text)
        if found is not None:
            return found
    try:
        return UUID(text)
    except ValueError:
        return None
