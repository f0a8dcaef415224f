"""Request bodies: read whole before a thread is taken, bounded in size, time, memory and disk.

A thread that waited for a slow client's body would be a thread that anyone can take away, so the event loop reads.
"""

import asyncio
import io
import tempfile
from dataclasses import dataclass, field
from types import TracebackType
from typing import BinaryIO

from config.web.protocol import ClientGone, Receive, Scope

MiB = 1024 * 1024


class BodyTooLarge(Exception):
    """The body is longer than the limit, by its Content-Length or by counting."""


class BodyTooSlow(Exception):
    """The client paused too long, or took too long in all."""


class BodyStoreFull(Exception):
    """Other bodies use all the room, or the disk is full."""


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """Sizes in bytes, times in seconds; the totals are per process."""

    max_bytes: int = 40 * MiB
    memory_bytes: int = 1 * MiB
    """What one body may hold in memory before it goes to a temporary file."""
    total_memory_bytes: int = 64 * MiB
    """Beyond this, bodies go to temporary files from their first byte."""
    total_disk_bytes: int = 2048 * MiB
    pause_seconds: float = 30.0
    total_seconds: float = 600.0
    directory: str | None = None
    """Where temporary files are made; None for the system's place."""


@dataclass(slots=True)
class Body:
    """One request body at its beginning; ``close`` gives its room back and may be called twice."""

    store: "BodyStore"
    file: BinaryIO
    length: int = 0
    on_disk: bool = False

    def __enter__(self) -> "Body":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        if not self.file.closed:
            self.file.close()
            self.store.give_back(self)


@dataclass(slots=True)
class BodyStore:
    """Reads bodies and keeps account of the room they take. Used on the event loop only."""

    limits: BodyLimits
    memory_used: int = field(default=0, init=False)
    disk_used: int = field(default=0, init=False)

    async def read(self, scope: Scope, receive: Receive) -> Body:
        """The whole body of a request.

        Raises BodyTooLarge (before anything is read, when Content-Length tells), BodyTooSlow, BodyStoreFull and
        ClientGone. Nothing of the body is kept after an error.
        """
        announced = _announced_bytes(scope)
        body = Body(self, io.BytesIO())
        if announced == 0:
            return body
        if announced is not None and announced > self.limits.max_bytes:
            raise BodyTooLarge
        try:
            await self._fill(body, announced, receive)
            body.file.seek(0)
        except OSError as error:
            body.close()
            raise BodyStoreFull from error
        except BaseException:
            body.close()
            raise
        return body

    def give_back(self, body: Body) -> None:
        """Return the room that a closed body held."""
        if body.on_disk:
            self.disk_used -= body.length
        else:
            self.memory_used -= body.length

    async def _fill(self, body: Body, announced: int | None, receive: Receive) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + self.limits.total_seconds
        try:
            async with asyncio.timeout(self.limits.pause_seconds) as pause:
                more = True
                # The announced length ends the body too: waiting for the server to say so costs another turn.
                while more and body.length != announced:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ClientGone
                    self._append(body, message.get("body", b""))
                    more = message.get("more_body", False)
                    pause.reschedule(min(end, loop.time() + self.limits.pause_seconds))
        except TimeoutError as error:
            raise BodyTooSlow from error

    def _append(self, body: Body, chunk: bytes) -> None:
        size = body.length + len(chunk)
        if size > self.limits.max_bytes:
            raise BodyTooLarge
        if not body.on_disk and (
            size > self.limits.memory_bytes or self.memory_used + len(chunk) > self.limits.total_memory_bytes
        ):
            self._move_to_disk(body)
        if body.on_disk:
            if self.disk_used + len(chunk) > self.limits.total_disk_bytes:
                raise BodyStoreFull
            self.disk_used += len(chunk)
        else:
            self.memory_used += len(chunk)
        # Counted before it is written: when the write fails, close() gives back exactly what was taken.
        body.length = size
        body.file.write(chunk)

    def _move_to_disk(self, body: Body) -> None:
        spooled = tempfile.TemporaryFile(prefix="mailhost-body-", dir=self.limits.directory)  # noqa: SIM115
        memory = body.file
        body.file = spooled
        memory.seek(0)
        spooled.write(memory.read())
        memory.close()
        self.memory_used -= body.length
        self.disk_used += body.length
        body.on_disk = True


def _announced_bytes(scope: Scope) -> int | None:
    """Bytes by Content-Length, 0 when there is no body, None when only counting will tell."""
    announced: int | None = 0 if scope["http_version"].startswith("1") else None
    for name, value in scope["headers"]:
        if name == b"transfer-encoding":
            return None
        if name == b"content-length":
            announced = int(value)
    return announced
