"""AgentMail's own client, unmodified, against a real server: Agentry's mount and AgentMail's."""

import asyncio
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import httpx
import pytest
from agentmail import AgentMail, AsyncAgentMail
from agentmail.core.api_error import ApiError
from agentmail.environment import AgentMailEnvironment
from agentmail.errors import ConflictError, NotFoundError, ValidationError
from agentmail.inboxes.types import CreateInboxRequest, Inbox
from pytest_django.live_server_helper import LiveServer

from apps.accounts.models import Organization
from apps.domains.models import Domain
from apps.domains.services import create_domain
from apps.mailboxes.models import Mailbox
from tests.api.conftest import MakeApi

pytestmark = pytest.mark.django_db(transaction=True)
ONCE: Any = {"max_retries": 0}
MOUNTS = {"agentry": "/dialects/agentry/agent", "agentmail": "/dialects/agentmail"}

Connect = Callable[[str, str], AgentMail]


def environment(server: LiveServer, mount: str) -> AgentMailEnvironment:
    base = server.url + MOUNTS[mount]
    return AgentMailEnvironment(http=base, websockets=base.replace("http", "ws", 1))


@pytest.fixture
def secret(organization: Organization, shared_domain: Domain, make_api: MakeApi) -> str:
    return str(make_api(organization).secret)


@pytest.fixture
def stranger_secret(stranger: Organization, shared_domain: Domain, make_api: MakeApi) -> str:
    return str(make_api(stranger).secret)


@pytest.fixture
def connect(live_server: LiveServer) -> Iterator[Connect]:
    """Makes clients of a mount; their connections, which the SDK leaves to the garbage collector, are closed."""
    with httpx.Client(timeout=20) as connections:

        def make(secret: str, mount: str) -> AgentMail:
            return AgentMail(api_key=secret, environment=environment(live_server, mount), httpx_client=connections)

        yield make


@pytest.fixture(params=MOUNTS)
def sdk(request: pytest.FixtureRequest, connect: Connect, secret: str) -> AgentMail:
    return connect(secret, request.param)


@pytest.fixture
def sdk_of_agentmail(connect: Connect, secret: str) -> AgentMail:
    return connect(secret, "agentmail")


@pytest.fixture
def sdk_of_stranger(connect: Connect, stranger_secret: str) -> AgentMail:
    return connect(stranger_secret, "agentmail")


def walk(ask: Any, **options: Any) -> Iterator[Inbox]:
    """Every inbox, page by page, as the SDK's users do."""
    token = None
    while True:
        page = ask(page_token=token, request_options=ONCE, **options)
        assert page.count == len(page.inboxes) <= page.limit
        yield from page.inboxes
        token = page.next_page_token
        if token is None:
            return


def test_an_inbox_from_creation_to_deletion(sdk: AgentMail) -> None:
    wanted = CreateInboxRequest(
        username="support", domain="agents.localhost", display_name="Support Bot", client_id="agent-7"
    )
    made = sdk.inboxes.create(request=wanted, request_options=ONCE)
    assert (made.inbox_id, made.email) == ("support@agents.localhost", "support@agents.localhost")
    assert (made.display_name, made.client_id) == ("Support Bot", "agent-7")
    assert made.pod_id
    assert isinstance(made.created_at, datetime)
    assert made.created_at.tzinfo is not None
    assert sdk.inboxes.create(request=wanted, request_options=ONCE) == made
    assert sdk.inboxes.get("support@agents.localhost", request_options=ONCE) == made

    changed = sdk.inboxes.update("support@agents.localhost", display_name="Help", request_options=ONCE)
    assert (changed.display_name, changed.client_id) == ("Help", "agent-7")
    assert changed.updated_at > made.updated_at
    assert sdk.inboxes.list(request_options=ONCE).inboxes == [changed]

    assert sdk.inboxes.delete("support@agents.localhost", request_options=ONCE) is None
    assert sdk.inboxes.list(request_options=ONCE).inboxes == []
    assert sdk.inboxes.create(request=wanted, request_options=ONCE).created_at > made.created_at


def test_a_creation_needs_nothing(sdk: AgentMail) -> None:
    inbox = sdk.inboxes.create(request_options=ONCE)
    assert inbox.inbox_id.endswith("@agents.localhost")
    assert (inbox.display_name, inbox.client_id, inbox.status, inbox.metadata) == (None, None, None, None)


