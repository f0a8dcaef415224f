"""`manage.py create_api_key --organization NAME|id --scopes ... [--json]`, or `--platform`: a new API key."""

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from apps.accounts.models import SCOPES, Organization
from apps.accounts.selectors import find_organization
from apps.accounts.services import create_api_key
from apps.core.errors import DomainError
from apps.core.ids import encode_id


class Command(BaseCommand):
    """Makes an API key."""

    help = "Make an API key of an organization, or a platform key. The key is shown this once."

    def add_arguments(self, parser: CommandParser) -> None:
        owner = parser.add_mutually_exclusive_group(required=True)
        owner.add_argument("--organization", metavar="NAME|ID", help="whose key it is")
        owner.add_argument("--platform", action="store_true", help="a key that makes and manages organizations")
        parser.add_argument(
            *("--scopes", "--scope"),
            nargs="+",
            action="extend",
            metavar="SCOPE",
            help=f"what it may do, or `all` (always the case for a platform key): {', '.join(SCOPES)}",
        )
        parser.add_argument("--name", default="Command line", help="what to recognise it by")
        parser.add_argument("--json", action="store_true", help="print {id, api_key, ...} and nothing else")

    def handle(self, *args: Any, **options: Any) -> None:
        scopes = _read_scopes(options["scopes"] or (["all"] if options["platform"] else []))
        organization = None if options["platform"] else _find(options["organization"])
        try:
            key, secret = create_api_key(
                organization=organization, name=options["name"], scopes=scopes, now=timezone.now()
            )
        except DomainError as error:
            raise CommandError(error.message) from None
        answer = {
            "id": encode_id("key", key.id),
            "api_key": secret,
            "organization_id": None if organization is None else encode_id("org", organization.id),
            "scopes": key.scopes,
        }
        if options["json"]:
            self.stdout.write(json.dumps(answer))
        else:
            self.stdout.write(f"id       {answer['id']}\nAPI key  {secret}\nThe key is shown this once.")


def _read_scopes(words: list[str]) -> list[str]:
    """Scopes given apart or with commas between them."""
    scopes = [scope for word in words for scope in word.split(",") if scope]
    if not scopes:
        raise CommandError("Say what the key may do: --scopes messages:read messages:send, or --scopes all.")
    return list(SCOPES) if "all" in scopes else scopes


def _find(text: str) -> Organization:
    found = find_organization(text)
    if not found:
        raise CommandError(f"There is no organization {text!r}.")
    if len(found) > 1:
        ids = ", ".join(encode_id("org", organization.id) for organization in found)
        raise CommandError(f"Several organizations are called {text!r}; name one by its id: {ids}.")
    return found[0]
