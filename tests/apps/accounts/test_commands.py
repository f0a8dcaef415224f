"""Commands for scripts: what they print, and what they refuse."""

import json
from datetime import datetime
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from apps.accounts.models import SCOPES, Organization
from apps.accounts.services import authenticate_key, create_organization
from apps.core.ids import decode_id, encode_id

pytestmark = pytest.mark.django_db


def run(*arguments: str) -> dict[str, object]:
    output = StringIO()
    call_command(*arguments, "--json", stdout=output)
    answer = json.loads(output.getvalue())
    assert isinstance(answer, dict)
    return answer


def test_a_new_organization_comes_with_a_key_of_every_scope(now: datetime) -> None:
    answer = run("create_organization", "Acme")
    assert answer.keys() == {"id", "api_key"}
    key = authenticate_key(secret=str(answer["api_key"]), now=now)
    assert key.organization_id == decode_id("org", str(answer["id"]))
    assert key.scopes == list(SCOPES)


def test_an_organization_without_a_name_is_refused_and_nothing_is_written() -> None:
    with pytest.raises(CommandError, match="name"):
        call_command("create_organization", "  ")
    assert not Organization.objects.exists()


@pytest.mark.parametrize("named_by", ["name", "typeid", "uuid"])
def test_an_organization_is_named_by_its_name_or_id(named_by: str, organization: Organization, now: datetime) -> None:
    name = {"name": "Acme", "typeid": encode_id("org", organization.id), "uuid": str(organization.id)}[named_by]
    answer = run("create_api_key", "--organization", name, "--scopes", "messages:read", "messages:send")
    key = authenticate_key(secret=str(answer["api_key"]), now=now)
    assert (key.organization_id, key.scopes) == (organization.id, ["messages:read", "messages:send"])


def test_scopes_may_be_separated_by_commas(organization: Organization) -> None:
    answer = run("create_api_key", "--organization", "Acme", "--scopes", "events:read,inboxes:read")
    assert answer["scopes"] == ["inboxes:read", "events:read"]


def test_a_platform_key_belongs_to_no_organization(now: datetime) -> None:
    answer = run("create_api_key", "--platform")
    assert answer["organization_id"] is None
    assert authenticate_key(secret=str(answer["api_key"]), now=now).organization_id is None


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--organization", "Nobody", "--scopes", "admin"], "no organization"),
        (["--organization", "Acme", "--scopes", "everything"], "Unknown scope"),
        (["--organization", "Acme"], "--scopes"),
        (["--organization", "Acme", "--platform"], "not allowed with"),
        ([], "required"),
    ],
)
def test_a_key_that_cannot_be_made_says_why(arguments: list[str], says: str, organization: Organization) -> None:
    with pytest.raises(CommandError, match=says):
        call_command("create_api_key", *arguments)


def test_a_name_that_two_organizations_have_is_not_guessed(organization: Organization, now: datetime) -> None:
    twin = create_organization(name="Acme", now=now)
    with pytest.raises(CommandError, match=encode_id("org", twin.id)):
        call_command("create_api_key", "--organization", "Acme", "--scopes", "admin")
