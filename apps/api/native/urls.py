"""Addresses under /v1."""

from django.urls import URLPattern, path, re_path, register_converter

from apps.api.native.views import domains, events, inboxes, keys, live, messages, schema, sending, suppressions
from apps.api.native.views.base import Missing


class InboxConverter:
    """What an id or an address names in a path; an address's local part may hold a slash."""

    regex = r"(?:[^/]+|[^@]+@[^/@]+)"

    def to_python(self, value: str) -> str:
        return value

    def to_url(self, value: str) -> str:
        return value


register_converter(InboxConverter, "inbox")

urlpatterns: list[URLPattern] = [
    path("openapi.json", schema.show_openapi, name="openapi"),
    path("me", keys.Me.as_view()),
    path("api-keys", keys.KeyList.as_view()),
    path("api-keys/<str:key_id>", keys.OneKey.as_view()),
    path("inboxes", inboxes.InboxList.as_view()),
    path("inboxes/<inbox:inbox>/messages", messages.InboxMessages.as_view()),
    path("inboxes/<inbox:inbox>/wait", live.Wait.as_view()),
    path("inboxes/<inbox:inbox>", inboxes.OneInbox.as_view()),
    path("messages", messages.AllMessages.as_view()),
    path("messages/<str:message_id>", messages.OneMessage.as_view()),
    path("messages/<str:message_id>/raw", messages.RawMessage.as_view()),
    path("messages/<str:message_id>/deliveries", messages.MessageDeliveries.as_view()),
    path("messages/<str:message_id>/attachments/<str:attachment_id>", messages.OneAttachment.as_view()),
    path("messages/<str:message_id>/reply", sending.Reply.as_view()),
    path("domains", domains.DomainList.as_view()),
    path("domains/<str:domain_id>", domains.OneDomain.as_view()),
    path("domains/<str:domain_id>/verify", domains.VerifyDomain.as_view()),
    path("suppressions", suppressions.SuppressionList.as_view()),
    path("suppressions/import", suppressions.ImportSuppressions.as_view()),
    path("suppressions/export", suppressions.ExportSuppressions.as_view()),
    path("suppressions/<inbox:suppression>", suppressions.OneSuppression.as_view()),
    path("events", events.EventLog.as_view()),
    path("events/stream", live.EventStream.as_view()),
    re_path(r"^.*$", Missing.as_view()),
]
