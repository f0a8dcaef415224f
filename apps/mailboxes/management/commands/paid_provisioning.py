"""`manage.py paid_provisioning ORGANIZATION [--price … --pay-to … | --off] [--json]`: what a mailbox costs."""

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from apps.accounts.models import Organization
from apps.accounts.selectors import find_organization
from apps.core.errors import DomainError
from apps.core.ids import encode_id
from apps.mailboxes.models import PaidProvisioning
from apps.mailboxes.provisioning import COINS, CustomAsset, turn_off, turn_on


class Command(BaseCommand):
    """Turns paid provisioning on and off."""

    help = (
        "Let the mailboxes that an organization's keys make be paid for by x402, or cost nothing again. Without "
        "--price and --off: show the terms."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("organization", metavar="ORGANIZATION", help="its name or id")
        choice = parser.add_mutually_exclusive_group()
        choice.add_argument(
            "--price", help="in US dollars, like 0.05; with --asset in that token's smallest unit, like 50000"
        )
        choice.add_argument("--off", action="store_true", help="mailboxes cost nothing again")
        parser.add_argument("--pay-to", metavar="0x…", help="the address that is paid")
        parser.add_argument(
            "--network", default="base-sepolia", help=f"{', '.join(COINS)}, or eip155:<number> (default: %(default)s)"
        )
        parser.add_argument("--asset", metavar="0x…", help="a token other than USDC; it must know EIP-3009")
        parser.add_argument("--asset-name", default="", help="the token's name in its EIP-712 domain")
        parser.add_argument("--asset-version", default="", help="the version in its EIP-712 domain")
        parser.add_argument("--json", action="store_true", help="print the terms as JSON and nothing else")

    def handle(self, *args: Any, **options: Any) -> None:
        organization = _find(options["organization"])
        if options["off"]:
            turn_off(organization=organization)
        elif options["price"] is not None:
            _turn_on(organization, options)
        offer = PaidProvisioning.objects.filter(organization=organization).first()
        terms = {"organization_id": encode_id("org", organization.id), "paid": offer is not None}
        if offer is not None:
            for name in ("price", "amount", "asset", "asset_name", "asset_version", "network", "pay_to"):
                terms[name] = getattr(offer, name)
        if options["json"]:
            self.stdout.write(json.dumps(terms))
        elif offer is None:
            self.stdout.write(f"Mailboxes of {organization.name} cost nothing.")
        else:
            self.stdout.write(f"A mailbox of {organization.name} costs {offer}.")


def _turn_on(organization: Organization, options: dict[str, Any]) -> None:
    if not options["pay_to"]:
        raise CommandError("Say whom to pay: --pay-to 0x…")
    asset = None
    if options["asset"] is not None:
        asset = CustomAsset(options["asset"], options["asset_name"], options["asset_version"])
    try:
        turn_on(
            organization=organization,
            price=options["price"],
            pay_to=options["pay_to"],
            network=options["network"],
            asset=asset,
        )
    except DomainError as error:
        details = " ".join(row["message"] for row in error.data.get("details", ()) if row["message"] != error.message)
        raise CommandError(" ".join(part for part in (error.message, details, error.fix_text) if part)) from None


def _find(text: str) -> Organization:
    found = find_organization(text)
    if not found:
        raise CommandError(f"There is no organization {text!r}.")
    if len(found) > 1:
        ids = ", ".join(encode_id("org", organization.id) for organization in found)
        raise CommandError(f"Several organizations are called {text!r}; name one by its id: {ids}.")
    return found[0]
