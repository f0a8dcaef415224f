"""AgentSend's calls."""

from apps.api.dialects.agentsend import views
from apps.api.operations import Operation, build_urls

_LATER = "not yet"

OPERATIONS = [
    Operation("POST", "inboxes", views.Inboxes, "`displayName`, `domainId`, `address`, all optional"),
    Operation("GET", "inboxes", views.Inboxes, "`limit`, `offset`; `total` from a counter; suspended ones too"),
    Operation("GET", "inboxes/<str:inbox_id>", views.OneInbox),
    Operation("DELETE", "inboxes/<str:inbox_id>", views.OneInbox, "erases the mail, frees the address at once"),
    Operation("POST", "inboxes/<str:inbox_id>/messages", views.InboxMessages, "without `attachmentIds`"),
    Operation("GET", "inboxes/<str:inbox_id>/messages", views.InboxMessages, "`limit`, `offset`, `status`"),
    Operation("GET", "messages/<str:message_id>", views.OneMessage),
    Operation("DELETE", "messages/<str:message_id>", None, why_not=_LATER),
    Operation("GET", "inboxes/<str:inbox_id>/threads", None, why_not=_LATER),
    Operation("GET", "threads/<str:thread_id>", None, why_not=_LATER),
    Operation("GET", "threads/<str:thread_id>/messages", None, why_not=_LATER),
    Operation("POST", "webhooks", views.Webhooks, "`message.failed` of ours is a bounce `Undetermined`"),
    Operation("GET", "webhooks", views.Webhooks),
    Operation("GET", "webhooks/<str:webhook_id>", views.OneWebhook),
    Operation("PUT", "webhooks/<str:webhook_id>", views.OneWebhook),
    Operation("DELETE", "webhooks/<str:webhook_id>", views.OneWebhook),
    Operation("POST", "domains", None, why_not="not yet; `/v1/domains` does it"),
    Operation("GET", "domains", None, why_not="not yet; `/v1/domains` does it"),
    Operation("GET", "domains/<str:domain_id>", None, why_not="not yet; `/v1/domains` does it"),
    Operation("DELETE", "domains/<str:domain_id>", None, why_not=_LATER),
    Operation("POST", "domains/<str:domain_id>/verify", None, why_not="not yet; `/v1/domains` does it"),
    Operation("POST", "attachments", None, why_not=_LATER),
    Operation("GET", "attachments/<str:attachment_id>", None, why_not=_LATER),
]

urlpatterns = build_urls(OPERATIONS, refuse=views.Refused, missing=views.Missing)
