"""Reading the published test suites (see tests/data/auth/README.md), and a DNS that answers as they say."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.fakes.dns import FakeDns, Record, Trouble

DATA = Path(__file__).parents[2] / "data" / "auth"
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@cache
def load_suite(name: str) -> list[dict[str, Any]]:
    """The scenarios of a suite."""
    return list(yaml.load_all(DATA.joinpath(name).read_text("utf-8"), Loader=_Loader))


class SuiteDns(FakeDns):
    """A DNS whose names may answer some types and fail for all others, as the SPF suite wants it."""

    failing: frozenset[str] = frozenset()

    def load(self, zonedata: dict[str, Any]) -> None:
        """Serve one scenario's zone instead of what was there."""
        # The parser of questions writes a space as a number.
        self.zone = {
            name.lower().rstrip(".").replace(" ", "\\032"): list(_records(entries))
            for name, entries in zonedata.items()
        }
        self.failing = frozenset(name.lower() for name, entries in zonedata.items() if "TIMEOUT" in entries)

    def _fill(self, reply: Any, name: str, kind: str) -> None:
        super()._fill(reply, name, kind)
        if name in self.failing and not reply.rr:
            reply.header.rcode = 2  # SERVFAIL: as temporary as a timeout, and over at once


def _records(entries: list[Any]) -> Iterator[Record]:
    """SPF records are of type TXT, unless the name has TXT records of its own (the suite predates RFC 7208)."""
    pairs = [pair for entry in entries if isinstance(entry, dict) for pair in entry.items()]
    has_txt = any(kind == "TXT" for kind, _ in pairs)
    for kind, value in pairs:
        if kind == "SPF" and not has_txt:
            kind = "TXT"
        if value == "NONE" or kind == "SPF":
            continue
        if kind == "MX":
            yield "MX", f"{value[0]} {value[1] or '.'}"
        elif kind == "TXT":
            yield "TXT", value if isinstance(value, str) else "".join(value)
        else:
            yield kind, value


__all__ = ["SuiteDns", "Trouble", "load_suite"]
