"""The parts of the web front that need no server: paths, headers, proxies, routes, room for bodies."""

import asyncio
import io
from ipaddress import ip_network
from types import SimpleNamespace
from typing import Any

import pytest

from config.web.bodies import BodyLimits, BodyStore, BodyStoreFull, BodyTooLarge, MiB
from config.web.command import web_command
from config.web.environ import build_environ
from config.web.proxies import TrustedProxies
from config.web.routes import NativeRoute, RouteTable


def make_scope(**changes: Any) -> dict[str, Any]:
    scope: dict[str, Any] = {
        "type": "http",
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/",
        "raw_path": b"/",
        "root_path": "",
        "query_string": b"",
        "headers": [(b"host", b"mail.test")],
        "client": ("10.0.0.1", "4000"),
        "server": ("127.0.0.1", "8000"),
    }
    return {**scope, **changes}


def environ_of(**changes: Any) -> dict[str, Any]:
    return build_environ(make_scope(**changes), io.BytesIO(), 0)


async def no_more() -> dict[str, Any]:
    return {"type": "http.disconnect"}


def test_a_path_reaches_wsgi_as_its_bytes_decoded_by_latin_1() -> None:
    environ = environ_of(raw_path=b"/v1/inboxes/j%C3%BCrg%40x.test%2Fa/%ff", path="/lossy")
    assert environ["PATH_INFO"].encode("latin-1") == b"/v1/inboxes/j\xc3\xbcrg@x.test/a/\xff"


def test_the_root_path_becomes_script_name_and_leaves_the_path() -> None:
    environ = environ_of(root_path="/mail", raw_path=b"/mail/v1/me")
    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == ("/mail", "/v1/me")


def test_repeated_headers_are_joined_and_those_with_underscores_dropped() -> None:
    headers = [(b"accept", b"a"), (b"accept", b"b"), (b"cookie", b"c=1"), (b"cookie", b"d=2"), (b"x_api_key", b"no")]
    environ = environ_of(headers=headers)
    assert environ["HTTP_ACCEPT"] == "a,b"
    assert environ["HTTP_COOKIE"] == "c=1; d=2"
    assert "HTTP_X_API_KEY" not in environ


def test_content_length_is_what_was_counted() -> None:
    scope = make_scope(headers=[(b"transfer-encoding", b"chunked"), (b"content-type", b"text/plain")])
    environ = build_environ(scope, io.BytesIO(b"abc"), 3)
    assert (environ["CONTENT_LENGTH"], environ["CONTENT_TYPE"]) == ("3", "text/plain")


FORWARDED = [(b"x-forwarded-for", b"6.6.6.6, 203.0.113.9, 10.0.0.7"), (b"x-forwarded-proto", b"https")]


def test_a_strangers_forwarded_headers_are_removed() -> None:
    scope = make_scope(headers=[*FORWARDED, (b"forwarded", b"for=6.6.6.6"), (b"accept", b"a")])
    TrustedProxies([ip_network("192.168.0.0/16")]).apply(scope)
    assert scope["client"][0] == "10.0.0.1"
    assert scope["scheme"] == "http"
    assert scope["headers"] == [(b"accept", b"a")]


def test_a_trusted_proxy_names_the_nearest_client_that_is_no_proxy() -> None:
    scope = make_scope(headers=list(FORWARDED))
    TrustedProxies([ip_network("10.0.0.0/8")]).apply(scope)
    assert scope["client"][0] == "203.0.113.9"
    assert scope["scheme"] == "https"


@pytest.mark.parametrize(
    ("entry", "client"),
    [
        (b"203.0.113.9:8123", "203.0.113.9"),
        (b"[2001:db8::1]:443", "2001:db8::1"),
        (b"2001:db8::1", "2001:db8::1"),
        (b"::ffff:203.0.113.9", "203.0.113.9"),
        (b"rubbish", "10.0.0.1"),
        (b"203.0.113.9, rubbish", "10.0.0.1"),
    ],
)
def test_forwarded_addresses_are_read_in_every_usual_form(entry: bytes, client: str) -> None:
    scope = make_scope(headers=[(b"x-forwarded-for", entry)])
    TrustedProxies([ip_network("10.0.0.0/8")]).apply(scope)
    assert scope["client"][0] == client


