"""Every answer carries an X-Request-Id, and every log line of the request the same id."""

import re
import secrets
from collections.abc import Callable

import structlog
from django.http import HttpRequest
from django.http.response import HttpResponseBase

_META_KEY = "mailhost.request_id"
_SANE = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")


class RequestIdMiddleware:
    """Takes the caller's X-Request-Id when it is a sane one, else makes one. Stands first in MIDDLEWARE."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        request_id = get_request_id(request)
        structlog.contextvars.bind_contextvars(request_id=request_id)
        try:
            response = self._get_response(request)
        finally:
            structlog.contextvars.unbind_contextvars("request_id")
        response["X-Request-Id"] = request_id
        return response


def get_request_id(request: HttpRequest) -> str:
    """The id of this request, the same whenever it is asked."""
    known = request.META.get(_META_KEY)
    if known is None:
        given = request.META.get("HTTP_X_REQUEST_ID", "")
        known = given if _SANE.fullmatch(given) else f"req_{secrets.token_hex(16)}"
        request.META[_META_KEY] = known
    return str(known)
