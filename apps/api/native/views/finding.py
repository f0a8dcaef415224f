"""Messages that a key may see."""

from django.db.models import QuerySet

from apps.accounts.models import ApiKey
from apps.api.native.auth import is_narrowed, owner_of
from apps.api.native.views.base import require_id
from apps.core.errors import NotFound
from apps.mail.models import Message
from apps.mailboxes.models import Mailbox


def visible_messages(key: ApiKey) -> QuerySet[Message]:
    """The messages of the key's organization that its narrowing leaves."""
    messages = Message.objects.filter(organization_id=owner_of(key))
    if is_narrowed(key):
        messages = messages.filter(mailbox__in=Mailbox.objects.visible_to(key))
    return messages


def find_message(key: ApiKey, message_id: str) -> Message:
    """A message by the id in a path; raises NotFound, also for what belongs to someone else."""
    message = visible_messages(key).filter(id=require_id("msg", message_id)).first()
    if message is None:
        raise NotFound("There is no such message in your organization.")
    return message
