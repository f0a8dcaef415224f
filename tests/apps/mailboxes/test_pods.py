"""Pods: groups of mailboxes, and what deleting one means for what it held."""

from datetime import datetime

import pytest

from apps.accounts.errors import ScopeDenied
from apps.accounts.models import ApiKey, Organization
from apps.accounts.services import create_api_key
from apps.core.errors import Conflict, NotFound, ValidationFailed
from apps.core.ids import new_id
from apps.mailboxes.models import Pod
from apps.mailboxes.pods import create_pod, delete_pod, get_pod, list_pods
from apps.mailboxes.services import close_mailbox, ensure_default_pod
from tests.apps.conftest import MakeMailbox

pytestmark = pytest.mark.django_db


@pytest.fixture
def pod(organization: Organization, now: datetime) -> Pod:
    return create_pod(organization=organization, name="Customer A", now=now)[0]


class TestCreate:
    def test_one_client_id_gives_one_pod_in_each_organization(
        self, organization: Organization, stranger: Organization, now: datetime
    ) -> None:
        first, created = create_pod(organization=organization, name="A", client_id="a", now=now)
        again, created_again = create_pod(organization=organization, name="B", client_id="a", now=now)
        theirs, _ = create_pod(organization=stranger, name="A", client_id="a", now=now)

        assert (created, created_again) == (True, False)
        assert (again, again.name) == (first, "A")
        assert theirs != first

    def test_names_are_not_unique(self, organization: Organization, pod: Pod, now: datetime) -> None:
        assert create_pod(organization=organization, name=pod.name, now=now)[0] != pod

    @pytest.mark.parametrize(
        "fields", [{"name": "x" * 201}, {"name": "a\nb"}, {"name": "a\0"}, {"name": "a", "client_id": "x" * 257}]
    )
    def test_what_cannot_be_stored_is_refused(
        self, organization: Organization, fields: dict[str, str], now: datetime
    ) -> None:
        with pytest.raises(ValidationFailed):
            create_pod(organization=organization, now=now, **fields)


class TestWhoSeesWhat:
    def test_the_default_pod_is_there_from_the_start(self, organization: Organization, key: ApiKey) -> None:
        assert [pod.is_default for pod in list_pods(organization=organization, key=key)] == [True]

    def test_a_stranger_sees_none(self, pod: Pod, stranger: Organization) -> None:
        for pod_id in (pod.id, new_id()):
            with pytest.raises(NotFound):
                get_pod(organization=stranger, pod_id=pod_id)

    def test_a_key_narrowed_to_inboxes_sees_their_pods_only(
        self, organization: Organization, pod: Pod, make_mailbox: MakeMailbox, now: datetime
    ) -> None:
        make_mailbox("other")
        mailbox = make_mailbox("inside", pod_id=pod.id)
        narrow, _ = create_api_key(
            organization=organization, name="one", scopes=["inboxes:read"], inbox_ids=[mailbox.id], now=now
        )

        assert list(list_pods(organization=organization, key=narrow)) == [pod]
        with pytest.raises(ScopeDenied):
            create_pod(organization=organization, name="B", key=narrow, now=now)
        with pytest.raises(ScopeDenied):
            delete_pod(pod=pod, key=narrow)


class TestDelete:
    def test_the_default_pod_stays(self, organization: Organization) -> None:
        with pytest.raises(Conflict):
            delete_pod(pod=ensure_default_pod(organization=organization))

    def test_a_pod_that_holds_mailboxes_stays(self, pod: Pod, make_mailbox: MakeMailbox) -> None:
        make_mailbox(pod_id=pod.id)
        with pytest.raises(Conflict):
            delete_pod(pod=pod)

        assert Pod.objects.filter(id=pod.id).exists()

    @pytest.mark.parametrize("release_address", [True, False])
    def test_once_its_mailboxes_are_deleted_it_can_go(
        self, pod: Pod, make_mailbox: MakeMailbox, organization: Organization, release_address: bool, now: datetime
    ) -> None:
        mailbox = make_mailbox(pod_id=pod.id)
        close_mailbox(mailbox=mailbox, release_address=release_address, now=now)

        delete_pod(pod=pod)

        assert not Pod.objects.filter(id=pod.id).exists()
        mailbox.refresh_from_db()
        assert mailbox.pod == ensure_default_pod(organization=organization)

    def test_twice_is_not_found(self, pod: Pod) -> None:
        same = Pod.objects.get(id=pod.id)
        delete_pod(pod=pod)
        with pytest.raises(NotFound):
            delete_pod(pod=same)
