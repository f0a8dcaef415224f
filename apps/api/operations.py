"""A dialect's operations as a table: the addresses and the coverage in its README are made from it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.urls import URLPattern, path, register_converter
from django.views import View


class AddressConverter:
    """A mail address in a path, or what stands for one: a local part may hold a slash, which comes unescaped."""

    regex = r"(?:[^/]+|[^@]+@[^/@]+)"

    def to_python(self, value: str) -> str:
        return value

    def to_url(self, value: str) -> str:
        return value


register_converter(AddressConverter, "address")


@dataclass(frozen=True, slots=True)
class Operation:
    """One call of a vendor's API: `path` relative to the dialect's root, in Django's syntax.

    An operation without a view is not served; `why_not` says why, and the address answers "not supported".
    """

    method: str
    path: str
    view: type[View] | None
    note: str = ""
    why_not: str = ""


def build_urls(operations: Sequence[Operation], *, refuse: type[View], missing: type[View]) -> list[URLPattern]:
    """The addresses of a dialect. `refuse` answers what is known and not supported, `missing` everything else.

    An address with a trailing slash is the same address: some vendors' servers accept both.
    """
    patterns: list[URLPattern] = []
    views: dict[str, Any] = {}
    for operation in operations:
        views.setdefault(operation.path, operation.view or refuse)
        if operation.view is not None and views[operation.path] is refuse:
            views[operation.path] = operation.view
    for address, view in views.items():
        patterns += [path(address, view.as_view()), path(f"{address}/", view.as_view())]
    patterns += [path("", missing.as_view()), path("<path:rest>", missing.as_view())]
    return patterns


def write_coverage(operations: Sequence[Operation]) -> str:
    """The coverage table in Markdown: operation, supported, why not."""
    rows = [
        f"| `{operation.method} /{_shown(operation.path)}` | {'yes' if operation.view else 'no'} |"
        f" {operation.note or operation.why_not} |"
        for operation in operations
    ]
    return "\n".join(["| operation | supported | note |", "|---|---|---|", *rows])


def _shown(address: str) -> str:
    """`inboxes/<str:inbox_id>` as `inboxes/{inbox_id}`."""
    parts = []
    for part in address.split("/"):
        if part.startswith("<"):
            name = part.strip("<>").partition(":")[2] or part.strip("<>")
            part = f"{{{name}}}"
        parts.append(part)
    return "/".join(parts)
