"""Reading a JSON body from strangers: strict, and nothing in it that PostgreSQL could not store."""

import json
import math
import re
from typing import Any

from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, UnreadablePostError

from apps.api.errors import BodyTooLarge, MalformedJson
from apps.core.errors import ValidationFailed

_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


def read_json_object(request: HttpRequest) -> dict[str, Any]:
    """The body as a JSON object; an empty body is an empty object.

    Raises MalformedJson (also for another content type), BodyTooLarge, and ValidationFailed for a body that is no
    object or holds text with NUL or lone surrogates, naming the place.
    """
    body = _read_body(request)
    if not body:
        return {}
    if (request.content_type or "").lower() != "application/json":
        raise MalformedJson("The body must come with Content-Type: application/json.")
    try:
        data = json.loads(body.decode("utf-8"), parse_constant=_refuse_constant, parse_float=_parse_float)
    except UnicodeDecodeError:
        raise MalformedJson("The body is not valid UTF-8.") from None
    except RecursionError:
        raise MalformedJson("The body is nested too deeply.") from None
    except ValueError as error:
        raise MalformedJson(f"The body is not valid JSON: {str(error)[:200]}.") from None
    if not isinstance(data, dict):
        raise ValidationFailed("", "The body must be a JSON object.")
    # Raw control characters are no valid JSON, and lone surrogates no valid UTF-8: both come by escape only.
    if b"\\u" in body:
        _refuse_unstorable(data, "")
    return data


def _read_body(request: HttpRequest) -> bytes:
    try:
        return request.body
    except RequestDataTooBig:
        raise BodyTooLarge from None
    except UnreadablePostError:
        raise MalformedJson("The body broke off.") from None


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _parse_float(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"the number {text[:20]} is too large")
    return number


def _refuse_unstorable(value: Any, path: str) -> None:
    """Depth is bounded by what the JSON parser has let through."""
    if isinstance(value, str):
        if _UNSTORABLE.search(value):
            raise ValidationFailed(path, "Text cannot hold NUL characters or lone surrogates.")
    elif isinstance(value, dict):
        for name, item in value.items():
            if _UNSTORABLE.search(name):
                raise ValidationFailed(path, "A name cannot hold NUL characters or lone surrogates.")
            _refuse_unstorable(item, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _refuse_unstorable(item, f"{path}[{index}]")
