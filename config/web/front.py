"""Puts the web front together from the settings."""

from functools import partial
from typing import Any

from django.conf import settings
from django.db import connections
from django.urls import get_resolver

from config.web.bodies import BodyLimits
from config.web.command import STOP_SECONDS
from config.web.dispatch import Dispatcher, FrontLimits
from config.web.exchange import WsgiApp
from config.web.pool import ThreadPool
from config.web.process import StopSignal, serve_process
from config.web.proxies import TrustedProxies
from config.web.routes import NATIVE_ROUTES, RouteTable

DEFAULT_THREADS = 8
"""Threads per process (setting MAILHOST_WEB_THREADS). Python runs one of them at a time; the others
wait for the database, whose connections they hold: processes times threads is what it must allow."""
QUEUED_REQUESTS = 256


def build_front(wsgi_app: WsgiApp) -> Dispatcher:
    """The ASGI application of a web process, over Django's WSGI handler."""
    # Import every URL module now: the first request does not pay for it, and a broken one stops the start.
    _ = get_resolver().url_patterns
    stop = StopSignal()
    threads: Any = getattr(settings, "MAILHOST_WEB_THREADS", DEFAULT_THREADS)
    return Dispatcher(
        wsgi_app,
        routes=RouteTable(NATIVE_ROUTES),
        pool=ThreadPool(threads=int(threads), queue_limit=QUEUED_REQUESTS, on_thread_exit=connections.close_all),
        proxies=TrustedProxies(settings.MAILHOST_TRUSTED_PROXIES),
        limits=FrontLimits(bodies=BodyLimits(), stop_seconds=STOP_SECONDS / 2),
        stop=stop,
        lifespan=partial(serve_process, stop),
        mounted_hosts={host: f"/dialects/{name}" for host, name in settings.MAILHOST_DIALECT_HOSTS.items()},
    )
