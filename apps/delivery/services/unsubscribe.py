"""One-click unsubscribe (RFC 8058): a link of the recipient's own, which needs no login and never ends.

The link says all that it is about and carries a keyed hash over it: nothing is stored until somebody uses it, and it
works as long as the installation keeps its MAILHOST_SECRET_KEY, also for mail and mailboxes that are long gone.
"""

import base64
import binascii
import hashlib
import hmac
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.conf import settings

from apps.delivery.models import Suppression
from apps.delivery.services.suppress import NewSuppression, suppress_addresses
from apps.mailboxes.models import Mailbox
from mailhost.address import Address, parse_address
from mailhost.errors import InvalidAddress

_SEAL_BYTES = 16
_HEAD_BYTES = 33  # version, organization, mailbox
_VERSION = b"\x01"
_MAX_TOKEN = 500


@dataclass(frozen=True, slots=True)
class UnsubscribeLink:
    """Who would not be written to any more, and whose mail the link came in."""

    organization_id: UUID
    mailbox_id: UUID
    address: str


def unsubscribe_headers(*, mailbox: Mailbox, recipient: Address) -> list[tuple[str, str]]:
    """The two fields of RFC 8058, section 3.1, for the only recipient of a mail. Both are signed by DKIM."""
    payload = _VERSION + mailbox.organization_id.bytes + mailbox.id.bytes + recipient.text.encode()
    token = base64.urlsafe_b64encode(_seal(payload) + payload).decode().rstrip("=")
    return [
        ("List-Unsubscribe", f"<{settings.MAILHOST_PUBLIC_URL}/unsubscribe/{token}>"),
        ("List-Unsubscribe-Post", "List-Unsubscribe=One-Click"),
    ]


def _seal(payload: bytes) -> bytes:
    key = hashlib.sha256(b"unsubscribe:" + settings.SECRET_KEY.encode()).digest()
    return hmac.digest(key, payload, "sha256")[:_SEAL_BYTES]


def read_unsubscribe_link(token: str) -> UnsubscribeLink | None:
    """What a link is about; None for one that this installation never gave out."""
    if len(token) > _MAX_TOKEN or not token.isascii():
        return None
    try:
        sealed = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
    seal, payload = sealed[:_SEAL_BYTES], sealed[_SEAL_BYTES:]
    if not hmac.compare_digest(seal, _seal(payload)) or payload[:1] != _VERSION:
        return None
    try:
        address = parse_address(payload[_HEAD_BYTES:].decode()).text
    except (InvalidAddress, UnicodeDecodeError):
        return None
    return UnsubscribeLink(UUID(bytes=payload[1:17]), UUID(bytes=payload[17:_HEAD_BYTES]), address)


def unsubscribe(*, link: UnsubscribeLink, now: datetime) -> None:
    """Keep the organization from writing to the recipient again; done twice it is done once."""
    sender = Mailbox.objects.filter(id=link.mailbox_id).values_list("address", flat=True).first()
    source = f"one click in mail of {sender}" if sender else "one click"
    entry = NewSuppression(link.address, Suppression.Reason.UNSUBSCRIBE, source)
    suppress_addresses(entries=[(link.organization_id, entry)], now=now)
