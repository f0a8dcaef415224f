"""Finding organizations, and the keys that a key may see."""

from uuid import UUID

from django.db.models import QuerySet

from apps.accounts.models import ApiKey, Organization
from apps.core.ids import decode_id

_SHOWN = 10


def find_organization(text: str) -> list[Organization]:
    """The organization of an id (`org_...` or a UUID), else those of a name, at most ten."""
    organization_id = decode_id("org", text)
    if organization_id is None:
        try:
            organization_id = UUID(text)
        except ValueError:
            return list(Organization.objects.filter(name=text).order_by("id")[:_SHOWN])
    return list(Organization.objects.filter(id=organization_id))


def keys_within(key: ApiKey) -> QuerySet[ApiKey]:
    """The keys that a key may see and revoke: those of its organization that are narrowed at least as far as itself.

    Otherwise whoever gets hold of an agent's key ends the organization's own.
    """
    if key.organization_id is None:
        return ApiKey.objects.none()
    keys = ApiKey.objects.filter(organization_id=key.organization_id)
    if key.inbox_ids is not None:
        keys = keys.filter(inbox_ids__contained_by=key.inbox_ids)
    if key.allowed_domains is not None:
        keys = keys.filter(allowed_domains__contained_by=key.allowed_domains)
    return keys
