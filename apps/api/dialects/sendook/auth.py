"""`Authorization: Bearer`, as every Sendook client sends it."""

from datetime import datetime

from django.http import HttpRequest

from apps.accounts.errors import Unauthorized
from apps.accounts.models import ApiKey
from apps.accounts.services import authenticate_key


def find_key(request: HttpRequest, *, now: datetime) -> ApiKey:
    """The key that the request carries; raises Unauthorized, KeyExpired or KeyRevoked."""
    scheme, _, secret = request.META.get("HTTP_AUTHORIZATION", "").partition(" ")
    if scheme.lower() != "bearer" or not secret.strip():
        raise Unauthorized
    return authenticate_key(secret=secret.strip(), now=now)
