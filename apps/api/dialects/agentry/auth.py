"""`Authorization: Bearer`, as the vendors' clients send it, and what the key may see."""

from datetime import datetime

from django.http import HttpRequest

from apps.accounts.errors import Unauthorized
from apps.accounts.models import ApiKey
from apps.accounts.services import authenticate_key
from apps.core.errors import NotFound
from apps.mailboxes.models import Mailbox, Pod
from apps.mailboxes.querysets import MailboxQuerySet
from apps.mailboxes.selectors import visible_mailbox_filter

MISSING = "missing_authorization"
"""AgentMail's code for a request that carries no key; a key that is not known has another."""


def find_key(request: HttpRequest, *, now: datetime) -> ApiKey:
    """The key that the request carries; raises Unauthorized, KeyExpired or KeyRevoked."""
    scheme, _, secret = request.META.get("HTTP_AUTHORIZATION", "").partition(" ")
    if scheme.lower() != "bearer" or not secret.strip():
        raise Unauthorized(
            "The request carries no API key.", fix="Send it as `Authorization: Bearer mh_...`.", vendor_code=MISSING
        )
    return authenticate_key(secret=secret.strip(), now=now)


def living_mailboxes(key: ApiKey, pod: Pod | None) -> MailboxQuerySet:
    """What the key may see and is not deleted, of one pod or of all."""
    mailboxes = Mailbox.objects.visible_to(key).exclude(status=Mailbox.Status.DELETED)
    return mailboxes if pod is None else mailboxes.filter(pod=pod)


def find_mailbox(key: ApiKey, inbox_id: str, pod: Pod | None) -> Mailbox:
    """The mailbox whose address is `inbox_id`; raises NotFound, for a stranger's too."""
    mailbox = living_mailboxes(key, pod).filter(**visible_mailbox_filter(inbox_id)).first()
    if mailbox is None:
        raise NotFound("Inbox not found")
    return mailbox
