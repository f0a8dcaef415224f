"""The vendor's own client, unmodified, against a running installation: `inkbox` 0.2.13, of its document's time.

It parses strictly: a key that is missing in an answer, or of another type, is an exception.
"""

import json
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
import trustme
from inkbox import Inkbox
from inkbox.exceptions import InkboxAPIError
from inkbox.mail.types import FilterMode, Mailbox
from inkbox.signing_keys import verify_webhook

from tests.e2e.agent import Agent
from tests.e2e.installation import PROJECT, Installation
from tests.fakes.http import HttpReceiver


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def receiver(authority: trustme.CA) -> Iterator[HttpReceiver]:
    """Somebody's server, which waits for webhooks at https://localhost."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    with HttpReceiver(tls=context) as server:
        yield server


@pytest.fixture(scope="module")
def agent(authority: trustme.CA, receiver: HttpReceiver, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    """An installation that may call webhooks on this machine, and whose generator knows one name, so that the second
    inbox without a name of its own is 503. It ends before the receiver, to which it holds connections."""
    trusted = tmp_path_factory.mktemp("trusted") / "ca.pem"
    authority.cert_pem.write_to_path(str(trusted))
    installation = Installation(
        MAILHOST_GENERATED_NAMES="1", MAILHOST_PRIVATE_TARGETS="127.0.0.0/8", SSL_CERT_FILE=str(trusted)
    )
    try:
        installation.start()
        installation.wait_until_ready()
        yield Agent(installation)
    finally:
        installation.remove()


def connect(agent: Agent, api_key: str | None = None) -> Inkbox:
    facts = agent.installation.first_run()
    return Inkbox(api_key=api_key or facts["api_key"], base_url=f"{facts['api_url']}/dialects/inkbox")


@pytest.fixture(scope="module")
def inkbox(agent: Agent) -> Iterator[Inkbox]:
    with connect(agent) as client:
        yield client


@pytest.fixture
def name() -> str:
    """A handle and local part that nobody has."""
    return f"agent-{uuid4().hex[:12]}"


def make_key(agent: Agent, *arguments: str) -> str:
    """A key by the command line."""
    answer = subprocess.run(
        [sys.executable, "manage.py", "create_api_key", *arguments, "--json"],
        cwd=PROJECT,
        env=agent.installation.environ,
        capture_output=True,
        check=True,
        timeout=60,
    )
    return str(json.loads(answer.stdout)["api_key"])


def refused(status: int, call: Any, *arguments: Any, **more: Any) -> Any:
    """The detail of the error that the call raises, which has this status."""
    with pytest.raises(InkboxAPIError) as caught:
        call(*arguments, **more)
    assert caught.value.status_code == status, caught.value
    return caught.value.detail


def test_a_mailbox_is_created_listed_got_updated_and_deleted(inkbox: Inkbox, name: str) -> None:
    identity = inkbox.create_identity(name)
    assert identity.mailbox is None
    created = inkbox.mailboxes.create(agent_handle=f"@{name}", display_name="Sales Team", email_local_part=name)
    assert isinstance(created, Mailbox) and isinstance(created.id, UUID)
    assert created.email_address == f"{name}@agents.localhost"
    assert (created.display_name, created.webhook_url) == ("Sales Team", None)
    assert created.filter_mode == FilterMode.BLACKLIST
    assert created.agent_identity_id == identity.id
    assert isinstance(created.created_at, datetime) and created.created_at.tzinfo is not None

    assert inkbox.mailboxes.list()[0] == created
    assert inkbox.mailboxes.get(created.email_address) == created
    assert inkbox.mailboxes.get(name) == created

    updated = inkbox.mailboxes.update(created.email_address, display_name="Support")
    assert (updated.id, updated.display_name, updated.webhook_url) == (created.id, "Support", None)
    hooked = inkbox.mailboxes.update(name, webhook_url="https://example.com/webhook")
    assert (hooked.display_name, hooked.webhook_url) == ("Support", "https://example.com/webhook")
    assert inkbox.mailboxes.update(name, filter_mode=FilterMode.BLACKLIST).webhook_url == hooked.webhook_url
    assert inkbox.mailboxes.update(name, webhook_url=None).webhook_url is None

    inkbox.mailboxes.delete(created.email_address)
    assert created.id not in [mailbox.id for mailbox in inkbox.mailboxes.list()]
    for call in (inkbox.mailboxes.get, inkbox.mailboxes.update, inkbox.mailboxes.delete):
        assert refused(404, call, created.email_address) == "Mailbox not found"


def test_an_identity_is_created_with_its_mailbox_and_can_be_changed(inkbox: Inkbox, name: str) -> None:
    identity = inkbox.create_identity(f"@{name}", display_name="Sales", email_local_part=name)
    assert identity.agent_handle == name
    assert identity.email_address == f"{name}@agents.localhost"
    assert identity.mailbox is not None
    assert (identity.mailbox.display_name, identity.mailbox.agent_identity_id) == ("Sales", identity.id)
    assert identity.phone_number is None
    assert inkbox.list_identities()[0].id == identity.id
    assert inkbox.get_identity(name).mailbox == identity.mailbox

    renamed = inkbox._ids_resource.update(name, new_handle=f"{name}-2")
    assert (renamed.id, renamed.agent_handle) == (identity.id, f"{name}-2")
    refused(404, inkbox.get_identity, name)
    inkbox._ids_resource.delete(f"{name}-2")
    refused(404, inkbox.get_identity, f"{name}-2")
    assert inkbox.mailboxes.get(name).agent_identity_id is None


def test_the_objects_own_methods_create_unlink_and_assign(inkbox: Inkbox, name: str) -> None:
    identity = inkbox.create_identity(name)
    mailbox = identity.create_mailbox(email_local_part=name)
    assert mailbox.display_name == "Inkbox user"
    identity.unlink_mailbox()
    assert inkbox.get_identity(name).mailbox is None
    assert identity.assign_mailbox(str(mailbox.id)).id == mailbox.id


def test_a_mailbox_made_by_the_native_api_is_the_same_mailbox(inkbox: Inkbox, agent: Agent, name: str) -> None:
    agent.make_inbox(username=name)
    mailbox = inkbox.mailboxes.get(name)
    assert (mailbox.display_name, mailbox.agent_identity_id) == (None, None)
    inkbox.mailboxes.update(name, display_name="Named")
    status, shown = agent.call("GET", f"/inboxes/{name}@agents.localhost")
    assert (status, shown["display_name"]) == (200, "Named")


def test_who_asks_is_told(inkbox: Inkbox) -> None:
    caller = inkbox.whoami()
    assert (caller.auth_type, caller.auth_subtype) == ("api_key", "api_key.admin_scoped")
    assert caller.organization_id is not None


def test_a_webhook_tells_of_mail_and_the_client_verifies_it(
    inkbox: Inkbox, agent: Agent, receiver: HttpReceiver, name: str
) -> None:
    key = inkbox.create_signing_key()
    mailbox = inkbox.create_identity(name, email_local_part=name).mailbox
    assert mailbox is not None
    inkbox.mailboxes.update(name, webhook_url=receiver.url(host="localhost"))
    sender = agent.make_inbox(username=f"{name}-2")
    agent.send(sender, [mailbox.email_address], subject="Question", text="Can you help?")
    (request,) = receiver.wait_for(1, timeout=20)
    assert (request.method, request.path) == ("POST", "/hook")
    assert verify_webhook(payload=request.body, headers=request.headers, secret=key.signing_key)
    assert not verify_webhook(payload=request.body + b" ", headers=request.headers, secret=key.signing_key)
    assert request.json["event_type"] == "message.received"
    message = request.json["data"]["message"]
    assert (message["mailbox_id"], message["subject"]) == (str(mailbox.id), "Question")
    assert message["snippet"] == "Can you help?"
    inkbox.mailboxes.update(name, webhook_url=None)
    agent.send(sender, [mailbox.email_address], subject="Unheard", text="Still there?")
    wait_for_mail(agent, mailbox.email_address, 2)
    assert len(receiver.requests) == 1


def wait_for_mail(agent: Agent, address: str, count: int) -> None:
    """Wait until that many messages are in the inbox."""
    deadline = time.monotonic() + 15
    while True:
        status, messages = agent.call("GET", f"/inboxes/{address}/messages")
        assert status == 200
        if len(messages["data"]) >= count:
            return
        assert time.monotonic() < deadline, messages
        time.sleep(0.1)


class TestErrors:
    def test_a_key_that_is_wrong_is_401(self, agent: Agent) -> None:
        with connect(agent, "ApiKey_wrong") as client:
            refused(401, client.mailboxes.list)

    def test_a_platform_key_is_403_in_the_vendors_words(self, agent: Agent) -> None:
        with connect(agent, make_key(agent, "--platform")) as client:
            detail = refused(403, client.mailboxes.create, agent_handle="sales-agent")
            assert detail == "Organization ID missing from token"
            assert client.whoami().organization_id is None

    def test_an_unknown_identity_is_404(self, inkbox: Inkbox) -> None:
        assert "nobody" in refused(404, inkbox.mailboxes.create, agent_handle="nobody")

    def test_what_is_taken_is_409(self, inkbox: Inkbox, name: str) -> None:
        inkbox.create_identity(name, email_local_part=name)
        assert "already" in refused(409, inkbox.mailboxes.create, agent_handle=name)
        assert "handle" in refused(409, inkbox.create_identity, name)
        other = inkbox.create_identity(f"{name}-2")
        detail = refused(409, inkbox.mailboxes.create, agent_handle=other.agent_handle, email_local_part=name)
        assert "is taken" in detail

    def test_values_that_are_not_allowed_are_422(self, inkbox: Inkbox, name: str) -> None:
        inkbox.create_identity(name, email_local_part=name)
        for changes in ({"display_name": "x" * 256}, {"webhook_url": "http://example.com/"}):
            detail = refused(422, inkbox.mailboxes.update, name, **changes)
            assert [row["loc"] for row in detail] == [["body", *changes]]

    def test_no_free_name_is_503(self, inkbox: Inkbox, name: str) -> None:
        assert inkbox.create_identity(name, create_mailbox=True).email_address == "amber-acorn-0000@agents.localhost"
        inkbox.create_identity(f"{name}-2")
        refused(503, inkbox.mailboxes.create, agent_handle=f"{name}-2")
        inkbox.mailboxes.create(agent_handle=f"{name}-2", email_local_part=f"{name}-2")

    def test_what_is_not_supported_yet_is_501(self, inkbox: Inkbox, name: str) -> None:
        inkbox.create_identity(name, email_local_part=name)
        assert refused(501, inkbox.mailboxes.search, name, q="invoice")["error"] == "not_supported"
        assert refused(501, inkbox.mailboxes.update, name, filter_mode="whitelist")["error"] == "not_supported"
