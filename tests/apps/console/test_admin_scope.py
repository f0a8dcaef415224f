"""Who sees and changes what: every page, for members, viewers, strangers and people without an organization."""

from datetime import datetime

import pytest
from django.db.models import Model
from django.test import Client

from apps.accounts.models import ApiKey, Organization
from apps.delivery.models import Delivery, Suppression
from apps.delivery.services import NewSuppression, create_suppression
from apps.delivery.states import DeliveryStatus
from apps.domains.models import Domain
from apps.domains.services import create_domain
from apps.events.models import Event
from apps.mail.models import Attachment, Message
from apps.mailboxes.models import Mailbox
from tests.apps.admin_people import (
    add_url,
    list_url,
    page_url,
    press,
    receive,
    rows_of,
    run_action,
    send,
    sign_in,
    sign_in_operator,
    text_of,
)

pytestmark = pytest.mark.django_db
MODELS = (Organization, Domain, ApiKey, Mailbox, Message, Delivery, Suppression, Event)
MAIL = (
    b"From: c@shop.example\r\nTo: alice@agents.localhost\r\nSubject: Question\r\nMIME-Version: 1.0\r\n"
    b'Content-Type: multipart/mixed; boundary="b"\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\nHi\r\n--b\r\n'
    b'Content-Type: text/plain\r\nContent-Disposition: attachment; filename="a.txt"\r\n\r\nfile\r\n--b--\r\n'
)
World = dict[type[Model], Model]


@pytest.fixture
def world(organization: Organization, mailbox: Mailbox, key: ApiKey, now: datetime) -> World:
    """One of everything of Acme's."""
    receive(mailbox, MAIL)
    message = send(mailbox)
    return {
        Organization: organization,
        Domain: create_domain(organization=organization, name="acme.example", now=now),
        ApiKey: key,
        Mailbox: mailbox,
        Message: message,
        Delivery: Delivery.objects.get(message=message),
        Suppression: create_suppression(
            organization=organization, wanted=NewSuppression("gone@customer.example"), now=now
        )[0],
        Event: Event.objects.filter(organization_id=organization.id).latest("id"),
    }


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("role", ["owner", "admin", "viewer"])
def test_a_member_sees_what_is_the_organization_s(
    world: World, organization: Organization, role: str, model: type[Model]
) -> None:
    client = sign_in(role, organization)
    assert world[model] in rows_of(client.get(list_url(model)))
    assert client.get(page_url(world[model])).status_code == 200


@pytest.mark.parametrize("model", MODELS)
def test_a_stranger_sees_none_of_it(world: World, stranger: Organization, model: type[Model]) -> None:
    client = sign_in("owner", stranger)
    assert world[model] not in rows_of(client.get(list_url(model)))
    if model is not Organization:
        assert world[model] not in rows_of(client.get(list_url(model, organization=world[Organization].pk)))
    assert_absent(client, page_url(world[model]))
    assert_absent(client, page_url(world[model], "history"))


@pytest.mark.parametrize("model", MODELS)
def test_staff_without_an_organization_see_nothing(world: World, model: type[Model]) -> None:
    client = sign_in(None)
    assert client.get(list_url(model)).status_code == 403
    assert client.get(add_url(model)).status_code == 403
    assert_absent(client, page_url(world[model]))
    overview = client.get("/admin/")
    assert "belong to no organization" in text_of(overview)
    assert "Mailboxes" not in text_of(overview)


def assert_absent(client: Client, url: str) -> None:
    """The page answers as if there were no such object."""
    response = client.get(url)
    assert response.status_code in (302, 403, 404)
    if response.status_code == 302:
        assert response.headers["Location"] == "/admin/"


def test_a_refusal_says_whom_to_ask(organization: Organization) -> None:
    response = sign_in("viewer", organization).get(add_url(Mailbox))
    assert response.status_code == 403
    assert "Ask an owner of your organization" in text_of(response)


def test_somebody_who_is_not_staff_is_asked_to_sign_in(world: World, organization: Organization) -> None:
    client = sign_in("owner", organization)
    organization.users.update(is_staff=False)
    assert client.get(list_url(Mailbox)).status_code == 302


def test_downloads_are_the_organization_s_own(
    world: World, organization: Organization, stranger: Organization, mailbox: Mailbox
) -> None:
    attachment = Attachment.objects.get()
    raw = f"/admin/mail/message/{attachment.message_id}/raw/"
    file = f"/admin/mail/message/{attachment.message_id}/attachments/{attachment.id}/"
    for url in (raw, file):
        assert sign_in("owner", stranger, name=f"s{len(url)}").get(url).status_code == 404
        assert sign_in("viewer", organization, name=f"v{len(url)}").get(url).status_code == 200
        assert Client().get(url).status_code == 302


