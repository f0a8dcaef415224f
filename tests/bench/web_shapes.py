"""Which shape of the web process answers most requests? The measurement behind ``config/web/dispatch.py``.

    python tests/bench/web_shapes.py [--seconds 6] [--rounds 3] [--shapes wsgi,dispatch,asgi]

One server process each, 8 connections by wrk, the shapes in turn within every round so that a noisy
machine disturbs all of them alike. Needs ``wrk`` on PATH.

The project served is a stub: one DRF view that computes a little (GET), and one that parses 2 KB of JSON
(POST). Neither touches a database, so the figures show what the server costs and nothing else.
"""

import argparse
import json
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve()
sys.path.insert(0, str(HERE.parents[2]))

CONNECTIONS = 8
POST_BODY = json.dumps({"to": ["someone@example.com"], "subject": "hello", "text": "x" * 1960}).encode()


def configure_django() -> None:
    """Settings and URLs of the stub project, all in this module."""
    import django
    from django.conf import settings

    if settings.configured:
        return
    settings.configure(
        ALLOWED_HOSTS=["*"],
        SECRET_KEY="bench",
        ROOT_URLCONF=__name__,
        MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
        INSTALLED_APPS=["rest_framework"],
        USE_TZ=True,
        REST_FRAMEWORK={
            "DEFAULT_AUTHENTICATION_CLASSES": [],
            "DEFAULT_PERMISSION_CLASSES": [],
            "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
            "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
            "UNAUTHENTICATED_USER": None,
        },
    )
    django.setup()


def make_urls() -> list[Any]:
    from django.urls import path
    from rest_framework.response import Response
    from rest_framework.views import APIView

    class Compute(APIView):
        def get(self, request: Any) -> Response:
            return Response({"sum": sum(range(100)), "items": [{"id": n, "name": f"n{n}"} for n in range(10)]})

        def post(self, request: Any) -> Response:
            return Response({"length": len(request.data["text"])}, status=202)

    return [path("bench", Compute.as_view())]


def wsgi() -> Any:
    """Granian's WSGI server: a thread per request. What the others are compared with."""
    configure_django()
    from django.core.wsgi import get_wsgi_application

    return get_wsgi_application()


def asgi() -> Any:
    """Django's own ASGI handler."""
    configure_django()
    from django.core.asgi import get_asgi_application

    return get_asgi_application()


def dispatch() -> Any:
    """Our dispatcher: Django's WSGI handler on a bounded pool of threads, below granian's ASGI server."""
    configure_django()
    from django.core.wsgi import get_wsgi_application

    from config.web.bodies import BodyLimits
    from config.web.dispatch import Dispatcher, FrontLimits
    from config.web.pool import ThreadPool
    from config.web.proxies import TrustedProxies
    from config.web.routes import RouteTable

    return Dispatcher(
        get_wsgi_application(),
        routes=RouteTable([]),
        pool=ThreadPool(threads=int(os.environ.get("BENCH_THREADS", "8")), queue_limit=256),
        proxies=TrustedProxies([]),
        limits=FrontLimits(bodies=BodyLimits()),
    )


def __getattr__(name: str) -> Any:
    # Django asks its ROOT_URLCONF, which is this module, for the patterns.
    if name == "urlpatterns":
        globals()["urlpatterns"] = make_urls()
        return globals()["urlpatterns"]
    raise AttributeError(name)


SHAPES: dict[str, list[str]] = {
    "wsgi": ["--interface", "wsgi", "--blocking-threads", "8"],
    "dispatch": ["--interface", "asgi"],
    "asgi": ["--interface", "asgi"],
}


@dataclass
class Figures:
    """One run: requests per second, latencies in milliseconds."""

    rate: float
    p50: float
    p99: float


class Server:
    """One shape on a free port, ended with the block."""

    def __init__(self, shape: str, extra: list[str]) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        command = [sys.executable, "-m", "granian", *SHAPES[shape], *extra, "--factory", "--http", "1"]
        command += ["--no-log", "--workers", "1", "--port", str(self.port), f"{HERE.stem}:{shape}"]
        paths = [str(HERE.parent), str(HERE.parents[2]), os.environ.get("PYTHONPATH", "")]
        environment = {**os.environ, "PYTHONPATH": ":".join(paths)}
        self._process = subprocess.Popen(command, env=environment)

    def __enter__(self) -> "Server":
        end = time.monotonic() + 20
        while time.monotonic() < end:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return self
            except OSError:
                time.sleep(0.05)
        self.__exit__()
        raise SystemExit("the server did not start")

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(20)


def run_wrk(port: int, seconds: float, script: Path | None) -> Figures:
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--latency"]
    if script is not None:
        command += ["-s", str(script)]
    run = subprocess.run([*command, f"http://127.0.0.1:{port}/bench"], capture_output=True, text=True, check=True)
    if "Non-2xx" in run.stdout or "Socket errors" in run.stdout:
        raise SystemExit(f"requests failed:\n{run.stdout}")

    def milliseconds(label: str) -> float:
        value, unit = re.search(rf"{label}\s+([\d.]+)(us|ms|s)", run.stdout).groups()
        return float(value) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[unit]

    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", run.stdout).group(1))
    return Figures(rate, milliseconds("50%"), milliseconds("99%"))


def write_post_script(folder: Path) -> Path:
    script = folder / "post.lua"
    body = POST_BODY.decode().replace("\\", "\\\\").replace("'", "\\'")
    script.write_text(f"wrk.method='POST'\nwrk.body='{body}'\nwrk.headers['Content-Type']='application/json'\n")
    return script


def measure(shapes: list[str], rounds: int, seconds: float, extra: list[str]) -> dict[str, list[Figures]]:
    results: dict[str, list[Figures]] = {}
    with tempfile.TemporaryDirectory() as folder:
        post = write_post_script(Path(folder))
        for _ in range(rounds):
            for shape in shapes:
                with Server(shape, extra if shape == "dispatch" else []) as server:
                    run_wrk(server.port, 1, None)
                    for work, script in (("GET", None), ("POST 2 KB", post)):
                        figures = run_wrk(server.port, seconds, script)
                        results.setdefault(f"{shape:<10} {work}", []).append(figures)
    return results


def median_of(runs: list[Figures], read: Callable[[Figures], float]) -> float:
    return statistics.median(read(run) for run in runs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--shapes", default=",".join(SHAPES))
    parser.add_argument("--granian", default="", help="further granian options for the dispatch shape")
    arguments = parser.parse_args()
    results = measure(arguments.shapes.split(","), arguments.rounds, arguments.seconds, arguments.granian.split())
    print(f"{'shape':<10} {'work':<10} {'req/s':>8} {'p50 ms':>8} {'p99 ms':>8}   all runs")
    for label, runs in sorted(results.items(), key=lambda item: item[0][10:]):
        print(
            f"{label:<21} {median_of(runs, lambda run: run.rate):>8.0f} {median_of(runs, lambda run: run.p50):>8.2f}"
            f" {median_of(runs, lambda run: run.p99):>8.2f}   {[round(run.rate) for run in runs]}"
        )


if __name__ == "__main__":
    main()
