"""Ids: ordered by age, written as TypeIDs, and never a way to break a query."""

from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.core.ids import decode_id, encode_id, id_floor, new_id

EXAMPLE = UUID("01890a5d-ac96-774b-bcce-b302099a8057")  # of the TypeID specification, with its text


def test_ids_are_uuids_of_version_7_in_growing_order() -> None:
    ids = [new_id() for _ in range(10_000)]

    assert {value.version for value in ids} == {7}
    assert ids == sorted(set(ids))


def test_the_text_is_that_of_the_typeid_specification() -> None:
    assert encode_id("prefix", EXAMPLE) == "prefix_01h455vb4pex5vsknk084sn02q"
    assert encode_id("inbox", UUID(int=0)) == "inbox_00000000000000000000000000"
    assert encode_id("inbox", UUID(int=2**128 - 1)) == "inbox_7zzzzzzzzzzzzzzzzzzzzzzzzz"


@given(st.uuids())
def test_what_is_written_is_read_back(value: UUID) -> None:
    assert decode_id("msg", encode_id("msg", value)) == value


@given(st.uuids(), st.uuids())
def test_text_sorts_as_the_id_does(one: UUID, other: UUID) -> None:
    assert (encode_id("evt", one) < encode_id("evt", other)) == (one < other)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "_",
        "inbox",
        "inbox_",
        "01h455vb4pex5vsknk084sn02q",
        "_01h455vb4pex5vsknk084sn02q",
        "msg_01h455vb4pex5vsknk084sn02q",
        "Inbox_01h455vb4pex5vsknk084sn02q",
        "inbox_01H455VB4PEX5VSKNK084SN02Q",
        "inbox_01h455vb4pex5vsknk084sn02",
        "inbox_01h455vb4pex5vsknk084sn02qq",
        "inbox_81h455vb4pex5vsknk084sn02q",
        "inbox_zzzzzzzzzzzzzzzzzzzzzzzzzz",
        "inbox_01h455vb4pex5vsknk084sn0il",
        "inbox_01h455vb4pex5vsknk084sn0\0q",
        "inbox_01h455vb4pex5vsknk084sn0\udc80q",
        "inbox_٠١٢٣٤٥٦٧٨٩٠١٢٣٤٥٦٧٨٩٠١٢٣٤٥",
        str(EXAMPLE),
        "inbox_" + "0" * 10_000_000,
    ],
)
def test_what_is_no_id_of_that_prefix_is_none(text: str) -> None:
    assert decode_id("inbox", text) is None


@given(st.text(max_size=40))
def test_no_text_breaks_the_reading(text: str) -> None:
    decode_id("inbox", text)
    decode_id("inbox", f"inbox_{text}")


def test_the_floor_of_a_moment_is_at_or_below_every_id_made_from_then_on() -> None:
    before = datetime.now(UTC)
    value = new_id()

    assert id_floor(before) <= value < id_floor(datetime.now(UTC) + timedelta(milliseconds=1))


@given(st.integers(0, 2**40))
def test_the_floor_is_exact_to_the_millisecond(milliseconds: int) -> None:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds)

    assert id_floor(moment).int >> 80 == milliseconds


@pytest.mark.parametrize(
    "moment",
    [
        datetime(1, 1, 1, tzinfo=UTC),
        datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14))),
        datetime(1969, 12, 31, tzinfo=UTC),
        datetime(9999, 12, 31, 23, 59, 59, tzinfo=timezone(-timedelta(hours=12))),
    ],
)
def test_any_moment_that_a_client_can_name_has_a_floor(moment: datetime) -> None:
    assert UUID(int=0) <= id_floor(moment) <= UUID(int=2**128 - 1)
