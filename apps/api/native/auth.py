"""Who asks: API keys, their scopes, and which things a key may see."""

from datetime import datetime
from uuid import UUID

from django.http import HttpRequest

from apps.accounts.errors import ScopeDenied, Unauthorized
from apps.accounts.models import ApiKey, Organization
from apps.accounts.services import authenticate_key
from apps.core.ids import decode_id
from apps.mailboxes.models import Mailbox
from apps.mailboxes.selectors import get_visible_mailbox

ANY_KEY = ""
"""The scope of what every key may do, a platform key too."""


def authenticate_request(request: HttpRequest, *, now: datetime) -> ApiKey:
    """The key that the request carries; raises Unauthorized, KeyExpired or KeyRevoked."""
    header = request.META.get("HTTP_AUTHORIZATION", "")
    if header:
        scheme, _, secret = header.partition(" ")
        if scheme.lower() != "bearer":
            raise Unauthorized("The Authorization header is not of the Bearer scheme.")
    else:
        secret = request.META.get("HTTP_X_API_KEY", "")
    if not secret:
        raise Unauthorized
    return authenticate_key(secret=secret.strip(), now=now)


def require_scope(key: ApiKey, scope: str) -> None:
    """Raise ScopeDenied unless the key carries the scope and belongs to an organization."""
    if scope == ANY_KEY:
        return
    if key.organization_id is None:
        raise ScopeDenied("A platform key can only make and manage organizations.", fix="Use a key of an organization.")
    if scope not in key.scopes:
        raise ScopeDenied(f"This request needs the scope {scope}, which the key does not carry.")


def organization_of(key: ApiKey) -> Organization:
    """The key's organization; a platform key, which has none, never gets here."""
    if key.organization is None:
        raise ScopeDenied
    return key.organization


def owner_of(key: ApiKey) -> UUID:
    """The id of the key's organization."""
    return organization_of(key).id


def is_narrowed(key: ApiKey) -> bool:
    """Whether the key sees only a part of its organization's inboxes."""
    return key.inbox_ids is not None or key.allowed_domains is not None


def find_inbox(key: ApiKey, inbox: str) -> Mailbox:
    """The mailbox that `{inbox}` names, by id or by address, deleted ones too, with what services want loaded.

    Raises NotFound, also for what belongs to someone else.
    """
    return get_visible_mailbox(key=key, mailbox_id=decode_id("inbox", inbox), address=inbox)
