"""Remote mail servers for tests: real sockets on 127.0.0.1, in a thread of their own.

`LoopbackServer` runs any conversation you write, for servers that misbehave. `SmtpSink` is a server that
takes mail, writes down what it got, and can be told to refuse, stall or hang up:

    with SmtpSink() as sink:
        sink.refuse("rcpt", "550 5.1.1 no such user", match="gone@")
        sink.refuse("final", "451 4.3.0 later", times=2)
        ...
        sink.wait_for(3)
        assert sink.mails[0].rcpt_to == ["someone@example.com"]
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ssl
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
STAGES = ("connect", "helo", "starttls", "auth", "mail", "rcpt", "data", "body", "final", "rset", "quit")


class LoopbackServer:
    """Runs `handler` for each connection, on `host` and a free port. A context manager."""

    def __init__(
        self,
        handler: Handler,
        *,
        host: str = "127.0.0.1",
        tls: ssl.SSLContext | None = None,
        limit: int = 2**26,
    ) -> None:
        self.host = host
        self.port = 0
        self.connections = 0
        self._handler = handler
        self._limit = limit
        self._implicit_tls = tls
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="loopback-server", daemon=True)
        self._ready = threading.Event()
        self._stop: asyncio.Event | None = None
        self._tasks: set[asyncio.Task] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    def __enter__(self):
        self._thread.start()
        assert self._ready.wait(10), "the server did not start"
        return self

    def __exit__(self, *exc) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)
        assert not self._thread.is_alive(), "the server did not stop"

    def hang_up(self) -> None:
        """Cut every connection that is open now, as a crash would."""
        done = threading.Event()

        def cut() -> None:
            for writer in list(self._writers):
                writer.transport.abort()
            done.set()

        self._loop.call_soon_threadsafe(cut)
        assert done.wait(10)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        server = await asyncio.start_server(
            self._connected, self.host, 0, limit=self._limit, ssl=self._implicit_tls, backlog=500
        )
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in list(self._writers):
            writer.transport.abort()
        await asyncio.sleep(0)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await self._handler(reader, writer)
        finally:
            self._tasks.discard(task)
            self._writers.discard(writer)
            writer.close()


@dataclass
class ReceivedMail:
    """One mail that the sink said 250 to; `raw` with the dot-stuffing undone."""

    mail_from: str
    mail_parameters: str
    rcpt_to: list[str]
    raw: bytes
    helo: str
    tls: bool
    user: str | None
    connection: int
    at: float


@dataclass
class Rule:
    stage: str
    reply: str | None
    match: str
    times: int | None
    delay: float
    disconnect: bool
    keep: bool


@dataclass
class _Dialogue:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    number: int
    helo: str = ""
    user: str | None = None
    mail_from: str | None = None
    mail_parameters: str = ""
    rcpt_to: list[str] = field(default_factory=list)

    def reset(self) -> None:
        self.mail_from, self.mail_parameters, self.rcpt_to = None, "", []


class HangUp(ConnectionError):
    """The sink was told to cut the connection here."""


class SmtpSink(LoopbackServer):
    """A mail server that keeps everything in memory.

    `features` are announced after EHLO; STARTTLS is added when `starttls` holds a context; `users` maps names
    to passwords and adds AUTH. `ehlo=False` makes it a server of 1982 that knows only HELO.
    """

    def __init__(
        self,
        *,
        features: tuple[str, ...] = (
            "PIPELINING",
            "8BITMIME",
            "SMTPUTF8",
            "ENHANCEDSTATUSCODES",
            "SIZE 37748736",
        ),
        starttls: ssl.SSLContext | None = None,
        tls: ssl.SSLContext | None = None,
        users: dict[str, str] | None = None,
        mechanisms: str = "PLAIN LOGIN",
        ehlo: bool = True,
        host: str = "127.0.0.1",
    ) -> None:
        super().__init__(self._talk, host=host, tls=tls)
        self.features = features
        self.starttls = starttls
        self.users = users or {}
        self.mechanisms = mechanisms
        self.ehlo = ehlo
        self.mails: list[ReceivedMail] = []
        self.commands: list[str] = []
        self._rules: list[Rule] = []
        self._arrived = threading.Condition()

    # --- what tests call

    def refuse(self, stage: str, reply: str, *, match: str = "", times: int | None = None) -> None:
        """Answer `reply` at `stage` (to lines that contain `match`), `times` times or always."""
        self._add(stage, reply=reply, match=match, times=times)

    def delay(self, stage: str, seconds: float, *, match: str = "", times: int | None = None) -> None:
        """Wait before answering at `stage`."""
        self._add(stage, delay=seconds, match=match, times=times)

    def disconnect(
        self,
        stage: str,
        *,
        reply: str | None = None,
        match: str = "",
        times: int | None = None,
        keep: bool = False,
    ) -> None:
        """Hang up at `stage`, after `reply` if one is given. At "body": in the middle of the message.

        With `keep` at "final" the mail is kept all the same: only the client never learns of it.
        """
        self._add(stage, reply=reply, disconnect=True, match=match, times=times, keep=keep)

    def behave(self) -> None:
        """Forget every rule."""
        self._rules = []

    def wait_for(self, count: int, timeout: float = 10) -> list[ReceivedMail]:
        """Wait until `count` mails are here; fails with what came."""
        deadline = time.monotonic() + timeout
        with self._arrived:
            while len(self.mails) < count:
                left = deadline - time.monotonic()
                assert left > 0, f"{len(self.mails)} of {count} mails came in {timeout} s"
                self._arrived.wait(left)
            return list(self.mails)

    # --- the conversation

    def _add(self, stage, *, reply=None, match="", times=None, delay=0.0, disconnect=False, keep=False) -> None:
        assert stage in STAGES, f"no such stage: {stage}"
        self._rules = [*self._rules, Rule(stage, reply, match, times, delay, disconnect, keep)]

    def _keep(self, mail: ReceivedMail) -> None:
        with self._arrived:
            self.mails.append(mail)
            self._arrived.notify_all()

    async def _apply(self, stage: str, line: str, dialogue: _Dialogue, mail: ReceivedMail | None = None) -> bool:
        """Do what the rules say; True when one of them has answered."""
        for rule in self._rules:
            if rule.stage != stage or rule.match not in line or rule.times == 0:
                continue
            if rule.times is not None:
                rule.times -= 1
            if rule.delay:
                await asyncio.sleep(rule.delay)
            if rule.keep and mail is not None:
                self._keep(mail)
            if rule.reply is not None:
                await self._say(dialogue, rule.reply)
            if rule.disconnect:
                raise HangUp
            if rule.reply is not None:
                return True
        return False

    @staticmethod
    async def _say(dialogue: _Dialogue, text: str) -> None:
        dialogue.writer.write(text.encode() + b"\r\n")
        await dialogue.writer.drain()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        dialogue = _Dialogue(reader, writer, self.connections)
        if not await self._apply("connect", "", dialogue):
            await self._say(dialogue, "220 sink.example ESMTP")
        while line_bytes := await reader.readline():
            line = line_bytes.decode("utf-8", "replace").rstrip("\r\n")
            self.commands.append(line)
            verb = line[:4].upper()
            if verb == "QUIT":
                if not await self._apply("quit", line, dialogue):
                    await self._say(dialogue, "221 2.0.0 bye")
                return
            handler = {
                "EHLO": self._hello,
                "HELO": self._hello,
                "STAR": self._start_tls,
                "AUTH": self._auth,
                "MAIL": self._mail,
                "RCPT": self._rcpt,
                "DATA": self._data,
                "RSET": self._rset,
            }.get(verb)
            if handler is None:
                await self._say(dialogue, "500 5.5.2 what?")
            else:
                await handler(line, dialogue)

    async def _hello(self, line: str, dialogue: _Dialogue) -> None:
        dialogue.reset()
        if await self._apply("helo", line, dialogue):
            return
        dialogue.helo = line[5:]
        if line[:4].upper() == "HELO":
            await self._say(dialogue, "250 sink.example")
            return
        if not self.ehlo:
            await self._say(dialogue, "500 what is EHLO?")
            return
        features = list(self.features)
        if self.starttls is not None and not self._is_encrypted(dialogue):
            features.append("STARTTLS")
        if self.users:
            features.append(f"AUTH {self.mechanisms}")
        lines = ["sink.example", *features]
        await self._say(dialogue, "\r\n".join([f"250-{text}" for text in lines[:-1]] + [f"250 {lines[-1]}"]))

    @staticmethod
    def _is_encrypted(dialogue: _Dialogue) -> bool:
        return dialogue.writer.get_extra_info("ssl_object") is not None

    async def _start_tls(self, line: str, dialogue: _Dialogue) -> None:
        if await self._apply("starttls", line, dialogue):
            return
        await self._say(dialogue, "220 2.0.0 go ahead")
        await dialogue.writer.start_tls(self.starttls)
        dialogue.reset()

    async def _auth(self, line: str, dialogue: _Dialogue) -> None:
        if await self._apply("auth", line, dialogue):
            return
        if line.upper().startswith("AUTH PLAIN "):
            _, user, password = base64.b64decode(line[11:]).decode().split("\0")
        else:
            await self._say(dialogue, "334 " + base64.b64encode(b"Username:").decode())
            user = base64.b64decode(await dialogue.reader.readline()).decode()
            await self._say(dialogue, "334 " + base64.b64encode(b"Password:").decode())
            password = base64.b64decode(await dialogue.reader.readline()).decode()
        if self.users.get(user) == password:
            dialogue.user = user
            await self._say(dialogue, "235 2.7.0 welcome")
        else:
            await self._say(dialogue, "535 5.7.8 wrong")

    async def _mail(self, line: str, dialogue: _Dialogue) -> None:
        if await self._apply("mail", line, dialogue):
            return
        if dialogue.mail_from is not None:
            await self._say(dialogue, "503 5.5.1 nested MAIL")
            return
        dialogue.mail_from, _, dialogue.mail_parameters = line[11:].partition(">")
        dialogue.mail_parameters = dialogue.mail_parameters.strip()
        await self._say(dialogue, "250 2.1.0 ok")

    async def _rcpt(self, line: str, dialogue: _Dialogue) -> None:
        if await self._apply("rcpt", line, dialogue):
            return
        if dialogue.mail_from is None:
            await self._say(dialogue, "503 5.5.1 MAIL first")
            return
        dialogue.rcpt_to.append(line[9:].partition(">")[0])
        await self._say(dialogue, "250 2.1.5 ok")

    async def _data(self, line: str, dialogue: _Dialogue) -> None:
        if await self._apply("data", line, dialogue):
            return
        if not dialogue.rcpt_to:
            await self._say(dialogue, "503 5.5.1 RCPT first")
            return
        await self._say(dialogue, "354 go ahead")
        await self._apply("body", line, dialogue)
        raw = await self._read_body(dialogue.reader)
        mail = ReceivedMail(
            mail_from=dialogue.mail_from,
            mail_parameters=dialogue.mail_parameters,
            rcpt_to=dialogue.rcpt_to,
            raw=raw,
            helo=dialogue.helo,
            tls=self._is_encrypted(dialogue),
            user=dialogue.user,
            connection=dialogue.number,
            at=time.time(),
        )
        if not await self._apply("final", " ".join(dialogue.rcpt_to), dialogue, mail):
            # Written down before the answer: a client that got 250 always finds its mail here.
            self._keep(mail)
            await self._say(dialogue, "250 2.0.0 taken")
        dialogue.reset()

    @staticmethod
    async def _read_body(reader: asyncio.StreamReader) -> bytes:
        lines = []
        while (line := await reader.readline()) != b".\r\n":
            if not line:
                raise ConnectionResetError
            lines.append(line[1:] if line.startswith(b".") else line)
        return b"".join(lines)

    async def _rset(self, line: str, dialogue: _Dialogue) -> None:
        if not await self._apply("rset", line, dialogue):
            dialogue.reset()
            await self._say(dialogue, "250 2.0.0 ok")
