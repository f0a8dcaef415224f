"""`manage.py dialect_coverage`: the coverage tables in the dialects' READMEs, from their tables of operations."""

from importlib import import_module
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from apps.api.dialect_urls import ROOTS
from apps.api.operations import write_coverage

BEGIN, END = "<!-- coverage: begin -->", "<!-- coverage: end -->"


class Command(BaseCommand):
    """Compares, or writes with --write."""

    help = "Compares the coverage tables in the dialects' READMEs with their addresses; --write writes them."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--write", action="store_true", help="Write the tables instead of comparing them.")

    def handle(self, *args: Any, **options: Any) -> None:
        stale = []
        for module_name in sorted(set(ROOTS.values())):
            module = import_module(module_name)
            readme = Path(str(module.__file__)).parent / "README.md"
            text = readme.read_text()
            head, _, rest = text.partition(BEGIN)
            _, _, tail = rest.partition(END)
            wanted = f"{head}{BEGIN}\n{write_coverage(module.OPERATIONS)}\n{END}{tail}"
            if wanted == text:
                continue
            stale.append(str(readme))
            if options["write"]:
                readme.write_text(wanted)
        if stale and not options["write"]:
            raise CommandError(f"Not current: {', '.join(stale)}. Run `manage.py dialect_coverage --write`.")
