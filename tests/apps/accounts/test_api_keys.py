"""API keys: the secret is never stored, no key makes a stronger one, and an ended key ends at once."""

import hashlib
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from pytest_django import DjangoAssertNumQueries

from apps.accounts.errors import KeyExpired, KeyRevoked, QuotaExhausted, ScopeDenied, Unauthorized
from apps.accounts.models import SCOPES, ApiKey, Organization
from apps.accounts.services import authenticate_key, create_api_key, revoke_api_key, spend_inbox_quota
from apps.core.errors import ValidationFailed
from apps.core.ids import new_id
from tests.apps.threads import run_together

pytestmark = pytest.mark.django_db


def make_key(organization: Organization | None, now: datetime, **fields: Any) -> tuple[ApiKey, str]:
    fields = {"name": "agent", "scopes": ["keys:write", "inboxes:write"], **fields}
    return create_api_key(organization=organization, now=now, **fields)


class TestTheSecret:
    def test_it_has_256_bits_and_finds_its_key(self, organization: Organization, now: datetime) -> None:
        key, secret = make_key(organization, now)

        assert secret.startswith("mh_")
        assert len(secret) >= 3 + 43
        found = authenticate_key(secret=secret, now=now)
        assert (found.id, found.organization) == (key.id, organization)

    def test_it_stands_in_no_column(self, organization: Organization, now: datetime) -> None:
        key, secret = make_key(organization, now)
        with connection.cursor() as cursor:
            cursor.execute("SELECT row_to_json(k)::text, key_hash FROM accounts_apikey k WHERE id = %s", [key.id])
            row, stored = cursor.fetchone()

        assert secret not in row
        assert key.prefix == secret[: len(key.prefix)]
        assert len(key.prefix) <= 10
        assert bytes(stored) == hashlib.sha256(secret.encode()).digest()

    @pytest.mark.parametrize(
        "secret",
        ["", "mh_", "mh_wrong", "nope", "mh_" + "x" * 10_000_000, "mh_\0", "mh_\udc80", "mh_ü", " mh_x", "MH_x"],
    )
    def test_what_is_no_key_is_unauthorized(self, organization: Organization, secret: str, now: datetime) -> None:
        make_key(organization, now)

        with pytest.raises(Unauthorized):
            authenticate_key(secret=secret, now=now)

    def test_a_part_of_a_secret_opens_nothing(self, organization: Organization, now: datetime) -> None:
        key, secret = make_key(organization, now)
        for part in (key.prefix, secret[:-1], secret + "A", secret.swapcase()):
            with pytest.raises(Unauthorized):
                authenticate_key(secret=part, now=now)


class TestItsLife:
    def test_it_ends_at_its_time_to_the_second(self, organization: Organization, now: datetime) -> None:
        _, secret = make_key(organization, now, expires_at=now + timedelta(hours=1))

        authenticate_key(secret=secret, now=now + timedelta(minutes=59, seconds=59))
        with pytest.raises(KeyExpired):
            authenticate_key(secret=secret, now=now + timedelta(hours=1))

    def test_revoking_it_ends_it_at_once_and_keeps_the_first_time(
        self, organization: Organization, now: datetime
    ) -> None:
        key, secret = make_key(organization, now)
        revoke_api_key(key=key, now=now)
        revoke_api_key(key=key, now=now + timedelta(days=1))

        assert key.revoked_at == now
        with pytest.raises(KeyRevoked):
            authenticate_key(secret=secret, now=now)

    def test_its_use_is_written_down_at_most_once_a_minute(
        self, organization: Organization, now: datetime, django_assert_num_queries: DjangoAssertNumQueries
    ) -> None:
        key, secret = make_key(organization, now)
        with django_assert_num_queries(2):
            authenticate_key(secret=secret, now=now)
        with django_assert_num_queries(1):
            authenticate_key(secret=secret, now=now + timedelta(seconds=59))
        with django_assert_num_queries(2):
            authenticate_key(secret=secret, now=now + timedelta(seconds=60))

        key.refresh_from_db()
        assert key.last_used_at == now + timedelta(seconds=60)

    def test_a_refused_key_is_not_marked_as_used(self, organization: Organization, now: datetime) -> None:
        key, secret = make_key(organization, now)
        revoke_api_key(key=key, now=now)
        with pytest.raises(KeyRevoked):
            authenticate_key(secret=secret, now=now)

        key.refresh_from_db()
        assert key.last_used_at is None


