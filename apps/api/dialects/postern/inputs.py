"""What Postern's clients send. Fields that we do not know are ignored, as the vendor does."""

import re
from collections.abc import Mapping
from typing import Any

from django.http import HttpRequest

from apps.accounts.models import ApiKey
from apps.api.cursors import ListKey, PageRequest
from apps.api.dialects.postern import webhooks
from apps.core.errors import ValidationFailed
from apps.delivery.services import SendRequest
from apps.mailboxes.services import NewMailbox

DEFAULT_LIMIT, MAX_LIMIT = 20, 100


def _text(body: Mapping[str, Any], name: str) -> str | None:
    value = body.get(name)
    if value is not None and not isinstance(value, str):
        raise ValidationFailed(name, f"{name} must be a string.")
    return value


def _addresses(body: Mapping[str, Any], name: str) -> list[str]:
    """One address or a list of them."""
    value = body.get(name)
    if value is None or value == "":
        return []
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not all(isinstance(item, str) for item in values):
        raise ValidationFailed(name, f"{name} must be an address or a list of addresses.")
    return values


def read_create(body: Mapping[str, Any]) -> NewMailbox:
    """The body of a create; everything is optional."""
    return NewMailbox(
        username=_text(body, "username") or None,
        domain=_text(body, "domain") or None,
        display_name=_text(body, "display_name") or "",
        client_id=_text(body, "client_id") or None,
        webhook_url=_text(body, "inbound_webhook_url") or None,
        webhook_dialect=webhooks.NAME,
        webhook_events=webhooks.TOLD,
    )


def read_payment_header(request: HttpRequest) -> str | None:
    """The signed payment of x402 version 2, where one was sent."""
    return request.META.get("HTTP_PAYMENT_SIGNATURE") or None


def read_send(body: Mapping[str, Any]) -> tuple[SendRequest, str | None]:
    """The body of a send, and its idempotency key."""
    text, html = _text(body, "text"), _text(body, "html")
    if text is None and html is None:
        raise ValidationFailed("text", "A message needs text, html, or both.")
    request = SendRequest(
        to=_addresses(body, "to"),
        cc=_addresses(body, "cc"),
        bcc=_addresses(body, "bcc"),
        subject=_text(body, "subject") or "",
        text=text,
        html=html,
        reply_to=_addresses(body, "reply_to"),
    )
    return request, _text(body, "idempotency_key")


def read_page_request(request: HttpRequest, key: ApiKey, name: str) -> PageRequest:
    """`limit` and `cursor` of a list."""
    given = request.GET.get("limit", str(DEFAULT_LIMIT))
    if not re.fullmatch(r"[0-9]{1,4}", given) or not 1 <= int(given) <= MAX_LIMIT:
        raise ValidationFailed("limit", f"limit lies between 1 and {MAX_LIMIT}.")
    list_key = ListKey(f"postern.{name}", key.organization_id)
    return PageRequest(key=list_key, limit=int(given), ascending=False, cursor=request.GET.get("cursor") or None)
