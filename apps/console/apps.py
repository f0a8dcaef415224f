"""The console's place in the admin site."""

from django.apps import AppConfig
from django.contrib import admin


class ConsoleConfig(AppConfig):
    """Makes the overview the admin's first page."""

    name = "apps.console"
    verbose_name = "Console"

    def ready(self) -> None:
        """The page that `/admin/` shows; apps.console.overview fills it."""
        admin.site.index_template = "console/overview.html"
