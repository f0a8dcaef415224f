"""Admin pages of organizations, users and API keys."""

import re
from datetime import datetime, timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group
from django.contrib.sessions.models import Session
from django.test import Client
from django.urls import NoReverseMatch

from apps.accounts.errors import KeyRevoked
from apps.accounts.models import ApiKey, Membership, Organization, User
from apps.accounts.services import authenticate_key, create_api_key, create_organization, suspend_organization
from apps.mailboxes.models import Mailbox
from tests.apps.admin_people import (
    MAX_QUERIES,
    add_url,
    count_queries,
    list_url,
    page_url,
    press,
    rows_of,
    run_action,
    sign_in,
    sign_in_operator,
    text_of,
)

pytestmark = pytest.mark.django_db
INLINE = {"memberships-TOTAL_FORMS": "0", "memberships-INITIAL_FORMS": "0"}


@pytest.fixture
def operator() -> Client:
    return sign_in_operator()


def key_form(**fields: object) -> dict[str, object]:
    return {"name": "New", "organization": "", "scopes": ["messages:read"], "allowed_domains": "", "inboxes": "",
            "max_inboxes": "", "expires_at_0": "", "expires_at_1": "", **fields}  # fmt: skip


# --- organizations --------------------------------------------------------------------------------


def test_an_operator_makes_an_organization(operator: Client) -> None:
    response = operator.post(add_url(Organization), {"name": "  Globex  "}, follow=True)
    assert response.status_code == 200
    assert Organization.objects.get().name == "Globex"


def test_what_the_service_refuses_stands_on_the_form(operator: Client) -> None:
    response = operator.post(add_url(Organization), {"name": "   "})
    assert response.status_code == 200
    assert not Organization.objects.exists()


def test_suspending_asks_for_a_reason_and_tells_it(operator: Client, organization: Organization) -> None:
    assert "required" in text_of(press(operator, organization, "suspend", reason=""))
    organization.refresh_from_db()
    assert not organization.is_suspended

    press(operator, organization, "suspend", reason="Complaints")
    organization.refresh_from_db()
    assert (organization.is_suspended, organization.suspended_reason) == (True, "Complaints")
    assert "Complaints" in LogEntry.objects.get().get_change_message()


def test_only_an_operator_limits_what_an_organization_sends(operator: Client, organization: Organization) -> None:
    owner = sign_in("owner", organization)
    owner.post(page_url(organization), {"name": "Acme", "daily_send_limit": "9", **INLINE})
    organization.refresh_from_db()
    assert organization.daily_send_limit is None
    operator.post(page_url(organization), {"name": "Acme 2", "daily_send_limit": "7", **INLINE})
    organization.refresh_from_db()
    assert (organization.name, organization.daily_send_limit) == ("Acme 2", 7)
    operator.post(page_url(organization), {"name": "Acme 2", "daily_send_limit": "", **INLINE})
    organization.refresh_from_db()
    assert organization.daily_send_limit is None


def test_a_dialog_alone_changes_nothing(operator: Client, organization: Organization) -> None:
    assert operator.get(page_url(organization, "suspend")).status_code == 200
    organization.refresh_from_db()
    assert not organization.is_suspended


def test_a_dialog_sent_by_htmx_is_told_where_to_go(operator: Client, organization: Organization) -> None:
    data = {"_form_submitted": "on", "reason": "Spam"}
    response = operator.post(page_url(organization, "suspend"), data, headers={"HX-Request": "true"})
    assert response.headers["HX-Redirect"] == page_url(organization)


def test_buttons_need_the_token_against_forged_requests(organization: Organization) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(User.objects.create_superuser(username="operator", password="-"))
    assert press(client, organization, "suspend", reason="Forged").status_code == 403


def test_an_owner_cannot_lift_a_suspension(organization: Organization, now: datetime) -> None:
    suspend_organization(organization=organization, reason="Spam", now=now)
    owner = sign_in("owner", organization)
    press(owner, organization, "reinstate")
    organization.refresh_from_db()
    assert organization.is_suspended
    assert "Reinstate" not in text_of(owner.get(page_url(organization)))


def test_an_owner_renames_the_organization_and_a_viewer_does_not(organization: Organization) -> None:
    sign_in("owner", organization).post(page_url(organization), {"name": "Acme Inc.", **INLINE})
    organization.refresh_from_db()
    assert organization.name == "Acme Inc."
    response = sign_in("viewer", organization).post(page_url(organization), {"name": "Mine", **INLINE})
    assert response.status_code == 403


