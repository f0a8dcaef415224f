"""Reading a JSON body from strangers: strict, and nothing in it that PostgreSQL could not store."""

import json
import math
import re
from collections.abc import Iterator
from typing import Any

from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, UnreadablePostError

from apps.api.errors import BodyTooLarge, MalformedJson
from apps.core.errors import ValidationFailed

_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
_MAX_PLACE = 200


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
        _refuse_unstorable(data)
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


def _refuse_unstorable(data: dict[str, Any]) -> None:
    """Raise ValidationFailed at the first text that cannot be stored, naming the place.

    Without recursion, whatever depth the parser has let through, and the place is put into words only then: kept as
    text on the way down, long names in deep nesting would take gigabytes.
    """
    names: list[str | int] = []
    levels = [_members(data)]
    while levels:
        for name, value in levels[-1]:
            if isinstance(name, str) and _UNSTORABLE.search(name):
                raise ValidationFailed(_show_place(names), "A name cannot hold NUL characters or lone surrogates.")
            if isinstance(value, str) and _UNSTORABLE.search(value):
                raise ValidationFailed(
                    _show_place([*names, name]), "Text cannot hold NUL characters or lone surrogates."
                )
            if isinstance(value, dict | list):
                names.append(name)
                levels.append(_members(value))
                break
        else:
            levels.pop()
            del names[-1:]


def _members(value: dict[str, Any] | list[Any]) -> Iterator[tuple[str | int, Any]]:
    """What an object or a list holds, each with its name or index."""
    return iter(value.items() if isinstance(value, dict) else enumerate(value))


def _show_place(names: list[str | int]) -> str:
    """`attachments[0].filename`; of what is too long or too deep, the beginning."""
    parts = (f"[{name}]" if isinstance(name, int) else f".{name[:_MAX_PLACE]}" for name in names[:_MAX_PLACE])
    return "".join(parts).removeprefix(".")[:_MAX_PLACE]
