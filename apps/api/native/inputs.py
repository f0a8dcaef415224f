"""What the native API takes: bodies by serializers that coerce nothing and refuse what they do not know."""

import re
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

from django.http import HttpRequest, QueryDict
from django.utils.dateparse import parse_datetime
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from apps.accounts.models import SCOPES
from apps.api.attachments import EncodedFile, decode_files
from apps.api.cursors import ListKey, PageRequest
from apps.api.live.regexes import MAX_PATTERN
from apps.core.errors import ValidationFailed
from apps.core.ids import decode_id
from apps.delivery.models import Suppression
from apps.delivery.services import MAX_IMPORTED
from mailhost.address import domain_key
from mailhost.errors import InvalidDomain
from mailhost.message.compose import OutgoingAttachment

MAX_LIMIT = 100
DEFAULT_LIMIT = 20
MAX_ADDRESSES = 50
MAX_ADDRESS_CHARACTERS = 1000
MAX_SUBJECT_CHARACTERS = 2000
MAX_HEADERS = 50
MAX_HEADER_CHARACTERS = 4000
_CUSTOM_HEADER = re.compile(r"(?:x|list)-[a-z0-9-]{1,70}", re.IGNORECASE)
_LINE_BREAK = re.compile("[\r\n\x0b\x0c\x85\u2028\u2029]")
_TIME_ZONE = re.compile(r"(?:[zZ]|[+-]\d\d:\d\d)$")


class Text(serializers.CharField):
    """A string and nothing else: REST framework's own would take numbers, and trim."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"trim_whitespace": False, "allow_blank": True, **options})

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            raise serializers.ValidationError("This must be a string.")
        return super().to_internal_value(data)


class Line(Text):
    """One line of text, as it goes into a header field."""

    def to_internal_value(self, data: Any) -> str:
        text = super().to_internal_value(data)
        if _LINE_BREAK.search(text):
            raise serializers.ValidationError("This must be one line.")
        return text


class Number(serializers.IntegerField):
    """A whole number and nothing else."""

    def to_internal_value(self, data: Any) -> int:
        if not isinstance(data, int) or isinstance(data, bool):
            raise serializers.ValidationError("This must be a whole number.")
        return super().to_internal_value(data)


class Flag(serializers.BooleanField):
    """true or false and nothing else."""

    def to_internal_value(self, data: Any) -> bool:
        if not isinstance(data, bool):
            raise serializers.ValidationError("This must be true or false.")
        return data


class Time(serializers.Field[datetime, str, str, Any]):
    """A time by RFC 3339 with its zone."""

    def to_internal_value(self, data: Any) -> datetime:
        try:
            return parse_time(data)
        except ValueError:
            raise serializers.ValidationError("This must be a time such as 2026-01-31T12:00:00Z.") from None


class PrefixedId(serializers.Field[UUID, str, str, Any]):
    """An id of one kind."""

    def __init__(self, prefix: str, **options: Any) -> None:
        self.prefix = prefix
        super().__init__(**options)

    def to_internal_value(self, data: Any) -> UUID:
        found = decode_id(self.prefix, data) if isinstance(data, str) else None
        if found is None:
            raise serializers.ValidationError(f"This must be an id that begins with {self.prefix}_.")
        return found


class Addresses(serializers.Field[list[str], Any, Any, Any]):
    """One address or a list of them; whether they are addresses is the service's to say."""

    def to_internal_value(self, data: Any) -> list[str]:
        items = [data] if isinstance(data, str) else data
        if not isinstance(items, list):
            raise serializers.ValidationError("This must be an address or a list of addresses.")
        if len(items) > MAX_ADDRESSES:
            raise serializers.ValidationError(f"A message has at most {MAX_ADDRESSES} recipients in all.")
        for index, item in enumerate(items):
            if not isinstance(item, str) or len(item) > MAX_ADDRESS_CHARACTERS:
                raise serializers.ValidationError({str(index): ["This must be an address."]})
        return items


