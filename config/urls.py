"""All addresses of the web process."""

from importlib.util import find_spec

from django.contrib import admin
from django.urls import URLPattern, URLResolver, include, path

from config.health import show_live, show_ready

urlpatterns: list[URLPattern | URLResolver] = [
    path("health/live", show_live),
    path("health/ready", show_ready),
    path("admin/", admin.site.urls),
]
if find_spec("apps.api.urls") is not None:
    urlpatterns.append(path("", include("apps.api.urls")))
