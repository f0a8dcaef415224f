"""POST /v1/inboxes/{inbox}/wait over HTTP: what it finds, whom it answers, what it costs, how it ends."""

import json
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from unittest import mock

import psutil
import pytest
from django.db import connection, transaction
from django.utils import timezone

from apps.accounts.models import ApiKey, Organization
from apps.accounts.services import revoke_api_key
from apps.core import news
from apps.core.ids import encode_id
from apps.delivery.services import delete_mailbox
from apps.mailboxes.models import Mailbox
from apps.mailboxes.services import Usage, add_usage
from tests.api.conftest import Api, MakeApi, MakeMailbox, check_documented
from tests.api.live.conftest import Waiting, Web, deliver, inbox_id
from tests.config.test_web_front import wait_until


def waiting(web: Web, owner: Api, mailbox: Mailbox, **body: Any) -> Waiting:
    return Waiting(lambda: web.wait(owner.secret, inbox_id(mailbox), **body))


def settle(seconds: float = 0.7) -> None:
    """Time for a request that was just sent to be waiting."""
    time.sleep(seconds)


def test_mail_that_comes_is_answered_at_once_with_its_code_and_link(web: Web, owner: Api, mailbox: Mailbox) -> None:
    request = waiting(web, owner, mailbox, **{"from": "EXAMPLE.com", "subject": "sign-IN", "timeout_seconds": 20})
    settle()
    began = time.monotonic()
    text = "Your code is 482913.\r\nOr verify here:\r\nhttps://acme.example/verify?token=0123456789abcdef"
    message = deliver(mailbox, subject="Your sign-in code", text=text)
    answer = request.answer()
    assert time.monotonic() - began < 1.5
    assert answer["timed_out"] is False
    assert answer["message"]["id"] == encode_id("msg", message.id)
    assert "Your code is" in answer["message"]["text"]
    assert answer["extracted"] == {
        "otp_code": "482913",
        "verification_link": "https://acme.example/verify?token=0123456789abcdef",
    }


def test_the_answers_are_those_of_the_document(web: Web, owner: Api, mailbox: Mailbox) -> None:
    deliver(mailbox)
    path = f"/v1/inboxes/{inbox_id(mailbox)}/wait"
    for body in (b"{}", b'{"timeout_seconds": 0, "subject": "none"}', b'{"timeout_seconds": "x"}', b"{", b'{"x": 1}'):
        fields = {"Authorization": f"Bearer {owner.secret}", "Content-Type": "application/json"}
        answer = web.ask("POST", path, body, fields)
        shown = mock.Mock(headers=dict(answer.headers), status_code=answer.status, content=answer.body)
        shown.headers = {"X-Request-Id": answer.headers["X-Request-Id"], "Content-Type": answer.headers["Content-Type"]}
        shown.json = lambda content=answer.body: json.loads(content)
        check_documented("POST", path, shown)


def test_mail_of_the_last_minute_is_found_and_older_mail_only_when_asked_for(
    web: Web, owner: Api, mailbox: Mailbox
) -> None:
    old = deliver(mailbox, subject="old")
    ids = "UPDATE mail_message SET id = %s, created_at = %s WHERE id = %s"
    hour = timezone.now() - timedelta(hours=1)
    with connection.cursor() as cursor:  # as if it had come an hour ago
        cursor.execute("DELETE FROM mail_messagebody")
        older = old.id.int - (3600_000 << 80)
        cursor.execute(ids, [f"{older:032x}", hour, old.id])
    young = deliver(mailbox, subject="young")
    found = web.wait(owner.secret, inbox_id(mailbox), timeout_seconds=0)
    assert found["message"]["id"] == encode_id("msg", young.id)
    since = (hour - timedelta(minutes=1)).isoformat()
    assert web.wait(owner.secret, inbox_id(mailbox), since=since, timeout_seconds=0)["message"]["subject"] == "old"
    by_address = web.wait(owner.secret, mailbox.address.replace("@", "%40"), timeout_seconds=0)
    assert by_address["message"]["subject"] == "young"


