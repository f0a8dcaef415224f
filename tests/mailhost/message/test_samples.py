"""Whole mails and what must be read from them: tests/data/mail."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from mailhost.message.parse import parse_message, read_attachment

SAMPLES = sorted(Path(__file__).parents[2].joinpath("data/mail").glob("*.eml"))


def describe(raw: bytes) -> dict[str, Any]:
    """What is read from a mail, as JSON: without the headers, with the content of small attachments."""
    message = parse_message(raw)
    found = asdict(message)
    del found["headers"]
    found["date"] = message.date.isoformat() if message.date else None
    for attachment in found["attachments"]:
        attachment["content"] = read_attachment(raw, attachment["part"]).decode("latin-1")
    return {name: value for name, value in found.items() if value not in ("", [], None)}


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_a_sample_reads_as_recorded(path: Path) -> None:
    assert describe(path.read_bytes()) == json.loads(path.with_suffix(".json").read_text("utf-8"))


def test_every_sample_is_explained() -> None:
    readme = SAMPLES[0].with_name("README.md").read_text("utf-8")
    assert [path.stem for path in SAMPLES if f"| {path.stem} |" not in readme] == []