def test_an_owner_cannot_add_people(organization: Organization) -> None:
    owner = sign_in("owner", organization)
    victim = User.objects.create_user(username="victim", password="-")
    data = {"name": "Acme", "memberships-TOTAL_FORMS": "1", "memberships-INITIAL_FORMS": "0",
            "memberships-0-user": str(victim.pk), "memberships-0-role": "owner"}  # fmt: skip
    owner.post(page_url(organization), data)
    assert not Membership.objects.filter(user=victim).exists()


def test_counts_lead_to_filtered_lists(operator: Client, organization: Organization, mailbox: Mailbox) -> None:
    page = operator.get(list_url(Organization)).content.decode()
    link = re.search(rf'href="([^"]*mailbox/\?organization={organization.id})">1<', page)
    assert link is not None
    assert rows_of(operator.get(link.group(1))) == [mailbox]


def test_the_list_of_organizations_costs_the_same_for_more_rows(operator: Client, now: datetime) -> None:
    for number in range(20):
        create_organization(name=f"Organization {number}", now=now)
    with count_queries() as queries:
        assert len(rows_of(operator.get(list_url(Organization)))) == 20
    assert len(queries) <= MAX_QUERIES


# --- users ----------------------------------------------------------------------------------------


def test_only_operators_see_users(organization: Organization) -> None:
    owner = sign_in("owner", organization)
    someone = User.objects.create_superuser(username="someone", password="-")
    assert owner.get(list_url(User)).status_code == 403
    assert owner.get(page_url(someone)).status_code == 403
    assert owner.post(f"/admin/accounts/user/{someone.pk}/password/", {}).status_code == 403


def test_an_operator_adds_a_user_who_can_sign_in(operator: Client, organization: Organization) -> None:
    data = {"username": "olga", "email": "", "password1": "correct-horse-battery",
            "password2": "correct-horse-battery"}  # fmt: skip
    operator.post(add_url(User), data)
    user = User.objects.get(username="olga")
    assert user.is_staff and not user.is_superuser
    assert user.check_password("correct-horse-battery")
    assert operator.get(page_url(user)).status_code == 200


def test_a_user_is_never_deleted(operator: Client) -> None:
    user = User.objects.create_user(username="olga", password="-")
    assert operator.post(page_url(user, "delete"), {"post": "yes"}).status_code == 403


def test_groups_are_not_offered(operator: Client) -> None:
    with pytest.raises(NoReverseMatch):
        list_url(Group)


def test_the_list_of_users_costs_the_same_for_more_rows(operator: Client) -> None:
    User.objects.bulk_create(User(username=f"user{number}") for number in range(20))
    with count_queries() as queries:
        assert len(rows_of(operator.get(list_url(User)))) == 21
    assert len(queries) <= MAX_QUERIES


# --- API keys -------------------------------------------------------------------------------------


def make_key(client: Client, **fields: object) -> str:
    """The secret that the page shows."""
    response = client.post(add_url(ApiKey), key_form(**fields))
    assert response.status_code == 200
    found = re.search(r">(mh_[\w-]{40,})<", response.content.decode())
    assert found is not None, text_of(response)
    assert "no-store" in response.headers["Cache-Control"]
    return found.group(1)


def test_the_secret_is_shown_once_and_kept_nowhere(operator: Client, organization: Organization, now: datetime) -> None:
    secret = make_key(operator, organization=str(organization.id), scopes=["messages:read", "events:read"])
    key = authenticate_key(secret=secret, now=now)
    assert (key.organization_id, key.scopes) == (organization.id, ["messages:read", "events:read"])
    assert secret not in text_of(operator.get(page_url(key)))
    assert secret not in text_of(operator.get(list_url(ApiKey)))
    assert secret not in str(operator.cookies)
    assert not any(secret in str(session.get_decoded()) for session in Session.objects.all())
    assert not any(secret in f"{entry} {entry.change_message}" for entry in LogEntry.objects.all())


