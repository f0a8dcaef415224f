"""From an ASGI scope to a WSGI environ (PEP 3333), as Django's WSGIHandler expects it."""

import sys
from functools import lru_cache
from typing import Any, BinaryIO
from urllib.parse import unquote_to_bytes

from config.web.protocol import Scope

FILE_BLOCK_BYTES = 64 * 1024

_STATIC_ENVIRON: dict[str, Any] = {
    "wsgi.version": (1, 0),
    "wsgi.errors": sys.stderr,
    "wsgi.multithread": True,
    "wsgi.multiprocess": True,
    "wsgi.run_once": False,
    "wsgi.input_terminated": True,
    "SERVER_SOFTWARE": "mailhost",
}


class FileWrapper:
    """wsgi.file_wrapper: reads a file in blocks of 64 KiB, where Django itself would take 4 KiB at a time."""

    def __init__(self, file: BinaryIO, block_size: int = FILE_BLOCK_BYTES) -> None:
        self._file = file
        # Django replaces the file's close by its response's, which also ends the request.
        self.close = file.close

    def __iter__(self) -> "FileWrapper":
        return self

    def __next__(self) -> bytes:
        block = self._file.read(FILE_BLOCK_BYTES)
        if not block:
            raise StopIteration
        return block


_STATIC_ENVIRON["wsgi.file_wrapper"] = FileWrapper


def build_environ(scope: Scope, body: BinaryIO, body_bytes: int) -> dict[str, Any]:
    """The environ of one request, whose whole body (``body_bytes`` long) can be read from ``body``.

    Paths are bytes decoded as latin-1, percent escapes resolved, as PEP 3333 has it; header fields that occur more
    than once are joined by a comma, cookies by a semicolon (RFC 9113 section 8.2.3).
    """
    environ = _STATIC_ENVIRON.copy()
    environ["wsgi.input"] = body
    environ["wsgi.url_scheme"] = scope["scheme"]
    environ["REQUEST_METHOD"] = scope["method"]
    environ["SERVER_PROTOCOL"] = _PROTOCOLS.get(scope["http_version"], "HTTP/1.1")
    environ["QUERY_STRING"] = scope["query_string"].decode("latin-1")
    environ["SCRIPT_NAME"], environ["PATH_INFO"] = _split_path(scope)
    server = scope.get("server") or ("localhost", "0")
    environ["SERVER_NAME"], environ["SERVER_PORT"] = server[0], str(server[1])
    client = scope.get("client") or ("127.0.0.1", "0")
    environ["REMOTE_ADDR"], environ["REMOTE_PORT"] = client[0], str(client[1])
    _add_headers(environ, scope)
    # What was counted, not what was announced: a chunked body announces nothing, and Django reads no further.
    if body_bytes:
        environ["CONTENT_LENGTH"] = str(body_bytes)
    else:
        environ.pop("CONTENT_LENGTH", None)
    return environ


_PROTOCOLS = {"1": "HTTP/1.0", "1.0": "HTTP/1.0", "1.1": "HTTP/1.1", "2": "HTTP/2"}


def _split_path(scope: Scope) -> tuple[str, str]:
    raw: bytes = scope["raw_path"]
    path = (unquote_to_bytes(raw) if b"%" in raw else raw).decode("latin-1")
    script_name = str(scope.get("root_path") or "").encode().decode("latin-1")
    if script_name and path.startswith(script_name):
        path = path[len(script_name) :] or "/"
    return script_name, path


def _add_headers(environ: dict[str, Any], scope: Scope) -> None:
    for name, value in scope["headers"]:
        key = _environ_key(name)
        if key is None:
            continue
        text = value.decode("latin-1")
        if key in environ:
            separator = "; " if key == "HTTP_COOKIE" else ","
            text = f"{environ[key]}{separator}{text}"
        environ[key] = text


@lru_cache(maxsize=1024)
def _environ_key(name: bytes) -> str | None:
    # An underscore would collide with the hyphen of another header, and so smuggle it past a proxy.
    if b"_" in name:
        return None
    key = name.decode("latin-1").upper().replace("-", "_")
    if key in ("CONTENT_TYPE", "CONTENT_LENGTH"):
        return key
    return f"HTTP_{key}"