PRESSED = (
    (Mailbox, "pause", {}),
    (Mailbox, "suspend", {"reason": "x"}),
    (Mailbox, "delete_keeping_mail", {}),
    (Mailbox, "purge", {}),
    (Delivery, "release", {}),
    (Delivery, "cancel", {}),
    (ApiKey, "revoke", {}),
    (Domain, "verify", {}),
    (Domain, "limits", {"daily_send_limit": "5"}),
    (Mailbox, "warm_up", {"ramp_start": "5", "ramp_growth": "5", "ramp_ceiling": "5"}),
    (Organization, "suspend", {"reason": "x"}),
)


@pytest.mark.parametrize("who", ["viewer", "stranger"])
@pytest.mark.parametrize(("model", "action", "fields"), PRESSED)
def test_buttons_do_nothing_for_viewers_and_strangers(
    world: World,
    organization: Organization,
    stranger: Organization,
    who: str,
    model: type[Model],
    action: str,
    fields: dict[str, str],
) -> None:
    client = sign_in("viewer", organization) if who == "viewer" else sign_in("owner", stranger)
    before = model._default_manager.filter(pk=world[model].pk).values().get()
    press(client, world[model], action, **fields)
    assert model._default_manager.filter(pk=world[model].pk).values().get() == before
    assert client.get(page_url(world[model], action)).status_code == 302


SELECTED = (
    (Mailbox, "pause_selected", {}),
    (Mailbox, "suspend_selected", {"reason": "x"}),
    (Delivery, "release_selected", {}),
    (Delivery, "cancel_selected", {}),
    (ApiKey, "revoke_selected", {}),
    (Domain, "verify_selected", {}),
    (Suppression, "delete_selected", {"post": "yes"}),
)


@pytest.mark.parametrize(("model", "action", "fields"), SELECTED)
def test_actions_on_a_selection_reach_only_what_the_person_changes(
    world: World,
    organization: Organization,
    stranger: Organization,
    model: type[Model],
    action: str,
    fields: dict[str, str],
) -> None:
    """The owner of one organization is a viewer of this one: the page offers the action, this row is left alone."""
    client = sign_in("viewer", organization)
    client_user_id = client.session["_auth_user_id"]
    stranger.memberships.create(user_id=client_user_id, role="owner")
    before = model._default_manager.filter(pk=world[model].pk).values().get()
    run_action(client, model, action, world[model], **fields)
    assert model._default_manager.filter(pk=world[model].pk).values().get() == before


def test_an_owner_operates_the_own_queue(world: World, organization: Organization) -> None:
    press(sign_in("owner", organization), world[Delivery], "release")
    assert Delivery.objects.get().status == DeliveryStatus.QUEUED


def test_members_see_shared_domains_and_change_none(organization: Organization, shared_domain: Domain) -> None:
    owner = sign_in("owner", organization)
    assert shared_domain in rows_of(owner.get(list_url(Domain)))
    assert owner.get(page_url(shared_domain)).status_code == 200
    assert owner.get(page_url(shared_domain, "verify")).status_code == 302


def test_an_owner_adds_nothing_to_another_organization(
    organization: Organization, stranger: Organization, shared_domain: Domain
) -> None:
    owner = sign_in("owner", organization)
    owner.post(add_url(Domain), {"name": "theirs.example", "organization": str(stranger.id)})
    owner.post(add_url(Domain), {"name": "shared.example", "organization": ""})
    owner.post(add_url(Mailbox), {"organization": str(stranger.id), "username": "spy"})
    assert not Domain.objects.filter(name__in=["theirs.example", "shared.example"]).exists()
    assert not Mailbox.objects.exists()


def test_choices_name_only_what_is_the_person_s(
    organization: Organization, stranger: Organization, now: datetime
) -> None:
    create_domain(organization=stranger, name="theirs.example", now=now)
    owner = sign_in("owner", organization)
    url = "/admin/autocomplete/?app_label=mailboxes&model_name=mailbox&field_name="
    assert "Stranger" not in owner.get(f"{url}organization").content.decode()
    assert "theirs.example" not in owner.get(f"{url}domain").content.decode()


def test_an_operator_sees_everything(world: World) -> None:
    operator = sign_in_operator()
    for model in MODELS:
        assert world[model] in rows_of(operator.get(list_url(model)))
        assert operator.get(page_url(world[model])).status_code == 200
