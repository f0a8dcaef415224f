"""Suppressions through HTTP: the list, single entries, import, export; and what a send says of them."""

import csv
import io
import json
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import pytest
from django.utils import timezone

from apps.accounts.models import Organization
from apps.core.ids import encode_id
from apps.delivery.models import Delivery, Suppression
from apps.delivery.services import NewSuppression, import_suppressions
from apps.mail.models import Message
from apps.mailboxes.models import Mailbox
from tests.api.conftest import Api, MakeApi, error_of

pytestmark = pytest.mark.django_db

URL = "/v1/suppressions"


def fill(organization: Organization, count: int, **fields: Any) -> None:
    entries = [NewSuppression(f"r{number:03}@example.com", **fields) for number in range(count)]
    import_suppressions(organization=organization, wanted=entries, now=timezone.now())


def addresses(answer: Any) -> list[str]:
    return [row["address"] for row in answer.json()["data"]]


class TestEntries:
    def test_an_address_is_suppressed_found_and_let_go(self, owner: Api) -> None:
        made = owner.post(URL, {"address": "Ann@Example.com", "source": "Asked by phone."})
        assert made.status_code == 201
        entry = made.json()
        assert (entry["address"], entry["reason"], entry["source"]) == ("Ann@Example.com", "manual", "Asked by phone.")
        assert entry["expires_at"] is None
        for name in (entry["id"], "ann@example.com", quote("ANN@example.com", safe="")):
            assert owner.get(f"{URL}/{name}").json() == entry
        assert owner.delete(f"{URL}/ann@EXAMPLE.com").status_code == 204
        error_of(owner.get(f"{URL}/ann@example.com"), 404, "not_found")
        error_of(owner.delete(f"{URL}/{entry['id']}"), 404, "not_found")

    def test_by_hand_again_is_a_change_and_what_weighs_more_stays(self, owner: Api) -> None:
        first = owner.post(URL, {"address": "ann@example.com"}).json()
        later = (timezone.now() + timedelta(days=3)).isoformat()
        again = owner.post(URL, {"address": "ann@example.com", "expires_at": later, "source": "for a while"})
        assert (again.status_code, again.json()["id"], again.json()["source"]) == (200, first["id"], "for a while")
        gone = owner.post(URL, {"address": "ann@example.com", "reason": "unsubscribe"})
        assert (gone.status_code, gone.json()["reason"]) == (201, "unsubscribe")
        same = owner.post(URL, {"address": "ann@example.com"})
        assert (same.status_code, same.json()) == (200, gone.json())

    def test_an_odd_address_is_found_by_itself(self, owner: Api) -> None:
        for address in ("a/b@example.com", '"a b"@example.com', "jörg@bücher.example", "import@example.com"):
            entry = owner.post(URL, {"address": address}).json()
            assert owner.get(f"{URL}/{quote(address, safe='')}").json()["id"] == entry["id"]

    @pytest.mark.parametrize(
        ("body", "field"),
        [
            ({}, "address"),
            ({"address": "nobody"}, "address"),
            ({"address": 5}, "address"),
            ({"address": "a@b.example", "reason": "dislike"}, "reason"),
            ({"address": "a@b.example", "source": "two\nlines"}, "source"),
            ({"address": "a@b.example", "source": "x" * 501}, "source"),
            ({"address": "a@b.example", "expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
            ({"address": "a@b.example", "expires_at": "soon"}, "expires_at"),
            ({"address": "a@b.example", "color": "red"}, "color"),
            ({"address": "a@b.example\0"}, "address"),
        ],
    )
    def test_bad_input_is_refused_by_field(self, owner: Api, body: dict[str, Any], field: str) -> None:
        error = error_of(owner.post(URL, body), 400, "validation_failed")
        assert error["details"][0]["field"] == field
        error = error_of(owner.post(f"{URL}/import", {"suppressions": [body]}), 400, "validation_failed")
        assert error["details"][0]["field"] == f"suppressions[0].{field}"
        assert not Suppression.objects.exists()


class TestTheList:
    def test_it_is_paged_newest_first_and_by_filters(self, owner: Api, organization: Organization) -> None:
        fill(organization, 30, reason="hard_bounce")
        owner.post(URL, {"address": "ann@other.example"})
        page = owner.get(f"{URL}?limit=20")
        assert addresses(page)[:2] == ["ann@other.example", "r029@example.com"]
        rest = owner.get(f"{URL}?limit=20&cursor={page.json()['next_cursor']}")
        assert (len(addresses(rest)), rest.json()["next_cursor"]) == (11, None)
        assert addresses(owner.get(f"{URL}?reason=manual")) == ["ann@other.example"]
        assert addresses(owner.get(f"{URL}?q=R01&reason=hard_bounce&ascending=true&limit=2")) == [
            "r010@example.com",
            "r011@example.com",
        ]
        assert addresses(owner.get(f"{URL}?q=%25")) == []
        error_of(owner.get(f"{URL}?reason=dislike"), 400, "validation_failed")
        error_of(owner.get(f"{URL}?color=red"), 400, "validation_failed")
        error_of(owner.get(f"{URL}?reason=manual&cursor={page.json()['next_cursor']}"), 400, "invalid_cursor")

    def test_what_is_over_is_not_shown(self, owner: Api, organization: Organization) -> None:
        fill(organization, 2)
        Suppression.objects.filter(address="r000@example.com").update(expires_at=timezone.now())
        assert addresses(owner.get(URL)) == ["r001@example.com"]
        error_of(owner.get(f"{URL}/r000@example.com"), 404, "not_found")

    def test_a_stranger_sees_and_changes_nothing_of_it(
        self, owner: Api, outsider: Api, organization: Organization
    ) -> None:
        fill(organization, 3)
        assert addresses(outsider.get(URL)) == []
        error_of(outsider.delete(f"{URL}/r000@example.com"), 404, "not_found")
        assert outsider.post(URL, {"address": "r000@example.com"}).status_code == 201
        assert len(addresses(owner.get(URL))) == 3

    def test_a_key_narrowed_to_some_inboxes_has_no_part_in_it(
        self, organization: Organization, mailbox: Mailbox, make_api: MakeApi
    ) -> None:
        fill(organization, 1)
        for narrowing in ({"inbox_ids": [mailbox.id]}, {"allowed_domains": ["agents.localhost"]}):
            api = make_api(organization, **narrowing)
            for method, path in (("GET", URL), ("GET", f"{URL}/export"), ("DELETE", f"{URL}/r000@example.com")):
                error_of(api.ask(method, path), 403, "scope_denied")
        assert Suppression.objects.exists()

    def test_a_page_costs_the_same_for_any_length(
        self, owner: Api, organization: Organization, django_assert_num_queries: Any
    ) -> None:
        owner.get("/v1/me")
        for _ in range(2):
            fill(organization, 100)
            with django_assert_num_queries(2):  # the key, the page
                owner.get(f"{URL}?limit=100")


class TestImportAndExport:
    def test_a_thousand_are_imported_and_what_stands_is_told(self, owner: Api) -> None:
        body = {"suppressions": [{"address": f"r{number}@example.com"} for number in range(1000)]}
        assert owner.post(f"{URL}/import", body).json() == {"imported": 1000, "unchanged": 0}
        body = {
            "suppressions": [{"address": "r1@example.com", "reason": "hard_bounce"}, {"address": "new@example.com"}]
        }
        assert owner.post(f"{URL}/import", body).json() == {"imported": 1, "unchanged": 1}

    def test_more_than_a_thousand_or_none_are_refused(self, owner: Api) -> None:
        for count in (0, 1001):
            body = {"suppressions": [{"address": f"r{number}@example.com"} for number in range(count)]}
            error_of(owner.post(f"{URL}/import", body), 400, "validation_failed")
        for odd in ({}, {"suppressions": {}}, {"suppressions": ["a@example.com"]}, {"suppressions": None}):
            error_of(owner.post(f"{URL}/import", odd), 400, "validation_failed")

    def test_one_bad_entry_keeps_all_out_and_each_is_named(self, owner: Api) -> None:
        body = {"suppressions": [{"address": "a@example.com"}, {"address": "b"}, {"address": "c@"}]}
        error = error_of(owner.post(f"{URL}/import", body), 400, "validation_failed")
        assert [detail["field"] for detail in error["details"]] == [
            "suppressions[1].address",
            "suppressions[2].address",
        ]
        assert not Suppression.objects.exists()

    def test_all_of_it_comes_as_csv(self, owner: Api, organization: Organization, outsider: Api) -> None:
        fill(organization, 1000, reason="hard_bounce", source='said "no", then left')
        owner.post(URL, {"address": "jörg@bücher.example", "reason": "complaint"})
        answer = owner.get(f"{URL}/export")
        assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
        assert answer.headers["Content-Disposition"] == 'attachment; filename="suppressions.csv"'
        assert answer.streaming
        rows = list(csv.DictReader(io.StringIO(b"".join(answer).decode())))
        assert len(rows) == 1001
        assert (rows[0]["address"], rows[0]["source"]) == ("r000@example.com", 'said "no", then left')
        assert (rows[-1]["address"], rows[-1]["reason"], rows[-1]["expires_at"]) == (
            "jörg@bücher.example",
            "complaint",
            "",
        )
        assert b"".join(outsider.get(f"{URL}/export")).count(b"\n") == 1

    def test_all_of_it_comes_as_lines_of_json_which_can_be_imported(
        self, owner: Api, outsider: Api, organization: Organization
    ) -> None:
        fill(organization, 3, reason="unsubscribe")
        lines = b"".join(owner.get(f"{URL}/export?format=jsonl&reason=unsubscribe&q=r00")).decode().splitlines()
        entries = [json.loads(line) for line in lines]
        for entry in entries:
            del entry["created_at"]
        assert outsider.post(f"{URL}/import", {"suppressions": entries}).json() == {"imported": 3, "unchanged": 0}
        error_of(owner.get(f"{URL}/export?format=xml"), 400, "validation_failed")


class TestWhatASendSays:
    @pytest.fixture
    def path(self, mailbox: Mailbox) -> str:
        return f"/v1/inboxes/{encode_id('inbox', mailbox.id)}/messages"

    def test_each_recipient_is_judged_by_itself(self, owner: Api, path: str, mailbox: Mailbox) -> None:
        owner.post(URL, {"address": "gone@example.com", "reason": "hard_bounce"})
        sent = owner.post(path, {"to": ["gone@example.com", "ann@example.com"], "text": "x"})
        assert sent.status_code == 202
        assert sent.json()["recipients"] == [
            {"address": "gone@example.com", "status": "suppressed", "reason": "hard_bounce"},
            {"address": "ann@example.com", "status": "held", "reason": "hold_mode"},
        ]
        assert sent.json()["status"] == "held"
        assert owner.get(f"/v1/inboxes/{mailbox.address}").json()["sends_today"] == 1
        deliveries = owner.get(f"/v1/messages/{sent.json()['id']}/deliveries").json()["data"]
        assert [(row["status"], row["attempts"]) for row in deliveries] == [("suppressed", []), ("held", [])]

    def test_with_nobody_left_it_is_an_error_and_nothing_is_written(self, owner: Api, path: str) -> None:
        owner.post(URL, {"address": "gone@example.com"})
        error = error_of(owner.post(path, {"to": "gone@example.com", "text": "x"}), 403, "recipient_suppressed")
        assert error["details"] == [{"field": "to", "message": "gone@example.com is suppressed: manual."}]
        assert "/v1/suppressions" in error["fix"]
        assert not Message.objects.exists()
        assert not Delivery.objects.exists()

    def test_a_limit_says_whose_it_is(self, owner: Api, path: str, organization: Organization) -> None:
        Organization.objects.filter(id=organization.id).update(daily_send_limit=1)
        assert owner.post(path, {"to": "a@example.com", "text": "x"}).status_code == 202
        error = error_of(owner.post(path, {"to": "a@example.com", "text": "x"}), 429, "daily_limit_reached")
        assert "organization" in error["message"]
