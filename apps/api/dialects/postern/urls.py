"""Postern's calls, supported or not."""

from django.urls import URLPattern

from apps.api.dialects.postern import views
from apps.api.operations import Operation, build_urls

_LATER = "comes with the whole SDK"

OPERATIONS = (
    Operation("POST", "v1/inboxes", views.Inboxes),
    Operation("GET", "v1/inboxes", views.Inboxes),
    Operation("GET", "v1/inboxes/<str:address>", views.OneInbox),
    Operation("DELETE", "v1/inboxes/<str:address>", views.OneInbox, "erases the mail, as the vendor does"),
    Operation("POST", "v1/inboxes/<str:address>/send", views.Send),
    Operation("GET", "v1/inboxes/<str:address>/messages", None, why_not=_LATER),
    Operation("GET", "v1/inboxes/<str:address>/threads", None, why_not=_LATER),
    Operation("POST", "v1/inboxes/<str:address>/wait", None, why_not=_LATER),
    Operation("GET", "v1/messages/<str:message_id>", None, why_not=_LATER),
    Operation("POST", "v1/messages/<str:message_id>/reply", None, why_not=_LATER),
    Operation("GET", "v1/threads/<str:thread_id>", None, why_not=_LATER),
    Operation("POST", "v1/enroll", None, why_not=_LATER),
    Operation("POST", "v1/webhooks", None, why_not=_LATER),
)

urlpatterns: list[URLPattern] = build_urls(OPERATIONS, refuse=views.Refused, missing=views.Missing)
