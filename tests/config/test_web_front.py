"""The web front as clients meet it: a real granian, real sockets, a small Django project behind."""

import contextlib
import hashlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from config.web.command import web_command
from tests.config.web_stub import QUEUE, THREADS

PROJECT = Path(__file__).resolve().parents[2]
MiB = 1024 * 1024


class Front:
    """A running web front and small ways to talk to it."""

    def __init__(self, target: list[str], environment: dict[str, str] | None = None) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        settings = SimpleNamespace(MAILHOST_BIND="127.0.0.1", MAILHOST_HTTP_PORT=self.port, MAILHOST_WEB_PROCESSES=1)
        command = [*web_command(settings)[:-1], *target]
        self.process = subprocess.Popen(command, cwd=PROJECT, env={**os.environ, **(environment or {})})
        wait_until(self._answers, 20)

    def _answers(self) -> bool:
        with contextlib.suppress(OSError, http.client.HTTPException):
            self.ask("GET", "/health/live")
            return True
        return False

    def ask(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return SimpleNamespace(status=answer.status, headers=answer.headers, body=answer.read())
        finally:
            connection.close()

    def ask_json(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Any:
        return json.loads(self.ask(method, path, body, headers).body)

    def open(self, request: bytes) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.port), 30)
        connection.sendall(request)
        return connection

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(20)


