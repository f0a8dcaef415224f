"""One-click unsubscribe (RFC 8058): the header fields, the link, the page."""

import re
from email import message_from_bytes, policy
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from apps.accounts.models import Organization
from apps.core.ids import encode_id
from apps.delivery.models import Suppression
from apps.delivery.services import delete_mailbox
from apps.mail.models import Message
from apps.mailboxes.models import Mailbox
from mailhost.auth.dkim import DkimSigner, generate_dkim_key, sign_message
from tests.api.conftest import Api, error_of

pytestmark = pytest.mark.django_db

MAIL = {"to": "Ann <Ann@Example.com>", "subject": "News", "text": "Hello, Ann.", "list": True}
ONE_CLICK = "List-Unsubscribe=One-Click"
FORM = "application/x-www-form-urlencoded"


@pytest.fixture
def path(mailbox: Mailbox) -> str:
    return f"/v1/inboxes/{encode_id('inbox', mailbox.id)}/messages"


@pytest.fixture
def public_url(settings: Any) -> str:
    settings.MAILHOST_PUBLIC_URL = "https://mail.example.com"
    return "https://mail.example.com"


def raw_of(owner: Api, answer: Any) -> bytes:
    assert answer.status_code == 202, answer.content
    return b"".join(owner.get(f"/v1/messages/{answer.json()['id']}/raw"))


@pytest.fixture
def link(owner: Api, path: str, public_url: str) -> str:
    """The path of the link in a mail to Ann."""
    mail = message_from_bytes(raw_of(owner, owner.post(path, MAIL)), policy=policy.default)
    found = re.fullmatch(rf"<{public_url}(/unsubscribe/[A-Za-z0-9_-]+)>", str(mail["List-Unsubscribe"]))
    assert found
    return found.group(1)


def suppressed() -> list[tuple[str, str]]:
    return list(Suppression.objects.values_list("address", "reason"))


def test_a_mail_of_a_list_carries_both_fields_and_dkim_covers_them(owner: Api, path: str, public_url: str) -> None:
    raw = raw_of(owner, owner.post(path, MAIL))
    mail = message_from_bytes(raw, policy=policy.default)
    assert mail["List-Unsubscribe-Post"] == ONE_CLICK
    assert str(mail["List-Unsubscribe"]).startswith(f"<{public_url}/unsubscribe/")
    assert all(len(line) <= 998 for line in raw.split(b"\r\n"))
    pair = generate_dkim_key("ed25519-sha256")
    signed = sign_message(raw, [DkimSigner("agents.localhost", "s1", "ed25519-sha256", pair.private_pem)])
    covered = re.sub(rb"\s", b"", signed.partition(b"Date:")[0]).lower()
    assert b"list-unsubscribe:" in covered and b"list-unsubscribe-post" in covered


def test_other_mail_carries_neither(owner: Api, path: str) -> None:
    for extra in ({}, {"list": False}):
        raw = raw_of(owner, owner.post(path, {**MAIL, "list": False, **extra}))
        assert b"unsubscribe" not in raw.lower()


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"cc": "bob@example.com"}, "list"),
        ({"to": ["ann@example.com", "bob@example.com"]}, "list"),
        ({"headers": {"List-Unsubscribe": "<mailto:x@example.com>"}}, "headers"),
        ({"headers": {"list-unsubscribe-post": "x"}}, "headers"),
        ({"list": "yes"}, "list"),
        ({"list": 1}, "list"),
    ],
)
def test_a_link_is_one_recipients_own(owner: Api, path: str, change: dict[str, Any], field: str) -> None:
    error = error_of(owner.post(path, {**MAIL, **change}), 400, "validation_failed")
    assert error["details"][0]["field"] == field
    assert not Message.objects.exists()


def test_an_address_given_twice_is_one_recipient(owner: Api, path: str) -> None:
    assert owner.post(path, {**MAIL, "bcc": "ann@example.com"}).status_code == 202


def test_one_click_unsubscribes_without_login_and_once(owner: Api, path: str, link: str, mailbox: Mailbox) -> None:
    browser = Client(enforce_csrf_checks=True)
    for _ in range(2):
        answer = browser.post(link, ONE_CLICK, content_type=FORM)
        assert answer.status_code == 200
        assert "unsubscribed" in answer.content.decode()
        assert not answer.cookies
    entry = Suppression.objects.get()
    assert (entry.address, entry.reason) == ("Ann@Example.com", "unsubscribe")
    assert entry.source == f"one click in mail of {mailbox.address}"
    error_of(owner.post(path, MAIL), 403, "recipient_suppressed")


def test_it_works_as_multipart_too_and_with_no_body_at_all(link: str) -> None:
    for data in ({"List-Unsubscribe": "One-Click"}, {}):
        assert Client(enforce_csrf_checks=True).post(link, data).status_code == 200
        assert suppressed() == [("Ann@Example.com", "unsubscribe")]
        Suppression.objects.all().delete()


def test_to_look_at_the_page_changes_nothing(link: str, organization: Organization) -> None:
    Organization.objects.update(name="<b>Acme</b> & Co")
    for method in ("GET", "HEAD"):
        answer = Client().generic(method, link)
        assert answer.status_code == 200
        assert "form-action 'self'" in answer.headers["Content-Security-Policy"]
        assert not answer.cookies
    page = Client().get(link).content.decode()
    assert "Ann@Example.com" in page and "&lt;b&gt;Acme&lt;/b&gt; &amp; Co" in page
    assert '<form method="post">' in page
    assert not re.search(r"""(?:src|href)=""", page)
    assert suppressed() == []
    assert Client().put(link).status_code == 405


def test_a_link_that_was_never_given_out_does_nothing(link: str) -> None:
    token = link.rpartition("/")[2]
    flipped = token[:30] + ("A" if token[30] != "A" else "B") + token[31:]
    for bad in (flipped, token[:-6], "x", "A" * 60, "A" * 3000, "%C3%A9", "a.b", token + token):
        for answer in (Client().get(f"/unsubscribe/{bad}"), Client().post(f"/unsubscribe/{bad}", {})):
            assert answer.status_code == 404, bad
    assert suppressed() == []


def test_a_link_of_another_installation_does_nothing(link: str, settings: Any) -> None:
    settings.SECRET_KEY = "another"
    assert Client().post(link, {}).status_code == 404


def test_it_still_works_when_the_mailbox_and_its_mail_are_gone(link: str, mailbox: Mailbox) -> None:
    delete_mailbox(mailbox=mailbox, purge=True, now=timezone.now())
    assert Client().get(link).status_code == 200
    assert Client().post(link, ONE_CLICK, content_type=FORM).status_code == 200
    assert suppressed() == [("Ann@Example.com", "unsubscribe")]


def test_it_is_about_the_one_organization(link: str, outsider: Api, make_mailbox: Any, stranger: Organization) -> None:
    Client().post(link, {})
    theirs = make_mailbox("eve", of=stranger)
    sent = outsider.post(f"/v1/inboxes/{theirs.address}/messages", {"to": "ann@example.com", "text": "x"})
    assert sent.json()["recipients"][0]["status"] == "held"