class CustomHeaders(serializers.Field[list[tuple[str, str]], Any, Any, Any]):
    """Header fields that a sender may set: X-... and List-... by name, text by value."""

    def to_internal_value(self, data: Any) -> list[tuple[str, str]]:
        if not isinstance(data, dict) or len(data) > MAX_HEADERS:
            raise serializers.ValidationError(f"This must be an object of at most {MAX_HEADERS} header fields.")
        for name, value in data.items():
            if not _CUSTOM_HEADER.fullmatch(name):
                raise serializers.ValidationError({name: ["Only fields named X-... and List-... can be set."]})
            if not isinstance(value, str) or len(value) > MAX_HEADER_CHARACTERS:
                raise serializers.ValidationError(
                    {name: ["A header field's value is a string of at most 4000 characters."]}
                )
            if "\r" in value or "\n" in value:
                raise serializers.ValidationError({name: ["A header field's value is one line."]})
        return list(data.items())


class JsonObject(serializers.Field[dict[str, Any], Any, Any, Any]):
    """Any JSON object."""

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        if not isinstance(data, dict):
            raise serializers.ValidationError("This must be an object.")
        return data


class StrictInput(serializers.Serializer[Any]):
    """Refuses fields that it does not know, by name."""

    def to_internal_value(self, data: Any) -> Any:
        if not isinstance(data, dict):
            raise serializers.ValidationError({"non_field_errors": ["This must be an object."]})
        unknown = data.keys() - self.fields.keys()
        if unknown:
            raise serializers.ValidationError({name: ["There is no such field."] for name in sorted(unknown)[:20]})
        return super().to_internal_value(data)


def all_inputs(kind: type[StrictInput] = StrictInput) -> list[type[StrictInput]]:
    """Every input that there is."""
    return [found for child in kind.__subclasses__() for found in (child, *all_inputs(child))]


def read_input(kind: type[StrictInput], data: dict[str, Any]) -> dict[str, Any]:
    """The checked values of a body; raises REST framework's ValidationError."""
    form = kind(data=data)
    form.is_valid(raise_exception=True)
    values: dict[str, Any] = form.validated_data
    return values


class NewInbox(StrictInput):
    """POST /v1/inboxes; all of it optional."""

    username = Line(max_length=64, required=False, allow_null=True)
    domain = Text(max_length=255, required=False, allow_null=True)
    display_name = Line(max_length=255, required=False, allow_null=True)
    client_id = Text(min_length=1, max_length=256, allow_blank=False, required=False, allow_null=True)
    metadata = JsonObject(required=False, allow_null=True)
    webhook_url = Text(max_length=2000, required=False, allow_null=True)
    pod_id = PrefixedId("pod", required=False, allow_null=True)
    daily_send_limit = Number(min_value=0, max_value=1_000_000_000, required=False, allow_null=True)


class InboxChanges(StrictInput):
    """PATCH /v1/inboxes/{inbox}; what it does not name stays."""

    display_name = Line(max_length=255, required=False, allow_null=True)
    metadata = JsonObject(required=False, allow_null=True)
    status = serializers.ChoiceField(choices=["active", "paused"], required=False)
    webhook_url = Text(max_length=2000, required=False, allow_null=True)
    daily_send_limit = Number(min_value=0, max_value=1_000_000_000, required=False, allow_null=True)


class AttachmentInput(StrictInput):
    """A file of a message that is sent."""

    filename = Line(min_length=1, max_length=255, allow_blank=False)
    content_type = Line(max_length=255, required=False, default="application/octet-stream")
    content = Text(help_text="Base64.")
    content_id = Line(max_length=255, required=False, allow_null=True)
    disposition = serializers.ChoiceField(choices=["attachment", "inline"], required=False, default="attachment")


