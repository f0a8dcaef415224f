"""The README's session works as it stands: pasted block by block into a shell, beside a running installation."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.installation import PROJECT, Installation

BLOCK = re.compile(r"```sh\n(.*?)```", re.DOTALL)


@pytest.fixture
def installation() -> Iterator[Installation]:
    installation = Installation()
    try:
        installation.start()
        installation.wait_until_ready()
        yield installation
    finally:
        installation.remove()


def test_the_readmes_first_commands_are_run_and_test() -> None:
    readme = (PROJECT / "README.md").read_text()
    assert re.findall(r"^    (make \w+)", readme, re.MULTILINE)[:2] == ["make run", "make test"]


def test_the_session_works_pasted(installation: Installation, tmp_path: Path) -> None:
    (tmp_path / "var").symlink_to(installation.state)
    blocks = BLOCK.findall((PROJECT / "README.md").read_text())
    assert len(blocks) == 5
    mark = "printf '\\n--8<--\\n'\n"
    done = subprocess.run(
        ["sh", "-eu"], input=mark.join(blocks), cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    created, delivered, read, waited, answered = done.stdout.split("\n--8<--\n")
    assert json.loads(created)["address"] == "support@agents.localhost"
    assert delivered == ""
    assert "Where is my order?" in read
    assert "Hello, it is three days late." in read
    assert "Received: from" in read
    assert json.loads(waited)["message"]["subject"] == "Where is my order?"
    answer = json.loads(answered)
    assert answer["recipients"] == [{"address": "ada@example.org", "status": "held", "reason": "hold_mode"}]