def test_a_wait_in_vain_times_out_and_its_cursor_goes_on(web: Web, owner: Api, mailbox: Mailbox) -> None:
    began = time.monotonic()
    empty = web.wait(owner.secret, inbox_id(mailbox), timeout_seconds=1)
    assert 0.9 < time.monotonic() - began < 3
    nothing = {"otp_code": None, "verification_link": None}
    assert (empty["timed_out"], empty["message"], empty["extracted"]) == (True, None, nothing)
    sent = [deliver(mailbox, subject=f"mail {number}") for number in range(5)]
    cursor, found = empty["cursor"], []
    for _ in range(5):
        answer = web.wait(owner.secret, inbox_id(mailbox), after=cursor, timeout_seconds=5)
        cursor = answer["cursor"]
        found.append(answer["message"]["id"])
    assert found == [encode_id("msg", message.id) for message in sent]
    last = web.wait(owner.secret, inbox_id(mailbox), after=cursor, timeout_seconds=0)
    assert last["timed_out"]
    request = waiting(web, owner, mailbox, after=last["cursor"], timeout_seconds=10)
    settle()
    late = deliver(mailbox, subject="late")
    assert request.answer()["message"]["id"] == encode_id("msg", late.id)


def test_a_cursor_belongs_to_its_inbox(web: Web, owner: Api, mailbox: Mailbox, make_mailbox: MakeMailbox) -> None:
    other = make_mailbox("other")
    cursor = web.wait(owner.secret, inbox_id(mailbox), timeout_seconds=0)["cursor"]
    for body in ({"after": cursor}, {"after": "rubbish"}, {"after": cursor[:-2]}):
        status, answer = web.call("POST", f"/v1/inboxes/{inbox_id(other)}/wait", owner.secret, body)
        assert (status, answer["error"]["code"]) == (400, "invalid_cursor")
    both = {"after": cursor, "since": "2026-01-01T00:00:00Z"}
    assert web.call("POST", f"/v1/inboxes/{inbox_id(mailbox)}/wait", owner.secret, both)[0] == 400


def test_mail_of_a_slow_transaction_is_neither_skipped_nor_repeated(web: Web, owner: Api, mailbox: Mailbox) -> None:
    """The slow one makes its message first and commits last: its id lies below the cursor by then."""
    may_commit, is_written = threading.Event(), threading.Event()

    def write_slowly() -> None:
        usage: Usage = {}
        with transaction.atomic():
            deliver(mailbox, subject="slow", usage=usage)
            is_written.set()
            may_commit.wait(20)
            add_usage(deltas=usage)
        connection.close()

    slow = Waiting(write_slowly)
    assert is_written.wait(10)
    request = waiting(web, owner, mailbox, timeout_seconds=10)
    settle()
    deliver(mailbox, subject="fast 1")
    deliver(mailbox, subject="fast 2")
    answer = request.answer()
    found = [answer["message"]["subject"]]
    answer = web.wait(owner.secret, inbox_id(mailbox), after=answer["cursor"], timeout_seconds=5)
    found.append(answer["message"]["subject"])
    request = waiting(web, owner, mailbox, after=answer["cursor"], timeout_seconds=10)
    settle()
    may_commit.set()
    slow.answer()
    answer = request.answer()
    found.append(answer["message"]["subject"])
    assert found == ["fast 1", "fast 2", "slow"]
    assert web.wait(owner.secret, inbox_id(mailbox), after=answer["cursor"], timeout_seconds=1)["timed_out"]


AUTOMATIC = {
    "vacation": "Auto-Submitted: auto-replied\r\n",
    "signup": "Auto-Submitted: auto-generated\r\n",
    "newsletter": "Precedence: bulk\r\n",
}


