"""Which thread a message belongs to, and what a thread shows of its messages."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from apps.mail.models import Message, Thread
from mailhost.message.threading import normalize_subject

MAX_PARTICIPANTS = 50


def hash_message_id(rfc_message_id: str) -> UUID | None:
    """A Message-ID as the small key that it is found by; None for an empty one."""
    if not rfc_message_id:
        return None
    return UUID(bytes=hashlib.sha256(rfc_message_id.encode("utf-8", "replace")).digest()[:16])


@dataclass(slots=True)
class ThreadBook:
    """The threads that a batch of messages joins or begins, read once and written once.

    Use: `load` with every reference of the batch, `place` each message in order, then `save`.
    """

    known: dict[tuple[UUID, UUID], UUID] = field(default_factory=dict)
    threads: dict[UUID, Thread] = field(default_factory=dict)
    fresh: set[UUID] = field(default_factory=set)

    def load(self, references: Iterable[tuple[UUID, Sequence[str]]]) -> None:
        """Find and lock the threads that hold any of these (mailbox id, Message-IDs)."""
        pairs = {(mailbox, key) for mailbox, ids in references for key in map(hash_message_id, ids) if key}
        if not pairs:
            return
        rows = Message.objects.filter(
            mailbox_id__in={mailbox for mailbox, _ in pairs},
            rfc_message_id_hash__in={key for _, key in pairs},
        ).values_list("mailbox_id", "rfc_message_id_hash", "thread_id")
        self.known = {(mailbox, key): thread for mailbox, key, thread in rows if key and (mailbox, key) in pairs}
        self.lock(self.known.values())

    def lock(self, thread_ids: Iterable[UUID]) -> None:
        """Read threads for update, in id order, so that two batches never wait for each other in a circle."""
        wanted = set(thread_ids) - self.threads.keys()
        for thread in Thread.objects.filter(id__in=wanted).order_by("id").select_for_update():
            self.threads[thread.id] = thread

    def place(self, message: Message, references: Sequence[str], thread_id: UUID | None = None) -> None:
        """Give the message its thread: the named one, that of the nearest reference, or a new one."""
        thread = self.threads.get(thread_id) if thread_id else self._find(message.mailbox_id, references)
        if thread is None:
            thread = Thread(
                organization_id=message.organization_id,
                mailbox_id=message.mailbox_id,
                subject=message.subject,
                subject_key=normalize_subject(message.subject)[:200],
                last_message_at=message.created_at,
            )
            self.threads[thread.id] = thread
            self.fresh.add(thread.id)
        message.thread = thread
        self._count(thread, message)
        if message.rfc_message_id_hash is not None:
            self.known.setdefault((message.mailbox_id, message.rfc_message_id_hash), thread.id)

    def _find(self, mailbox_id: UUID, references: Sequence[str]) -> Thread | None:
        for key in map(hash_message_id, references):
            thread_id = self.known.get((mailbox_id, key)) if key else None
            if thread_id is not None and thread_id in self.threads:
                return self.threads[thread_id]
        return None

    @staticmethod
    def _count(thread: Thread, message: Message) -> None:
        thread.message_count += 1
        thread.unread_count += int(message.unread)
        thread.preview = message.preview
        thread.last_message_id = message.id
        thread.last_message_at = max(thread.last_message_at, message.created_at)
        seen = {participant["address"] for participant in thread.participants}
        people = [{"address": message.from_address, "name": message.from_name}, *message.to, *message.cc]
        for person in people:
            if person["address"] and person["address"] not in seen and len(thread.participants) < MAX_PARTICIPANTS:
                seen.add(person["address"])
                thread.participants.append(person)

    def save(self) -> None:
        """Write new threads and changed ones, by one statement each."""
        touched = [thread for thread in self.threads.values() if thread.last_message_id is not None]
        Thread.objects.bulk_create([thread for thread in touched if thread.id in self.fresh])
        changed = [thread for thread in touched if thread.id not in self.fresh]
        if changed:
            fields = [
                "message_count",
                "unread_count",
                "preview",
                "last_message_id",
                "last_message_at",
                "participants",
            ]
            Thread.objects.bulk_update(changed, fields)
