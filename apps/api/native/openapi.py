"""OpenAPI 3.1 of the native API: how views describe themselves, and what is the same for all of them."""

import json
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any, TypeVar

from django.urls import include, path
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.settings import patched_settings
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse, extend_schema

from apps.api.native import schemas
from apps.api.native.errors import STATUS_OF
from apps.api.native.inputs import all_inputs

SCHEMA_FILE = Path(__file__).with_name("openapi.json")
BASE_ERRORS = ("validation_failed", "unauthorized", "key_expired", "key_revoked", "scope_denied", "internal_error",
               "unavailable", "rate_limited")  # fmt: skip
STRICT_INPUTS = {kind.__name__ for kind in all_inputs()}
PATH_TEXTS = {
    "inbox": "The inbox's id (`inbox_...`) or its URL-encoded address.",
    "message_id": "The message's id (`msg_...`).",
    "attachment_id": "The attachment's id (`att_...`).",
    "domain_id": "The domain's id (`dom_...`).",
    "key_id": "The key's id (`key_...`).",
    "suppression": "The entry's id (`sup_...`) or the URL-encoded address.",
}
Handler = TypeVar("Handler", bound=Callable[..., Any])


def query(
    name: str, description: str, *, kind: type = str, enum: Sequence[str] | None = None, many: bool = False
) -> Any:
    """A query parameter."""
    return OpenApiParameter(name, kind, description=description, enum=enum, many=many, explode=many)


def header(name: str, description: str) -> Any:
    """A header field of a request."""
    return OpenApiParameter(name, str, OpenApiParameter.HEADER, description=description)


PAGING = (
    OpenApiParameter(
        "limit", {"type": "integer", "minimum": 1, "maximum": 100, "default": 20}, description="Rows a page."
    ),
    query("cursor", "`next_cursor` of the page before."),
)
ASCENDING = query("ascending", "Oldest first.", kind=bool)


def describe(
    operation: str,
    summary: str,
    *,
    answer: Any = None,
    status: int = 200,
    request: Any = None,
    errors: Sequence[str] = (),
    params: Sequence[Any] = (),
    tag: str,
    examples: Mapping[str, Any] | None = None,
    also: Mapping[int, Any] | None = None,
    media: Sequence[str] = (),
) -> Callable[[Handler], Handler]:
    """Describe a handler: its name for generated clients, its answer of success, its body, its own error codes.

    `media` are the types of an answer of success that is not JSON.
    """
    codes = [*BASE_ERRORS, *errors]
    if request is not None:
        codes += ["malformed_json", "message_too_large"]
    success = (status, *media) if media else status
    responses: dict[Any, Any] = {success: answer if answer is not None else OpenApiResponse(description="Done.")}
    responses.update(also or {})
    for error_status in sorted({STATUS_OF[code] for code in codes}):
        named = sorted(code for code in set(codes) if STATUS_OF[code] == error_status)
        responses[error_status] = OpenApiResponse(schemas.Error(), description=", ".join(named))
    shown = [OpenApiExample(name, value=value, request_only=True) for name, value in (examples or {}).items()]
    described: Callable[[Handler], Handler] = extend_schema(
        operation_id=operation,
        summary=summary,
        request=request,
        responses=responses,
        parameters=list(params),
        tags=[tag],
        examples=shown,
    )
    return described


def generate_schema() -> dict[str, Any]:
    """The schema as the code stands."""
    # Its own hook would give every set of choices a name of its own, most of them odd.
    with patched_settings({"POSTPROCESSING_HOOKS": [], "COMPONENT_SPLIT_PATCH": False}):
        patterns = [path("v1/", include("apps.api.native.urls"))]
        generator = SchemaGenerator(patterns=patterns)  # type: ignore[no-untyped-call]
        schema: dict[str, Any] = generator.get_schema(request=None, public=True)  # type: ignore[no-untyped-call]
    return complete_schema(schema)


def complete_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """Add what is the same everywhere: keys, the request id, texts of path parameters."""
    schema["info"]["description"] = (
        "Mailboxes for agents: create an inbox, send, receive, and follow what happens. Authorize with"
        " `Authorization: Bearer mh_...` or `X-API-Key: mh_...`. Every answer carries `X-Request-Id`."
    )
    components = schema.setdefault("components", {})
    components["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer", "description": "An API key, `mh_...`."},
        "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    }
    schema["security"] = [{"bearer": []}, {"apiKey": []}]
    for name, component in components["schemas"].items():
        if name in STRICT_INPUTS:
            component["additionalProperties"] = False
        component.pop("description", None)
    for operations in schema["paths"].values():
        for operation in operations.values():
            _complete_operation(operation)
    return schema


def _complete_operation(operation: dict[str, Any]) -> None:
    operation.pop("security", None)
    operation.pop("description", None)
    for parameter in operation.get("parameters", ()):
        if parameter["in"] == "path":
            parameter["description"] = PATH_TEXTS[parameter["name"]]
            parameter["schema"] = {"type": "string"}
    for status, response in operation["responses"].items():
        response.setdefault("headers", {})["X-Request-Id"] = {
            "schema": {"type": "string"},
            "description": "Name it when you report a problem.",
        }
        response["description"] = response.get("description") or HTTPStatus(int(status)).phrase
    for status in ("429", "503"):
        if status in operation["responses"]:
            operation["responses"][status]["headers"]["Retry-After"] = {
                "schema": {"type": "integer"},
                "description": "Seconds.",
            }


def render_schema(schema: dict[str, Any]) -> str:
    """The text that is kept in the tree."""
    return json.dumps(schema, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def read_schema_file() -> bytes:
    """The schema as it is kept in the tree, which is what is served."""
    return SCHEMA_FILE.read_bytes()