class ReplyInput(StrictInput):
    """POST /v1/messages/{id}/reply; recipients and subject follow from the message unless `to` is given."""

    to = Addresses(required=False, allow_null=True)
    cc = Addresses(required=False, allow_null=True)
    bcc = Addresses(required=False, allow_null=True)
    text = Text(required=False, allow_null=True)
    html = Text(required=False, allow_null=True)
    attachments = AttachmentInput(many=True, required=False)
    labels = serializers.ListField(
        child=Text(min_length=1, max_length=100, allow_blank=False), max_length=50, required=False
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if all(attrs.get(name) is None for name in ("text", "html")) and not attrs.get("attachments"):
            raise serializers.ValidationError({"text": ["Give text, html, or both."]})
        return attrs


class SendInput(ReplyInput):
    """POST /v1/inboxes/{inbox}/messages."""

    subject = Line(max_length=MAX_SUBJECT_CHARACTERS, required=False, allow_null=True)
    reply_to = Addresses(required=False, allow_null=True)
    headers = CustomHeaders(required=False, allow_null=True)
    list = Flag(
        required=False,
        help_text="Adds one-click unsubscribe (RFC 8058). Such a mail goes to one recipient, whose link it carries.",
    )
    in_reply_to = PrefixedId("msg", required=False, allow_null=True)
    thread_id = PrefixedId("thread", required=False, allow_null=True)


class NewSuppressionInput(StrictInput):
    """POST /v1/suppressions, and an entry of an import."""

    address = Text(min_length=1, max_length=320, allow_blank=False)
    reason = serializers.ChoiceField(
        choices=Suppression.Reason.values, required=False, default=Suppression.Reason.MANUAL.value
    )
    source = Line(  # type: ignore[assignment]
        max_length=500, required=False, allow_null=True, help_text="A note: where this is known from."
    )
    expires_at = Time(required=False, allow_null=True)


class SuppressionImport(StrictInput):
    """POST /v1/suppressions/import."""

    suppressions = NewSuppressionInput(many=True, allow_empty=False, max_length=MAX_IMPORTED)  # type: ignore[call-arg]


class WaitInput(StrictInput):
    """POST /v1/inboxes/{inbox}/wait; all of it optional."""

    subject = Text(max_length=500, required=False, allow_null=True, help_text="Part of the subject, case ignored.")
    regex = Text(
        max_length=MAX_PATTERN, required=False, allow_null=True,
        help_text="An expression in RE2's syntax, searched for in the first 65,536 characters of the text.",
    )  # fmt: skip
    since = Time(
        required=False, allow_null=True,
        help_text="Mail that came at this time or later; by default 60 seconds before the call.",
    )  # fmt: skip
    after = Text(
        max_length=2000, required=False, allow_null=True,
        help_text="The cursor of the last answer: what came behind it. Not together with since.",
    )  # fmt: skip
    timeout_seconds = Number(min_value=0, max_value=300, required=False, allow_null=True, help_text="120 by default.")
    include_automatic = Flag(
        required=False, allow_null=True, help_text="Take delivery reports and automatic answers as well."
    )

    def get_fields(self) -> dict[str, Any]:
        """`from` is no name that Python takes."""
        sender = Text(
            max_length=500, required=False, allow_null=True,
            help_text="Part of the sender, `Name <address>`, case ignored.",
        )  # fmt: skip
        return {"from": sender, **super().get_fields()}

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if attrs.get("since") is not None and attrs.get("after"):
            raise serializers.ValidationError({"since": ["Give since or after, not both."]})
        return attrs


class NewDomain(StrictInput):
    """POST /v1/domains."""

    domain = Text(min_length=1, max_length=255, allow_blank=False)


class NewKey(StrictInput):
    """POST /v1/api-keys."""

    name = Line(min_length=1, max_length=200, allow_blank=False)
    scopes = serializers.ListField(child=serializers.ChoiceField(choices=SCOPES), min_length=1, max_length=len(SCOPES))
    allowed_domains = serializers.ListField(
        child=Text(max_length=255), max_length=1000, required=False, allow_null=True
    )
    inbox_ids = serializers.ListField(child=PrefixedId("inbox"), max_length=1000, required=False, allow_null=True)
    max_inboxes = Number(min_value=0, max_value=2_000_000_000, required=False, allow_null=True)
    expires_at = Time(required=False, allow_null=True)

    def validate_allowed_domains(self, value: list[str] | None) -> list[str] | None:
        """Domains are compared as A-labels."""
        try:
            return None if value is None else [domain_key(name) for name in value]
        except InvalidDomain as error:
            raise serializers.ValidationError(str(error)) from None


def read_attachments(values: Iterable[dict[str, Any]]) -> list[OutgoingAttachment]:
    """The files of a body; raises ValidationFailed with the place, MessageTooLarge above 25 MiB in all."""
    return decode_files(EncodedFile(**value) for value in values)


def parse_time(text: Any) -> datetime:
    """A time by RFC 3339, its zone required; raises ValueError."""
    if not isinstance(text, str) or not _TIME_ZONE.search(text):
        raise ValueError(text)
    parsed = parse_datetime(text.replace("z", "Z"))
    if parsed is None or not 1970 <= parsed.year <= 9000:
        raise ValueError(text)
    return parsed


class Query:
    """The query string of a list: every parameter is read by name, and one that nobody reads is refused."""

    def __init__(self, request: HttpRequest, *, allowed: Iterable[str]) -> None:
        self._values: QueryDict = request.GET
        self.allowed = {*allowed, "limit", "cursor", "ascending"}
        for name in self._values:
            if name not in self.allowed:
                raise ValidationFailed(name[:100], "There is no such parameter.")

    def text(self, name: str, *, max_length: int = 500) -> str | None:
        """One value, None when it is absent or empty."""
        value = self._values.get(name) or None
        if value is not None and (len(value) > max_length or "\0" in value or not _is_storable(value)):
            raise ValidationFailed(name, f"This must be text of at most {max_length} characters.")
        return value

    def texts(self, name: str) -> list[str]:
        """Values given by repeating the parameter or by commas."""
        values = [part.strip() for value in self._values.getlist(name) for part in value.split(",")]
        if len(values) > 50 or any(len(value) > 320 or "\0" in value or not _is_storable(value) for value in values):
            raise ValidationFailed(name, "These are too many values, or too long ones.")
        return [value for value in values if value]

    def flag(self, name: str) -> bool | None:
        """true or false, None when absent."""
        value = self.text(name)
        if value is None:
            return None
        if value.lower() not in ("true", "false", "1", "0"):
            raise ValidationFailed(name, "This must be true or false.")
        return value.lower() in ("true", "1")

    def choice(self, name: str, choices: Iterable[str]) -> str | None:
        """One of a few words."""
        value = self.text(name)
        if value is not None and value not in choices:
            raise ValidationFailed(name, f"This must be one of: {', '.join(choices)}.")
        return value

    def time(self, name: str) -> datetime | None:
        """A time by RFC 3339."""
        found: datetime | None = self._parsed(name, parse_time, "This must be a time such as 2026-01-31T12:00:00Z.")
        return found

    def id(self, name: str, prefix: str) -> UUID | None:
        """An id of one kind."""

        def parse(text: str) -> UUID:
            found = decode_id(prefix, text)
            if found is None:
                raise ValueError(text)
            return found

        found_id: UUID | None = self._parsed(name, parse, f"This must be an id that begins with {prefix}_.")
        return found_id

    def page(self, name: str, *, owner: UUID | None, ascending: bool = False) -> PageRequest:
        """The page wanted of the list `name`; `ascending` is its direction when the request does not say."""
        limit = self.text("limit") or str(DEFAULT_LIMIT)
        if not re.fullmatch(r"[0-9]{1,4}", limit) or not 1 <= int(limit) <= MAX_LIMIT:
            raise ValidationFailed("limit", f"This must be a whole number from 1 to {MAX_LIMIT}.")
        wanted = self.flag("ascending")
        is_ascending = ascending if wanted is None else wanted
        filters = [(key, value) for key in self._values for value in self._values.getlist(key)]
        shape = [(key, value) for key, value in filters if key not in ("limit", "cursor", "ascending")]
        key = ListKey(name, owner, [*shape, ("ascending", str(is_ascending))])
        return PageRequest(key, int(limit), is_ascending, self.text("cursor", max_length=10_000))

    def _parsed(self, name: str, parse: Callable[[str], Any], message: str) -> Any:
        value = self.text(name)
        if value is None:
            return None
        try:
            return parse(value)
        except ValueError:
            raise ValidationFailed(name, message) from None


def _is_storable(text: str) -> bool:
    """Without lone surrogates, which percent escapes can smuggle into a query string."""
    return not re.search("[\ud800-\udfff]", text)


for _field, _schema in (
    (Time, {"type": "string", "format": "date-time"}),
    (PrefixedId, {"type": "string"}),
    (
        Addresses,
        {
            "oneOf": [
                {"type": "string"},
                {"type": "array", "items": {"type": "string"}, "maxItems": MAX_ADDRESSES},
            ],
            "description": "`a@b.example` or `Name <a@b.example>`, one or a list.",
        },
    ),
    (
        CustomHeaders,
        {
            "type": "object",
            "additionalProperties": {"type": "string", "maxLength": MAX_HEADER_CHARACTERS},
            "description": "Fields named X-... and List-... only.",
        },
    ),
    (JsonObject, {"type": "object", "additionalProperties": {}}),
):
    extend_schema_field(_schema)(_field)
