"""Where the webhook loop goes and where it never goes: names, redirects, name servers that change their mind."""

from collections.abc import Iterator

import pytest
from standardwebhooks import Webhook as Verifier

from apps.events.models import WebhookAttempt
from tests.apps.events.conftest import MakeWebhook, Record
from tests.apps.events.running import errors, running, statuses, tried, wait_until
from tests.fakes.dns import FakeDns
from tests.fakes.dns import Record as DnsRecord
from tests.fakes.http import HttpReceiver

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("world")]


class Rebinding:
    """Records that change with every question: first one address, then another."""

    def __init__(self, first: str, later: str) -> None:
        self._first, self._later = first, later
        self._asked = 0

    def __iter__(self) -> Iterator[DnsRecord]:
        self._asked += 1
        # The resolver asks for A and for AAAA, in any order: both questions belong to one look-up.
        yield ("A", self._first if self._asked <= 2 else self._later, 0)


@pytest.mark.parametrize(
    ("name", "address"),
    [("inside.example", "127.0.0.2"), ("six.example", "::1"), ("meta.example", "169.254.169.254")],
)
def test_a_name_that_leads_inside_is_never_connected_to(
    world: FakeDns, make_webhook: MakeWebhook, record: Record, name: str, address: str
) -> None:
    world.zone[name] = [("AAAA" if ":" in address else "A", address)]
    with HttpReceiver(host="0.0.0.0") as everywhere:
        make_webhook(f"https://{name}:{everywhere.port}/")
        record()
        with running():
            wait_until(lambda: tried(1))
        assert everywhere.connections == 0
    assert "no public address" in errors()[0]
    assert statuses() == ["pending"]  # and tried again: its DNS may be mended


@pytest.mark.parametrize("status", [307, 308])
def test_a_redirect_keeps_the_post(
    receiver: HttpReceiver, other: HttpReceiver, make_webhook: MakeWebhook, record: Record, status: int
) -> None:
    receiver.answer(status, headers={"Location": other.url("/moved")})
    webhook = make_webhook(receiver.url())
    record()
    with running():
        (request,) = other.wait_for(1)
        wait_until(lambda: statuses() == ["delivered"])
    assert (request.method, request.path, request.headers["host"]) == (
        "POST",
        "/moved",
        f"127.0.0.1:{other.port}",
    )
    Verifier(webhook.secret).verify(request.body, request.headers)


@pytest.mark.parametrize(
    "location",
    [
        "http://127.0.0.2:{port}/",
        "http://localhost.:{port}@127.0.0.2:{port}/",
        "http://inside.example:{port}/",
        "https://inside.example:{port}/",
        "http://0177.0.0.1:{port}/",
        "http://[::ffff:127.0.0.2]:{port}/",
        "http://[::1]:{port}/",
        "http://169.254.169.254/latest/meta-data/",
        "file:///etc/passwd",
        "gopher://127.0.0.1:{port}/",
    ],
)
def test_a_redirect_that_leads_inside_is_not_followed(
    world: FakeDns, receiver: HttpReceiver, make_webhook: MakeWebhook, record: Record, location: str
) -> None:
    world.zone["inside.example"] = [("A", "127.0.0.2")]
    with HttpReceiver(host="0.0.0.0") as everywhere:
        receiver.answer(307, headers={"Location": location.format(port=everywhere.port)})
        make_webhook(receiver.url())
        record()
        with running():
            wait_until(lambda: tried(1))
        assert everywhere.connections == 0
    attempt = WebhookAttempt.objects.get()
    assert attempt.error and attempt.status_code is None


@pytest.mark.parametrize("status", [301, 302, 303, 304])
def test_other_redirects_are_failed_tries(
    receiver: HttpReceiver, other: HttpReceiver, make_webhook: MakeWebhook, record: Record, status: int
) -> None:
    receiver.answer(status, headers={"Location": other.url()})
    make_webhook(receiver.url())
    record()
    with running():
        wait_until(lambda: tried(1))
    assert other.requests == []
    assert WebhookAttempt.objects.get().status_code == status


def test_redirects_end(receiver: HttpReceiver, make_webhook: MakeWebhook, record: Record) -> None:
    receiver.answer(307, headers={"Location": "/again"})
    make_webhook(receiver.url())
    record()
    with running():
        wait_until(lambda: tried(1))
    assert len(receiver.requests) == 4
    assert "More than 3 redirects" in errors()[0]


def test_a_name_is_looked_up_once_and_the_address_that_was_checked_is_connected_to(
    world: FakeDns, settings: object, make_webhook: MakeWebhook, record: Record
) -> None:
    world.zone["rebind.internal"] = Rebinding("127.0.0.1", "127.0.0.2")  # type: ignore[assignment]
    with HttpReceiver(host="0.0.0.0") as everywhere:
        make_webhook(f"http://rebind.internal:{everywhere.port}/")
        record()
        with running():
            wait_until(lambda: statuses() == ["delivered"])
        assert [request.to_address for request in everywhere.requests] == ["127.0.0.1"]
        assert [query[1] for query in world.queries].count("A") == 1
        record()
        with running():  # a new resolver asks again, and is told the other address
            wait_until(lambda: "no public address" in str(errors()) or "lists" in str(errors()))
        assert len(everywhere.requests) == 1
