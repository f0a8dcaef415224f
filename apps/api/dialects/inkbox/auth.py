"""Who asks, by Inkbox's header `X-API-Key`, and which mailbox is meant."""

from datetime import datetime

from django.conf import settings
from django.db.models import QuerySet
from django.http import HttpRequest

from apps.accounts.errors import ScopeDenied, Unauthorized
from apps.accounts.models import ApiKey
from apps.accounts.services import authenticate_key
from apps.core.errors import Conflict, NotFound
from apps.mailboxes.models import Mailbox
from apps.mailboxes.selectors import visible_mailbox_filter

NO_ORGANIZATION = "Organization ID missing from token"


def find_key(request: HttpRequest, *, now: datetime, platform_allowed: bool) -> ApiKey:
    """The key in the vendor's header; raises Unauthorized and the like, and ScopeDenied in the vendor's words for a
    key that belongs to no organization."""
    secret = request.META.get("HTTP_X_API_KEY", "").strip()
    if not secret:
        raise Unauthorized("The X-API-Key header is missing.")
    key = authenticate_key(secret=secret, now=now)
    if key.organization is None and not platform_allowed:
        raise ScopeDenied(NO_ORGANIZATION)
    return key


def refuse_narrowed(key: ApiKey) -> None:
    """Raise ScopeDenied for a key that is not for the whole organization."""
    if key.inbox_ids is not None or key.allowed_domains is not None:
        raise ScopeDenied("This key is narrowed to a part of its organization; this needs one for all of it.")


def live_mailboxes(key: ApiKey) -> QuerySet[Mailbox]:
    """What the key may see and is not deleted, with what services and answers want loaded."""
    mailboxes = Mailbox.objects.visible_to(key).filter(deleted_at__isnull=True)
    return mailboxes.select_related("organization", "domain", "usage", "identity")


def find_mailbox(key: ApiKey, text: str) -> Mailbox:
    """The mailbox of a whole address or of a local part alone; a deleted one is not found, as at the vendor.

    The vendor has one domain, an organization here may have several: a local part means the mailbox on the
    installation's domain, else the only one that has it. Raises NotFound, and Conflict when several have it.
    """
    mailboxes = live_mailboxes(key)
    address = text if "@" in text else f"{text}@{settings.MAILHOST_DEFAULT_DOMAIN}"
    wanted = visible_mailbox_filter(address)["address_key"]
    found = mailboxes.filter(address_key=wanted).first()
    if found is not None:
        return found
    if wanted and "@" not in text:
        others = list(mailboxes.filter(address_key__startswith=wanted.rpartition("@")[0] + "@")[:2])
        if len(others) > 1:
            raise Conflict(f"Several mailboxes are called {text[:64]!r}; name one by its whole address.")
        if others:
            return others[0]
    raise NotFound("Mailbox not found")
