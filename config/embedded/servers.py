"""PostgreSQL and Redis together, for a block of code (the supervisor starts them one by one instead)."""

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from config.embedded.errors import EmbeddedError
from config.embedded.postgres import EmbeddedPostgres
from config.embedded.redis import EmbeddedRedis


@dataclass(frozen=True, slots=True)
class Servers:
    """Two running servers."""

    variables: dict[str, str]
    processes: "dict[str, subprocess.Popen[bytes]]"

    def check(self) -> None:
        """Raises EmbeddedError when one of them has ended."""
        for name, process in self.processes.items():
            if process.poll() is not None:
                raise EmbeddedError(f"{name} ended by itself: see its log in the state folder.")


@contextmanager
def run_servers(state: Path) -> Iterator[Servers]:
    """Both servers, ready, while the block runs. The caller holds the lock. Raises EmbeddedError, OSError."""
    postgres, redis = EmbeddedPostgres(state), EmbeddedRedis(state)
    postgres.prepare()
    redis.prepare()
    with ExitStack() as stack:
        processes = {"Redis": redis.start()}
        stack.callback(redis.stop, processes["Redis"])
        processes["PostgreSQL"] = postgres.start()
        stack.callback(postgres.stop, processes["PostgreSQL"])
        redis.wait_until_ready(processes["Redis"])
        postgres.wait_until_ready(processes["PostgreSQL"])
        yield Servers(variables={"DATABASE_URL": postgres.url, "REDIS_URL": redis.url}, processes=processes)
