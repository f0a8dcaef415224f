"""What can be wrong with a send."""

from apps.core.errors import DomainError


class RecipientSuppressed(DomainError):
    """Every recipient is on the organization's suppression list."""

    code = "recipient_suppressed"
    fix = "Remove the address from /v1/suppressions if you know that it takes mail again."


class RecipientBlocked(DomainError):
    """Every recipient is blocked by a rule."""

    code = "recipient_blocked"
    fix = "Change the outbound rule that blocks the address."