def test_a_key_is_narrowed_to_domains_and_mailboxes(
    operator: Client, organization: Organization, mailbox: Mailbox, now: datetime
) -> None:
    secret = make_key(
        operator,
        organization=str(organization.id),
        allowed_domains="Agents.Localhost\nagents.localhost",
        inboxes=f"{mailbox.address.upper()}\n",
        max_inboxes="3",
        expires_at_0="2999-01-01",
        expires_at_1="00:00:00",
    )
    key = authenticate_key(secret=secret, now=now)
    assert key.allowed_domains == ["agents.localhost"]
    assert key.inbox_ids == [mailbox.id]
    assert key.max_inboxes == 3
    assert key.expires_at is not None and key.expires_at.year == 2999
    assert mailbox.address in text_of(operator.get(page_url(key)))


def test_another_organizations_mailbox_cannot_be_named(
    operator: Client, organization: Organization, stranger: Organization, mailbox: Mailbox
) -> None:
    form = key_form(organization=str(stranger.id), inboxes=mailbox.address)
    response = operator.post(add_url(ApiKey), form)
    assert "is not a mailbox of Stranger" in text_of(response)
    assert not ApiKey.objects.exists()


def test_an_expiry_in_the_past_is_refused_at_its_field(operator: Client, organization: Organization) -> None:
    form = key_form(organization=str(organization.id), expires_at_0="2001-01-01", expires_at_1="00:00:00")
    response = operator.post(add_url(ApiKey), form)
    assert "expires_at" in response.context["adminform"].form.errors
    assert not ApiKey.objects.exists()


def test_an_owner_makes_keys_of_the_own_organization_only(
    organization: Organization, stranger: Organization, now: datetime
) -> None:
    owner = sign_in("owner", organization)
    for foreign in ("", str(stranger.id)):
        response = owner.post(add_url(ApiKey), key_form(organization=foreign))
        assert "organization" in response.context["adminform"].form.errors
    assert not ApiKey.objects.exists()
    secret = make_key(owner, organization=str(organization.id))
    assert authenticate_key(secret=secret, now=now).organization_id == organization.id


def test_a_viewer_makes_and_revokes_no_keys(organization: Organization, key: ApiKey) -> None:
    viewer = sign_in("viewer", organization)
    assert viewer.get(add_url(ApiKey)).status_code == 403
    press(viewer, key, "revoke")
    run_action(viewer, ApiKey, "revoke_selected", key)
    key.refresh_from_db()
    assert key.revoked_at is None


def test_a_revoked_key_is_refused(operator: Client, organization: Organization, now: datetime) -> None:
    key, secret = create_api_key(organization=organization, name="Old", scopes=[], now=now)
    press(operator, key, "revoke")
    with pytest.raises(KeyRevoked):
        authenticate_key(secret=secret, now=now)
    assert "revoked" in text_of(operator.get(page_url(key)))


def test_revoking_a_selection_leaves_the_stranger_s_keys_alone(
    organization: Organization, stranger: Organization, key: ApiKey, now: datetime
) -> None:
    foreign, _ = create_api_key(organization=stranger, name="Theirs", scopes=[], now=now)
    run_action(sign_in("admin", organization), ApiKey, "revoke_selected", key, foreign)
    key.refresh_from_db()
    foreign.refresh_from_db()
    assert key.revoked_at is not None
    assert foreign.revoked_at is None


def test_nothing_of_a_key_can_be_edited(operator: Client, key: ApiKey) -> None:
    operator.post(page_url(key), {"name": "Stronger", "scopes": ["admin"]})
    key.refresh_from_db()
    assert key.name == "all"


@pytest.mark.parametrize(("status", "names"), [("active", {"A"}), ("expired", {"E"}), ("revoked", {"R"})])
def test_keys_are_found_by_status(
    operator: Client, organization: Organization, now: datetime, status: str, names: set[str]
) -> None:
    made = {name: create_api_key(organization=organization, name=name, scopes=[], now=now)[0] for name in "AER"}
    ApiKey.objects.filter(id=made["E"].id).update(expires_at=now - timedelta(days=1))
    ApiKey.objects.filter(id=made["R"].id).update(revoked_at=now)
    assert {key.name for key in rows_of(operator.get(list_url(ApiKey, status=status)))} == names


def test_the_list_of_keys_costs_the_same_for_more_rows(
    operator: Client, organization: Organization, now: datetime
) -> None:
    for number in range(20):
        create_api_key(organization=organization, name=f"Key {number}", scopes=[], now=now)
    with count_queries() as queries:
        assert len(rows_of(operator.get(list_url(ApiKey)))) == 20
    assert len(queries) <= MAX_QUERIES
