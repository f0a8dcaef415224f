"""Which mail a waiting request looks for, and what it has looked at: its place, which becomes the answer's cursor.

Mail is looked at in the order of its ids, which is that of its making, and not of its commits: mail of a slow
transaction appears late, behind mail with a higher id. A place therefore says three things: the highest id looked
at; a position of the event log below which nothing new can appear; and which mails at or above that position were
looked at already. What is not among them comes next, so that nothing is skipped and nothing repeated.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

from apps.api.errors import InvalidCursor
from apps.api.live.regexes import Pattern
from apps.mail.selectors import Incoming

SKIPPED_KINDS = frozenset({"replied", "report"})
"""Out-of-office answers and delivery reports are not what anybody waits for. Mail that calls itself generated or bulk
is: codes to sign in with come so."""

MAX_NOTED = 100
_TAIL = 6
_HEAD = struct.Struct(">16sq")
_REMEMBERED = 5_000


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the mail must look like; texts are compared without case."""

    organization_id: UUID
    mailbox_id: UUID
    sender: str = ""
    subject: str = ""
    pattern: Pattern | None = None
    include_automatic: bool = False

    def accepts(self, mail: Incoming) -> bool:
        """All but the pattern, which needs the text."""
        if mail.automatic in SKIPPED_KINDS and not self.include_automatic:
            return False
        return (
            self.sender.casefold() in f"{mail.from_name} <{mail.from_address}>".casefold()
            and self.subject.casefold() in mail.subject.casefold()
        )


@dataclass(frozen=True, slots=True)
class Mark:
    """A place, as a cursor keeps it. `noted` holds the last octets of ids, which are random."""

    newest: UUID
    position: int
    noted: frozenset[bytes] = frozenset()

    def pack(self) -> bytes:
        """The place as octets."""
        return _HEAD.pack(self.newest.bytes, self.position) + b"".join(sorted(self.noted))

    @classmethod
    def unpack(cls, payload: bytes) -> "Mark":
        """The place in these octets; raises InvalidCursor."""
        tails = payload[_HEAD.size :]
        if len(payload) < _HEAD.size or len(tails) % _TAIL:
            raise InvalidCursor
        newest, position = _HEAD.unpack(payload[: _HEAD.size])
        noted = frozenset(tails[start : start + _TAIL] for start in range(0, len(tails), _TAIL))
        return cls(UUID(bytes=newest), position, noted)

    def has_noted(self, message_id: UUID) -> bool:
        """Whether the mail, which is not above `newest`, was looked at."""
        return message_id.bytes[-_TAIL:] in self.noted


@dataclass(slots=True)
class Search:
    """What one waiting request has looked at, beginning at a mark."""

    start: Mark
    newest: UUID = field(init=False)
    position: int = field(init=False)
    _looked: dict[UUID, int | None] = field(default_factory=dict)
    """Ids of mails with their positions; None for what had settled before the search began."""

    def __post_init__(self) -> None:
        self.newest, self.position = self.start.newest, self.start.position

    def is_new(self, message_id: UUID) -> bool:
        """Whether the mail has still to be looked at."""
        if message_id in self._looked:
            return False
        return message_id > self.start.newest or not self.start.has_noted(message_id)

    def note(self, message_id: UUID, position: int | None) -> None:
        """The mail was looked at."""
        self._looked[message_id] = position
        self.newest = max(self.newest, message_id)
        if len(self._looked) > _REMEMBERED:
            del self._looked[next(iter(self._looked))]

    def settle(self, position: int) -> None:
        """All that stands below the position was looked at, and nothing can appear there any more."""
        self.position = max(self.position, position)

    def mark(self) -> Mark:
        """The place reached."""
        noted = [
            message_id.bytes[-_TAIL:]
            for message_id, position in self._looked.items()
            if position is not None and position >= self.position
        ]
        earlier: Sequence[bytes] = list(self.start.noted) if self.position == self.start.position else []
        return Mark(self.newest, self.position, frozenset([*earlier, *noted][-MAX_NOTED:]))
