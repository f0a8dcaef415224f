"""When to try a deferred mail again (RFC 5321 section 4.5.4.1).

The RFC asks for at least half an hour between tries in the long run and four to five days before giving up.
The first tries come sooner: greylisting servers open after one to fifteen minutes.
"""

from __future__ import annotations

import random
from datetime import timedelta

MAX_QUEUE_AGE = timedelta(days=5)
"""How long a mail is tried before it fails, counted from its acceptance."""

JITTER = 0.1
"""Each delay is moved by up to this share, so that mails deferred together do not all come back together."""

_DELAYS = (
    timedelta(minutes=1),
    timedelta(minutes=5),
    timedelta(minutes=15),
    timedelta(minutes=30),
    timedelta(hours=1),
    timedelta(hours=2),
    timedelta(hours=4),
    timedelta(hours=8),
)


def retry_delay(attempts: int, rng: random.Random) -> timedelta:
    """The pause after the `attempts`-th failed try (the first is 1).

    1, 5, 15, 30 minutes, 1, 2, 4, 8 hours, then 8 hours each, moved by up to 10 %. `rng` is given so that
    tests can repeat it.
    """
    base = _DELAYS[min(max(attempts, 1), len(_DELAYS)) - 1]
    return base * rng.uniform(1 - JITTER, 1 + JITTER)
