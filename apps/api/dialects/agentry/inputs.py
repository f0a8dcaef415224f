"""What the vendors' clients send. Fields and parameters that we do not know are ignored, as the vendors do."""

import re
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from django.http import HttpRequest

from apps.accounts.models import ApiKey
from apps.api.cursors import ListKey, PageRequest
from apps.core.errors import ValidationFailed
from apps.mailboxes.models import Mailbox
from apps.mailboxes.services import NewMailbox

DEFAULT_LIMIT, MAX_LIMIT = 20, 100
_STATUSES = ("active", "paused")
_FLAGS = {"true": True, "1": True, "false": False, "0": False}
_UNNAMED_POD = "Unnamed pod"


def read_page_request(request: HttpRequest, key: ApiKey, name: str, *, pod_id: UUID | None = None) -> PageRequest:
    """`limit`, `page_token` and `ascending` of a list; a limit above 100 is 100."""
    given = request.GET.get("limit") or str(DEFAULT_LIMIT)
    if not re.fullmatch(r"[0-9]{1,9}", given) or int(given) == 0:
        raise ValidationFailed("limit", "limit is a whole number of at least 1.")
    ascending = _FLAGS.get((request.GET.get("ascending") or "false").lower())
    if ascending is None:
        raise ValidationFailed("ascending", "ascending is true or false.")
    filters = [("ascending", str(ascending)), ("pod", str(pod_id))]
    return PageRequest(
        key=ListKey(f"agentry.{name}", key.organization_id, filters),
        limit=min(int(given), MAX_LIMIT),
        ascending=ascending,
        cursor=request.GET.get("page_token") or None,
    )


def read_new_inbox(body: Mapping[str, Any], *, pod_id: UUID | None, is_agentmail: bool) -> NewMailbox:
    """The body of a creation; everything is optional. `status` and `metadata` are AgentMail's alone."""
    return NewMailbox(
        username=_text(body, "username") or None,
        domain=_text(body, "domain") or None,
        display_name=_text(body, "display_name") or "",
        client_id=_text(body, "client_id"),
        pod_id=pod_id,
        status=_status(body) if is_agentmail else Mailbox.Status.ACTIVE,
        metadata=_metadata(body) if is_agentmail else None,
    )


def read_inbox_changes(body: Mapping[str, Any], *, is_agentmail: bool) -> dict[str, Any]:
    """The body of an update. Agentry's needs `display_name`; AgentMail's one of three fields, and a `metadata` that
    is null removes all of it."""
    changes: dict[str, Any] = {}
    display_name = _text(body, "display_name")
    if display_name is not None:
        changes["display_name"] = display_name
    elif not is_agentmail:
        raise ValidationFailed("display_name", "display_name is required.")
    if is_agentmail:
        if body.get("status") is not None:
            changes["status"] = _status(body)
        if "metadata" in body:
            changes["metadata"] = _metadata(body)
            if changes["metadata"] == {}:
                raise ValidationFailed("metadata", "metadata is empty: name a key, or send null to remove all.")
        if not changes:
            raise ValidationFailed("", "Give display_name, status or metadata.")
    return changes


def read_new_pod(body: Mapping[str, Any]) -> tuple[str, str | None]:
    """Name and client_id of a pod; one without a name is called by its client_id."""
    client_id = _text(body, "client_id")
    if client_id == "":
        raise ValidationFailed("client_id", "client_id has 1 to 256 characters.")
    return _text(body, "name") or (client_id or _UNNAMED_POD)[:200], client_id


def _text(body: Mapping[str, Any], name: str) -> str | None:
    value = body.get(name)
    if value is not None and not isinstance(value, str):
        raise ValidationFailed(name, f"{name} is a string.")
    return value


def _status(body: Mapping[str, Any]) -> str:
    value = body.get("status")
    if value is None:
        return Mailbox.Status.ACTIVE
    if value not in _STATUSES:
        raise ValidationFailed("status", "status is active or paused.")
    return str(value)


def _metadata(body: Mapping[str, Any]) -> dict[str, Any] | None:
    """Names with strings, numbers and booleans; null removes a name."""
    value = body.get("metadata")
    if value is None:
        return None
    if not isinstance(value, dict):
        raise ValidationFailed("metadata", "metadata is an object.")
    for name, item in value.items():
        if item is not None and not isinstance(item, str | int | float | bool):
            raise ValidationFailed(f"metadata.{name[:100]}", "The value is a string, a number, true or false.")
    return value
