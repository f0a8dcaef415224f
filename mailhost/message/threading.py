"""What mails of one conversation have in common (RFC 5322 section 3.6.4, RFC 5256 section 2.1)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Protocol

MAX_THREAD_REFERENCES = 50

# Reply and forward marks of mail programs, also counted ("Re[2]:") and with a full-width colon.
_MARK = re.compile(
    r"\s*(?:re|r|aw|antw|sv|vs|vb|ref|res|rif|odp|ynt|回复|回覆|答复|fwd?|fw|wg|tr|rv|enc|doorst|转发|轉寄)"
    r"\s*(?:[\[(]\d{1,4}[\])])?\s*[:\uff1a]\s*",
    re.IGNORECASE,
)
_LIST_TAG = re.compile(r"\s*\[[^\[\]]{1,60}\]\s*(?=\S)")
_FORWARDED_TAIL = re.compile(r"\s*\(fwd\)\s*$", re.IGNORECASE)
_SPACES = re.compile(r"\s+")
_MAX_MARKS = 30
_MAX_SUBJECT = 998


class HasReferences(Protocol):
    """What `thread_references` needs of a parsed message."""

    @property
    def in_reply_to(self) -> Sequence[str]: ...

    @property
    def references(self) -> Sequence[str]: ...


def normalize_subject(subject: str) -> str:
    """The subject without reply and forward marks and list tags, white space folded, lower case.

    Two subjects that normalise alike may belong together; an empty result belongs with nothing.
    """
    text = _SPACES.sub(" ", subject[:_MAX_SUBJECT]).strip()
    for _ in range(_MAX_MARKS):
        shorter = _FORWARDED_TAIL.sub("", text)
        for pattern in (_MARK, _LIST_TAG):
            if match := pattern.match(shorter):
                shorter = shorter[match.end() :]
        if shorter == text:
            break
        text = shorter
    return text.strip().lower()


def thread_references(message: HasReferences) -> list[str]:
    """The Message-IDs to look a thread up by, best first: In-Reply-To, then References from the newest back."""
    found = dict.fromkeys([*message.in_reply_to, *reversed(message.references)])
    return list(found)[:MAX_THREAD_REFERENCES]
