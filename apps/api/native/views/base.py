"""What every view of the native API does around its handlers: key, scope, errors, lists."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

from django.http import Http404, HttpResponse
from django.utils import timezone
from rest_framework.exceptions import MethodNotAllowed
from rest_framework.request import Request
from rest_framework.views import APIView

from apps.accounts.models import ApiKey, Organization
from apps.api.answers import answer_json
from apps.api.bodies import read_json_object
from apps.api.native.auth import authenticate_request, organization_of, require_scope
from apps.api.native.errors import answer_exception
from apps.core.errors import NotFound
from apps.core.ids import decode_id


class NativeView(APIView):
    """A resource. `scopes` says which scope each method needs; a method that it does not name does not exist."""

    http_method_names = ["get", "head", "post", "patch", "delete"]
    authentication_classes = []
    scopes: ClassVar[Mapping[str, str]] = {}

    key: ApiKey
    now: datetime

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """In place of REST framework's own: no negotiation (answers are JSON), no users, no throttles."""
        method = "GET" if request.method == "HEAD" else str(request.method)
        if method not in self.scopes:
            raise MethodNotAllowed(method)
        self.now = timezone.now()
        self.key = authenticate_request(request._request, now=self.now)
        require_scope(self.key, self.scopes[method])

    def handle_exception(self, exc: Exception) -> HttpResponse:  # type: ignore[override]
        """Every error leaves in the API's envelope."""
        return answer_exception(self.request._request, exc)

    @property
    def allowed_methods(self) -> list[str]:
        return [*self.scopes, "HEAD"] if "GET" in self.scopes else list(self.scopes)

    @property
    def organization(self) -> Organization:
        """The organization of the key that asks."""
        return organization_of(self.key)

    def read_body(self) -> dict[str, Any]:
        """The JSON object of the request's body."""
        return read_json_object(self.request._request)


class Missing(NativeView):
    """What no other address takes."""

    schema = None

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        raise Http404


def require_id(prefix: str, text: str) -> UUID:
    """The UUID of an id in a path; raises NotFound for what is no id of this kind."""
    found = decode_id(prefix, text)
    if found is None:
        raise NotFound
    return found


def answer_list(rows: Sequence[Any], next_cursor: str | None) -> HttpResponse:
    """The shape of every list."""
    return answer_json({"data": rows, "next_cursor": next_cursor})
