"""Messages that a key may see."""

from apps.accounts.models import ApiKey
from apps.api.native.views.base import require_id
from apps.core.errors import NotFound
from apps.mail.models import Message
from apps.mail.selectors import visible_messages


def find_message(key: ApiKey, message_id: str) -> Message:
    """A message by the id in a path; raises NotFound, also for what belongs to someone else."""
    message = visible_messages(key).filter(id=require_id("msg", message_id)).first()
    if message is None:
        raise NotFound("There is no such message in your organization.")
    return message
