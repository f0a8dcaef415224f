"""Inkbox's calls, supported or not: of its API at the time of the SDK 0.2.13, and what the SDK 0.7.20 adds."""

from django.urls import URLPattern

from apps.api.dialects.inkbox import views
from apps.api.operations import Operation, build_urls

_MAILBOX = "api/v1/mail/mailboxes/<address:email_address>"
_MESSAGE = f"{_MAILBOX}/messages/<str:message_id>"
_THREAD = f"{_MAILBOX}/threads/<str:thread_id>"
_DRAFT = f"{_MAILBOX}/drafts/<str:draft_id>"
_IMPORT = f"{_MAILBOX}/imports/<str:job_id>"
_IDENTITY = "api/v1/identities/<str:agent_handle>"

_LATER = "comes with the whole SDK"
_RULES = "comes with the rules for contacts"
_NO_PHONE = "this server is for mail: it has no phone numbers"
_NEWER = "of a newer revision than this dialect's document"
_NATIVE_KEYS = "keys are made by `POST /v1/api-keys`"
_NATIVE_DOMAINS = "domains are added and verified by `/v1/domains`"

SUPPORTED = (
    Operation("POST", "api/v1/mail/mailboxes", views.Mailboxes),
    Operation("GET", "api/v1/mail/mailboxes", views.Mailboxes),
    Operation("GET", _MAILBOX, views.OneMailbox),
    Operation("PATCH", _MAILBOX, views.OneMailbox, "`filter_mode` is always `blacklist`"),
    Operation("DELETE", _MAILBOX, views.OneMailbox, "keeps the mail and the address, as the vendor does"),
    Operation("POST", "api/v1/identities", views.Identities, "without `phone_number` and `vault_secret_ids`"),
    Operation("GET", "api/v1/identities", views.Identities),
    Operation("GET", _IDENTITY, views.OneIdentity),
    Operation("PATCH", _IDENTITY, views.OneIdentity, "the handle"),
    Operation("DELETE", _IDENTITY, views.OneIdentity, "unlinks its mailbox, as the vendor does"),
    Operation("POST", f"{_IDENTITY}/mailbox", views.IdentityMailbox),
    Operation("DELETE", f"{_IDENTITY}/mailbox", views.IdentityMailbox),
    Operation("POST", "api/v1/signing-keys", views.SigningKeys, "one key for all of the organization's webhooks"),
    Operation("GET", "api/v1/whoami", views.WhoAmI),
    Operation("GET", "api/whoami", views.WhoAmI, "where the SDK 0.2.13 looks for it"),
)


def _refuse(why_not: str, *calls: str) -> tuple[Operation, ...]:
    """Operations that are not supported, each as `METHOD path`."""
    parts = (call.split(" ", 1) for call in calls)
    return tuple(Operation(method, path, None, why_not=why_not) for method, path in parts)


OPERATIONS = (
    *SUPPORTED,
    *_refuse(
        _LATER,
        f"GET {_MAILBOX}/search",
        f"GET {_MAILBOX}/messages",
        f"POST {_MAILBOX}/messages",
        f"GET {_MESSAGE}",
        f"PATCH {_MESSAGE}",
        f"DELETE {_MESSAGE}",
        f"POST {_MESSAGE}/forward",
        f"POST {_MESSAGE}/reply-all",
        f"GET {_MESSAGE}/attachments/<str:filename>",
        f"GET {_MAILBOX}/threads",
        f"GET {_MAILBOX}/threads/folders",
        f"GET {_THREAD}",
        f"PATCH {_THREAD}",
        f"DELETE {_THREAD}",
    ),
    *_refuse(
        _RULES,
        f"GET {_MAILBOX}/contact-rules",
        f"POST {_MAILBOX}/contact-rules",
        f"GET {_MAILBOX}/contact-rules/<str:rule_id>",
        f"PATCH {_MAILBOX}/contact-rules/<str:rule_id>",
        f"DELETE {_MAILBOX}/contact-rules/<str:rule_id>",
        "GET api/v1/mail/contact-rules",
        f"GET {_IDENTITY}/mail-contact-rules",
        f"POST {_IDENTITY}/mail-contact-rules",
        f"GET {_IDENTITY}/mail-contact-rules/<str:rule_id>",
        f"PATCH {_IDENTITY}/mail-contact-rules/<str:rule_id>",
        f"DELETE {_IDENTITY}/mail-contact-rules/<str:rule_id>",
    ),
    *_refuse(_NO_PHONE, f"POST {_IDENTITY}/phone_number", f"DELETE {_IDENTITY}/phone_number"),
    *_refuse(
        _NEWER,
        f"GET {_IDENTITY}/signing-key",
        f"POST {_IDENTITY}/signing-key",
        f"GET {_IDENTITY}/domain-affiliation",
        f"PUT {_IDENTITY}/domain-affiliation",
        f"DELETE {_IDENTITY}/domain-affiliation",
        "GET api/v1/message-sends/lookup",
        "GET api/v1/webhooks/deliveries",
        "POST api/v1/webhooks/deliveries/<str:delivery_id>/replay",
        "GET api/v1/webhooks/catalog",
        "GET api/v1/webhooks/subscriptions",
        "POST api/v1/webhooks/subscriptions",
        "GET api/v1/webhooks/subscriptions/<str:subscription_id>",
        "PATCH api/v1/webhooks/subscriptions/<str:subscription_id>",
        "DELETE api/v1/webhooks/subscriptions/<str:subscription_id>",
        f"GET {_MAILBOX}/drafts",
        f"POST {_MAILBOX}/drafts",
        f"GET {_DRAFT}",
        f"PATCH {_DRAFT}",
        f"DELETE {_DRAFT}",
        f"POST {_DRAFT}/duplicate",
        f"POST {_DRAFT}/attachments",
        f"GET {_DRAFT}/attachments/<str:part_index>",
        f"DELETE {_DRAFT}/attachments/<str:part_index>",
        f"POST {_DRAFT}/send",
        f"GET {_MAILBOX}/imports",
        f"POST {_MAILBOX}/imports",
        f"GET {_IMPORT}",
        f"POST {_IMPORT}/upload-url",
        f"POST {_IMPORT}/start",
        f"POST {_IMPORT}/cancel",
    ),
    *_refuse(_NATIVE_KEYS, "POST api/v1/api-keys"),
    *_refuse(
        _NATIVE_DOMAINS,
        "GET api/v1/domains",
        "POST api/v1/domains/<str:domain>/set-default",
        "GET api/v1/organization-domains",
        "POST api/v1/organization-domains",
        "GET api/v1/organization-domains/<str:claim_id>",
        "DELETE api/v1/organization-domains/<str:claim_id>",
        "POST api/v1/organization-domains/<str:claim_id>/verify",
    ),
)

urlpatterns: list[URLPattern] = build_urls(OPERATIONS, refuse=views.Refused, missing=views.Missing)
