"""The calls of AgentMail's SDK, relative to the base URL that its clients are given, and Agentry's mount of them."""

import re
from collections.abc import Iterable

from django.urls import URLPattern, URLResolver, include, path

from apps.api.dialects.agentry import views
from apps.api.operations import Operation, build_urls

_NEXT = "next: whole SDK"
_ONE_INBOX = "inboxes/<address:inbox_id>"
_ONE_POD = "v0/pods/<str:pod_id>"
_ERASES = "erases the inbox's mail and frees its address"
_CREATED = "the same `client_id` answers with the same inbox"

_SUPPORTED = (
    Operation("GET", "v0/inboxes", views.Inboxes, "`limit` above 100 is 100"),
    Operation("POST", "v0/inboxes", views.Inboxes, _CREATED),
    Operation("GET", "v0/inboxes/search", None, why_not=_NEXT),
    Operation("GET", f"v0/{_ONE_INBOX}", views.OneInbox),
    Operation("PATCH", f"v0/{_ONE_INBOX}", views.OneInbox),
    Operation("DELETE", f"v0/{_ONE_INBOX}", views.OneInbox, _ERASES),
    Operation("GET", "v0/pods", views.Pods),
    Operation("POST", "v0/pods", views.Pods),
    Operation("GET", _ONE_POD, views.OnePod),
    Operation("DELETE", _ONE_POD, views.OnePod, "409 while it holds inboxes, and for the default pod"),
    Operation("GET", f"{_ONE_POD}/inboxes", views.Inboxes, "`limit` above 100 is 100"),
    Operation("POST", f"{_ONE_POD}/inboxes", views.Inboxes, _CREATED),
    Operation("GET", f"{_ONE_POD}/inboxes/search", None, why_not=_NEXT),
    Operation("GET", f"{_ONE_POD}/{_ONE_INBOX}", views.OneInbox),
    Operation("PATCH", f"{_ONE_POD}/{_ONE_INBOX}", views.OneInbox),
    Operation("DELETE", f"{_ONE_POD}/{_ONE_INBOX}", views.OneInbox, _ERASES),
)

_LISTS = """
GET POST lists/{direction}/{type}
GET DELETE lists/{direction}/{type}/{entry}
"""
_METRICS = """
GET metrics/events
GET metrics/usage
GET metrics/rates
"""
_THREADS = """
GET threads
GET threads/search
GET PATCH DELETE threads/{thread_id}
GET threads/{thread_id}/attachments/{attachment_id}
"""
_READ_DRAFTS = """
GET drafts
GET drafts/{draft_id}
GET drafts/{draft_id}/attachments/{attachment_id}
"""
_WEBHOOKS = """
GET POST webhooks
GET POST webhooks/polling
GET DELETE webhooks/polling/{webhook_id}
GET PATCH DELETE webhooks/{webhook_id}
GET PATCH webhooks/{webhook_id}/headers
"""
_DOMAINS = """
GET POST domains
GET PATCH DELETE domains/{domain_id}
POST domains/{domain_id}/verify
GET domains/{domain_id}/zone-file
"""
_ACCOUNTS = """
GET accounts
GET accounts/{account_id}
"""
_OF_ORGANIZATION = f"""
GET auth/me
GET organizations
GET POST organizations/labs
GET POST api-keys
GET PATCH DELETE api-keys/{{api_key_id}}
{_DOMAINS}
GET domains/{{domain_id}}/setup-link
{_THREADS}{_READ_DRAFTS}{_WEBHOOKS}{_LISTS}{_METRICS}{_ACCOUNTS}
PATCH accounts/{{account_id}}/update
POST agent/sign-up
POST agent/human
POST agent/verify
GET apps
GET apps/search
GET apps/{{app_id}}
GET apps/{{app_id}}/accounts
POST apps/{{app_id}}/connect
"""
_OF_POD = f"""
GET POST api-keys
PATCH DELETE api-keys/{{api_key_id}}
{_DOMAINS}{_THREADS}{_READ_DRAFTS}{_WEBHOOKS}{_LISTS}{_METRICS}{_ACCOUNTS}
"""
_OF_INBOX = f"""
POST authorize
GET POST api-keys
PATCH DELETE api-keys/{{api_key_id}}
GET POST drafts
GET PATCH DELETE drafts/{{draft_id}}
GET drafts/{{draft_id}}/attachments/{{attachment_id}}
POST drafts/{{draft_id}}/send
GET events
GET messages
GET messages/search
POST messages/batch-get
POST messages/batch-update
POST messages/send
GET PATCH DELETE messages/{{message_id}}
GET messages/{{message_id}}/attachments/{{attachment_id}}
GET messages/{{message_id}}/raw
POST messages/{{message_id}}/reply
POST messages/{{message_id}}/reply-all
POST messages/{{message_id}}/forward
POST messages/{{message_id}}/agent-armor/feedback
POST messages/{{message_id}}/agent-armor/release
{_THREADS}{_WEBHOOKS}{_LISTS}{_METRICS}{_ACCOUNTS}
GET PATCH calendar
GET POST calendar/events
GET calendar/agenda
GET PATCH DELETE calendar/events/{{event_id}}
GET calendar/events/{{event_id}}/instances
POST calendar/events/{{event_id}}/respond
GET POST files
GET DELETE files/{{file_id}}
POST files/{{file_id}}/complete
"""


def _list_next(root: str, calls: str) -> Iterable[Operation]:
    """The calls of a text, one address a line behind its methods."""
    for line in calls.split("\n"):
        *methods, address = line.split() or [""]
        place = re.sub("{(.*?)}", r"<str:\1>", address)
        for method in methods:
            yield Operation(method, f"{root}/{place}", None, why_not=_NEXT)


OPERATIONS = (
    *_SUPPORTED,
    *_list_next("v0", _OF_ORGANIZATION),
    *_list_next(f"v0/{_ONE_INBOX}", _OF_INBOX),
    *_list_next(_ONE_POD, _OF_POD),
)

TREE: list[URLPattern] = build_urls(OPERATIONS, refuse=views.Refused, missing=views.Missing)

urlpatterns: list[URLPattern | URLResolver] = [
    path("agent/", include(TREE)),
    path("", views.Missing.as_view()),
    path("<path:rest>", views.Missing.as_view()),
]
