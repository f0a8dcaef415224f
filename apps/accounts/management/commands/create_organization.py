"""`manage.py create_organization NAME [--json]`: a new organization and a key of it with every scope."""

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction
from django.utils import timezone

from apps.accounts.models import SCOPES
from apps.accounts.services import create_api_key, create_organization
from apps.core.errors import DomainError
from apps.core.ids import encode_id


class Command(BaseCommand):
    """Makes an organization."""

    help = "Make an organization, and an API key of it with every scope. The key is shown this once."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", metavar="NAME")
        parser.add_argument("--json", action="store_true", help="print {id, api_key} and nothing else")

    def handle(self, *args: Any, **options: Any) -> None:
        now = timezone.now()
        try:
            with transaction.atomic():
                organization = create_organization(name=options["name"], now=now)
                _, secret = create_api_key(organization=organization, name="First key", scopes=SCOPES, now=now)
        except DomainError as error:
            raise CommandError(error.message) from None
        answer = {"id": encode_id("org", organization.id), "api_key": secret}
        if options["json"]:
            self.stdout.write(json.dumps(answer))
        else:
            self.stdout.write(f"organization  {answer['id']}\nAPI key       {secret}\nThe key is shown this once.")
