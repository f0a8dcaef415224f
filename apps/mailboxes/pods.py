"""Pods: named groups of mailboxes inside an organization."""

from datetime import datetime
from uuid import UUID

from django.db import IntegrityError, transaction

from apps.accounts.models import Organization
from apps.core.errors import Conflict, NotFound
from apps.core.texts import check_line
from apps.mailboxes.models import Mailbox, Pod


def create_pod(
    *, organization: Organization, name: str, client_id: str | None = None, now: datetime
) -> tuple[Pod, bool]:
    """A new pod and True; or the one that was made with the same client_id, and False."""
    check_line("name", name, most=200)
    if client_id is not None:
        check_line("client_id", client_id, most=256)
    try:
        with transaction.atomic():
            return Pod.objects.create(organization=organization, name=name, client_id=client_id), True
    except IntegrityError:
        return Pod.objects.get(organization=organization, client_id=client_id), False


def get_pod(*, organization: Organization, pod_id: UUID) -> Pod:
    """A pod of the organization; raises NotFound."""
    pod = Pod.objects.filter(organization=organization, id=pod_id).first()
    if pod is None:
        raise NotFound("There is no such pod in your organization.")
    return pod


def delete_pod(*, pod: Pod) -> None:
    """Remove an empty pod. Raises Conflict while it holds mailboxes, and for the default pod."""
    if pod.is_default:
        raise Conflict("The default pod cannot be deleted.")
    with transaction.atomic():
        locked = Pod.objects.select_for_update().get(id=pod.id)
        if Mailbox.objects.filter(pod=locked).exists():
            raise Conflict("The pod still holds inboxes.", fix="Delete its inboxes first.")
        locked.delete()
