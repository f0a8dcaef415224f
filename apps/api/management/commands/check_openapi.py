"""Is the OpenAPI document in the tree what the code says?"""

import difflib
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from apps.api.native.openapi import SCHEMA_FILE, generate_schema, render_schema


class Command(BaseCommand):
    """Compares apps/api/native/openapi.json with the code; `--write` brings it up to date."""

    help = "Check that the OpenAPI document is current."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--write", action="store_true", help="Write the document instead of comparing.")

    def handle(self, *args: Any, **options: Any) -> None:
        current = render_schema(generate_schema())
        if options["write"]:
            SCHEMA_FILE.write_text(current, encoding="utf-8")
            self.stdout.write(f"Wrote {SCHEMA_FILE.name}.")
            return
        kept = SCHEMA_FILE.read_text(encoding="utf-8") if SCHEMA_FILE.exists() else ""
        if kept != current:
            lines = list(difflib.unified_diff(kept.splitlines(), current.splitlines(), "kept", "current", lineterm=""))
            self.stderr.write("\n".join(lines[:40]))
            raise CommandError("openapi.json is not current: run `manage.py check_openapi --write` and commit it.")
        self.stdout.write("The OpenAPI document is current.")
