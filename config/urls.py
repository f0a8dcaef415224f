"""All addresses of the web process."""

from django.contrib import admin
from django.urls import URLPattern, URLResolver, include, path
from django.views.generic import RedirectView

from config.health import show_live, show_ready

urlpatterns: list[URLPattern | URLResolver] = [
    path("health/live", show_live),
    path("health/ready", show_ready),
    path("admin/", admin.site.urls),
    path("", RedirectView.as_view(url="/docs")),  # who comes by browser wants to read
    path("", include("apps.api.urls")),
]