def wait_until(holds: Callable[[], bool], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            raise AssertionError("it did not come to be in time")
        time.sleep(0.05)


def read_all(connection: socket.socket) -> bytes:
    data = b""
    with contextlib.suppress(ConnectionResetError):
        while chunk := connection.recv(65536):
            data += chunk
    connection.close()
    return data


def in_threads(count: int, work: Callable[[], Any]) -> tuple[list[threading.Thread], list[Any]]:
    results: list[Any] = []
    threads = [threading.Thread(target=lambda: results.append(work())) for _ in range(count)]
    for thread in threads:
        thread.start()
    return threads, results


STUB = ["--factory", "tests.config.web_stub:build"]


@pytest.fixture
def front() -> Iterator[Front]:
    running = Front(STUB)
    yield running
    if running.process.poll() is None:
        running.stop()


@pytest.fixture(scope="module")
def shared() -> Iterator[Front]:
    """For tests that leave nothing behind."""
    running = Front(STUB)
    yield running
    assert running.stop() == 0


def test_method_path_query_and_body_reach_django(shared: Front) -> None:
    body = os.urandom(3000)
    seen = shared.ask_json("PUT", "/v1/in%C3%BCboxes/a%40b?x=%C3%A9&y=1", body)
    assert seen["method"] == "PUT"
    assert seen["path"] == "/v1/inüboxes/a@b"
    assert seen["query"] == {"x": "é", "y": "1"}
    assert seen["sha256"] == hashlib.sha256(body).hexdigest()


def test_each_cookie_has_its_own_header(shared: Front) -> None:
    answer = shared.ask("GET", "/any")
    assert [cookie.partition(";")[0] for cookie in answer.headers.get_all("Set-Cookie")] == ["a=1", "b=2"]


def test_a_strangers_forwarded_for_is_not_believed(shared: Front) -> None:
    seen = shared.ask_json("GET", "/any", headers={"X-Forwarded-For": "6.6.6.6", "X-Forwarded-Proto": "https"})
    assert (seen["client"], seen["scheme"]) == ("127.0.0.1", "http")
    assert not [name for name in seen["headers"] if "FORWARDED" in name]


@pytest.mark.parametrize(("size", "spooled"), [(0, False), (MiB, False), (MiB + 1, True), (40 * MiB, True)])
def test_bodies_up_to_the_limit_arrive_whole_and_large_ones_are_spooled(
    shared: Front, size: int, spooled: bool
) -> None:
    body = b"z" * size
    seen = shared.ask_json("POST", "/any", body)
    assert (seen["length"], seen["spooled"]) == (size, spooled)
    assert seen["sha256"] == hashlib.sha256(body).hexdigest()


def test_a_chunked_body_arrives_whole(shared: Front) -> None:
    seen = shared.ask_json("POST", "/any", iter([b"abc", b"d" * 70_000, b"e"]))
    assert seen["sha256"] == hashlib.sha256(b"abc" + b"d" * 70_000 + b"e").hexdigest()


def test_connections_are_kept_and_serve_several_posts(shared: Front) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", shared.port, timeout=10)
    for number in range(5):
        connection.request("POST", "/any", b"x" * 100_000 * number)
        assert json.loads(connection.getresponse().read())["length"] == 100_000 * number
    connection.close()


def assert_too_large(answer: bytes) -> None:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 413")
    error = json.loads(body)["error"]
    assert error["code"] == "message_too_large"
    assert set(error) == {"code", "message", "fix", "details", "request_id"}
    assert b"x-request-id: " + error["request_id"].encode() in head


def test_an_announced_body_above_the_limit_is_refused_before_it_is_sent(shared: Front) -> None:
    calls = shared.ask_json("GET", "/report")["calls"]
    head = b"POST /any HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n" % (40 * MiB + 1)
    assert_too_large(read_all(shared.open(head)))
    assert shared.ask_json("GET", "/report")["calls"] == calls


def test_a_body_with_broken_chunks_is_the_clients_error(shared: Front) -> None:
    with shared.open(b"POST /any HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n") as connection:
        answer = connection.recv(65536)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"malformed_json" in answer


def test_a_chunked_body_is_refused_when_it_has_grown_above_the_limit(shared: Front) -> None:
    connection = shared.open(b"POST /any HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    block = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    with contextlib.suppress(ConnectionError):
        for _ in range(40 * 16 + 1):
            connection.sendall(block)
    assert_too_large(read_all(connection))


def test_a_body_that_pauses_too_long_is_given_up(shared: Front) -> None:
    answer = read_all(shared.open(b"POST /any HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc"))
    assert answer.startswith(b"HTTP/1.1 503")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "unavailable"


def test_a_client_that_leaves_amid_its_body_reaches_no_view(shared: Front) -> None:
    calls = shared.ask_json("GET", "/report")["calls"]
    shared.open(b"POST /any HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc").close()
    time.sleep(0.3)
    assert shared.ask_json("GET", "/report")["calls"] == calls


@pytest.mark.parametrize("path", ["/any", "/stream", "/file"])
def test_head_answers_the_headers_alone(shared: Front, path: str) -> None:
    head = shared.ask("HEAD", path)
    get = shared.ask("GET", path)
    assert head.status == 200
    assert head.body == b""
    if path != "/any":  # its body repeats the method
        assert head.headers["Content-Length"] == get.headers["Content-Length"]
    else:
        assert int(head.headers["Content-Length"]) > 100


def test_a_file_is_sent_byte_for_byte(shared: Front) -> None:
    answer = shared.ask("GET", "/file")
    assert answer.body == bytes(range(256)) * 4 * 5 * 1024
    assert answer.headers["Content-Length"] == str(5 * MiB)


def test_a_stream_reaches_the_client_while_it_is_made(shared: Front) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", shared.port, timeout=10)
    began = time.monotonic()
    connection.request("GET", "/stream?chunks=2&pause=1")
    answer = connection.getresponse()
    first = answer.read(65536)
    assert time.monotonic() - began < 0.8
    assert len(first + answer.read()) == 2 * 65536
    assert time.monotonic() - began >= 1
    connection.close()


def test_a_stream_that_breaks_off_does_not_look_complete(shared: Front) -> None:
    with pytest.raises(http.client.IncompleteRead):
        shared.ask("GET", "/stream?chunks=3&break=1")


def test_a_stream_ends_when_its_client_leaves(front: Front) -> None:
    connection = front.open(b"GET /stream?chunks=100000&pause=0.001 HTTP/1.1\r\nHost: x\r\n\r\n")
    connection.recv(1000)
    connection.close()
    wait_until(lambda: front.ask_json("GET", "/report")["streams_closed"] == 1)


def test_a_slow_client_holds_a_stream_back_and_no_other_request(front: Front) -> None:
    connection = front.open(b"GET /stream?chunks=2000 HTTP/1.1\r\nHost: x\r\n\r\n")
    time.sleep(0.5)
    assert front.ask_json("GET", "/report")["streams_closed"] == 0
    assert len(read_all_of_stream(connection)) == 2000 * 65536
    assert front.ask_json("GET", "/report")["streams_closed"] == 1


def read_all_of_stream(connection: socket.socket) -> bytes:
    answer = http.client.HTTPResponse(connection)
    answer.begin()
    body = answer.read()
    connection.close()
    return body


def test_each_request_ends_on_the_thread_it_began_on(front: Front) -> None:
    for path in ("/any", "/stream", "/file", "/any"):
        front.ask("GET", path)
    wait_until(lambda: front.ask_json("GET", "/report")["finished"] >= 5)
    seen = front.ask_json("GET", "/report")
    assert seen["same_thread"]
    assert seen["started"] == seen["finished"] + 1


def test_an_application_that_exits_costs_neither_answer_nor_thread(front: Front) -> None:
    for _ in range(THREADS + 1):
        answer = front.ask("GET", "/crash")
        assert answer.status == 500
        assert json.loads(answer.body)["error"]["code"] == "internal_error"
    assert front.ask("GET", "/any").status == 200


def test_requests_beyond_threads_and_queue_are_refused_at_once(front: Front) -> None:
    threads, results = in_threads(THREADS + QUEUE + 5, lambda: front.ask("GET", "/hold"))
    wait_until(lambda: len(results) == 5)
    for refusal in results:
        assert refusal.status == 503
        assert refusal.headers["Retry-After"] == "1"
        assert json.loads(refusal.body)["error"]["code"] == "unavailable"
    front.ask("GET", "/native/gate")
    for thread in threads:
        thread.join(25)
    assert [answer.status for answer in results[5:]] == [200] * (THREADS + QUEUE)


def test_200_waiting_requests_hold_up_no_other(front: Front) -> None:
    request = b"POST /native/a@b.test/wait HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    waiting = [front.open(request) for _ in range(200)]
    wait_until(lambda: front.ask_json("GET", "/report").get("waiting") == 200)
    began = time.monotonic()
    for _ in range(20):
        assert front.ask("GET", "/any").status == 200
    assert time.monotonic() - began < 2
    assert front.ask("GET", "/native/release").body.startswith(b"web-")
    assert all(read_all(connection).endswith(b"released") for connection in waiting)


def test_a_stop_lets_requests_finish_and_tells_those_that_wait(front: Front) -> None:
    threads, answers = in_threads(1, lambda: front.ask("GET", "/nap?seconds=1.5").body)
    waiting = front.open(b"GET /native/x/wait HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    wait_until(lambda: front.ask_json("GET", "/report").get("waiting") == 1)
    began = time.monotonic()
    assert front.stop() == 0
    assert time.monotonic() - began < 5
    threads[0].join(5)
    assert answers == [b"rested"]
    assert read_all(waiting).endswith(b"stopping")


def children_of(pid: int) -> list[int]:
    listed = subprocess.run(["ps", "--ppid", str(pid), "-o", "pid="], capture_output=True, text=True).stdout
    return [int(child) for child in listed.split()]


def is_alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    return False


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_workers_end_when_their_parent_is_killed(front: Front) -> None:
    workers = children_of(front.process.pid)
    assert workers
    front.process.send_signal(signal.SIGKILL)
    front.process.wait(5)
    wait_until(lambda: not any(is_alive(worker) for worker in workers))


def test_the_product_itself_is_served(tmp_path: Path) -> None:
    environment = {"MAILHOST_STATE": str(tmp_path), "DJANGO_SETTINGS_MODULE": "config.settings"}
    running = Front(["config.asgi:application"], environment)
    try:
        assert running.ask_json("GET", "/health/live") == {"status": "live"}
        assert running.ask("GET", "/static/admin/css/base.css").status == 200
    finally:
        assert running.stop() == 0
