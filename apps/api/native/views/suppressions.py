"""Suppressions: the addresses that an organization does not write to.

They hold for all of its mail, so a key that is narrowed to some inboxes neither sees nor changes them.
"""

import csv
import io
import json
from collections.abc import Iterator
from typing import Any, ClassVar

from django.db.models import QuerySet
from django.http import HttpResponse, StreamingHttpResponse
from drf_spectacular.utils import OpenApiResponse
from rest_framework.request import Request

from apps.accounts.errors import ScopeDenied
from apps.api.answers import answer_json
from apps.api.cursors import read_page
from apps.api.native import schemas
from apps.api.native.auth import is_narrowed
from apps.api.native.inputs import NewSuppressionInput, Query, SuppressionImport, read_input
from apps.api.native.openapi import ASCENDING, PAGING, describe, query
from apps.api.native.outputs import show_suppression
from apps.api.native.views.base import NativeView, answer_list
from apps.core.errors import NotFound
from apps.core.ids import decode_id
from apps.delivery.models import Suppression
from apps.delivery.selectors import live_suppressions
from apps.delivery.services import NewSuppression, create_suppression, import_suppressions, remove_suppression
from mailhost.address import parse_address
from mailhost.errors import InvalidAddress

_FILTERS = ("reason", "q")
_FILTER_PARAMS = (
    query("reason", "Only entries of this reason.", enum=Suppression.Reason.values),
    query("q", "Part of the address."),
)
_COLUMNS = ("address", "reason", "source", "expires_at", "created_at")
_EXPORT_BATCH = 1000
_EXPORTS = {"csv": "text/csv; charset=utf-8", "jsonl": "application/jsonl"}


class SuppressionView(NativeView):
    """What all views of suppressions share."""

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        if is_narrowed(self.key):
            raise ScopeDenied("Suppressions hold for the whole organization, and this key is narrowed to some inboxes.")

    @property
    def entries(self) -> QuerySet[Suppression]:
        """The organization's entries that are in force."""
        return live_suppressions(organization_id=self.organization.id, now=self.now)

    def read_filters(self, read: Query) -> QuerySet[Suppression]:
        """The entries that the query asks for."""
        entries = self.entries
        if reason := read.choice("reason", Suppression.Reason.values):
            entries = entries.filter(reason=reason)
        if part := read.text("q", max_length=320):
            entries = entries.filter(address__icontains=part)
        return entries

    def find(self, suppression: str) -> Suppression:
        """An entry by its id or its address; raises NotFound, also for what belongs to someone else."""
        entry_id = decode_id("sup", suppression)
        if entry_id is not None:
            found = self.entries.filter(id=entry_id).first()
        else:
            try:
                found = self.entries.filter(address_key=parse_address(suppression).key).first()
            except InvalidAddress:
                found = None
        if found is None:
            raise NotFound("There is no such suppression in your organization.")
        return found


class SuppressionList(SuppressionView):
    """GET and POST /v1/suppressions."""

    scopes: ClassVar = {"GET": "suppressions:read", "POST": "suppressions:write"}

    @describe(
        "list_suppressions",
        "List suppressed addresses, newest first",
        answer=schemas.page_of(schemas.Suppression),
        errors=["invalid_cursor"],
        params=[*PAGING, ASCENDING, *_FILTER_PARAMS],
        tag="Suppressions",
    )
    def get(self, request: Request) -> HttpResponse:
        read = Query(request._request, allowed=_FILTERS)
        entries = self.read_filters(read)
        rows, cursor = read_page(entries, read.page("suppressions", owner=self.organization.id))
        return answer_list([show_suppression(row) for row in rows], cursor)

    @describe(
        "create_suppression",
        "Suppress an address; an entry that stands already and weighs more stays as it is",
        request=NewSuppressionInput,
        answer=schemas.Suppression(),
        status=201,
        also={200: schemas.Suppression()},
        tag="Suppressions",
        examples={"By hand": {"address": "ann@example.com", "source": "Asked by phone."}},
    )
    def post(self, request: Request) -> HttpResponse:
        values = read_input(NewSuppressionInput, self.read_body())
        entry, created = create_suppression(organization=self.organization, wanted=_read_entry(values), now=self.now)
        return answer_json(show_suppression(entry), status=201 if created else 200)


