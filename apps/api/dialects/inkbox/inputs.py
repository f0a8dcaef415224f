"""What Inkbox's clients send. Fields that we do not know are ignored, as the vendor does."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from apps.api.errors import NotSupported
from apps.api.public_ids import decode_uuid
from apps.core.errors import ValidationFailed
from apps.mailboxes.services import NewMailbox

DEFAULT_DISPLAY_NAME = "Inkbox user"
MAX_DISPLAY_NAME = 255
FILTER_MODES = ("blacklist", "whitelist")
FILTER_MODE = "blacklist"
"""The only one so far: everything is let in that no rule blocks."""

Body = Mapping[str, Any]


class Fields:
    """The fields of a body, and all that is wrong with them: the vendor tells every fault in one answer."""

    def __init__(self, body: Body, place: str = "") -> None:
        self._body = body
        self._place = place
        self.faults: list[dict[str, str]] = []

    def fault(self, name: str, kind: str, message: str) -> None:
        """Note what is wrong with a field; `kind` is FastAPI's word for it."""
        self.faults.append({"field": f"{self._place}{name}", "type": kind, "message": message})

    def text(self, name: str, *, required: bool = False, most: int | None = None) -> str | None:
        """A string; None when it is missing, null or wrong."""
        value = self._body.get(name)
        if required and name not in self._body:
            self.fault(name, "missing", "Field required")
            return None
        if value is None and not required:
            return None
        if not isinstance(value, str):
            self.fault(name, "string_type", "Input should be a valid string")
            return None
        if most is not None and len(value) > most:
            self.fault(name, "string_too_long", f"String should have at most {most} characters")
            return None
        return value

    def check(self) -> None:
        """Raise ValidationFailed with all faults, if there are any."""
        if self.faults:
            error = ValidationFailed("", "Values in the request are not allowed.")
            error.data["details"] = self.faults
            raise error


def read_mailbox_create(body: Body) -> tuple[str, NewMailbox]:
    """The body of POST /mailboxes: whose mailbox, and which."""
    fields = Fields(body)
    handle = fields.text("agent_handle", required=True)
    wanted = _read_new_mailbox(fields)
    _read_filter_mode(fields, body)
    fields.check()
    return handle or "", wanted


def _read_new_mailbox(fields: Fields) -> NewMailbox:
    name = fields.text("display_name", most=MAX_DISPLAY_NAME)
    local_part = fields.text("email_local_part")
    if local_part == "":
        fields.fault("email_local_part", "string_too_short", "String should have at least 1 character")
    return NewMailbox(username=local_part, display_name=DEFAULT_DISPLAY_NAME if name is None else name)


def read_mailbox_changes(body: Body) -> dict[str, Any]:
    """The body of PATCH /mailboxes/{email_address} as update_mailbox wants it: only what was sent."""
    fields = Fields(body)
    changes: dict[str, Any] = {}
    if "display_name" in body:
        changes["display_name"] = fields.text("display_name", most=MAX_DISPLAY_NAME) or ""
    if "webhook_url" in body:
        changes["webhook_url"] = _read_webhook_url(fields)
    _read_filter_mode(fields, body)
    fields.check()
    return changes


def _read_webhook_url(fields: Fields) -> str | None:
    """An HTTPS address, or None to be told nothing any more."""
    url = fields.text("webhook_url", most=2000)
    if url is None:
        return None
    try:
        parts = urlsplit(url)
        is_https = parts.scheme == "https" and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_https = False
    if not is_https:
        fields.fault("webhook_url", "url_scheme", "URL scheme should be 'https'")
    return url


def _read_filter_mode(fields: Fields, body: Body) -> None:
    """`filter_mode`: what it is may be said again; raises NotSupported for the other."""
    mode = fields.text("filter_mode", required="filter_mode" in body)
    if mode is None:
        return
    if mode not in FILTER_MODES:
        fields.fault("filter_mode", "enum", "Input should be 'blacklist' or 'whitelist'")
    elif mode != FILTER_MODE:
        raise NotSupported("This server has no rules for contacts yet, so filter_mode is always 'blacklist'.")


def read_identity_create(body: Body) -> tuple[str, NewMailbox | None]:
    """The body of POST /identities: the handle, and the mailbox to make with it."""
    for name in ("phone_number", "vault_secret_ids"):
        if body.get(name) is not None:
            raise NotSupported(f"This server is for mail: it has nothing for {name}.")
    fields = Fields(body)
    handle = fields.text("agent_handle", required=True)
    nested = body.get("mailbox")
    wanted = None
    if isinstance(nested, dict):
        inner = Fields(nested, "mailbox.")
        wanted = _read_new_mailbox(inner)
        fields.faults += inner.faults
    elif nested is not None:
        fields.fault("mailbox", "model_attributes_type", "Input should be a valid dictionary")
    fields.check()
    return handle or "", wanted


def read_identity_changes(body: Body) -> str | None:
    """The body of PATCH /identities/{agent_handle}: the new handle, if one was sent."""
    fields = Fields(body)
    handle = fields.text("agent_handle")
    fields.check()
    return handle


def read_mailbox_id(body: Body) -> UUID:
    """`mailbox_id` of POST /identities/{agent_handle}/mailbox."""
    fields = Fields(body)
    text = fields.text("mailbox_id", required=True)
    mailbox_id = None if text is None else decode_uuid(text)
    if text is not None and mailbox_id is None:
        fields.fault("mailbox_id", "uuid_parsing", "Input should be a valid UUID")
    fields.check()
    return mailbox_id or UUID(int=0)
