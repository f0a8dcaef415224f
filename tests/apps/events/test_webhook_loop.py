"""The webhook loop against real receivers on loopback, plain and TLS, and a DNS of the tests'."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import quote

import pytest
from django.db import connection
from django.utils import timezone
from standardwebhooks import Webhook as Verifier

from apps.accounts.models import Organization
from apps.events.loop import post, wake_webhooks
from apps.events.models import Event, EventType, Webhook, WebhookAttempt, WebhookCall
from apps.events.services import NewEvent, create_webhook, record_events, rotate_webhook_secret
from apps.events.services import test_webhook as send_ping
from tests.apps.events.conftest import MakeWebhook, Record, make_due
from tests.apps.events.running import errors, running, statuses, tried, wait_until
from tests.fakes.dns import FakeDns
from tests.fakes.http import Authority, HttpReceiver

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("world")]

PROJECT = Path(__file__).resolve().parents[3]


class TestCalling:
    def test_an_event_arrives_signed_and_its_call_is_delivered(
        self, receiver: HttpReceiver, make_webhook: MakeWebhook, record: Record
    ) -> None:
        receiver.answer(200, b"thank you \xff")
        webhook = make_webhook(receiver.url("/hook?a=b"))
        record(subject="Grüße")
        with running():
            (request,) = receiver.wait_for(1)
            wait_until(lambda: statuses() == ["delivered"])
        assert (request.method, request.path) == ("POST", "/hook?a=b")
        assert request.headers["host"] == f"127.0.0.1:{receiver.port}"
        assert request.headers["content-type"] == "application/json"
        payload = Verifier(webhook.secret).verify(request.body, request.headers)
        assert payload["data"]["data"]["subject"] == "Grüße"
        attempt = WebhookAttempt.objects.get()
        assert (attempt.status_code, attempt.error, attempt.response) == (200, "", "thank you \ufffd")
        assert (attempt.url, attempt.request) == (webhook.url, request.body.decode())
        call = WebhookCall.objects.get()
        assert (call.attempt_count, call.last_status_code, call.next_attempt_at) == (1, 200, None)
        assert call.finished_at is not None

    def test_a_rotated_secret_signs_beside_the_old_one(
        self, receiver: HttpReceiver, make_webhook: MakeWebhook, record: Record
    ) -> None:
        webhook = make_webhook(receiver.url())
        old = webhook.secret
        _, new = rotate_webhook_secret(webhook=webhook, now=timezone.now())
        record()
        with running():
            (request,) = receiver.wait_for(1)
        for secret in (old, new):
            Verifier(secret).verify(request.body, request.headers)

    def test_a_doorbell_is_answered_sooner_than_a_poll(
        self, receiver: HttpReceiver, make_webhook: MakeWebhook, record: Record, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("apps.events.loop.sender.POLL_SECONDS", 60)
        make_webhook(receiver.url())
        with running():
            time.sleep(0.3)
            record()
            wake_webhooks()
            receiver.wait_for(1, timeout=5)

    def test_500_then_200_is_delivered_at_the_second_try_under_the_same_id(
        self, receiver: HttpReceiver, make_webhook: MakeWebhook, record: Record
    ) -> None:
        receiver.answer(500, b"oh no", times=1)
        webhook = make_webhook(receiver.url())
        record()
        with running() as loop:
            wait_until(lambda: tried(1))
            call = WebhookCall.objects.get()
            assert (call.status, call.attempt_count, call.last_status_code) == ("pending", 1, 500)
            assert 3 < (call.next_attempt_at - timezone.now()).total_seconds() < 6
            webhook.refresh_from_db()
            assert webhook.failing_since is not None
            make_due()
            loop.wake()
            wait_until(lambda: statuses() == ["delivered"])
        first, second = receiver.requests
        assert first.headers["webhook-id"] == second.headers["webhook-id"]
        assert first.body == second.body
        attempts = WebhookAttempt.objects.order_by("id")
        assert [attempt.status_code for attempt in attempts] == [500, 200]
        assert (attempts[0].response, attempts[0].error) == ("oh no", "The answer was 500.")
        webhook.refresh_from_db()
        assert webhook.failing_since is None

    def test_a_ping_arrives(self, receiver: HttpReceiver, make_webhook: MakeWebhook) -> None:
        webhook = make_webhook(receiver.url())
        send_ping(webhook=webhook, now=timezone.now())
        with running():
            (request,) = receiver.wait_for(1)
        assert Verifier(webhook.secret).verify(request.body, request.headers)["type"] == "ping"

    def test_connections_are_used_again_but_cookies_are_not_kept(
        self, receiver: HttpReceiver, make_webhook: MakeWebhook, organization: Organization
    ) -> None:
        receiver.answer(200, headers={"Set-Cookie": "session=secret; Path=/"})
        make_webhook(receiver.url())
        facts = [NewEvent(EventType.MESSAGE_SENT, organization.id) for _ in range(60)]
        record_events(events=facts, now=timezone.now())
        with running():
            requests = receiver.wait_for(60)
        assert not any("cookie" in request.headers for request in requests)
        assert receiver.connections <= 10

    def test_410_disables_it(self, receiver: HttpReceiver, make_webhook: MakeWebhook, record: Record) -> None:
        receiver.answer(410)
        webhook = make_webhook(receiver.url())
        record()
        with running():
            wait_until(lambda: "failed" in statuses())
        webhook.refresh_from_db()
        assert not webhook.enabled
        assert Event.objects.filter(type=EventType.WEBHOOK_DISABLED).count() == 1

    def test_503_with_retry_after_waits_as_long_as_asked(
        self, receiver: HttpReceiver, make_webhook: MakeWebhook, record: Record
    ) -> None:
        receiver.answer(503, headers={"Retry-After": "600"})
        make_webhook(receiver.url())
        record()
        with running():
            wait_until(lambda: tried(1))
        call = WebhookCall.objects.get()
        assert 590 < (call.next_attempt_at - timezone.now()).total_seconds() <= 600


class TestHostileReceivers:
    def test_a_hanging_endpoint_delays_no_other(
        self, receiver: HttpReceiver, other: HttpReceiver, make_webhook: MakeWebhook, organization: Organization
    ) -> None:
        receiver.hang()
        hanging = make_webhook(receiver.url())
        good = make_webhook(other.url())
        facts = [NewEvent(EventType.MESSAGE_SENT, organization.id) for _ in range(40)]
        record_events(events=facts, now=timezone.now())
        began = time.monotonic()
        with running():
            other.wait_for(40, timeout=8)
            assert time.monotonic() - began < 8
            delivered = WebhookCall.objects.filter(webhook_id=good.id, status="delivered")
            wait_until(lambda: delivered.count() == 40)
            assert not WebhookCall.objects.filter(webhook_id=hanging.id).exclude(status="pending").exists()

    def test_one_host_gets_few_requests_at_once_and_one_that_fails_a_single_one(
        self, receiver: HttpReceiver, make_webhook: MakeWebhook, organization: Organization
    ) -> None:
        receiver.delay(0.1)
        webhook = make_webhook(receiver.url())
        facts = [NewEvent(EventType.MESSAGE_SENT, organization.id) for _ in range(30)]
        record_events(events=facts, now=timezone.now())
        with running():
            receiver.wait_for(30)
            wait_until(lambda: set(statuses()) == {"delivered"})
        assert 2 <= receiver.most_at_once <= 5
        Webhook.objects.filter(id=webhook.id).update(failing_since=timezone.now())
        receiver.most_at_once = 0
        receiver.behave()
        receiver.answer(500)
        receiver._rules[0].delay = 0.1
        record_events(events=facts, now=timezone.now())
        with running():
            receiver.wait_for(34)
        assert receiver.most_at_once == 1

    def test_no_call_lasts_longer_than_its_time(
        self,
        receiver: HttpReceiver,
        make_webhook: MakeWebhook,
        record: Record,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(post, "TIMEOUT", 1.0)
        receiver.hang()
        make_webhook(receiver.url())
        record()
        with running():
            wait_until(lambda: tried(1), seconds=4)
        attempt = WebhookAttempt.objects.get()
        assert "within 1 seconds" in attempt.error
        assert 900 < attempt.duration_ms < 2000

    def test_an_endless_answer_is_read_to_a_bound(
        self, receiver: HttpReceiver, make_webhook: MakeWebhook, record: Record
    ) -> None:
        receiver.answer(200, b"x" * 5_000_000)
        make_webhook(receiver.url())
        record()
        with running():
            wait_until(lambda: statuses() == ["delivered"])
        assert WebhookAttempt.objects.get().response == "x" * 2048

    @pytest.mark.parametrize(
        ("octets", "words"),
        [
            (b"", "no HTTP"),
            (b"SSH-2.0-OpenSSH_9.6\r\n", "no HTTP"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", "no HTTP"),
            (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 300_000 + b"\r\n\r\n", "no HTTP"),
            (b"HTTP/1.1 99999 OK\r\n\r\n", "no HTTP"),
            (b"\0" * 2000, "no HTTP"),
        ],
    )
    def test_what_is_no_http_is_a_failed_try(
        self, receiver: HttpReceiver, make_webhook: MakeWebhook, record: Record, octets: bytes, words: str
    ) -> None:
        receiver.answer_raw(octets)
        make_webhook(receiver.url())
        record()
        with running():
            wait_until(lambda: tried(1))
        assert statuses() == ["pending"]
        assert words in errors()[0]

    def test_a_port_where_nobody_listens_is_a_failed_try(self, make_webhook: MakeWebhook, record: Record) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        make_webhook(f"http://127.0.0.1:{port}/")
        record()
        with running():
            wait_until(lambda: tried(1))
        assert "refused" in errors()[0]


class TestTls:
    @pytest.fixture
    def authority(self) -> Authority:
        return Authority()

    def test_https_by_name_shows_and_checks_the_name(
        self, world: FakeDns, authority: Authority, make_webhook: MakeWebhook, record: Record
    ) -> None:
        names: list[str | None] = []
        context = authority.server_context("hook.example")
        context.sni_callback = lambda _socket, name, _context: names.append(name)
        world.zone["hook.example"] = [("A", "127.0.0.1")]
        with HttpReceiver(tls=context) as receiver:
            webhook = make_webhook(receiver.url(host="hook.example"))
            record()
            with running(authority.client_context()):
                (request,) = receiver.wait_for(1)
                wait_until(lambda: statuses() == ["delivered"])
            assert request.headers["host"] == f"hook.example:{receiver.port}"
        assert names == ["hook.example"]
        Verifier(webhook.secret).verify(request.body, request.headers)

    @pytest.mark.parametrize("certified", ["other.example", None])
    def test_a_certificate_that_cannot_be_trusted_is_a_failed_try_and_nothing_is_sent(
        self, world: FakeDns, make_webhook: MakeWebhook, record: Record, certified: str | None
    ) -> None:
        authority, stranger = Authority(), Authority()
        context = (authority if certified else stranger).server_context(certified or "hook.example")
        world.zone["hook.example"] = [("A", "127.0.0.1")]
        with HttpReceiver(tls=context) as receiver:
            make_webhook(receiver.url(host="hook.example"))
            record()
            with running(authority.client_context()):
                wait_until(lambda: tried(1))
            assert receiver.requests == []
        assert "certificate cannot be trusted" in errors()[0]


class TestEnding:
    def test_a_stop_lets_calls_finish_and_gives_the_rest_back(
        self, receiver: HttpReceiver, other: HttpReceiver, make_webhook: MakeWebhook, record: Record,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        monkeypatch.setattr("apps.events.loop.sender._CLOSE_SECONDS", 1.5)
        receiver.hang()
        other.delay(0.7)
        hanging, slow = make_webhook(receiver.url()), make_webhook(other.url())
        record()
        with running():
            receiver.wait_for(1)
            other.wait_for(1)
        assert WebhookCall.objects.get(webhook_id=slow.id).status == "delivered"
        call = WebhookCall.objects.get(webhook_id=hanging.id)
        assert (call.status, call.lease_token) == ("pending", None)
        assert call.next_attempt_at <= timezone.now()

    def test_a_killed_sender_s_call_is_made_again_under_the_same_id_when_its_lease_ran_out(
        self, receiver: HttpReceiver, make_webhook: MakeWebhook, record: Record
    ) -> None:
        receiver.hang(times=1)
        make_webhook(receiver.url())
        record()
        sender = start_sender()
        try:
            receiver.wait_for(1, timeout=30)
        finally:
            os.kill(sender.pid, signal.SIGKILL)
            sender.wait(10)
        call = WebhookCall.objects.get()
        assert (call.status, call.attempt_count) == ("pending", 0)
        assert call.lease_token is not None
        assert call.next_attempt_at > timezone.now()
        with running() as loop:
            time.sleep(0.5)
            assert len(receiver.requests) == 1  # nobody else may make it yet
            make_due()  # a minute later
            loop.wake()
            wait_until(lambda: statuses() == ["delivered"])
        first, second = receiver.requests
        assert first.headers["webhook-id"] == second.headers["webhook-id"]
        assert first.body == second.body


_SENDER = """
import asyncio, sys
import django
django.setup()
from ipaddress import ip_network
from django.conf import settings
settings.MAILHOST_PRIVATE_TARGETS = [ip_network("127.0.0.1/32")]
from apps.events.loop.sender import WebhookSender
asyncio.run(WebhookSender().run())
"""


def start_sender() -> subprocess.Popen[bytes]:
    """A process of its own that makes calls from this test's database."""
    parts = connection.settings_dict
    host = quote(str(parts["HOST"]), safe="")
    url = f"postgresql://{parts['USER']}:{quote(str(parts['PASSWORD']), safe='')}@/{parts['NAME']}?host={host}"
    url += f"&port={parts['PORT']}" if parts["PORT"] else ""
    environ = {**os.environ, "DJANGO_SETTINGS_MODULE": "config.settings", "DATABASE_URL": url}
    return subprocess.Popen([sys.executable, "-c", _SENDER], cwd=PROJECT, env=environ)


def test_two_loops_share_the_work_and_make_each_call_once(
    receiver: HttpReceiver, other: HttpReceiver, organization: Organization
) -> None:
    for number in range(10):
        url = (receiver if number % 2 else other).url(f"/{number}")
        create_webhook(organization=organization, url=url, now=timezone.now())
    facts = [NewEvent(EventType.MESSAGE_SENT, organization.id) for _ in range(20)]
    record_events(events=facts, now=timezone.now())
    with running(), running():
        wait_until(lambda: WebhookCall.objects.filter(status="delivered").count() == 200, seconds=30)
    pairs = [(request.path, request.headers["webhook-id"]) for request in receiver.requests + other.requests]
    assert len(pairs) == len(set(pairs)) == 200
    assert set(WebhookCall.objects.values_list("attempt_count", flat=True)) == {1}
