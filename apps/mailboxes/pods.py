"""Pods: named groups of mailboxes inside an organization."""

from datetime import datetime
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models import QuerySet

from apps.accounts.errors import ScopeDenied
from apps.accounts.models import ApiKey, Organization
from apps.core.errors import Conflict, NotFound
from apps.core.texts import check_line
from apps.mailboxes.models import Mailbox, Pod
from apps.mailboxes.services import ensure_default_pod


def list_pods(*, organization: Organization, key: ApiKey) -> QuerySet[Pod]:
    """The organization's pods, its default pod among them; a key narrowed to inboxes sees the pods of these only."""
    if key.inbox_ids is None:
        ensure_default_pod(organization=organization)
        return Pod.objects.filter(organization=organization)
    return Pod.objects.filter(
        organization=organization, id__in=Mailbox.objects.visible_to(key).values_list("pod_id", flat=True)
    )


def create_pod(
    *, organization: Organization, name: str, client_id: str | None = None, key: ApiKey | None = None, now: datetime
) -> tuple[Pod, bool]:
    """A new pod and True; or the one that was made with the same client_id, and False. Raises ScopeDenied for a `key`
    that is narrowed to certain inboxes."""
    _check_key(key)
    check_line("name", name, most=200)
    if client_id is not None:
        check_line("client_id", client_id, most=256)
    ensure_default_pod(organization=organization)  # which is there first, whoever looks first
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


def delete_pod(*, pod: Pod, key: ApiKey | None = None) -> None:
    """Remove a pod without living mailboxes; its deleted ones go to the default pod. Raises Conflict while it holds
    others, and for the default pod; NotFound when it was removed meanwhile; ScopeDenied as create_pod."""
    _check_key(key)
    if pod.is_default:
        raise Conflict("The default pod cannot be deleted.")
    default = ensure_default_pod(organization=pod.organization)
    with transaction.atomic():
        locked = Pod.objects.select_for_update().filter(id=pod.id).first()
        if locked is None:
            raise NotFound("There is no such pod in your organization.")
        mailboxes = Mailbox.objects.filter(pod=locked)
        if mailboxes.exclude(status=Mailbox.Status.DELETED).exists():
            raise Conflict("The pod still holds inboxes.", fix="Delete its inboxes first.")
        mailboxes.update(pod=default)
        locked.delete()


def _check_key(key: ApiKey | None) -> None:
    if key is not None and key.inbox_ids is not None:
        raise ScopeDenied("This key is narrowed to certain inboxes, so it cannot make or delete pods.")
