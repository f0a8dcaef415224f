"""Our objects in the vendors' fields. What is not required and not set is left out, as AgentMail does."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from apps.mailboxes.models import Mailbox, Pod

Json = dict[str, Any]

STATUS_SHOWN: dict[str, str | None] = {
    Mailbox.Status.ACTIVE: None,
    Mailbox.Status.PAUSED: "paused",
    Mailbox.Status.SUSPENDED: "paused",
    Mailbox.Status.DELETED: None,
}
"""Ours -> AgentMail's, which says nothing of an active inbox. Its paused ones neither send nor receive, which is what
suspended means here; a deleted one is not found."""


def show_time(moment: datetime) -> str:
    """RFC 3339 in UTC to the millisecond."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def show_inbox(mailbox: Mailbox, *, is_agentmail: bool) -> Json:
    """An inbox, whose id is its address; `status` and `metadata` are AgentMail's alone."""
    shown: Json = {"inbox_id": mailbox.address, "email": mailbox.address, "pod_id": str(mailbox.pod_id)}
    if mailbox.display_name:
        shown["display_name"] = mailbox.display_name
    if mailbox.client_id is not None:
        shown["client_id"] = mailbox.client_id
    if is_agentmail and STATUS_SHOWN[mailbox.status]:
        shown["status"] = STATUS_SHOWN[mailbox.status]
    if is_agentmail and mailbox.metadata:
        shown["metadata"] = mailbox.metadata
    return shown | {"created_at": show_time(mailbox.created_at), "updated_at": show_time(mailbox.updated_at)}


def show_pod(pod: Pod) -> Json:
    """A pod, whose id is a UUID."""
    shown: Json = {"pod_id": str(pod.id), "name": pod.name}
    if pod.client_id is not None:
        shown["client_id"] = pod.client_id
    return shown | {"created_at": show_time(pod.created_at), "updated_at": show_time(pod.updated_at)}


def show_page(name: str, rows: Sequence[Json], *, limit: int, next_token: str | None) -> Json:
    """A page of a list under its plural name."""
    shown: Json = {"count": len(rows), "limit": limit, name: list(rows)}
    if next_token is not None:
        shown["next_page_token"] = next_token
    return shown
