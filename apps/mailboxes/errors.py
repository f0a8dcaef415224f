"""What can be wrong with a mailbox. The API calls it an inbox, and so do these sentences."""

from apps.core.errors import DomainError


class AddressTaken(DomainError):
    """The address is taken."""

    code = "address_taken"
    fix = "Choose another username, or leave it out to get a generated one."


class NoFreeName(DomainError):
    """No free name was found for the inbox."""

    code = "unavailable"
    fix = "Try again after Retry-After seconds, or give a username."


class InboxSuspended(DomainError):
    """The inbox is suspended; it cannot send or receive."""

    code = "inbox_suspended"
    fix = "See suspended_reason; an administrator of your organization can reinstate it."


class InboxPaused(DomainError):
    """The inbox is paused: it receives, but does not send."""

    code = "inbox_paused"
    fix = "PATCH the inbox with status active to send again."


class InboxDeleted(DomainError):
    """The inbox was deleted."""

    code = "inbox_deleted"
    fix = "Create a new inbox."


class DailyLimitReached(DomainError):
    """The sends of today are used up: those of the inbox, of its domain, or of the organization."""

    code = "daily_limit_reached"
    fix = "Wait until Retry-After seconds have passed (midnight UTC), or ask for a higher limit."


class PaymentRequired(DomainError):
    """Inboxes of this organization are paid for, one by one, and this one has not been."""

    code = "payment_required"
    fix = "Sign the payment that the PAYMENT-REQUIRED header asks for and repeat the request with PAYMENT-SIGNATURE."


class FacilitatorAway(DomainError):
    """The payment service does not answer at the moment."""

    code = "unavailable"
    fix = "Repeat the request with the same payment after Retry-After seconds: nothing is paid twice."
