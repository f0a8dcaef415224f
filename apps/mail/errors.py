"""What can be wrong with a message."""

from apps.core.errors import DomainError


class MessageTooLarge(DomainError):
    """The message is larger than this server takes."""

    code = "message_too_large"
    fix = "Send less: attachments 25 MiB in all after decoding, a whole message 36 MiB."