def _read_entry(values: dict[str, Any]) -> NewSuppression:
    return NewSuppression(
        address=values["address"],
        reason=values["reason"],
        source=values.get("source") or "",
        expires_at=values.get("expires_at"),
    )


class OneSuppression(SuppressionView):
    """GET and DELETE /v1/suppressions/{suppression}."""

    scopes: ClassVar = {"GET": "suppressions:read", "DELETE": "suppressions:write"}

    @describe(
        "get_suppression",
        "Whether an address is suppressed, and why",
        answer=schemas.Suppression(),
        errors=["not_found"],
        tag="Suppressions",
    )
    def get(self, request: Request, suppression: str) -> HttpResponse:
        Query(request._request, allowed=())
        return answer_json(show_suppression(self.find(suppression)))

    @describe(
        "delete_suppression",
        "Let an address be written to again",
        status=204,
        errors=["not_found"],
        tag="Suppressions",
    )
    def delete(self, request: Request, suppression: str) -> HttpResponse:
        remove_suppression(suppression=self.find(suppression))
        return HttpResponse(status=204)


class ImportSuppressions(SuppressionView):
    """POST /v1/suppressions/import."""

    scopes: ClassVar = {"POST": "suppressions:write"}

    @describe(
        "import_suppressions",
        "Suppress up to 1,000 addresses, all or none",
        request=SuppressionImport,
        answer=schemas.Imported(),
        tag="Suppressions",
        examples={
            "From elsewhere": {
                "suppressions": [
                    {"address": "ann@example.com", "reason": "unsubscribe", "source": "the old system"},
                    {"address": "bob@example.com", "reason": "hard_bounce"},
                ]
            }
        },
    )
    def post(self, request: Request) -> HttpResponse:
        entries = [_read_entry(values) for values in read_input(SuppressionImport, self.read_body())["suppressions"]]
        imported = import_suppressions(organization=self.organization, wanted=entries, now=self.now)
        return answer_json({"imported": imported, "unchanged": len(entries) - imported})


class ExportSuppressions(SuppressionView):
    """GET /v1/suppressions/export."""

    scopes: ClassVar = {"GET": "suppressions:read"}

    @describe(
        "export_suppressions",
        "All suppressed addresses as a file, oldest first",
        answer=OpenApiResponse(str, description="Address, reason, source, expires_at and created_at of each."),
        media=[media_type.partition(";")[0] for media_type in _EXPORTS.values()],
        params=[
            query("format", "CSV with a header line, or a JSON object a line. Default: csv.", enum=list(_EXPORTS)),
            *_FILTER_PARAMS,
        ],
        tag="Suppressions",
    )
    def get(self, request: Request) -> StreamingHttpResponse:
        read = Query(request._request, allowed=(*_FILTERS, "format"))
        kind = read.choice("format", list(_EXPORTS)) or "csv"
        write = _write_csv if kind == "csv" else _write_jsonl
        headers = {"Content-Disposition": f'attachment; filename="suppressions.{kind}"', "Cache-Control": "no-store"}
        chunks = write(_read_batches(self.read_filters(read)))
        return StreamingHttpResponse(chunks, content_type=_EXPORTS[kind], headers=headers)


def _read_batches(entries: QuerySet[Suppression]) -> Iterator[list[dict[str, Any]]]:
    """All of them, a thousand a query, each query from where the last one ended: a list of any size costs no memory."""
    rows = entries.order_by("id")
    batch = list(rows[:_EXPORT_BATCH])
    while batch:
        yield [show_suppression(row) for row in batch]
        batch = list(rows.filter(id__gt=batch[-1].id)[:_EXPORT_BATCH]) if len(batch) == _EXPORT_BATCH else []


def _write_csv(batches: Iterator[list[dict[str, Any]]]) -> Iterator[bytes]:
    yield (",".join(_COLUMNS) + "\r\n").encode()
    for batch in batches:
        lines = io.StringIO()
        csv.writer(lines).writerows([[row[name] for name in _COLUMNS] for row in batch])
        yield lines.getvalue().encode()


def _write_jsonl(batches: Iterator[list[dict[str, Any]]]) -> Iterator[bytes]:
    for batch in batches:
        lines = (json.dumps({name: row[name] for name in _COLUMNS}, ensure_ascii=False) for row in batch)
        yield "".join(f"{line}\n" for line in lines).encode()
