"""People who sign in to the admin, named by their rights, and what their pages say."""

import re
from html import unescape
from typing import Any

from django.db import connection, transaction
from django.db.models import Model
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from apps.accounts.models import Membership, Organization, User
from apps.delivery.services import SendRequest, send_message
from apps.mail.models import Message
from apps.mail.services import Deposit, deposit_messages
from apps.mailboxes.models import Mailbox
from mailhost.message.parse import parse_message

MAX_QUERIES = 12
"""Session, user, memberships, filters and the list itself; never more for more rows."""


def sign_in_operator() -> Client:
    """Somebody who runs the installation."""
    return _client(User.objects.create_superuser(username="operator", password="-"))


def sign_in(role: str | None, *organizations: Organization, name: str = "") -> Client:
    """A member of organizations in a role (owner, admin, viewer), or with None nobody's member."""
    user = User.objects.create_user(username=name or role or "nobody", password="-", is_staff=True)
    if role is not None:
        for organization in organizations:
            Membership.objects.create(user=user, organization=organization, role=role)
    return _client(user)


def _client(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def list_url(model: type[Model], **query: object) -> str:
    url = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
    return url + ("?" + "&".join(f"{name}={value}" for name, value in query.items()) if query else "")


def add_url(model: type[Model]) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_add")


def page_url(obj: Model, action: str = "change") -> str:
    """An object's page, or one of its buttons."""
    if action == "change":
        return reverse(f"admin:{obj._meta.app_label}_{obj._meta.model_name}_change", args=[obj.pk])
    return reverse(f"admin:{obj._meta.app_label}_{obj._meta.model_name}_{action}", args=[obj.pk])


def press(client: Client, obj: Model, action: str, **fields: str) -> Any:
    """Confirm the dialog of a button."""
    return client.post(page_url(obj, action), {"_form_submitted": "on", **fields})


def run_action(client: Client, model: type[Model], action: str, *objects: Model, **fields: str) -> Any:
    """Run an action of a list on selected rows."""
    data = {"action": action, "_selected_action": [str(obj.pk) for obj in objects], "index": "0", **fields}
    return client.post(list_url(model), data, follow=True)


def rows_of(response: Any) -> list[Any]:
    """The objects that a list shows."""
    assert response.status_code == 200, response.status_code
    return list(response.context["cl"].result_list)


def text_of(response: Any) -> str:
    """What a page says, without its tags."""
    return unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", response.content.decode())))


def count_queries() -> CaptureQueriesContext:
    """The queries of a block, afterwards."""
    return CaptureQueriesContext(connection)


def counts_rows(queries: CaptureQueriesContext) -> bool:
    """Whether one of the queries counts, which takes ever longer as a table grows."""
    return any("COUNT(" in query["sql"].upper() for query in queries.captured_queries)


def send(mailbox: Mailbox, to: str = "person@customer.example", **fields: Any) -> Message:
    """A message that waits (held: the tests' installation holds what would leave it)."""
    request = SendRequest(to=[to], **{"subject": "Report", "text": "Hello", **fields})
    return send_message(mailbox=mailbox, request=request, now=timezone.now()).message


def receive(mailbox: Mailbox, raw: bytes) -> Message:
    """A stranger's mail in the mailbox."""
    with transaction.atomic():
        deposit = Deposit(recipients=[mailbox.address], raw=raw, parsed=parse_message(raw), mail_from="c@shop.example")
        ((result,),) = deposit_messages(deposits=[deposit], now=timezone.now())
    return Message.objects.get(id=result.message_id)
