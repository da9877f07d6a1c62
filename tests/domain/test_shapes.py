"""Nested objects and lists: made flat, and nothing lost without being told."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.shapes import MAX_LEVELS, MAX_NESTED_VALUES, flat_metadata, flat_traits
from domain.texts import trimmed


def names(refused: list[Any]) -> list[str]:
    return [one.name for one in refused]


@pytest.mark.parametrize(
    ("sent", "flat"),
    [
        ({"plan": "pro", "tags": ["a"], "seats": 3, "city": None}, None),
        ({"at": {"city": "Ghent", "geo": {"lat": 5.5}}}, {"at.city": "Ghent", "at.geo.lat": 5.5}),
        ({"address": {"city": None}}, {"address.city": None}),
        ({"address": {}, "plan": "pro"}, {"plan": "pro"}),
        ({"address": {"geo": {}, "lines": []}}, {}),
        ({"tags": []}, None),
        ({"scores": [1, 2.0, 2.5]}, {"scores": ["1", "2", "2.5"]}),
        ({"mixed": ["a", 1, True, None, "b"]}, {"mixed": ["a", "1", "true", "b"]}),
        ({"orders": [{"id": 7, "é": [1]}]}, {"orders": ['{"id":7,"é":[1]}']}),
        ({"grid": [[1, 2], [3]]}, {"grid": ["[1,2]", "[3]"]}),
        ({" plan ": "pro", "a": {"\u200bcity ": "x"}}, {"plan": "pro", "a.city": "x"}),
        ({"cafe\u0301": 1}, {"café": 1}),
        ({"address.city": "Ghent"}, None),
    ],
)  # fmt: skip
def test_a_traits_object_is_flat_after_reading(
    sent: dict[str, object], flat: dict[str, object] | None
) -> None:
    assert flat_traits(sent) == (sent if flat is None else flat, [])


@pytest.mark.parametrize(
    ("sent", "flat"),
    [
        ({"amount": 3, "note": ""}, None),
        ({"cart": {"sum": 9.5, "of": [{"id": 1}]}}, {"cart.sum": 9.5, "cart.of": '[{"id":1}]'}),
        ({"ids": [1, 2], "tags": ["a"], "none": []}, {"ids": "[1,2]", "tags": '["a"]'}),
        ({"meta": {}}, {}),
    ],
)  # fmt: skip
def test_the_properties_of_an_event_hold_lists_as_their_json_text(
    sent: dict[str, object], flat: dict[str, object] | None
) -> None:
    assert flat_metadata(sent) == (sent if flat is None else flat, [])


@pytest.mark.parametrize(
    "sent",
    [
        {"address": {"city": "nested"}, "address.city": "flat"},
        {"address.city": "flat", "address": {"city": "nested"}},
        {" address.city": "nested", "address.city": "flat"},
        {"a": {"b ": 1, "b": 2}, "address.city": "flat"},
    ],
)
def test_of_two_values_under_one_name_the_flat_one_holds_and_the_other_is_told(
    sent: dict[str, object],
) -> None:
    for flat, refused in (flat_traits(sent), flat_metadata(sent)):
        assert flat["address.city"] == "flat"
        assert names(refused) in (["address.city"], ["a.b"])


def test_what_lies_too_deep_is_left_out_by_name_and_the_rest_is_kept() -> None:
    nested: dict[str, object] = {"at": "end"}
    for level in range(MAX_LEVELS, 1, -1):
        nested = {f"n{level}": nested, "kept": level}
    flat, refused = flat_traits({"n1": nested})
    assert names(refused) == ["n1.n2.n3.n4.n5.n6.n7.n8"]
    assert sorted(flat.values()) == list(range(2, MAX_LEVELS + 1))  # type: ignore[type-var]
    assert max(name.count(".") for name in flat) == MAX_LEVELS - 1


def test_values_beyond_the_number_that_is_taken_are_told_and_flat_ones_are_kept() -> None:
    many = {f"k{n}": n for n in range(MAX_NESTED_VALUES + 10)}
    flat, refused = flat_traits({"many": many, "also": {"x": 1}, "plan": "pro"})
    assert len(flat) == MAX_NESTED_VALUES + 1
    assert flat["plan"] == "pro"
    assert names(refused) == ["many", "also"]
    assert flat_traits(many) == (many, [])


def test_an_empty_name_within_a_nested_object_is_told() -> None:
    flat, refused = flat_traits({"a": {"": 1, " ": 2, "b": 3}, "": {"c": 4}})
    assert flat == {"a.b": 3}
    assert names(refused) == ["a.", "a.", ".c"]


parts = st.text(min_size=1, max_size=4).filter(trimmed)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(parts, inner),
    max_leaves=12,
)


@given(st.dictionaries(parts, json_values, max_size=5))
def test_every_value_is_kept_or_told_and_what_is_flat_stays(sent: dict[str, object]) -> None:
    def leaves(value: object) -> int:
        if isinstance(value, dict):
            return sum(leaves(inner) for inner in value.values() if inner != [])
        return 1

    flat, refused = flat_traits(sent)
    assert len(flat) + len(refused) == sum(leaves(value) for value in sent.values())
    assert all(not isinstance(value, dict) for value in flat.values())
    assert all(
        isinstance(item, str)
        for value in flat.values()
        if isinstance(value, list)
        for item in value
    )
    assert flat_traits(flat) == (flat, [])
    plain, refused = flat_metadata(sent)
    assert all(not isinstance(value, dict | list) for value in plain.values())
