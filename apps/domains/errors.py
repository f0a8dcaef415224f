"""What can be wrong with a domain."""

from apps.core.errors import DomainError


class DomainNotVerified(DomainError):
    """The domain is not verified yet, so nothing can be sent from it and no inbox can be made on it."""

    code = "domain_not_verified"
    fix = "Publish the records of GET /v1/domains/{id}, then POST /v1/domains/{id}/verify."
