"""Files of the state folder: secrets that appear whole or not at all, and logs that end somewhere."""

import os
import secrets
from pathlib import Path
from typing import IO

MAX_LOG = 20 * 1024 * 1024


def write_secret(path: Path, content: str) -> None:
    """Write a file with mode 0600 in one step: a reader sees the old content or the new, never a part."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(content + "\n")
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def open_log(state: Path, name: str) -> IO[bytes]:
    """Open log/`name`.log to append; one that grew beyond 20 MB moves aside first."""
    folder = state / "log"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / f"{name}.log"
    if path.exists() and path.stat().st_size > MAX_LOG:
        path.replace(path.with_suffix(".log.1"))
    return path.open("ab")
