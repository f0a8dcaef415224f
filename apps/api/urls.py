"""Everything that is answered to programs: the native API, its document and its readable page, the dialects; and the
unsubscribe links of mails."""

from django.urls import URLPattern, URLResolver, include, path

from apps.api.native.views.base import Missing
from apps.api.native.views.schema import show_docs
from apps.api.unsubscribe import show_unsubscribe

urlpatterns: list[URLPattern | URLResolver] = [
    path("v1/", include("apps.api.native.urls")),
    path("v1", Missing.as_view()),
    path("docs", show_docs, name="docs"),
    path("unsubscribe/<str:token>", show_unsubscribe),
    path("dialects/", include("apps.api.dialect_urls")),
]