def test_automatic_answers_and_reports_are_skipped_and_generated_mail_is_not(
    web: Web, owner: Api, mailbox: Mailbox
) -> None:
    deliver(mailbox, subject="vacation", extra=AUTOMATIC["vacation"])
    report = (
        b"From: mailer-daemon@example.com\r\nTo: alice@agents.localhost\r\nSubject: failure\r\n"
        b'Content-Type: multipart/report; report-type=delivery-status; boundary="x"\r\n\r\n'
        b"--x\r\n\r\nfailed\r\n--x--\r\n"
    )
    deliver(mailbox, raw=report)
    assert web.wait(owner.secret, inbox_id(mailbox), timeout_seconds=0)["timed_out"]
    every = web.wait(owner.secret, inbox_id(mailbox), timeout_seconds=0, include_automatic=True)
    assert every["message"]["subject"] == "vacation"
    for kind in ("signup", "newsletter"):
        deliver(mailbox, subject=kind, extra=AUTOMATIC[kind])
        assert web.wait(owner.secret, inbox_id(mailbox), timeout_seconds=5, subject=kind)["message"]["subject"] == kind


def test_a_regex_is_searched_for_in_the_text_and_in_the_text_of_the_html(
    web: Web, owner: Api, mailbox: Mailbox
) -> None:
    request = waiting(web, owner, mailbox, regex=r"(?i)pin:\s*\d{4}\b", timeout_seconds=20)
    settle()
    deliver(mailbox, text="no number")
    html = (
        b"From: a@example.com\r\nMIME-Version: 1.0\r\n"
        b'Content-Type: multipart/alternative; boundary="x"\r\n\r\n--x\r\nContent-Type: text/plain\r\n\r\nstub\r\n'
        b"--x\r\nContent-Type: text/html\r\n\r\n<p>PIN:&nbsp;<b>4711</b></p>\r\n--x--\r\n"
    )
    message = deliver(mailbox, raw=html)
    answer = request.answer()
    assert answer["message"]["id"] == encode_id("msg", message.id)
    assert answer["extracted"]["otp_code"] == "4711"


@pytest.mark.parametrize("regex", [r"(?=a)b", r"(a)\1", "(", "a{2000}", "(((a{100}){100}){100})", "x" * 501, 5, "\0"])
def test_what_is_no_regex_of_ours_is_refused(web: Web, owner: Api, mailbox: Mailbox, regex: Any) -> None:
    status, answer = web.call("POST", f"/v1/inboxes/{inbox_id(mailbox)}/wait", owner.secret, {"regex": regex})
    assert (status, answer["error"]["code"]) == (400, "validation_failed")
    assert answer["error"]["details"][0]["field"] == "regex"


def test_hostile_regexes_stall_nobody_and_end_by_themselves(
    web: Web, owner: Api, mailbox: Mailbox, make_mailbox: MakeMailbox, stranger: Organization, make_api: MakeApi
) -> None:
    victim, other = make_api(stranger), make_mailbox("victim", of=stranger)
    hostile = [
        Waiting(
            lambda: web.call(
                "POST",
                f"/v1/inboxes/{inbox_id(mailbox)}/wait",
                owner.secret,
                {"regex": "((a{0,30}){0,30})b", "timeout_seconds": 8},
            )
        )
        for _ in range(5)
    ]
    plain = waiting(web, victim, other, regex="code (?:is )?[0-9]{6}", timeout_seconds=25)
    settle(1)
    for _ in range(4):
        deliver(mailbox, text="a" * 100_000)
    settle(0.3)
    slowest = 0.0
    for _ in range(10):
        began = time.monotonic()
        assert web.ask("GET", "/health/live").status == 200
        slowest = max(slowest, time.monotonic() - began)
    assert slowest < 1
    began = time.monotonic()
    deliver(other, text="Your code is 123456")
    assert plain.answer()["extracted"]["otp_code"] == "123456"
    assert time.monotonic() - began < 6
    for status, answer in (request.answer(60) for request in hostile):
        assert (status, answer.get("error", {}).get("code")) in ((400, "validation_failed"), (200, None))


