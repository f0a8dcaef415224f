"""A small Django project behind the real dispatcher, served by granian for the tests of the web front.

Its limits are small, so that a test can cross them. Native routes show what waiting code may do.
"""

import asyncio
import hashlib
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import django
from django.conf import settings
from django.core import signals
from django.core.wsgi import get_wsgi_application
from django.http import FileResponse, HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path

from config.web.bodies import BodyLimits
from config.web.command import STOP_SECONDS
from config.web.dispatch import Dispatcher, FrontLimits
from config.web.exchange import WsgiApp
from config.web.pool import ThreadPool
from config.web.process import StopSignal, serve_process
from config.web.protocol import Receive, Scope, Send
from config.web.proxies import TrustedProxies
from config.web.routes import NativeRoute, RouteTable

THREADS = 4
QUEUE = 8
BIG = Path(tempfile.gettempdir()) / f"mailhost-test-{os.getpid()}.bin"
gate = threading.Event()
released = asyncio.Event()
seen: dict[str, Any] = {"calls": 0, "started": 0, "finished": 0, "same_thread": True, "streams_closed": 0}
_started_on = threading.local()


def echo(request: HttpRequest) -> HttpResponse:
    body = request.body
    seen["calls"] += 1
    answer = JsonResponse(
        {
            "method": request.method,
            "path": request.path_info,
            "script": request.META["SCRIPT_NAME"],
            "query": request.GET.dict(),
            "length": len(body),
            "sha256": hashlib.sha256(body).hexdigest(),
            "spooled": type(request.META["wsgi.input"]).__name__ != "BytesIO",
            "client": request.META["REMOTE_ADDR"],
            "scheme": request.scheme,
            "headers": {key: value for key, value in request.META.items() if key.startswith("HTTP_")},
        }
    )
    answer.set_cookie("a", "1")
    answer.set_cookie("b", "2")
    return answer


def hold(request: HttpRequest) -> HttpResponse:
    gate.wait(20)
    return HttpResponse("held")


def nap(request: HttpRequest) -> HttpResponse:
    time.sleep(float(request.GET["seconds"]))
    return HttpResponse("rested")


def stream(request: HttpRequest) -> StreamingHttpResponse:
    chunks = int(request.GET.get("chunks", "3"))
    pause = float(request.GET.get("pause", "0"))

    def produce() -> Iterator[bytes]:
        try:
            for number in range(chunks):
                if number:
                    time.sleep(pause)
                yield b"%07d\n" % number * 8192
                if request.GET.get("break") == str(number):
                    raise RuntimeError("the source broke")
        finally:
            seen["streams_closed"] += 1

    return StreamingHttpResponse(produce(), content_type="text/plain")


def big_file(request: HttpRequest) -> FileResponse:
    if not BIG.exists():
        BIG.write_bytes(bytes(range(256)) * 4 * 5 * 1024)
    return FileResponse(BIG.open("rb"))


def report(request: HttpRequest) -> JsonResponse:
    return JsonResponse(seen)


urlpatterns = [
    path("hold", hold),
    path("nap", nap),
    path("stream", stream),
    path("file", big_file),
    path("report", report),
    path("<path:rest>", lambda request, rest: echo(request)),
]


async def _answer(send: Send, body: bytes) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": body})


async def wait_natively(scope: Scope, receive: Receive, send: Send) -> None:
    seen["waiting"] = seen.get("waiting", 0) + 1
    stopping = asyncio.ensure_future(scope["state"]["stopping"].wait())
    waiting = asyncio.ensure_future(released.wait())
    await asyncio.wait([stopping, waiting], timeout=30, return_when=asyncio.FIRST_COMPLETED)
    await _answer(send, b"stopping" if stopping.done() else b"released" if waiting.done() else b"timed out")


async def release_natively(scope: Scope, receive: Receive, send: Send) -> None:
    released.set()
    thread = await scope["state"]["run_blocking"](lambda: threading.current_thread().name)
    await _answer(send, str(thread).encode())


async def open_gate_natively(scope: Scope, receive: Receive, send: Send) -> None:
    gate.set()
    await _answer(send, b"open")


def _note_start(**_: Any) -> None:
    _started_on.open = True
    seen["started"] += 1


def _note_finish(**_: Any) -> None:
    seen["same_thread"] = seen["same_thread"] and getattr(_started_on, "open", False)
    _started_on.open = False
    seen["finished"] += 1


def _crash_on_request(app: WsgiApp) -> WsgiApp:
    def call(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        if environ["PATH_INFO"] == "/crash":
            raise SystemExit(3)
        return app(environ, start_response)

    return call


def build() -> Dispatcher:
    """The application (granian's --factory)."""
    settings.configure(
        ALLOWED_HOSTS=["*"],
        SECRET_KEY="test",
        ROOT_URLCONF=__name__,
        MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
        DATA_UPLOAD_MAX_MEMORY_SIZE=None,
    )
    django.setup()
    signals.request_started.connect(_note_start, weak=False)
    signals.request_finished.connect(_note_finish, weak=False)
    stop = StopSignal()
    routes = [
        NativeRoute("/native", wait_natively, suffix="/wait"),
        NativeRoute("/native/release", release_natively),
        NativeRoute("/native/gate", open_gate_natively),
    ]
    return Dispatcher(
        _crash_on_request(get_wsgi_application()),
        routes=RouteTable(routes),
        pool=ThreadPool(threads=THREADS, queue_limit=QUEUE),
        proxies=TrustedProxies([]),
        limits=FrontLimits(bodies=BodyLimits(pause_seconds=0.7), stop_seconds=STOP_SECONDS / 2),
        stop=stop,
        lifespan=lambda: serve_process(stop),
    )
