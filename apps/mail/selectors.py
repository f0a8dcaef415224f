"""Finding messages that an API key may see."""

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
