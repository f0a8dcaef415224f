"""Sendook's bodies and query strings. Fields that it does not know are ignored, as there."""

import re
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from django.http import HttpRequest

from apps.accounts.models import ApiKey
from apps.api.attachments import UNKNOWN_TYPE, EncodedFile, decode_files
from apps.api.cursors import ListKey, PageRequest
from apps.api.errors import NotSupported
from apps.api.public_ids import decode_ulid
from apps.core.errors import NotFound, ValidationFailed
from apps.delivery.services import ReplyRequest, SendRequest
from apps.mailboxes.services import NewMailbox
from mailhost.address import parse_address
from mailhost.errors import InvalidAddress

MAX_INBOXES = 1000
"""Inboxes in one answer: the vendor's lists have no pages, ours go on at the cursor of a header."""
MAX_MESSAGES = 100
MAX_ITEMS = 100
MAX_NAME = 255
MAX_SUBJECT = 2000
_KINDS = {"str": "a string", "list": "an array"}
_LINE_BREAK = re.compile("[\r\n\x0b\x0c\x85\u2028\u2029]")


def read_id(prefix: str, text: str) -> UUID:
    """An id in a path; raises NotFound for what is none of this kind."""
    found = decode_ulid(prefix, text)
    if found is None:
        raise NotFound
    return found


def read_page_request(
    request: HttpRequest, key: ApiKey, name: str, *, most: int, owner: UUID | None = None
) -> PageRequest:
    """Which page of a list: `limit` and `cursor`, both ours."""
    given = request.GET.get("limit") or str(most)
    if not re.fullmatch(r"[0-9]{1,9}", given) or int(given) == 0:
        raise ValidationFailed("limit", "limit is a whole number of at least 1.")
    return PageRequest(
        key=ListKey(f"sendook.{name}", owner or key.organization_id),
        limit=min(int(given), most),
        ascending=False,
        cursor=request.GET.get("cursor") or None,
    )


def refuse_search(request: HttpRequest) -> None:
    """`query` is not understood yet, and not to be left out of account in silence."""
    if request.GET.get("query"):
        raise NotSupported("Messages cannot be searched yet.", fix="List them without query.")


def read_new_inbox(body: Mapping[str, Any]) -> NewMailbox:
    """The body of POST /v1/inboxes; raises ValidationFailed."""
    name = (_text(body, "name", most=MAX_NAME) or "").strip()
    if not name:
        raise ValidationFailed("name", "name is required.")
    email = _text(body, "email", most=320)
    if email is None:
        return NewMailbox(display_name=name)
    try:
        address = parse_address(email.strip())
    except InvalidAddress as error:
        raise ValidationFailed("email", f"email is not an address. {error.message}") from None
    return NewMailbox(display_name=name, username=address.local, domain=address.domain)


def read_new_message(body: Mapping[str, Any]) -> SendRequest:
    """The body of POST .../messages/send; raises ValidationFailed, MessageTooLarge."""
    to = _texts(body, "to")
    if not to:
        raise ValidationFailed("to", "to must contain at least one email.")
    subject = _text(body, "subject", most=MAX_SUBJECT)
    if subject is None:
        raise ValidationFailed("subject", "subject is required.")
    text, html = _read_bodies(body)
    return SendRequest(
        to=to,
        cc=_texts(body, "cc"),
        bcc=_texts(body, "bcc"),
        labels=_texts(body, "labels"),
        subject=subject,
        text=text,
        html=html,
        attachments=decode_files(_read_file(item, index) for index, item in enumerate(_list(body, "attachments"))),
    )


def read_reply(body: Mapping[str, Any]) -> ReplyRequest:
    """The body of POST .../messages/{m}/reply; raises ValidationFailed."""
    text, html = _read_bodies(body)
    return ReplyRequest(text=text, html=html)


def _read_bodies(body: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """Text and HTML; the vendor wants both, we are content with one."""
    text, html = _value(body, "text", str), _value(body, "html", str)
    if text is None and html is None:
        raise ValidationFailed("text", "text and html are required; one of them will do.")
    return text, html


def _read_file(item: Any, index: int) -> EncodedFile:
    place = f"attachments[{index}]"
    if not isinstance(item, dict):
        raise ValidationFailed(place, "An attachment is an object.")
    content = item.get("content")
    if not isinstance(content, str):
        raise ValidationFailed(f"{place}.content", "content is required, in base64.")
    name = _text(item, "name", most=MAX_NAME, place=f"{place}.") or f"attachment-{index + 1}"
    return EncodedFile(name, content, _text(item, "contentType", most=MAX_NAME, place=f"{place}.") or UNKNOWN_TYPE)


def _value(body: Mapping[str, Any], name: str, kind: type, place: str = "") -> Any:
    """The value, None when it is absent or null; raises ValidationFailed for another type."""
    value = body.get(name)
    if value is not None and not isinstance(value, kind):
        raise ValidationFailed(f"{place}{name}", f"{name} must be {_KINDS[kind.__name__]}.")
    return value


def _text(body: Mapping[str, Any], name: str, *, most: int, place: str = "") -> str | None:
    """One line of text."""
    value: str | None = _value(body, name, str, place)
    if value is None:
        return None
    if len(value) > most:
        raise ValidationFailed(f"{place}{name}", f"{name} has at most {most} characters.")
    if _LINE_BREAK.search(value):
        raise ValidationFailed(f"{place}{name}", f"{name} is one line of text.")
    return value


def _list(body: Mapping[str, Any], name: str) -> list[Any]:
    values: list[Any] = _value(body, name, list) or []
    if len(values) > MAX_ITEMS:
        raise ValidationFailed(name, f"{name} has at most {MAX_ITEMS} items.")
    return values


def _texts(body: Mapping[str, Any], name: str) -> list[str]:
    values = _list(body, name)
    if not all(isinstance(value, str) for value in values):
        raise ValidationFailed(name, f"{name} is an array of strings.")
    return values
