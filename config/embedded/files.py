"""Files of the state folder: secrets that appear whole or not at all, and logs that end somewhere."""

import os
import secrets
import shutil
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
    """Open log/`name`.log to append."""
    folder = state / "log"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return (folder / f"{name}.log").open("ab")


def trim_logs(state: Path) -> None:
    """Move the content of each log beyond 20 MB to `name`.log.1 (one old part is kept).

    The processes hold their logs open to append, so the content is copied and the file emptied.
    """
    for path in (state / "log").glob("*.log"):
        if path.stat().st_size > MAX_LOG:
            shutil.copyfile(path, path.with_name(path.name + ".1"))
            os.truncate(path, 0)