class TestItsFields:
    @pytest.mark.parametrize(
        ("fields", "field"),
        [
            ({"scopes": ["inboxes:read", "root"]}, "scopes"),
            ({"scopes": ["x" * 10_000]}, "scopes"),
            ({"name": ""}, "name"),
            ({"name": "x" * 201}, "name"),
            ({"name": "a\0b"}, "name"),
            ({"name": "a\ud800"}, "name"),
            ({"max_inboxes": -1}, "max_inboxes"),
            ({"max_inboxes": 2**31}, "max_inboxes"),
            ({"allowed_domains": ["not a domain"]}, "allowed_domains"),
            ({"allowed_domains": ["a\0.example"]}, "allowed_domains"),
            ({"allowed_domains": ["x.example"] * 1001}, "allowed_domains"),
            ({"inbox_ids": [new_id() for _ in range(1001)]}, "inbox_ids"),
        ],
    )
    def test_what_cannot_be_stored_or_meant_is_refused_by_name(
        self, organization: Organization, fields: dict[str, Any], field: str, now: datetime
    ) -> None:
        with pytest.raises(ValidationFailed) as caught:
            make_key(organization, now, **fields)

        assert caught.value.data["details"][0]["field"] == field
        assert len(caught.value.message) < 500
        assert not ApiKey.objects.exists()

    def test_an_expiry_in_the_past_is_refused(self, organization: Organization, now: datetime) -> None:
        with pytest.raises(ValidationFailed):
            make_key(organization, now, expires_at=now)

    def test_scopes_are_kept_once_each_in_the_order_of_the_contract(
        self, organization: Organization, now: datetime
    ) -> None:
        key, _ = make_key(organization, now, scopes=["admin", "inboxes:read", "admin"])

        assert key.scopes == ["inboxes:read", "admin"]

    def test_domains_are_kept_as_they_are_compared(self, organization: Organization, now: datetime) -> None:
        key, _ = make_key(organization, now, allowed_domains=["Example.COM", "bücher.example", "example.com"])

        assert key.allowed_domains == ["example.com", "xn--bcher-kva.example"]

    def test_a_platform_key_has_no_organization(self, now: datetime, db: None) -> None:
        _, secret = make_key(None, now)

        assert authenticate_key(secret=secret, now=now).organization is None


