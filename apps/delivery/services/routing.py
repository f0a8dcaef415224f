"""Where a recipient's mail goes: into a mailbox of ours, or to the servers of its domain."""

from collections.abc import Sequence

from apps.delivery.models import Lane
from apps.domains.models import Domain
from apps.mailboxes.selectors import RecipientState, find_recipients
from mailhost.address import Address


def route_recipients(addresses: Sequence[Address]) -> list[str]:
    """The destination of each address, in order: `[local]`, or the domain that its MX is asked of.

    Local is what has a mailbox here, and what belongs to a domain whose mail comes to us (an unknown address there
    is refused as a stranger would be). A domain that only sends through us keeps its own MX for everybody else.
    """
    found = find_recipients([address.text for address in addresses])
    unknown = {
        address.ascii_domain
        for address, recipient in zip(addresses, found, strict=True)
        if recipient.state == RecipientState.UNKNOWN
    }
    ours = set()
    if unknown:
        received = Domain.objects.filter(name__in=unknown, receiving_status=Domain.Status.VERIFIED)
        ours = set(received.values_list("name", flat=True))
    return [
        Lane.LOCAL if recipient.mailbox is not None or address.ascii_domain in ours else address.ascii_domain
        for address, recipient in zip(addresses, found, strict=True)
    ]
