"""Reports that arrive as mail: delivery status notifications and complaints.

RFC 6522 (multipart/report), RFC 3464 (delivery-status), RFC 5965 (Abuse Reporting Format). A report is written by a
stranger: everything is bounded, nothing raises, and what it claims is checked by the caller against mail that we
really sent.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from mailhost.message.extract import storable
from mailhost.message.mime import DEFAULT_LIMITS, Defects, Part, decode_body, parse_fields, parse_tree, walk_leaves

MAX_RECIPIENTS = 200
_MAX_PART_OCTETS = 256 * 1024
_MAX_VALUE = 2000
_MAX_FIELDS = 50
_MESSAGE_ID = re.compile(r"<[^<>\s]{1,990}>")
_STATUS = re.compile(r"[245]\.\d{1,3}\.\d{1,3}")
_SMTP_CODE = re.compile(r"\b([245]\d\d)[ -]")
_BLANK_LINE = re.compile(rb"\r?\n[ \t]*\r?\n")


class Action(enum.StrEnum):
    """What became of a recipient (RFC 3464, section 2.3.3)."""

    FAILED = "failed"
    DELAYED = "delayed"
    DELIVERED = "delivered"
    RELAYED = "relayed"
    EXPANDED = "expanded"


_ACTIONS = frozenset(action.value for action in Action)


@dataclass(frozen=True, slots=True)
class RecipientStatus:
    """One recipient of a delivery status notification. `code` is None when the diagnostic holds no SMTP reply."""

    address: str
    action: Action
    status: str
    diagnostic: str
    code: int | None = None

    @property
    def is_permanent_failure(self) -> bool:
        """Failed for good: a delay, or a failure that calls itself transient, does not count."""
        return self.action is Action.FAILED and not self.status.startswith(("4.", "2."))


@dataclass(frozen=True, slots=True)
class DeliveryReport:
    """A delivery status notification (RFC 3464). `message_id` is that of the returned mail, with brackets, or empty."""

    message_id: str
    recipients: list[RecipientStatus] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class FeedbackReport:
    """A complaint (RFC 5965). `recipients` may be empty: many reporters hide who complained."""

    message_id: str
    feedback_type: str
    recipients: list[str] = field(default_factory=list)


def parse_report(raw: bytes) -> DeliveryReport | FeedbackReport | None:
    """The report that a mail carries, or None when it carries none. Never raises."""
    defects = Defects()
    fields, body_start = parse_fields(raw, DEFAULT_LIMITS, defects)
    status: bytes | None = None
    feedback: bytes | None = None
    message_id = ""
    for part in walk_leaves(parse_tree(raw, fields, body_start, DEFAULT_LIMITS, defects)):
        match part.content_type:
            case "message/delivery-status" | "message/global-delivery-status" if status is None:
                status = _read(raw, part, defects)
            case "message/feedback-report" if feedback is None:
                feedback = _read(raw, part, defects)
            case (
                "message/rfc822"
                | "message/rfc822-headers"
                | "text/rfc822-headers"
                | "message/global"
                | ("message/global-headers")
            ) if not message_id:
                message_id = _find_message_id(_read(raw, part, defects))
    if feedback is not None:
        return _make_feedback(feedback, message_id)
    if status is not None:
        return DeliveryReport(message_id, list(_read_recipients(status)))
    return None


def _read(raw: bytes, part: Part, defects: Defects) -> bytes:
    return decode_body(raw, part, defects, limit=_MAX_PART_OCTETS)[:_MAX_PART_OCTETS]


def _read_fields(block: bytes) -> dict[str, list[str]]:
    """The fields of a block, names in lower case, continuation lines joined."""
    found: dict[str, list[str]] = {}
    fields, _ = parse_fields(block.strip() + b"\r\n\r\n", DEFAULT_LIMITS, Defects())
    for name, value in fields[:_MAX_FIELDS]:
        text = storable(" ".join(value.decode("utf-8", "replace").split()))[:_MAX_VALUE]
        found.setdefault(name.decode("ascii", "replace").lower(), []).append(text)
    return found


def _find_message_id(head: bytes) -> str:
    values = _read_fields(_BLANK_LINE.split(head, maxsplit=1)[0]).get("message-id", [])
    found = _MESSAGE_ID.search(values[0]) if values else None
    return found.group() if found else ""


def _read_recipients(status: bytes) -> Iterator[RecipientStatus]:
    """The per-recipient blocks (RFC 3464, section 2.3); the first block is about the message."""
    for block in _BLANK_LINE.split(status.strip())[: MAX_RECIPIENTS + 1]:
        fields = _read_fields(block)
        address = _address_of(fields.get("original-recipient") or fields.get("final-recipient") or [])
        action = fields.get("action", [""])[0].lower()
        if not address or action not in _ACTIONS:
            continue
        diagnostic = fields.get("diagnostic-code", [""])[0].partition(";")[2].strip()
        code = _SMTP_CODE.search(f"{diagnostic} ")
        found = _STATUS.search(fields.get("status", [""])[0])
        yield RecipientStatus(
            address=address,
            action=Action(action),
            status=found.group() if found else "",
            diagnostic=diagnostic,
            code=int(code.group(1)) if code else None,
        )


def _address_of(values: list[str]) -> str:
    """`rfc822; user@example.com` (RFC 3464, section 2.3.1) as an address; `utf-8;` of RFC 6533 as well."""
    if not values:
        return ""
    kind, separator, address = values[0].partition(";")
    address = address if separator else kind
    return address.strip().strip("<>")


def _make_feedback(report: bytes, message_id: str) -> FeedbackReport:
    fields = _read_fields(report)
    recipients = [_address_of([value]) for value in fields.get("original-rcpt-to", [])[:MAX_RECIPIENTS]]
    return FeedbackReport(
        message_id=message_id,
        feedback_type=fields.get("feedback-type", ["abuse"])[0].lower()[:50],
        recipients=[recipient for recipient in recipients if recipient],
    )