class TestNoKeyMakesAStrongerKey:
    @pytest.fixture
    def maker(self, organization: Organization, now: datetime) -> ApiKey:
        return make_key(
            organization,
            now,
            allowed_domains=["a.example", "b.example"],
            max_inboxes=10,
            expires_at=now + timedelta(days=1),
        )[0]

    @pytest.fixture
    def within(self, now: datetime) -> dict[str, Any]:
        """What the maker may give."""
        return {
            "allowed_domains": ["A.example"],
            "max_inboxes": 3,
            "expires_at": now + timedelta(hours=1),
            "scopes": ["inboxes:write"],
        }

    def test_a_weaker_key_is_made(
        self, organization: Organization, maker: ApiKey, within: dict[str, Any], now: datetime
    ) -> None:
        key, _ = make_key(organization, now, maker=maker, **within)

        assert key.allowed_domains == ["a.example"]

    @pytest.mark.parametrize(
        "excess",
        [
            {"scopes": ["inboxes:write", "admin"]},
            {"allowed_domains": None},
            {"allowed_domains": ["a.example", "c.example"]},
            {"max_inboxes": None},
            {"max_inboxes": 11},
            {"expires_at": None},
            {"expires_at": timedelta(days=2)},
        ],
    )
    def test_more_of_anything_is_denied(
        self, organization: Organization, maker: ApiKey, within: dict[str, Any], excess: dict[str, Any], now: datetime
    ) -> None:
        if isinstance(excess.get("expires_at"), timedelta):
            excess = {"expires_at": now + excess["expires_at"]}
        with pytest.raises(ScopeDenied):
            make_key(organization, now, maker=maker, **{**within, **excess})

        maker.refresh_from_db()
        assert maker.used_count == 0
        assert ApiKey.objects.count() == 1

    def test_a_key_narrowed_to_inboxes_gives_only_these(self, organization: Organization, now: datetime) -> None:
        mine, other = new_id(), new_id()
        maker, _ = make_key(organization, now, inbox_ids=[mine])

        assert make_key(organization, now, maker=maker, inbox_ids=[mine])[0].inbox_ids == [mine]
        for wanted in (None, [other], [mine, other]):
            with pytest.raises(ScopeDenied):
                make_key(organization, now, maker=maker, inbox_ids=wanted)

    def test_a_key_makes_none_for_a_stranger_and_no_platform_key(
        self, organization: Organization, stranger: Organization, key: ApiKey, now: datetime
    ) -> None:
        for of in (stranger, None):
            with pytest.raises(ScopeDenied):
                make_key(of, now, maker=key)

    def test_what_it_hands_over_is_no_longer_its_own(
        self, organization: Organization, maker: ApiKey, within: dict[str, Any], now: datetime
    ) -> None:
        """Else a key of ten inboxes would make as many as it likes, through keys of ten."""
        for _ in range(3):
            make_key(organization, now, maker=maker, **within)
            maker.refresh_from_db()

        assert maker.used_count == 9
        with pytest.raises(ScopeDenied):
            make_key(organization, now, maker=maker, **within)
        spend_inbox_quota(key=maker)
        with pytest.raises(QuotaExhausted):
            spend_inbox_quota(key=maker)

    def test_a_key_for_no_inboxes_costs_its_maker_nothing(
        self, organization: Organization, maker: ApiKey, within: dict[str, Any], now: datetime
    ) -> None:
        make_key(organization, now, maker=maker, **{**within, "max_inboxes": 0})

        maker.refresh_from_db()
        assert maker.used_count == 0

    @pytest.mark.parametrize("scope", SCOPES)
    def test_each_scope_is_guarded(self, organization: Organization, scope: str, now: datetime) -> None:
        maker, _ = make_key(organization, now, scopes=[other for other in SCOPES if other != scope])
        with pytest.raises(ScopeDenied, match=scope):
            make_key(organization, now, maker=maker, scopes=[scope])


class TestTheQuota:
    def test_a_key_without_a_number_is_not_touched(
        self, key: ApiKey, django_assert_num_queries: DjangoAssertNumQueries
    ) -> None:
        with django_assert_num_queries(0):
            spend_inbox_quota(key=key)

    def test_a_number_of_none_allows_none(self, organization: Organization, now: datetime) -> None:
        key, _ = make_key(organization, now, max_inboxes=0)

        with pytest.raises(QuotaExhausted):
            spend_inbox_quota(key=key)


@pytest.mark.django_db(transaction=True)
class TestAtOnce:
    def test_the_quota_is_exact(self, organization: Organization, now: datetime) -> None:
        key, _ = make_key(organization, now, max_inboxes=5)

        results = run_together(lambda _: spend_inbox_quota(key=ApiKey.objects.get(id=key.id)), 20)

        key.refresh_from_db()
        assert key.used_count == 5
        assert sum(isinstance(result, QuotaExhausted) for result in results) == 15

    def test_handing_over_is_exact_too(self, organization: Organization, now: datetime) -> None:
        maker, _ = make_key(organization, now, max_inboxes=10)

        results = run_together(lambda _: make_key(organization, now, maker=maker, max_inboxes=3), 10)

        maker.refresh_from_db()
        assert maker.used_count == 9
        assert sum(isinstance(result, ScopeDenied) for result in results) == 7
        assert ApiKey.objects.count() == 4
