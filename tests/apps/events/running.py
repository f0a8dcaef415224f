"""Running the webhook loop in a test, and waiting for what comes of it."""

import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from apps.core.loops import LoopThread
from apps.events.loop import WebhookThread
from apps.events.loop.sender import WebhookSender
from apps.events.models import WebhookAttempt, WebhookCall


@contextmanager
def running(ssl_context: ssl.SSLContext | None = None) -> Iterator[LoopThread]:
    thread = LoopThread("webhooks", lambda: WebhookSender(ssl_context)) if ssl_context else WebhookThread()
    thread.start()
    try:
        yield thread
    finally:
        thread.stop()


def wait_until(condition: Callable[[], object], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def statuses() -> list[str]:
    return sorted(WebhookCall.objects.values_list("status", flat=True))


def tried(count: int) -> bool:
    return WebhookAttempt.objects.count() >= count


def errors() -> list[str]:
    return list(WebhookAttempt.objects.order_by("id").values_list("error", flat=True))
