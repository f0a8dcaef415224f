"""What can be wrong with who asks."""

from apps.core.errors import DomainError


class Unauthorized(DomainError):
    """The request carries no valid API key."""

    code = "unauthorized"
    fix = "Send `Authorization: Bearer mh_...` or `X-API-Key: mh_...` with a key of this installation."


class KeyExpired(DomainError):
    """The API key has expired."""

    code = "key_expired"
    fix = "Ask an administrator of your organization for a new key."


class KeyRevoked(DomainError):
    """The API key was revoked."""

    code = "key_revoked"
    fix = "Ask an administrator of your organization for a new key."


class ScopeDenied(DomainError):
    """The API key may not do this."""

    code = "scope_denied"
    fix = "Use a key with the scope that the message names, or ask for one."


class OrganizationSuspended(DomainError):
    """The organization is suspended; it cannot send."""

    code = "organization_suspended"
    fix = "Ask the administrator of this installation why, and to reinstate the organization."


class QuotaExhausted(DomainError):
    """The key has made as many inboxes as it may; deleting one does not give a place back."""

    code = "quota_exhausted"
    fix = "Use another key, or ask for one with a larger max_inboxes."
