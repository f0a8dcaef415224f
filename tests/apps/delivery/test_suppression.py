"""Whom an organization does not write to any more: who gets onto the list, what the list does, what outweighs what."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from apps.accounts.models import Organization
from apps.core.errors import DomainError, NotFound, ValidationFailed
from apps.delivery.errors import RecipientSuppressed
from apps.delivery.models import Delivery, Suppression
from apps.delivery.selectors import find_suppressed
from apps.delivery.services import (
    ClaimedDelivery,
    DeliveryResult,
    NewSuppression,
    claim_deliveries,
    create_suppression,
    deliver_locally,
    forget_expired,
    import_suppressions,
    record_results,
    remove_suppression,
    suppress_addresses,
)
from apps.delivery.tasks import forget_expired_suppressions
from apps.events.models import Event
from apps.mailboxes.models import Mailbox
from mailhost.smtp.replies import Outcome
from tests.apps.conftest import MakeMailbox
from tests.apps.delivery.conftest import Send
from tests.apps.delivery.test_send import assert_nothing_written
from tests.apps.threads import run_together

pytestmark = pytest.mark.django_db(transaction=True)

GONE = {"code": 550, "enhanced_code": "5.1.1", "text": "no such user"}
Suppress = Callable[..., Suppression]


def claim() -> list[ClaimedDelivery]:
    claimed = claim_deliveries(limit=100, lane_limit=100, now=timezone.now()).deliveries
    return sorted(claimed, key=lambda delivery: delivery.id)


def refuse(deliveries: Sequence[ClaimedDelivery], **reply: object) -> int:
    fields = {"host": "mx.acme.test"} | GONE | reply
    now = timezone.now()
    return record_results(
        results=[DeliveryResult(one, Outcome.PERMANENT, now, **fields) for one in deliveries],  # type: ignore[arg-type]
        now=now,
    )


@pytest.fixture
def suppress(organization: Organization) -> Suppress:
    def make(address: str, of: Organization | None = None, **fields: object) -> Suppression:
        now = timezone.now()
        entry = NewSuppression(address, **fields)  # type: ignore[arg-type]
        suppress_addresses(entries=[((of or organization).id, entry)], now=now)
        return Suppression.objects.get(organization=of or organization, address=address)

    return make


def statuses() -> dict[str, tuple[str, str]]:
    return {row.address: (row.status, row.reason) for row in Delivery.objects.all()}


class TestWhoGetsOntoTheList:
    def test_a_recipient_that_is_not_there_and_no_other_of_the_mail(
        self, mailbox: Mailbox, organization: Organization, send: Send
    ) -> None:
        send(mailbox, "gone@acme.test", "there@acme.test")
        gone, there = claim()
        now = timezone.now()
        results = [
            DeliveryResult(gone, Outcome.PERMANENT, now, host="mx.acme.test", **GONE),  # type: ignore[arg-type]
            DeliveryResult(there, Outcome.DELIVERED, now, 250),
        ]
        assert record_results(results=results, now=now) == 2
        entry = Suppression.objects.get()
        assert (entry.organization, entry.address, entry.reason) == (organization, "gone@acme.test", "hard_bounce")
        assert entry.source == "mx.acme.test: 550 5.1.1 no such user"
        assert entry.expires_at is None
        event = Event.objects.get(type="message.bounced")
        assert (event.data["bounce"], event.data["bounce_reason"]) == ("hard", "unknown_recipient")

    @pytest.mark.parametrize(
        "reply",
        [
            {"code": 552, "enhanced_code": "5.2.2", "text": "mailbox full"},
            {"code": 554, "enhanced_code": "5.7.1", "text": "Message looks like spam"},
            {"code": 550, "enhanced_code": "", "text": "go away"},
            {"code": 550, "enhanced_code": "5.1.1", "text": "no such user", "about_sender": True},
        ],
    )
    def test_a_refusal_that_does_not_mean_the_recipient_keeps_nobody_away(
        self, mailbox: Mailbox, send: Send, reply: dict[str, object]
    ) -> None:
        send(mailbox)
        assert refuse(claim(), **reply) == 1
        assert not Suppression.objects.exists()
        assert Event.objects.get(type="message.bounced").data["bounce"] == "soft"

    def test_what_was_only_put_off_keeps_nobody_away(self, mailbox: Mailbox, send: Send) -> None:
        send(mailbox)
        now = timezone.now()
        result = DeliveryResult(claim()[0], Outcome.TEMPORARY, now, 450, "4.1.1", "no such user yet")
        record_results(results=[result], now=now)
        assert not Suppression.objects.exists()

    def test_an_address_here_that_has_no_mailbox_yet_may_get_one(
        self, mailbox: Mailbox, make_mailbox: MakeMailbox, send: Send
    ) -> None:
        send(mailbox, "later@agents.localhost")
        deliver_locally(deliveries=claim(), now=timezone.now())
        assert statuses()["later@agents.localhost"][0] == "bounced"
        make_mailbox("later")
        assert send(mailbox, "later@agents.localhost")[0].status == "queued"

    def test_a_result_that_came_too_late_keeps_nobody_away(self, mailbox: Mailbox, send: Send) -> None:
        send(mailbox)
        claimed = claim()
        Delivery.objects.update(lease_token=None, status="queued")
        assert refuse(claimed) == 0
        assert not Suppression.objects.exists()

    def test_a_batch_costs_one_statement_more_however_many_are_gone(self, mailbox: Mailbox, send: Send) -> None:
        counts = []
        for number in (1, 30):
            send(mailbox, *(f"r{number}-{index}@acme.test" for index in range(number)))
            claimed = claim()
            with CaptureQueriesContext(connection) as queries:
                assert refuse(claimed) == number
            counts.append(sum("delivery_suppression" in query["sql"] for query in queries.captured_queries))
        assert counts == [1, 1]
        assert Suppression.objects.count() == 31

    def test_batches_that_name_the_same_addresses_in_other_orders_do_not_wait_in_a_circle(
        self, organization: Organization, stranger: Organization
    ) -> None:
        addresses = [f"r{number}@acme.test" for number in range(200)]
        owners = [organization.id, stranger.id]

        def write(turn: int) -> int:
            entries = [(owner, NewSuppression(address)) for owner in owners for address in addresses]
            return suppress_addresses(entries=entries if turn % 2 else reversed(entries), now=timezone.now())

        results = run_together(write, 10)
        assert [result for result in results if isinstance(result, Exception)] == []
        assert Suppression.objects.count() == 400


class TestWhatTheListDoes:
    def test_suppressed_recipients_are_told_not_queued_and_not_counted(
        self, mailbox: Mailbox, send: Send, suppress: Suppress
    ) -> None:
        suppress("gone@acme.test", reason="hard_bounce")
        deliveries = send(mailbox, "GONE@Acme.test", "there@acme.test", cc=["gone@acme.test"])
        assert [(row.address, row.status, row.reason) for row in deliveries] == [
            ("GONE@Acme.test", "suppressed", "hard_bounce"),
            ("there@acme.test", "queued", ""),
        ]
        assert deliveries[0].finished_at is not None and deliveries[0].next_attempt_at is None
        mailbox.usage.refresh_from_db()
        assert (mailbox.usage.sends_today, mailbox.usage.total_sent, mailbox.usage.message_count) == (1, 1, 1)
        assert Event.objects.get(type="message.queued").data["recipients"] == ["there@acme.test"]
        assert [delivery.address for delivery in claim()] == ["there@acme.test"]

    def test_when_nobody_is_left_nothing_is_written(self, mailbox: Mailbox, send: Send, suppress: Suppress) -> None:
        suppress("gone@acme.test", reason="complaint")
        suppress("bye@acme.test", reason="unsubscribe")
        with pytest.raises(RecipientSuppressed) as refused:
            send(mailbox, "gone@acme.test", bcc=["bye@acme.test"])
        assert refused.value.data["details"] == [
            {"field": "to", "message": "gone@acme.test is suppressed: complaint."},
            {"field": "bcc", "message": "bye@acme.test is suppressed: unsubscribe."},
        ]
        assert_nothing_written(mailbox)
        with pytest.raises(RecipientSuppressed, match=r"gone@acme\.test is suppressed: complaint"):
            send(mailbox, "gone@acme.test")

    def test_suppressed_recipients_need_no_place_in_the_limit(
        self, make_mailbox: MakeMailbox, send: Send, suppress: Suppress
    ) -> None:
        mailbox = make_mailbox("small", daily_send_limit=1)
        suppress("gone@acme.test")
        assert len(send(mailbox, "gone@acme.test", "there@acme.test")) == 2

    def test_it_is_the_organizations_own(
        self, make_mailbox: MakeMailbox, stranger: Organization, send: Send, suppress: Suppress
    ) -> None:
        suppress("gone@acme.test")
        assert send(make_mailbox("eve", of=stranger), "gone@acme.test")[0].status == "queued"

    def test_an_entry_ends_at_its_time(self, mailbox: Mailbox, send: Send, suppress: Suppress, now: datetime) -> None:
        entry = suppress("gone@acme.test", expires_at=now + timedelta(hours=1))
        with pytest.raises(RecipientSuppressed):
            send(mailbox, "gone@acme.test")
        Suppression.objects.filter(id=entry.id).update(expires_at=timezone.now())
        assert send(mailbox, "gone@acme.test")[0].status == "queued"
        assert forget_expired(now=timezone.now()) == 1
        forget_expired_suppressions(something_new=1)

    def test_a_removed_address_can_be_written_to_again(self, mailbox: Mailbox, send: Send, suppress: Suppress) -> None:
        entry = suppress("gone@acme.test")
        remove_suppression(suppression=entry)
        assert send(mailbox, "gone@acme.test")[0].status == "queued"
        with pytest.raises(NotFound):
            remove_suppression(suppression=entry)

    def test_names_are_compared_by_their_keys(
        self, mailbox: Mailbox, send: Send, suppress: Suppress, organization: Organization, now: datetime
    ) -> None:
        suppress("Jörg@BÜCHER.example")
        assert list(find_suppressed(organization_id=organization.id, keys=["jörg@xn--bcher-kva.example"], now=now))
        with pytest.raises(RecipientSuppressed):
            send(mailbox, "jörg@bücher.example")
        assert send(mailbox, "jörg+x@bücher.example")[0].status == "queued"  # there + may mean anything

    def test_a_send_asks_once_for_all_its_recipients(self, mailbox: Mailbox, send: Send) -> None:
        with CaptureQueriesContext(connection) as queries:
            send(mailbox, *(f"r{number}@acme.test" for number in range(50)))
        assert sum("delivery_suppression" in query["sql"] for query in queries.captured_queries) == 1


SOON, LATER = timedelta(days=1), timedelta(days=9)


class TestWhatOutweighsWhat:
    @pytest.mark.parametrize(
        ("known", "told", "left"),
        [
            (("manual", None), ("hard_bounce", None), ("manual", None)),
            (("hard_bounce", None), ("manual", None), ("hard_bounce", None)),
            (("hard_bounce", None), ("complaint", None), ("complaint", None)),
            (("manual", None), ("unsubscribe", None), ("unsubscribe", None)),
            (("complaint", None), ("unsubscribe", None), ("complaint", None)),
            (("unsubscribe", None), ("hard_bounce", None), ("unsubscribe", None)),
            (("unsubscribe", None), ("manual", SOON), ("unsubscribe", None)),
            (("manual", SOON), ("hard_bounce", None), ("hard_bounce", None)),
            (("hard_bounce", SOON), ("hard_bounce", LATER), ("hard_bounce", LATER)),
            (("hard_bounce", LATER), ("hard_bounce", SOON), ("hard_bounce", LATER)),
            (("manual", LATER), ("manual", SOON), ("manual", SOON)),  # by hand and by hand again: an edit
        ],
    )
    def test_what_holds_longer_and_what_the_recipient_said(
        self,
        organization: Organization,
        now: datetime,
        known: tuple[str, timedelta | None],
        told: tuple[str, timedelta | None],
        left: tuple[str, timedelta | None],
    ) -> None:
        for reason, kept_for in (known, told):
            entry = NewSuppression("a@acme.test", reason, "x", now + kept_for if kept_for else None)
            suppress_addresses(entries=[(organization.id, entry)], now=now)
        row = Suppression.objects.get()
        assert (row.reason, row.expires_at) == (left[0], now + left[1] if left[1] else None)

    def test_an_edit_keeps_the_id_and_a_new_reason_is_a_new_entry(
        self, organization: Organization, suppress: Suppress
    ) -> None:
        first = suppress("a@acme.test", source="by phone")
        second, created = create_suppression(
            organization=organization, wanted=NewSuppression("A@acme.test", source="by letter"), now=timezone.now()
        )
        assert (second.id, second.source, created) == (first.id, "by letter", False)
        third = suppress("a@acme.test", reason="complaint")
        assert third.id != first.id
        assert third.created_at > first.created_at

    def test_an_entry_that_is_over_is_like_none(self, organization: Organization, suppress: Suppress) -> None:
        old = suppress("a@acme.test", reason="unsubscribe")
        Suppression.objects.update(expires_at=timezone.now())
        entry, created = create_suppression(
            organization=organization, wanted=NewSuppression("a@acme.test"), now=timezone.now()
        )
        assert created
        assert (entry.reason, entry.expires_at) == ("manual", None)
        assert entry.id != old.id

    def test_of_two_in_one_batch_the_first_counts(self, organization: Organization) -> None:
        entries = [NewSuppression("a@acme.test", source="first"), NewSuppression("A@ACME.test", source="second")]
        assert import_suppressions(organization=organization, wanted=entries, now=timezone.now()) == 1
        assert Suppression.objects.get().source == "first"


@pytest.mark.parametrize(
    ("entry", "field"),
    [
        (NewSuppression("nobody"), "address"),
        (NewSuppression("a@acme.test\n"), "address"),
        (NewSuppression("a@acme.test", "dislike"), "reason"),
        (NewSuppression("a@acme.test", source="x" * 501), "source"),
        (NewSuppression("a@acme.test", source="a\nb"), "source"),
        (NewSuppression("a@acme.test", expires_at=timezone.now() - timedelta(days=1)), "expires_at"),
    ],
)
def test_a_bad_entry_is_refused_by_field_and_keeps_a_whole_import_out(
    organization: Organization, entry: NewSuppression, field: str
) -> None:
    now = timezone.now()
    with pytest.raises(ValidationFailed) as refused:
        create_suppression(organization=organization, wanted=entry, now=now)
    assert refused.value.data["details"][0]["field"] == field
    with pytest.raises(DomainError) as refused_all:
        import_suppressions(organization=organization, wanted=[NewSuppression("b@acme.test"), entry], now=now)
    assert [detail["field"] for detail in refused_all.value.data["details"]] == [f"suppressions[1].{field}"]
    assert not Suppression.objects.exists()


def test_a_thousand_are_imported_by_one_statement(organization: Organization) -> None:
    entries = [NewSuppression(f"r{number}@acme.test") for number in range(1000)]
    with CaptureQueriesContext(connection) as queries:
        assert import_suppressions(organization=organization, wanted=entries, now=timezone.now()) == 1000
    assert len(queries) == 1
    with pytest.raises(ValidationFailed):
        import_suppressions(organization=organization, wanted=[*entries, entries[0]], now=timezone.now())
