"""Finding messages that an API key may see."""

from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

from django.db.models import QuerySet

from apps.accounts.models import ApiKey
from apps.core.errors import NotFound
from apps.mail.models import Message
from apps.mailboxes.models import Mailbox


def visible_messages(key: ApiKey) -> QuerySet[Message]:
    """The messages of the key's organization that its narrowing leaves. A platform key sees none."""
    if key.organization_id is None:
        return Message.objects.none()
    messages = Message.objects.filter(organization_id=key.organization_id)
    if key.inbox_ids is not None or key.allowed_domains is not None:
        messages = messages.filter(mailbox__in=Mailbox.objects.visible_to(key))
    return messages


def get_visible_message(*, key: ApiKey, message_id: UUID) -> Message:
    """A message with its mailbox and its body; raises NotFound, also for what belongs to someone else and for what is
    being erased."""
    found = visible_messages(key).select_related("mailbox", "body").filter(id=message_id).first()
    if found is None or found.mailbox.is_purged:
        raise NotFound("There is no such message in your organization.")
    return found


@dataclass(frozen=True, slots=True)
class Incoming:
    """What one looks at to know whether a received message is the one that is waited for."""

    id: UUID
    mailbox_id: UUID
    from_address: str
    from_name: str
    subject: str
    automatic: str
    """Why it is no person's: see ParsedMessage.automatic."""


_INCOMING = ("id", "mailbox_id", "from_address", "from_name", "subject", "automatic")


def list_incoming(*, mailbox_id: UUID, after: UUID, limit: int) -> list[Incoming]:
    """Received messages of a mailbox behind an id, in id order."""
    rows = Message.objects.filter(mailbox_id=mailbox_id, direction=Message.Direction.INBOUND, id__gt=after)
    return [Incoming(*row) for row in rows.order_by("id").values_list(*_INCOMING)[:limit]]


def get_incoming(message_ids: Iterable[UUID]) -> dict[UUID, Incoming]:
    """Those of the messages that there are, by one query."""
    wanted = list(message_ids)
    if not wanted:
        return {}
    rows = Message.objects.filter(id__in=wanted, direction=Message.Direction.INBOUND)
    return {row[0]: Incoming(*row) for row in rows.values_list(*_INCOMING)}
