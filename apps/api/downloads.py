"""Sending stored files: ranges, ETags, and nothing that a browser would run in our name."""

import re
from collections.abc import Callable

from django.http import HttpRequest, HttpResponse
from django.utils.http import content_disposition_header

from apps.api.errors import RangeNotSatisfiable

_CONTENT_TYPE = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,126}/[a-z0-9][a-z0-9!#$&^_.+-]{0,126}")
_RANGE = re.compile(r"bytes=([0-9]{0,12})-([0-9]{0,12})")
_UNSAFE = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|\u2028\u2029\u202a-\u202e\u2066-\u2069]')
_MAX_NAME = 200


def mail_file_headers(filename: str) -> dict[str, str]:
    """Headers of a file that a stranger wrote: always a download, never sniffed, never run."""
    return {
        "Content-Disposition": content_disposition_header(True, safe_filename(filename)) or "attachment",
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "default-src 'none'; sandbox",
        "Cache-Control": "private, no-transform",
    }


def safe_filename(filename: str) -> str:
    """A name that leads nowhere else and shows what it is."""
    name = _UNSAFE.sub("_", filename).strip(" .")
    return name[-_MAX_NAME:] or "attachment"


def answer_file(
    request: HttpRequest, *, etag: str, filename: str, content_type: str, load: Callable[[], bytes]
) -> HttpResponse:
    """The file, or the one range of it that was asked for (RFC 9110, section 14); raises RangeNotSatisfiable.

    `etag` names this very content, which never changes; with it a repeated request costs no loading.
    """
    quoted = f'"{etag}"'
    headers = {**mail_file_headers(filename), "ETag": quoted, "Accept-Ranges": "bytes"}
    if _matches(request.headers.get("If-None-Match", ""), quoted):
        return HttpResponse(status=304, headers=headers)
    safe_type = content_type.lower() if _CONTENT_TYPE.fullmatch(content_type.lower()) else "application/octet-stream"
    content = load()
    wanted = _read_range(request, quoted, len(content))
    if wanted is None:
        return HttpResponse(content, content_type=safe_type, headers=headers)
    first, last = wanted
    headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
    return HttpResponse(content[first : last + 1], status=206, content_type=safe_type, headers=headers)


def _matches(header: str, quoted: str) -> bool:
    tags = [tag.strip().removeprefix("W/") for tag in header.split(",")[:50]]
    return "*" in tags or quoted in tags


def _read_range(request: HttpRequest, quoted: str, size: int) -> tuple[int, int] | None:
    """First and last octet; None for the whole: no range, several, or one of other content (If-Range)."""
    match = _RANGE.fullmatch(request.headers.get("Range", "").replace(" ", ""))
    if match is None or request.headers.get("If-Range", quoted) != quoted:
        return None
    start, end = match.groups()
    if start:
        first, last = int(start), min(int(end) if end else size - 1, size - 1)
        if end and int(end) < int(start):
            return None
    elif end:
        first, last = max(size - int(end), 0), size - 1
    else:
        return None
    if first > last:
        raise RangeNotSatisfiable(headers={"Content-Range": f"bytes */{size}"})
    return first, last
