"""AgentSend's bodies and query strings, checked as its validator checks them and with the sentences it uses.

Fields that it does not know are ignored, as there.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django.conf import settings
from django.http import HttpRequest, QueryDict

from apps.accounts.models import Organization
from apps.api.dialects.agentsend.errors import FieldsInvalid, RefusedValue
from apps.api.dialects.agentsend.outputs import STATUSES
from apps.api.dialects.agentsend.webhooks import DEFAULT_EVENTS, TOLD, our_event_types
from apps.api.public_ids import decode_uuid
from apps.core.errors import NotFound
from apps.core.ids import decode_id
from apps.delivery.services import SendRequest
from apps.domains.models import Domain
from apps.domains.selectors import domains_of
from apps.mailboxes.services import NewMailbox
from mailhost.address import parse_address
from mailhost.errors import InvalidAddress

MAX_LIMIT = 100
DEFAULT_LIMIT = 20
MAX_OFFSET = 2**53
MAX_RECIPIENTS = 50
MAX_SUBJECT = 998
MAX_BODY = 256_000
MAX_NAME = 255
MAX_URL = 2000
_LINE_BREAK = re.compile("[\r\n\x0b\x0c\x85\u2028\u2029]")
_NUMBER = re.compile(r"-?[0-9]{1,18}")
_TYPES: dict[type, str] = {
    str: "string", bool: "boolean", int: "number", float: "number", list: "array", dict: "object", type(None): "null",
}  # fmt: skip


@dataclass(slots=True)
class Values:
    """Reads the fields of a body one by one and gathers what is wrong with them, to tell it all at once."""

    data: Mapping[str, Any]
    problems: dict[str, list[str]] = field(default_factory=dict)

    def refuse(self, name: str, message: str) -> None:
        """Note a problem."""
        self.problems.setdefault(name, []).append(message)

    def check(self) -> None:
        """Raise FieldsInvalid when anything was refused."""
        if self.problems:
            raise FieldsInvalid(self.problems)

    def of_type(self, name: str, kind: type, *, required: bool = False) -> Any:
        """The value, None when it is absent or of another type."""
        if name not in self.data:
            if required:
                self.refuse(name, "Required")
            return None
        value = self.data[name]
        if type(value) is not kind:
            self.refuse(name, f"Expected {_TYPES[kind]}, received {_TYPES[type(value)]}")
            return None
        return value

    def text(
        self, name: str, *, least: int = 0, most: int, required: bool = False, one_line: bool = False
    ) -> str | None:
        """A string of `least` to `most` characters."""
        value: str | None = self.of_type(name, str, required=required)
        if value is None:
            return None
        if len(value) < least:
            self.refuse(name, f"String must contain at least {least} character(s)")
        elif len(value) > most:
            self.refuse(name, f"String must contain at most {most} character(s)")
        elif one_line and _LINE_BREAK.search(value):
            self.refuse(name, "String must be one line")
        return value

    def texts(self, name: str, *, least: int = 0, most: int, required: bool = False) -> list[str]:
        """A list of `least` to `most` strings."""
        values: list[Any] | None = self.of_type(name, list, required=required)
        if values is None:
            return []
        if len(values) < least:
            self.refuse(name, f"Array must contain at least {least} element(s)")
        elif len(values) > most:
            self.refuse(name, f"Array must contain at most {most} element(s)")
            return []
        wrong = [value for value in values if not isinstance(value, str)]
        if wrong:
            self.refuse(name, f"Expected string, received {_TYPES[type(wrong[0])]}")
            return []
        return values

    def addresses(self, name: str, *, required: bool = False) -> list[str]:
        """Bare addresses, without names."""
        values = self.texts(name, least=int(required), most=MAX_RECIPIENTS, required=required)
        if not all(map(is_address, values)):
            self.refuse(name, "Invalid email")
        return values

    def uuid(self, name: str) -> UUID | None:
        """An id."""
        value = self.of_type(name, str)
        if value is None:
            return None
        found = decode_uuid(value)
        if found is None:
            self.refuse(name, "Invalid uuid")
        return found

    def one_of(self, name: str, choices: Collection[str]) -> str | None:
        """One of a few words."""
        value: str | None = self.of_type(name, str)
        if value is not None and value not in choices:
            wanted = " | ".join(f"'{choice}'" for choice in choices)
            self.refuse(name, f"Invalid enum value. Expected {wanted}, received '{value[:50]}'")
            return None
        return value

    def number(self, name: str, *, default: int, least: int, most: int) -> int:
        """A whole number from a query string."""
        text = self.data.get(name)
        if text is None:
            return default
        if not _NUMBER.fullmatch(text):
            self.refuse(name, "Expected number, received nan")
            return default
        if int(text) < least:
            self.refuse(name, f"Number must be greater than or equal to {least}")
        elif int(text) > most:
            self.refuse(name, f"Number must be less than or equal to {most}")
        return int(text)


def is_address(text: str) -> bool:
    """Whether it is a bare address."""
    try:
        parse_address(text)
    except InvalidAddress:
        return False
    return True


def read_id(text: str) -> UUID:
    """The id in a path; raises FieldsInvalid."""
    found = decode_uuid(text)
    if found is None:
        raise FieldsInvalid({"id": ["Invalid uuid"]})
    return found


@dataclass(frozen=True, slots=True)
class Window:
    """Which part of a list is wanted."""

    limit: int
    offset: int
    status: str | None = None


def read_window(request: HttpRequest) -> Window:
    """`limit`, `offset` and, where a list has it, `status`."""
    query: QueryDict = request.GET
    values = Values(query)
    limit = values.number("limit", default=DEFAULT_LIMIT, least=1, most=MAX_LIMIT)
    offset = values.number("offset", default=0, least=0, most=MAX_OFFSET)
    status = values.one_of("status", STATUSES)
    values.check()
    return Window(limit, offset, status)


def read_new_inbox(body: Mapping[str, Any], organization: Organization) -> NewMailbox:
    """The body of POST /inboxes; raises FieldsInvalid, RefusedValue, NotFound (the domain)."""
    values = Values(body)
    name = values.text("displayName", most=MAX_NAME, one_line=True)
    domain_id = values.text("domainId", most=100)
    address = values.text("address", most=320)
    values.check()
    domain = None if domain_id is None else _find_domain(organization, domain_id).name
    username = None if address is None else _read_username(address, domain or settings.MAILHOST_DEFAULT_DOMAIN)
    if username is not None and domain is None:
        domain = settings.MAILHOST_DEFAULT_DOMAIN
    return NewMailbox(username=username, domain=domain, display_name=name or "")


def _find_domain(organization: Organization, text: str) -> Domain:
    """A domain by its id, in this dialect's form or in that of our own API; raises NotFound."""
    domain_id = decode_uuid(text) or decode_id("dom", text)
    domain = None if domain_id is None else domains_of(organization.id).filter(id=domain_id).first()
    if domain is None:
        raise NotFound(f"Domain '{text}' not found")
    return domain


