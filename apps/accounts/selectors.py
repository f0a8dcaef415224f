"""Finding organizations."""

from uuid import UUID

from apps.accounts.models import Organization
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