def test_a_proxy_seen_through_a_dual_stack_socket_is_trusted() -> None:
    scope = make_scope(headers=list(FORWARDED), client=("::ffff:10.0.0.1", "1"))
    TrustedProxies([ip_network("10.0.0.0/8")]).apply(scope)
    assert scope["client"][0] == "203.0.113.9"


def test_routes_match_whole_path_segments_and_suffixes() -> None:
    async def wait(*_: Any) -> None: ...

    async def mcp(*_: Any) -> None: ...

    table = RouteTable([NativeRoute("/v1/inboxes", wait, suffix="/wait"), NativeRoute("/mcp", mcp)])
    assert table.find("/v1/inboxes/a@b.test/wait") is wait
    assert table.find("/v1/inboxes/a\nb/wait") is wait
    assert table.find("/v1/inboxes/wait") is None
    assert table.find("/v1/inboxes/a/messages") is None
    assert table.find("/mcp") is mcp
    assert table.find("/mcp/session") is mcp
    assert table.find("/mcpx") is None
    assert RouteTable([]).find("/") is None


def test_a_native_application_may_be_named() -> None:
    assert RouteTable([NativeRoute("/x", "tests.config.test_web_parts.make_scope")]).find("/x") is make_scope


def read_body(store: BodyStore, chunks: list[bytes], headers: list[tuple[bytes, bytes]]) -> Any:
    messages = iter([{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks])

    async def receive() -> dict[str, Any]:
        return next(messages, {"type": "http.request", "body": b"", "more_body": False})

    return asyncio.run(store.read(make_scope(headers=headers), receive))


CHUNKED = [(b"transfer-encoding", b"chunked")]


def test_the_room_of_a_body_is_given_back_when_it_is_closed() -> None:
    store = BodyStore(BodyLimits())
    small = read_body(store, [b"x" * 1000], CHUNKED)
    large = read_body(store, [b"x" * MiB, b"y"], CHUNKED)
    assert (store.memory_used, store.disk_used) == (1000, MiB + 1)
    assert large.file.read() == b"x" * MiB + b"y"
    for body in (small, large, large):
        body.close()
    assert (store.memory_used, store.disk_used) == (0, 0)


def test_bodies_go_to_disk_when_memory_is_used_up_and_are_refused_when_disk_is_too() -> None:
    store = BodyStore(BodyLimits(total_memory_bytes=1500, total_disk_bytes=1500))
    first, second = (read_body(store, [b"x" * 1000], CHUNKED) for _ in range(2))
    assert (first.on_disk, second.on_disk) == (False, True)
    with pytest.raises(BodyStoreFull):
        read_body(store, [b"x" * 1000], CHUNKED)
    assert (store.memory_used, store.disk_used) == (1000, 1000)
    for body in (first, second):
        body.close()


def test_a_body_too_large_by_its_announcement_is_refused_unread() -> None:
    async def receive() -> dict[str, Any]:
        raise AssertionError("the body was read")

    scope = make_scope(headers=[(b"content-length", b"%d" % (40 * MiB + 1))])
    with pytest.raises(BodyTooLarge):
        asyncio.run(BodyStore(BodyLimits()).read(scope, receive))


def test_the_command_is_made_from_the_settings() -> None:
    settings = SimpleNamespace(MAILHOST_BIND="::1", MAILHOST_HTTP_PORT=8123, MAILHOST_WEB_PROCESSES=3)
    command = web_command(settings)
    assert command[command.index("--host") + 1] == "::1"
    assert command[command.index("--port") + 1] == "8123"
    assert command[command.index("--workers") + 1] == "3"
    assert command[-1] == "config.asgi:application"
