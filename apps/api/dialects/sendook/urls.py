"""Sendook's calls."""

from apps.api.dialects.sendook import views
from apps.api.operations import Operation, build_urls

_LATER = "not yet"
_INBOX = "v1/inboxes/<str:inbox_id>"
_MESSAGE = f"{_INBOX}/messages/<str:message_id>"

OPERATIONS = [
    Operation("POST", "v1/inboxes", views.Inboxes, "`name`, optional `email`"),
    Operation("GET", "v1/inboxes", views.Inboxes, "`{data}`; beyond 1,000 see `X-Next-Cursor`"),
    Operation("GET", _INBOX, views.OneInbox),
    Operation("DELETE", _INBOX, views.OneInbox, "ends sending and receiving, archives the mail, keeps the address"),
    Operation("POST", f"{_INBOX}/messages/send", views.Send, "one of `text` and `html` will do"),
    Operation("GET", f"{_INBOX}/messages", views.Messages, "without `query`; beyond 100 see `X-Next-Cursor`"),
    Operation("GET", _MESSAGE, views.OneMessage, "also of a deleted inbox"),
    Operation("POST", f"{_MESSAGE}/reply", views.Reply),
    Operation("GET", "v1/messages/<str:message_id>", views.AnyMessage, "ours; also of a deleted inbox"),
    Operation("GET", f"{_INBOX}/threads", None, why_not=_LATER),
    Operation("GET", f"{_INBOX}/threads/<str:thread_id>", None, why_not=_LATER),
    Operation("POST", "v1/webhooks", None, why_not=_LATER),
    Operation("GET", "v1/webhooks", None, why_not=_LATER),
    Operation("GET", "v1/webhooks/<str:webhook_id>", None, why_not=_LATER),
    Operation("DELETE", "v1/webhooks/<str:webhook_id>", None, why_not=_LATER),
    Operation("POST", "v1/webhooks/<str:webhook_id>/test", None, why_not=_LATER),
    Operation("GET", "v1/webhooks/<str:webhook_id>/attempts", None, why_not=_LATER),
    Operation("POST", "v1/domains", None, why_not="not yet; the native `/v1/domains` does it"),
    Operation("GET", "v1/domains", None, why_not="not yet; the native `/v1/domains` does it"),
    Operation("GET", "v1/domains/<str:domain_id>", None, why_not="not yet; the native `/v1/domains` does it"),
    Operation("DELETE", "v1/domains/<str:domain_id>", None, why_not=_LATER),
    Operation("POST", "v1/domains/<str:domain_id>/verify", None, why_not="not yet; the native `/v1/domains` does it"),
    Operation("GET", "v1/domains/<str:domain_id>/dns", None, why_not="not yet; the native `/v1/domains` does it"),
    Operation("POST", "v1/api_keys", None, why_not="not yet; the native `/v1/api-keys` does it"),
    Operation("GET", "v1/api_keys", None, why_not="not yet; the native `/v1/api-keys` does it"),
    Operation("GET", "v1/api_keys/<str:key_id>", None, why_not=_LATER),
    Operation("DELETE", "v1/api_keys/<str:key_id>", None, why_not="not yet; the native `/v1/api-keys` does it"),
]

urlpatterns = build_urls(OPERATIONS, refuse=views.Refused, missing=views.Missing)
