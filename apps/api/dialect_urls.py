"""Where each dialect is mounted, and what MAILHOST_DIALECT_HOSTS may mount at the root of a host name."""

from django.urls import URLPattern, URLResolver, include, path

ROOTS: dict[str, str] = {
    "agentry": "apps.api.dialects.agentry.urls",
    "agentmail": "apps.api.dialects.agentry.agentmail_urls",
    "agentsend": "apps.api.dialects.agentsend.urls",
    "inkbox": "apps.api.dialects.inkbox.urls",
    "postern": "apps.api.dialects.postern.urls",
    "sendook": "apps.api.dialects.sendook.urls",
}
"""Dialect -> the module with its addresses; a host name of MAILHOST_DIALECT_HOSTS gets them at its root."""

urlpatterns: list[URLPattern | URLResolver] = [path(f"{name}/", include(module)) for name, module in ROOTS.items()]
