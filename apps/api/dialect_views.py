"""What every dialect's views do around their handlers: the key, its scopes, the clock, the errors.

A dialect subclasses DialectView once, with its own way to find the key and its own way to show an error.
"""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, ClassVar

from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils import timezone
from django.views import View
from django.views.decorators.csrf import csrf_exempt

from apps.accounts.errors import ScopeDenied
from apps.accounts.models import ApiKey, Organization
from apps.api.bodies import read_json_object
from apps.api.errors import InternalError, MethodNotAllowed, NotSupported, Unavailable
from apps.core.errors import DomainError, NotFound

logger = logging.getLogger(__name__)


class DialectView(ABC, View):
    """A resource of a vendor's API.

    `scopes` says which of our scopes each method needs; a method that it does not name does not exist. Subclasses of
    a dialect implement `find_key` and `show_error`.
    """

    scopes: ClassVar[Mapping[str, str]] = {}
    platform_allowed: ClassVar[bool] = False

    key: ApiKey
    now: datetime

    @classmethod
    def as_view(cls, **initkwargs: Any) -> Callable[..., HttpResponseBase]:
        """No cookie speaks for anybody here, so a forged request has nothing to ride on."""
        return csrf_exempt(super().as_view(**initkwargs))

    @abstractmethod
    def find_key(self, request: HttpRequest) -> ApiKey:
        """The key in the vendor's header; raises Unauthorized and the like."""

    @abstractmethod
    def show_error(self, request: HttpRequest, error: DomainError) -> HttpResponse:
        """The vendor's body and status for one of our errors."""

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        self.now = timezone.now()
        try:
            return self._answer(request, *args, **kwargs)
        except DomainError as error:
            return self.show_error(request, error)
        except (OperationalError, InterfaceError) as error:
            logger.warning("the database did not answer: %s", error)
            return self.show_error(request, Unavailable(retry_after=2))
        except Exception:  # whatever nobody expected is told in the vendor's shape too
            logger.exception("a request failed")
            return self.show_error(request, InternalError())

    def _answer(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        method = "GET" if request.method == "HEAD" else str(request.method)
        self.key = self.find_key(request)
        if method not in self.scopes:
            allowed = [*self.scopes, "HEAD"] if "GET" in self.scopes else list(self.scopes)
            raise MethodNotAllowed(f"This address does not take {method}.", headers={"Allow": ", ".join(allowed)})
        if self.key.organization is None and not self.platform_allowed:
            raise ScopeDenied("This key belongs to no organization.", fix="Use a key of an organization.")
        scope = self.scopes[method]
        if scope and scope not in self.key.scopes:
            raise ScopeDenied(f"This request needs the scope {scope}, which the key does not carry.")
        handler = getattr(self, method.lower())
        response: HttpResponseBase = handler(request, *args, **kwargs)
        return response

    @property
    def organization(self) -> Organization:
        """The organization of the key that asks."""
        if self.key.organization is None:
            raise ScopeDenied("This key belongs to no organization.")
        return self.key.organization

    def read_body(self) -> dict[str, Any]:
        """The JSON object of the request's body; an empty body is an empty object."""
        return read_json_object(self.request)


class RefuseMixin:
    """Every method answers that this server does not offer what the vendor does."""

    def _answer(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        self.find_key(request)  # type: ignore[attr-defined]
        raise NotSupported


class MissingMixin:
    """Every method answers that there is nothing at this address."""

    def _answer(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        self.find_key(request)  # type: ignore[attr-defined]
        raise NotFound("There is nothing at this address.")
