"""Everything that is answered to programs: the native API, its document, and its readable page."""

from django.urls import URLPattern, URLResolver, include, path

from apps.api.native.views.base import Missing
from apps.api.native.views.schema import show_docs

urlpatterns: list[URLPattern | URLResolver] = [
    path("v1/", include("apps.api.native.urls")),
    path("v1", Missing.as_view()),
    path("docs", show_docs, name="docs"),
    path("dialects/", include("apps.api.dialect_urls")),
]