def test_lost_news_costs_two_seconds(web: Web, owner: Api, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch) -> None:
    request = waiting(web, owner, mailbox, timeout_seconds=20)
    settle()
    monkeypatch.setattr(news.announcer, "announce", lambda entries: None)
    began = time.monotonic()
    deliver(mailbox)
    assert request.answer()["timed_out"] is False
    assert time.monotonic() - began < 3


def test_without_redis_a_wait_works(transactional_db: None, owner: Api, mailbox: Mailbox) -> None:
    web = Web(REDIS_URL="redis://127.0.0.1:1/0")
    try:
        request = waiting(web, owner, mailbox, timeout_seconds=20)
        settle()
        began = time.monotonic()
        deliver(mailbox)
        assert request.answer()["timed_out"] is False
        assert time.monotonic() - began < 3
    finally:
        assert web.stop() == 0


@pytest.mark.parametrize(
    ("end", "code"),
    [
        (lambda key: revoke_api_key(key=key, now=timezone.now()), "key_revoked"),
        (lambda key: ApiKey.objects.filter(id=key.id).update(expires_at=timezone.now()), "key_expired"),
        (lambda key: ApiKey.objects.filter(id=key.id).delete(), "unauthorized"),
    ],
)
def test_a_key_that_ends_ends_its_waits(
    web: Web, owner: Api, mailbox: Mailbox, end: Callable[[ApiKey], None], code: str
) -> None:
    request = Waiting(lambda: web.call("POST", f"/v1/inboxes/{inbox_id(mailbox)}/wait", owner.secret, {}))
    settle()
    assert not request.is_over()
    began = time.monotonic()
    end(ApiKey.objects.get(name="test"))
    status, answer = request.answer()
    assert (status, answer["error"]["code"]) == (401, code)
    assert time.monotonic() - began < 2.5


def test_who_may_not_read_may_not_wait(
    web: Web, owner: Api, outsider: Api, mailbox: Mailbox, make_api: MakeApi, make_mailbox: MakeMailbox,
    organization: Organization,
) -> None:  # fmt: skip
    path = f"/v1/inboxes/{inbox_id(mailbox)}/wait"
    other = make_mailbox("other")
    for secret, status, code in (
        (None, 401, "unauthorized"),
        ("mh_" + "x" * 43, 401, "unauthorized"),
        (outsider.secret, 404, "not_found"),
        (make_api(organization, ["inboxes:read"]).secret, 403, "scope_denied"),
        (make_api(None, ["messages:read"]).secret, 403, "scope_denied"),
        (make_api(organization, ["messages:read"], inbox_ids=[other.id]).secret, 404, "not_found"),
        (make_api(organization, ["messages:read"], allowed_domains=["else.example"]).secret, 404, "not_found"),
    ):
        seen, answer = web.call("POST", path, secret, {"timeout_seconds": 0})
        assert (seen, answer["error"]["code"]) == (status, code)
    narrow = make_api(organization, ["messages:read"], inbox_ids=[mailbox.id])
    assert web.call("POST", path, narrow.secret, {"timeout_seconds": 0})[0] == 200
    delete_mailbox(mailbox=mailbox, purge=False, now=timezone.now())
    seen, answer = web.call("POST", path, owner.secret, {})
    assert (seen, answer["error"]["code"]) == (410, "inbox_deleted")


def test_other_methods_and_large_bodies_are_refused_in_the_envelope(web: Web, owner: Api, mailbox: Mailbox) -> None:
    path = f"/v1/inboxes/{inbox_id(mailbox)}/wait"
    for method in ("GET", "PATCH", "DELETE", "PUT"):
        status, answer = web.call(method, path, owner.secret)
        assert (status, answer["error"]["code"]) == (405, "method_not_allowed")
    status, answer = web.call("POST", path, owner.secret, b'{"subject": "' + b"x" * 70_000 + b'"}')
    assert (status, answer["error"]["code"]) == (413, "message_too_large")
    assert web.call("POST", "/v1/inboxes/nobody@agents.localhost/wait", owner.secret, {})[0] == 404
    assert web.call("POST", "/v1/inboxes/%00/wait", owner.secret, {})[0] in (400, 404)


