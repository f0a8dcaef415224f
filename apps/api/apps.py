"""The app of the API. Its dialects' webhook formats are known as soon as it is loaded, in every process."""

import pkgutil
from importlib import import_module

from django.apps import AppConfig
from django.utils.module_loading import module_has_submodule

from apps.api import dialects


class ApiConfig(AppConfig):
    """Registers what the dialects add to the floors below."""

    name = "apps.api"

    def ready(self) -> None:
        """Import the `webhooks` module of every dialect that has one."""
        for found in pkgutil.iter_modules(dialects.__path__, f"{dialects.__name__}."):
            if module_has_submodule(import_module(found.name), "webhooks"):
                import_module(f"{found.name}.webhooks")
