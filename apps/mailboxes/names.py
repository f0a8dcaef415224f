"""Generated local parts that people can read out, and the names that nobody may take."""

import secrets

from django.conf import settings

_FIRST = (
    "amber", "ample", "azure", "brave", "brisk", "calm", "clear", "clever", "coral", "crisp", "eager", "early",
    "fair", "fleet", "fresh", "gentle", "glad", "golden", "grand", "happy", "hardy", "honest", "jolly", "keen",
    "kind", "light", "lively", "lucky", "mellow", "merry", "mild", "neat", "noble", "olive", "plain", "proud",
    "quick", "quiet", "rapid", "ready", "rosy", "royal", "sage", "sharp", "silver", "sleek", "smart", "snowy",
    "solid", "spry", "steady", "still", "sunny", "sure", "swift", "tidy", "true", "vivid", "warm", "wise",
)  # fmt: skip
_SECOND = (
    "acorn", "aspen", "badger", "beacon", "birch", "breeze", "brook", "canyon", "cedar", "cliff", "cloud", "comet",
    "coral", "cove", "crane", "creek", "delta", "dune", "eagle", "ember", "falcon", "fern", "field", "finch",
    "fjord", "forest", "fox", "glade", "grove", "harbor", "hawk", "heron", "hill", "ibis", "island", "lagoon",
    "lake", "lark", "maple", "marsh", "meadow", "moon", "oak", "orbit", "otter", "owl", "peak", "pine", "plover",
    "pond", "quartz", "raven", "reef", "ridge", "river", "robin", "sparrow", "spruce", "star", "swan", "tide",
    "valley", "willow", "wren",
)  # fmt: skip
_NUMBERS = 10_000

RESERVED = frozenset({
    "abuse", "admin", "administrator", "bounces", "fbl", "hostmaster", "mailer-daemon", "noreply", "no-reply",
    "postmaster", "reports", "root", "security", "ssladmin", "webmaster",
})  # fmt: skip
"""Local parts that stand for the domain itself (RFC 2142) and stay with its operator."""


NAME_COUNT = len(_FIRST) * len(_SECOND) * _NUMBERS


def generate_username() -> str:
    """Two words and a number, such as `swift-heron-4821`: one of 38 million names, or of the first
    MAILHOST_GENERATED_NAMES of them."""
    name = secrets.randbelow(min(settings.MAILHOST_GENERATED_NAMES or NAME_COUNT, NAME_COUNT))
    words, number = divmod(name, _NUMBERS)
    first, second = divmod(words, len(_SECOND))
    return f"{_FIRST[first]}-{_SECOND[second]}-{number:04d}"
