"""Regular expressions of strangers on mail of strangers: bounded in time, and nobody else waits for them.

They are RE2's, which takes time in proportion to the text whatever the expression is; the factor is bounded by the
memory an expression may take, and the text by a length. What is left, under a second at the very worst, is spent on
threads of their own without the interpreter lock, one expression of an organization at a time, so that an
organization with many costly ones stands behind the others and not before them.
"""

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import re2

from apps.core.errors import ValidationFailed

MAX_PATTERN = 500
"""Characters of an expression."""
SEARCHED = 64 * 1024
"""Characters of a text that are searched."""
BUDGET_SECONDS = 3.0
"""CPU that one waiting request may spend on its expression."""
_THREADS = 2
_MEMORY = 128 * 1024


@dataclass(slots=True)
class Pattern:
    """A compiled expression, and what it has cost so far in seconds of CPU."""

    compiled: Any
    spent: float = 0.0
    abandoned: bool = False
    """Nobody waits for it any more."""


def compile_pattern(text: str) -> Pattern:
    """The expression, ready to search with; raises ValidationFailed for one that RE2 does not take."""
    options = re2.Options()
    options.max_mem = _MEMORY
    options.log_errors = False
    options.never_capture = True
    try:
        return Pattern(re2.compile(text, options))
    except re2.error as error:
        reason = error.args[0] if error.args else ""
        shown = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
        raise ValidationFailed(
            "regex",
            f"This is no regular expression that can be searched for: {shown[:200]}.",
            fix="Use RE2 syntax: no look-around, no backreferences, counted repetitions of at most 1000.",
        ) from None


@dataclass(slots=True)
class _Turn:
    """An organization's place at the bench, and how many of its requests want it."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0


class RegexBench:
    """Searches on threads of its own, organizations in turn."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="regex")
        self._room = asyncio.Semaphore(_THREADS)
        self._turns: dict[UUID, _Turn] = {}
        self._jobs: set[asyncio.Task[tuple[bool, float]]] = set()

    async def search(self, organization_id: UUID, pattern: Pattern, texts: Sequence[str]) -> bool:
        """Whether one of the texts matches; raises ValidationFailed when the expression has cost too much."""
        job = asyncio.create_task(self._take_turn(organization_id, pattern, texts))
        self._jobs.add(job)
        job.add_done_callback(self._jobs.discard)
        try:
            # Shielded: a thread goes on when its client leaves, and until then nobody else may have its turn.
            found, seconds = await asyncio.shield(job)
        except asyncio.CancelledError:
            pattern.abandoned = True
            raise
        pattern.spent += seconds
        if not found and pattern.spent > BUDGET_SECONDS:
            raise ValidationFailed("regex", "This regular expression takes too long.", fix="Use a simpler one.")
        return found

    async def _take_turn(self, organization_id: UUID, pattern: Pattern, texts: Sequence[str]) -> tuple[bool, float]:
        turn = self._turns.setdefault(organization_id, _Turn())
        turn.users += 1
        try:
            async with turn.lock, self._room:
                if pattern.abandoned:
                    return False, 0.0
                loop = asyncio.get_running_loop()
                return await loop.run_in_executor(self._threads, _search, pattern, texts)
        finally:
            turn.users -= 1
            if not turn.users:
                del self._turns[organization_id]


def _search(pattern: Pattern, texts: Sequence[str]) -> tuple[bool, float]:
    began = time.thread_time()
    found = any(pattern.compiled.search(text[:SEARCHED]) is not None for text in texts)
    return found, time.thread_time() - began
