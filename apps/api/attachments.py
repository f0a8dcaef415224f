"""Files that come inside a JSON body, in base64."""

import base64
import binascii
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from apps.core.errors import ValidationFailed
from apps.mail.errors import MessageTooLarge
from mailhost.message.compose import OutgoingAttachment

MAX_ATTACHMENT_OCTETS = 25 * 1024 * 1024
"""All files of a message, decoded."""

UNKNOWN_TYPE = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class EncodedFile:
    """A file as it came; `content` is base64."""

    filename: str
    content: str
    content_type: str = UNKNOWN_TYPE
    content_id: str | None = None
    disposition: Literal["attachment", "inline"] = "attachment"


def decode_files(files: Iterable[EncodedFile]) -> list[OutgoingAttachment]:
    """Decode base64 strictly; raises ValidationFailed with the place, MessageTooLarge above 25 MiB in all."""
    attachments = []
    octets = 0
    for index, file in enumerate(files):
        try:
            content = base64.b64decode(file.content, validate=True)
        except (binascii.Error, ValueError):
            raise ValidationFailed(f"attachments[{index}].content", "This is not valid base64.") from None
        octets += len(content)
        if octets > MAX_ATTACHMENT_OCTETS:
            raise MessageTooLarge(f"The attachments are more than {MAX_ATTACHMENT_OCTETS} octets in all.")
        attachments.append(
            OutgoingAttachment(
                filename=file.filename,
                content_type=file.content_type,
                content=content,
                content_id=file.content_id,
                disposition=file.disposition,
            )
        )
    return attachments