def test_a_dialects_host_keeps_its_own_addresses(transactional_db: None, owner: Api, mailbox: Mailbox) -> None:
    """Postern's wait has the same path at the root of its host, and is not ours."""
    web = Web(MAILHOST_DIALECT_HOSTS="postern.test=postern")
    try:
        path = f"/v1/inboxes/{mailbox.address}/wait"
        ours = web.call("POST", path, owner.secret, {"timeout_seconds": 0})
        assert (ours[0], ours[1]["timed_out"]) == (200, True)
        for host in ("postern.test", "Postern.test:8000"):
            status, theirs = web.call("POST", path, owner.secret, {"timeout_seconds": 0}, Host=host)
            assert status != 200, theirs
    finally:
        web.stop()


def test_a_client_that_leaves_frees_its_place(web: Web, owner: Api, mailbox: Mailbox) -> None:
    request = (
        f"POST /v1/inboxes/{inbox_id(mailbox)}/wait HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {owner.secret}\r\n"
        "Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
    ).encode()
    sockets = [web.open(request) for _ in range(20)]
    settle(1.5)
    for one in sockets:
        one.close()
    # Stopping waits for requests in flight: it would take seconds if those were still held.
    settle(1)
    began = time.monotonic()
    assert web.stop() == 0
    assert time.monotonic() - began < 5


def test_a_stopping_process_tells_those_who_wait_to_come_again(web: Web, owner: Api, mailbox: Mailbox) -> None:
    def ask() -> Any:
        fields = {"Authorization": f"Bearer {owner.secret}", "Content-Type": "application/json"}
        return web.ask("POST", f"/v1/inboxes/{inbox_id(mailbox)}/wait", b"{}", fields)

    requests = [Waiting(ask) for _ in range(5)]
    settle(1)
    began = time.monotonic()
    assert web.stop() == 0
    assert time.monotonic() - began < 5
    for answer in (request.answer() for request in requests):
        assert answer.status == 503
        assert answer.headers["Retry-After"] == "1"


def test_five_hundred_wait_at_once_in_one_process_and_cost_no_threads(
    web: Web, owner: Api, make_mailbox: MakeMailbox
) -> None:
    mailboxes = [make_mailbox(f"box{number}") for number in range(25)]
    sockets = []
    for number in range(500):
        path = f"/v1/inboxes/{inbox_id(mailboxes[number % 25])}/wait"
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {owner.secret}\r\nConnection: close\r\n"
        body = '{"timeout_seconds": 60}'
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        sockets.append(web.open(f"{head}{body}".encode()))
    wait_until(lambda: _is_idle(web), 30)
    status, _ = web.call("GET", "/v1/me", owner.secret)
    assert status == 200
    assert _threads(web) < 60
    for mailbox in mailboxes:
        deliver(mailbox, subject="for all")
    began = time.monotonic()
    for one in sockets:
        one.settimeout(15)
        answer = b""
        while chunk := one.recv(65536):
            answer += chunk
        assert answer.startswith(b"HTTP/1.1 200"), answer[:500]
        assert b'"subject":"for all"' in answer
        one.close()
    assert time.monotonic() - began < 15


def _workers(web: Web) -> list[int]:
    return [child.pid for child in psutil.Process(web.process.pid).children(recursive=True)] or [web.process.pid]


def _threads(web: Web) -> int:
    return max(psutil.Process(pid).num_threads() for pid in _workers(web))


def _is_idle(web: Web) -> bool:
    before = [psutil.Process(pid).cpu_times() for pid in _workers(web)]
    time.sleep(0.5)
    after = [psutil.Process(pid).cpu_times() for pid in _workers(web)]
    return sum(b.user + b.system - a.user - a.system for a, b in zip(before, after, strict=True)) < 0.1
