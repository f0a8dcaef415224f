"""MAILHOST_DIALECT_HOSTS: a host name of its own for a dialect, mounted at the root."""

from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from apps.api.dialect_urls import ROOTS


class DialectHostMiddleware:
    """Gives requests for a dialect's host name that dialect's addresses."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response
        self._hosts = {host.lower(): ROOTS[name] for host, name in settings.MAILHOST_DIALECT_HOSTS.items()}

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if self._hosts:
            host = request.META.get("HTTP_HOST", "").rpartition("@")[2].lower()
            module = self._hosts.get(host) or self._hosts.get(host.partition(":")[0])
            if module is not None:
                request.urlconf = module
        return self._get_response(request)