def test_lists_are_walked_page_by_page(sdk: AgentMail) -> None:
    made = [sdk.inboxes.create(request_options=ONCE).inbox_id for _ in range(5)]
    assert [inbox.inbox_id for inbox in walk(sdk.inboxes.list, limit=2)] == made[::-1]
    assert [inbox.inbox_id for inbox in walk(sdk.inboxes.list, limit=2, ascending=True)] == made
    assert [inbox.inbox_id for inbox in walk(sdk.inboxes.list, limit=5, ascending=False)] == made[::-1]


@pytest.mark.parametrize("name", ["a/b", "ünï", "o'neill", "a%40b", "who?me", "a#b"])
def test_odd_names_survive_the_path(sdk: AgentMail, name: str) -> None:
    inbox_id = sdk.inboxes.create(request=CreateInboxRequest(username=name), request_options=ONCE).inbox_id
    path = (
        inbox_id.replace("%", "%25").replace("?", "%3F").replace("#", "%23")
    )  # the SDK leaves these three as they are
    assert sdk.inboxes.get(path, request_options=ONCE).inbox_id == inbox_id
    assert sdk.inboxes.get(path.replace("@", "%40"), request_options=ONCE).inbox_id == inbox_id
    sdk.inboxes.delete(path, request_options=ONCE)


class TestErrors:
    def test_what_is_not_there(self, sdk: AgentMail) -> None:
        for call in (
            lambda: sdk.inboxes.get("no-one@agents.localhost", request_options=ONCE),
            lambda: sdk.inboxes.update("no-one@agents.localhost", display_name="x", request_options=ONCE),
            lambda: sdk.inboxes.delete("no-one@agents.localhost", request_options=ONCE),
        ):
            with pytest.raises(NotFoundError) as caught:
                call()
            assert (caught.value.status_code, caught.value.body.name) == (404, "NotFoundError")
            assert caught.value.body.message

    def test_a_strangers_inbox_is_not_there(self, sdk: AgentMail, sdk_of_stranger: AgentMail) -> None:
        inbox_id = sdk.inboxes.create(request_options=ONCE).inbox_id
        with pytest.raises(NotFoundError):
            sdk_of_stranger.inboxes.get(inbox_id, request_options=ONCE)
        assert sdk_of_stranger.inboxes.list(request_options=ONCE).count == 0

    def test_values_that_are_not_allowed(self, sdk: AgentMail) -> None:
        for wanted in (
            CreateInboxRequest(username="a b"),
            CreateInboxRequest(domain="nowhere.example"),
            CreateInboxRequest(display_name="a\nb"),
            CreateInboxRequest(client_id=""),
        ):
            with pytest.raises(ValidationError) as caught:
                sdk.inboxes.create(request=wanted, request_options=ONCE)
            assert caught.value.body.name == "ValidationError"
            assert caught.value.body.errors
        inbox_id = sdk.inboxes.create(request_options=ONCE).inbox_id
        with pytest.raises(ValidationError):
            sdk.inboxes.update(inbox_id, request_options=ONCE)

    def test_a_domain_that_is_not_verified(self, sdk: AgentMail, organization: Organization, now: datetime) -> None:
        create_domain(organization=organization, name="waiting.example", now=now)
        with pytest.raises(ApiError) as caught:
            sdk.inboxes.create(request=CreateInboxRequest(domain="waiting.example"), request_options=ONCE)
        assert caught.value.status_code in (400, 403)
        assert not Mailbox.objects.exists()

    def test_a_page_token_of_nobodys(self, sdk: AgentMail) -> None:
        with pytest.raises(ApiError) as caught:
            sdk.inboxes.list(page_token="rubbish", request_options=ONCE)
        assert caught.value.status_code == 400

    @pytest.mark.parametrize("mount", MOUNTS)
    def test_a_key_of_nobodys(self, connect: Connect, mount: str) -> None:
        sdk = connect("mh_wrong", mount)
        with pytest.raises(ApiError) as caught:
            sdk.inboxes.list(request_options=ONCE)
        assert (caught.value.status_code, caught.value.body["name"]) == (401, "UnauthorizedError")

    def test_what_is_not_supported_yet(self, sdk: AgentMail) -> None:
        with pytest.raises(ApiError) as caught:
            sdk.threads.list(request_options=ONCE)
        assert (caught.value.status_code, caught.value.body["name"]) == (501, "NotSupportedError")