def _read_username(text: str, domain: str) -> str:
    """The local part of a whole address, which has to be on `domain`."""
    try:
        address = parse_address(text.strip().lower())
    except InvalidAddress as error:
        raise RefusedValue("INVALID_INBOX_ADDRESS", f"Inbox address is not valid. {error.message}") from None
    if address.ascii_domain != domain:
        raise RefusedValue("INVALID_INBOX_DOMAIN", f"Inbox address must use @{domain}")
    return address.local


@dataclass(frozen=True, slots=True)
class NewMessage:
    """The body of POST /inboxes/{id}/messages."""

    to: list[str]
    cc: list[str]
    bcc: list[str]
    subject: str
    text: str | None
    html: str | None
    thread_id: UUID | None

    def as_request(self) -> SendRequest:
        """What our service takes."""
        return SendRequest(
            to=self.to,
            cc=self.cc,
            bcc=self.bcc,
            subject=self.subject,
            text=self.text,
            html=self.html,
            thread_id=self.thread_id,
        )


def read_new_message(body: Mapping[str, Any]) -> NewMessage:
    """The body of POST /inboxes/{id}/messages; raises FieldsInvalid, NotFound (an attachment)."""
    values = Values(body)
    message = NewMessage(
        to=values.addresses("to", required=True),
        cc=values.addresses("cc"),
        bcc=values.addresses("bcc"),
        subject=values.text("subject", least=1, most=MAX_SUBJECT, required=True, one_line=True) or "",
        text=values.text("bodyText", most=MAX_BODY),
        html=values.text("bodyHtml", most=MAX_BODY),
        thread_id=values.uuid("threadId"),
    )
    attachment_ids = values.texts("attachmentIds", most=MAX_RECIPIENTS)
    values.check()
    if attachment_ids:
        # Files cannot be uploaded yet, so no id names one: nothing is dropped silently.
        raise NotFound(f"Attachment '{attachment_ids[0][:100]}' not found")
    return message


def read_new_webhook(body: Mapping[str, Any]) -> tuple[str, list[str]]:
    """The body of POST /webhooks: the URL and our event types; raises FieldsInvalid."""
    values = Values(body)
    url = values.text("url", least=1, most=MAX_URL, required=True) or ""
    events = _read_events(values) or our_event_types(DEFAULT_EVENTS)
    values.check()
    return url, events


def read_webhook_changes(body: Mapping[str, Any]) -> dict[str, Any]:
    """The body of PUT /webhooks/{id}, as changes for our service; what it does not name stays."""
    values = Values(body)
    changes = {
        "url": values.text("url", least=1, most=MAX_URL),
        "event_types": _read_events(values),
        "enabled": values.of_type("isActive", bool),
    }
    values.check()
    return {name: value for name, value in changes.items() if value is not None}


def _read_events(values: Values) -> list[str] | None:
    if "events" not in values.data:
        return None
    events = values.texts("events", least=1, most=100)
    for unknown in [name for name in events if name not in TOLD][:1]:
        wanted = " | ".join(f"'{name}'" for name in TOLD)
        values.refuse("events", f"Invalid enum value. Expected {wanted}, received '{unknown[:50]}'")
        return None
    return our_event_types(events)
