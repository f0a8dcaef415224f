"""People and places of the tests: an organization, a stranger's, a shared domain, mailboxes."""

from collections.abc import Callable
from datetime import datetime

import pytest
from django.utils import timezone

from apps.accounts.models import SCOPES, ApiKey, Organization
from apps.accounts.services import create_api_key, create_organization
from apps.domains.models import Domain
from apps.domains.services import ensure_shared_domain
from apps.mailboxes.models import Mailbox
from apps.mailboxes.services import NewMailbox, create_mailbox

MakeMailbox = Callable[..., Mailbox]


@pytest.fixture
def now() -> datetime:
    return timezone.now()


@pytest.fixture
def organization(db: None, now: datetime) -> Organization:
    return create_organization(name="Acme", now=now)


@pytest.fixture
def stranger(db: None, now: datetime) -> Organization:
    """An organization that must never see Acme's things."""
    return create_organization(name="Stranger", now=now)


@pytest.fixture
def shared_domain(db: None, now: datetime, settings: object) -> Domain:
    return ensure_shared_domain(name="agents.localhost", now=now)


@pytest.fixture
def key(organization: Organization, now: datetime) -> ApiKey:
    """A key of Acme's with every scope."""
    return create_api_key(organization=organization, name="all", scopes=SCOPES, now=now)[0]


@pytest.fixture
def make_mailbox(organization: Organization, shared_domain: Domain, now: datetime) -> MakeMailbox:
    """Makes a mailbox of Acme's (or of another organization's) and loads what services want with it."""

    def make(username: str | None = None, of: Organization | None = None, **fields: object) -> Mailbox:
        wanted = NewMailbox(username=username, **fields)  # type: ignore[arg-type]
        mailbox, _ = create_mailbox(organization=of or organization, wanted=wanted, now=now)
        return Mailbox.objects.select_related("organization", "domain", "usage").get(id=mailbox.id)

    return make


@pytest.fixture
def mailbox(make_mailbox: MakeMailbox) -> Mailbox:
    return make_mailbox("alice", display_name="Alice Agent")
