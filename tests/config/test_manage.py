"""manage.py: what an operator reads when there is no database."""

import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]


def test_a_database_that_does_not_answer_is_one_sentence(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "manage.py", "create_organization", "Acme"],
        cwd=PROJECT,
        env={"PATH": "/usr/bin:/bin", "MAILHOST_STATE": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("The database does not answer: ")
    assert done.stderr.endswith("Is `make run` going, with the same MAILHOST_STATE?\n")
    assert done.stderr.count("\n") == 1
