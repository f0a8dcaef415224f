"""Requests that wait, at a real web process that shares its database and its Redis with the test."""

import http.client
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import quote

import pytest
from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone

from apps.core.ids import encode_id
from apps.mail.models import Message
from apps.mail.services import Deposit, deposit_messages
from apps.mailboxes.models import Mailbox
from apps.mailboxes.services import Usage
from mailhost.message.parse import parse_message
from tests.api.mail import make_raw
from tests.config.test_web_front import Front


def environment(**variables: str) -> dict[str, str]:
    """What makes a process share this test's database and Redis."""
    database = connection.settings_dict
    user, password = quote(str(database["USER"])), quote(str(database["PASSWORD"]), safe="")
    host = quote(str(database["HOST"]), safe="")
    url = f"postgresql://{user}:{password}@/{database['NAME']}?host={host}"
    if database["PORT"]:
        url = f"postgresql://{user}:{password}@{host}:{database['PORT']}/{database['NAME']}"
    return {"DATABASE_URL": url, "REDIS_URL": settings.REDIS_URL, **variables}


class Web(Front):
    """The product's own web process."""

    def __init__(self, **variables: str) -> None:
        self.readers: list[StreamReader] = []
        super().__init__(["config.asgi:application"], environment(**variables))

    def call(self, method: str, path: str, secret: str | None, body: Any = None, **headers: str) -> tuple[int, Any]:
        """One request; its status and what its JSON says."""
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        if secret is not None:
            fields["Authorization"] = f"Bearer {secret}"
        if body is not None:
            fields["Content-Type"] = "application/json"
        content = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        answer = self.ask(method, path, content, fields)
        assert answer.headers["X-Request-Id"]
        return answer.status, json.loads(answer.body)

    def stop(self) -> int:
        """End it; its exit status."""
        try:
            return super().stop()
        finally:
            for reader in self.readers:
                reader.close()

    def wait(self, secret: str | None, inbox: str, **body: Any) -> Any:
        """What POST .../wait answers."""
        status, answer = self.call("POST", f"/v1/inboxes/{inbox}/wait", secret, body)
        assert status == 200, answer
        return answer


class Waiting:
    """A request in a thread of its own."""

    def __init__(self, ask: Callable[[], Any]) -> None:
        self.result: Any = None
        self.error: BaseException | None = None
        self._ask = ask
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.result = self._ask()
        except BaseException as error:
            self.error = error

    def is_over(self) -> bool:
        return not self._thread.is_alive()

    def answer(self, seconds: float = 20) -> Any:
        self._thread.join(seconds)
        assert not self._thread.is_alive(), "it still waits"
        if self.error is not None:
            raise self.error
        return self.result


class StreamReader:
    """A reader of server-sent events."""

    def __init__(self, web: Web, secret: str, query: str = "", **headers: str) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", web.port, timeout=20)
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        fields["Authorization"] = f"Bearer {secret}"
        web.readers.append(self)
        self._connection.request("GET", f"/v1/events/stream{query}", headers=fields)
        self.answer = self._connection.getresponse()

    def lines(self) -> Iterator[str]:
        with suppress(http.client.IncompleteRead):
            while line := self.answer.readline():
                yield line.decode().rstrip("\n")

    def frames(self, *, comments: bool = False) -> Iterator[dict[str, str]]:
        """Each block of fields; comments have the name ''."""
        frame: dict[str, str] = {}
        for line in self.lines():
            if line:
                name, _, value = line.partition(":")
                frame[name] = value.removeprefix(" ")
            elif frame:
                if "data" in frame or comments:
                    yield frame
                frame = {}

    def take(self, count: int) -> list[Any]:
        """The next events, each with its frame's id equal to its own."""
        found = []
        for frame in self.frames():
            event = json.loads(frame["data"])
            assert frame["id"] == event["id"]
            assert frame["event"] == event["type"]
            found.append(event)
            if len(found) == count:
                break
        return found

    def close(self) -> None:
        self.answer.close()
        self._connection.close()


@pytest.fixture
def web(transactional_db: None, redis_url: str) -> Iterator[Web]:
    running = Web()
    yield running
    if running.process.poll() is None:
        running.stop()


def deliver(mailbox: Mailbox, usage: Usage | None = None, **mail: Any) -> Message:
    """A mail comes in, as the inbound server stores it; with `usage`, counting it is left to the caller."""
    raw = mail.pop("raw", None) or make_raw(**mail)
    with transaction.atomic():
        results = deposit_messages(
            deposits=[Deposit([mailbox.address], raw, parse_message(raw), "ann@example.com")],
            now=timezone.now(),
            usage=usage,
        )
    return Message.objects.get(id=results[0][0].message_id)


def inbox_id(mailbox: Mailbox) -> str:
    return encode_id("inbox", mailbox.id)
