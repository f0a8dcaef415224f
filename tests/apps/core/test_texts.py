"""What comes from a client is refused by name before the database would choke on it."""

from typing import Any

import pytest
from django.db import connection
from hypothesis import given
from hypothesis import strategies as st

from apps.core.errors import ValidationFailed
from apps.core.texts import check_json, check_line, check_text


def deep(depth: int) -> Any:
    value: Any = "x"
    for number in range(depth):
        value = [value] if number % 2 else {"a": value}
    return value


@pytest.mark.parametrize("value", ["", "plain", "ünïcode 🐟", "line\nbreak", "x" * 100, '\\u0000 \\x00 "'])
def test_text_that_can_be_stored_passes(value: str) -> None:
    assert check_text("name", value, most=100) == value


@pytest.mark.parametrize("value", ["\0", "a\0b", "\ud800", "\udc80", "x" * 101, "\0" * 10_000_000])
def test_text_that_cannot_is_refused_with_its_field_named(value: str) -> None:
    with pytest.raises(ValidationFailed) as caught:
        check_text("display_name", value, most=100)

    assert caught.value.data["details"][0]["field"] == "display_name"
    assert len(str(caught.value)) < 200
    str(caught.value).encode()


def test_a_least_length_holds() -> None:
    with pytest.raises(ValidationFailed, match="1 to 256"):
        check_text("client_id", "", most=256, least=1)


@pytest.mark.parametrize("value", ["a\rb", "a\nb", "\r\nBcc: x@example.com", "a\0"])
def test_a_line_holds_no_line_break(value: str) -> None:
    with pytest.raises(ValidationFailed):
        check_line("display_name", value, most=100)


@pytest.mark.parametrize(
    "value",
    [{}, {"a": None}, {"a": [1, 2.5, True, "ü"]}, {"pattern": r"\x00 \u0000 \ud800"}, deep(20), {"n": 10**300}],
)
def test_json_that_can_be_stored_passes(value: Any) -> None:
    check_json("metadata", value, most=1000)


@pytest.mark.parametrize(
    "value",
    [
        {"a": "\0"},
        {"\0": "a"},
        {"a": {"b": ["\ud800"]}},
        {"\udc80": 1},
        {"a": float("nan")},
        {"a": [float("inf")]},
        {"a": -1e400},
        {"a": 10**5000},
        {"a": object()},
        {"a": b"octets"},
        {"a": "x" * 1000},
        deep(21),
        deep(100_000),
    ],
)
def test_json_that_cannot_is_refused(value: Any) -> None:
    with pytest.raises(ValidationFailed) as caught:
        check_json("metadata", value, most=1000)

    assert caught.value.data["details"][0]["field"] == "metadata"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(), max_size=3), inner, max_size=3)
    ),
    max_leaves=5,
)


@pytest.mark.django_db
def test_whatever_passes_is_taken_by_postgresql() -> None:
    import json

    @given(json_values)
    def store(value: Any) -> None:
        try:
            check_json("metadata", value, most=10_000)
        except ValidationFailed:
            return
        with connection.cursor() as cursor:
            cursor.execute("SELECT %s::jsonb", [json.dumps(value)])

    store()