class TestAgentMailsOwn:
    def test_status_and_metadata(self, sdk_of_agentmail: AgentMail) -> None:
        inboxes = sdk_of_agentmail.inboxes
        wanted = CreateInboxRequest(status="paused", metadata={"team": "sales", "n": 1.5, "vip": True})
        made = inboxes.create(request=wanted, request_options=ONCE)
        assert (made.status, made.metadata) == ("paused", {"team": "sales", "n": 1.5, "vip": True})
        changed = inboxes.update(made.inbox_id, status="active", metadata={"n": None}, request_options=ONCE)
        assert (changed.status, changed.metadata) == (None, {"team": "sales", "vip": True})
        assert inboxes.update(made.inbox_id, metadata=None, request_options=ONCE).metadata is None

    def test_a_taken_name_has_a_code_to_branch_on(self, sdk_of_agentmail: AgentMail) -> None:
        wanted = CreateInboxRequest(username="support")
        sdk_of_agentmail.inboxes.create(request=wanted, request_options=ONCE)
        with pytest.raises(ApiError) as caught:
            sdk_of_agentmail.inboxes.create(request=wanted, request_options=ONCE)
        assert (caught.value.status_code, caught.value.body["code"]) == (403, "resource_taken")

    def test_validation_errors_carry_path_and_message(self, sdk_of_agentmail: AgentMail) -> None:
        with pytest.raises(ValidationError) as caught:
            sdk_of_agentmail.inboxes.create(request=CreateInboxRequest(username="a b"), request_options=ONCE)
        assert [problem["path"] for problem in caught.value.body.errors] == ["username"]
        assert caught.value.body.code == "validation_error"

    def test_a_suspended_inbox_cannot_be_set_to_active(self, sdk_of_agentmail: AgentMail) -> None:
        inbox_id = sdk_of_agentmail.inboxes.create(request_options=ONCE).inbox_id
        Mailbox.objects.update(status=Mailbox.Status.SUSPENDED)
        with pytest.raises(ConflictError):
            sdk_of_agentmail.inboxes.update(inbox_id, status="active", request_options=ONCE)


def test_pods_and_their_inboxes(sdk: AgentMail) -> None:
    pod = sdk.pods.create(name="Customer A", client_id="a", request_options=ONCE)
    assert sdk.pods.create(name="Customer A", client_id="a", request_options=ONCE) == pod
    assert sdk.pods.get(pod.pod_id, request_options=ONCE) == pod
    assert [found.name for found in sdk.pods.list(request_options=ONCE).pods] == ["Default", "Customer A"][::-1]

    made = [sdk.pods.inboxes.create(pod.pod_id, username=name, request_options=ONCE) for name in "abc"]
    assert {inbox.pod_id for inbox in made} == {pod.pod_id}
    outside = sdk.inboxes.create(request_options=ONCE)
    walked = walk(lambda **options: sdk.pods.inboxes.list(pod.pod_id, **options), limit=2)
    assert list(walked) == made[::-1]
    changed = sdk.pods.inboxes.update(pod.pod_id, made[0].inbox_id, display_name="A", request_options=ONCE)
    assert sdk.pods.inboxes.get(pod.pod_id, made[0].inbox_id, request_options=ONCE) == changed
    with pytest.raises(NotFoundError):
        sdk.pods.inboxes.get(pod.pod_id, outside.inbox_id, request_options=ONCE)

    with pytest.raises(ApiError) as caught:
        sdk.pods.delete(pod.pod_id, request_options=ONCE)
    assert caught.value.status_code == 409
    for inbox in made:
        sdk.pods.inboxes.delete(pod.pod_id, inbox.inbox_id, request_options=ONCE)
    sdk.pods.delete(pod.pod_id, request_options=ONCE)
    with pytest.raises(NotFoundError):
        sdk.pods.get(pod.pod_id, request_options=ONCE)


async def _use_async(server: LiveServer, secret: str) -> None:
    async with httpx.AsyncClient(timeout=20) as connections:
        sdk = AsyncAgentMail(api_key=secret, environment=environment(server, "agentry"), httpx_client=connections)
        inbox = await sdk.inboxes.create(request_options=ONCE)
        assert (await sdk.inboxes.list(request_options=ONCE)).inboxes == [inbox]
        await sdk.inboxes.delete(inbox.inbox_id, request_options=ONCE)


def test_the_async_client(live_server: LiveServer, secret: str) -> None:
    asyncio.run(_use_async(live_server, secret))
