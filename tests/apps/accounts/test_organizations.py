"""Organizations: made, suspended, reinstated."""

from datetime import datetime, timedelta

import pytest

from apps.accounts.models import Organization
from apps.accounts.services import create_organization, reinstate_organization, suspend_organization
from apps.core.errors import ValidationFailed

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("name", ["Acme", "  Acme  ", "x" * 200, "Ünïcode 🐟 & Söhne"])
def test_a_name_is_kept_without_the_space_around_it(name: str, now: datetime) -> None:
    organization = create_organization(name=name, now=now)

    organization.refresh_from_db()
    assert organization.name == name.strip()


@pytest.mark.parametrize("name", ["", "   ", "x" * 201, "a\0b", "a\ud800b", "a\nb"])
def test_a_name_that_cannot_be_stored_is_refused(name: str, now: datetime) -> None:
    with pytest.raises(ValidationFailed):
        create_organization(name=name, now=now)

    assert not Organization.objects.exists()


def test_two_organizations_may_have_one_name(now: datetime) -> None:
    assert create_organization(name="Acme", now=now).id != create_organization(name="Acme", now=now).id


def test_suspending_twice_keeps_the_first_time_and_the_last_reason(organization: Organization, now: datetime) -> None:
    suspend_organization(organization=organization, reason="spam", now=now)
    suspend_organization(organization=organization, reason="much spam", now=now + timedelta(days=1))

    organization.refresh_from_db()
    assert (organization.is_suspended, organization.suspended_at) == (True, now)
    assert organization.suspended_reason == "much spam"


def test_reinstating_ends_it(organization: Organization, now: datetime) -> None:
    suspend_organization(organization=organization, reason="spam", now=now)
    reinstate_organization(organization=organization)

    organization.refresh_from_db()
    assert not organization.is_suspended
    assert organization.suspended_reason == ""


@pytest.mark.parametrize("reason", ["x" * 501, "\0"])
def test_a_reason_that_cannot_be_stored_is_refused(organization: Organization, reason: str, now: datetime) -> None:
    with pytest.raises(ValidationFailed):
        suspend_organization(organization=organization, reason=reason, now=now)

    organization.refresh_from_db()
    assert not organization.is_suspended
