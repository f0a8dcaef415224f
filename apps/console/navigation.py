"""The admin's sidebar: what a person may see, in the order in which work is done."""

from typing import Any

from django.http import HttpRequest
from django.templatetags.static import static
from django.urls import reverse

from apps.accounts.admin_scope import is_operator, roles_of

_GROUPS: tuple[tuple[str, tuple[tuple[str, str, str], ...]], ...] = (
    ("", (("Overview", "dashboard", "index"),)),
    (
        "Mail",
        (
            ("Mailboxes", "inbox", "mailboxes_mailbox_changelist"),
            ("Messages", "mail", "mail_message_changelist"),
            ("Deliveries", "outbox", "delivery_delivery_changelist"),
            ("Suppressions", "block", "delivery_suppression_changelist"),
            ("Events", "history", "events_event_changelist"),
        ),
    ),
    (
        "Setup",
        (
            ("Organizations", "corporate_fare", "accounts_organization_changelist"),
            ("Domains", "dns", "domains_domain_changelist"),
            ("API keys", "key", "accounts_apikey_changelist"),
            ("Users", "group", "accounts_user_changelist"),
        ),
    ),
)
_OPERATORS_ONLY = {"accounts_user_changelist"}
_FOR_EVERYBODY = {"index"}


def build_navigation(request: HttpRequest) -> list[dict[str, Any]]:
    """The groups of unfold's sidebar for this person."""
    operator = is_operator(request)
    member = operator or bool(roles_of(request))

    def is_shown(name: str) -> bool:
        return name in _FOR_EVERYBODY or (operator if name in _OPERATORS_ONLY else member)

    return [
        {
            "title": title,
            "separator": bool(title),
            "items": [
                {"title": label, "icon": icon, "link": reverse(f"admin:{name}")}
                for label, icon, name in items
                if is_shown(name)
            ],
        }
        for title, items in _GROUPS
    ]


def style_url(request: HttpRequest) -> str:
    """Our own few styles, beside unfold's."""
    return static("console/admin.css")


def icon_url(request: HttpRequest) -> str:
    """What a browser shows on the tab."""
    return static("console/mail.svg")


def script_url(request: HttpRequest) -> str:
    """Copy buttons."""
    return static("console/admin.js")
