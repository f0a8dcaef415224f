"""A row read by its compiled query is the row that Django's own query gives."""

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.accounts.models import ApiKey, Organization
from apps.accounts.services import create_api_key
from apps.core.rows import JoinedRow
from apps.domains.models import Domain
from apps.mailboxes.models import Mailbox, MailboxUsage
from tests.apps.conftest import MakeMailbox

pytestmark = pytest.mark.django_db

MAILBOX_BY_ID = JoinedRow(
    Mailbox, '"row".id = %s', {"organization": Organization, "domain": Domain, "usage": MailboxUsage}
)
KEY_BY_ID = JoinedRow(ApiKey, '"row".id = %s', {"organization": Organization})


def values(row: Any) -> dict[str, Any]:
    return {name: value for name, value in vars(row).items() if name != "_state"}


def test_it_reads_what_select_related_reads(make_mailbox: MakeMailbox) -> None:
    made = make_mailbox("alice", metadata={"a": [1, {"b": None}]})
    got = MAILBOX_BY_ID.load([made.id])
    want = Mailbox.objects.select_related("organization", "domain", "usage").get(id=made.id)
    assert got is not None
    assert values(got) == values(want)
    with CaptureQueriesContext(connection) as queries:
        for name in ("organization", "domain", "usage"):
            assert values(getattr(got, name)) == values(getattr(want, name))
        assert got.usage.mailbox is got
    assert not queries.captured_queries


def test_arrays_and_octets_are_converted(organization: Organization, make_mailbox: MakeMailbox, now: Any) -> None:
    inbox = make_mailbox("alice")
    key, _ = create_api_key(organization=organization, name="x", scopes=["admin"], inbox_ids=[inbox.id], now=now)
    got = KEY_BY_ID.load([key.id])
    assert got is not None
    assert values(got) == values(ApiKey.objects.get(id=key.id))


def test_a_relation_that_is_not_there_is_none_and_a_row_too(db: None, now: Any, shared_domain: Domain) -> None:
    platform, _ = create_api_key(organization=None, name="x", scopes=["admin"], now=now)
    got = KEY_BY_ID.load([platform.id])
    assert got is not None
    assert got.organization is None
    assert KEY_BY_ID.load([shared_domain.id]) is None


def test_it_can_be_changed_and_saved(make_mailbox: MakeMailbox) -> None:
    got = MAILBOX_BY_ID.load([make_mailbox("alice").id])
    assert got is not None
    got.display_name = "Changed"
    got.save()
    assert Mailbox.objects.get(id=got.id).display_name == "Changed"
