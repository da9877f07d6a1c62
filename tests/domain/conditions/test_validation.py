"""A condition that cannot be asked is refused, with the exact place and what would do."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.conditions import language as ask
from domain.conditions.decoding import decode
from domain.conditions.validation import check
from domain.errors import InvalidInput
from domain.identity import SubjectKind
from domain.properties import PropertyType
from tests.random_conditions import conditions

OF_USERS, OF_ACCOUNTS = UUID(int=1), UUID(int=2)
USER, ACCOUNT = SubjectKind.USER, SubjectKind.ACCOUNT


class Known:
    """A vocabulary of a few names."""

    def properties(self, kind: SubjectKind) -> Mapping[str, PropertyType]:
        if kind is ACCOUNT:
            return {"mrr": PropertyType.NUMBER}
        return {
            "plan": PropertyType.STRING,
            "seats": PropertyType.NUMBER,
            "vip": PropertyType.BOOLEAN,
            "born": PropertyType.DATE,
            "tags": PropertyType.LIST,
        }

    def activities(self, activity: str) -> Collection[str]:
        return {"event": ("signed_up", "paid"), "screen": ("Home",)}[activity]

    def segments(self) -> Mapping[UUID, SubjectKind]:
        return {OF_USERS: USER, OF_ACCOUNTS: ACCOUNT}

    def stages(self, kind: SubjectKind) -> Collection[str]:
        return ("trial", "paying")

    def scores(self, kind: SubjectKind) -> Collection[str]:
        return ("engagement",)

    def signals(self, kind: SubjectKind) -> Collection[str]:
        return ("ready to buy",)


def of_property(name: str, **test: Any) -> dict[str, Any]:
    return {"type": "property", "name": name, "test": test}


def did(**more: Any) -> dict[str, Any]:
    return {"type": "activity", "activity": "event", "name": "paid"} | more


def refusal(sent: Any, kind: SubjectKind = USER) -> InvalidInput:
    raw = sent if isinstance(sent, bytes) else json.dumps(sent).encode()
    with pytest.raises(InvalidInput) as caught:
        check(decode(raw), kind, Known())
    return caught.value


def pointed_at(document: Any, place: str) -> Any:
    """What a JSON pointer means."""
    for escaped in place.split("/")[1:]:
        step = escaped.replace("~1", "/").replace("~0", "~")
        document = document[int(step)] if isinstance(document, list) else document[step]
    return document


@pytest.mark.parametrize(
    ("sent", "place", "says"),
    [
        ({"type": "al", "of": []}, "/type", "did you mean all"),
        ({"of": []}, "", "missing required field type"),
        ([], "", "expected object"),
        (of_property("plan", op="is_"), "/test/op", "did you mean is"),
        (of_property("plan", op="is"), "/test", "missing required field value"),
        (of_property("plan", op="is", value=None), "/test/value", "got null"),
        (of_property("plan", op="is", value="pro", case=False), "/test", "unknown field case"),
        (of_property("pln", op="is_set"), "/name", "did you mean plan?"),
        (of_property("", op="is_set"), "/name", "length >= 1"),
        (of_property("plan", op="greater", value=1), "/test/op", "what fits is is, is_not"),
        (of_property("seats", op="contains", value="1"), "/test/op", "does not fit"),
        (of_property("born", op="is", value="2026-05-13"), "/test/op", "in_period"),
        (of_property("vip", op="is", value="true"), "/test/value", "expected a boolean"),
        (of_property("seats", op="is", value=True), "/test/value", "expected a number"),
        (of_property("plan", op="is", value=5), "/test/value", "expected a string"),
        (of_property("plan", op="in", values=["a", 5]), "/test/values/1", "expected a string"),
        (of_property("plan", op="in", values=[]), "/test/values", "length >= 1"),
        (of_property("plan", op="is", value="a\0"), "/test/value", "NUL"),
        (of_property("plan", op="is", value="a" * 9_000), "/test/value", "8192"),
        (of_property("seats", op="less", value=2**70), "/test/value", "64 bits"),
        (of_property("seats", op="between", low=2, high=1), "/test/high", "swap"),
        (of_property("born", op="before", at="soon"), "/test/at", "Invalid isoformat"),
        (of_property("born", op="before", at="2026-02-30"), "/test/at", "day is out of range"),
        (of_property("born", op="after", at="2026-05-13T10:00"), "/test/at", "no zone"),
        (of_property("born", op="in_next_days", days=0), "/test/days", ">= 1"),
        (of_property("born", op="in_next_days", days=40_000), "/test/days", "<= 36525"),
        (
            of_property("born", op="in_period", period={"type": "last_dais", "days": 3}),
            "/test/period/type",
            "did you mean last_days",
        ),
        (
            of_property(
                "born",
                op="in_period",
                period={"type": "between", "first": "2026-05-02", "last": "2026-05-01"},
            ),
            "/test/period/last",
            "before it begins",
        ),
        (did(name="payed"), "/name", "did you mean paid?"),
        (did(activity="screen", name="home"), "/name", "did you mean Home?"),
        (did(activity="evnt"), "/activity", "did you mean event?"),
        (did(count={"op": "atleast", "times": 1}), "/count/op", "did you mean at_least"),
        (did(count={"op": "at_least", "times": -1}), "/count/times", ">= 0"),
        (did(count={"op": "at_least", "times": 1.5}), "/count/times", "expected int"),
        (did(period={"type": "since", "day": "2026-13-01"}), "/period/day", "date"),
        (did(period={"type": "since", "day": "0001-01-01"}), "/period/day", "years 2 to 9998"),
        (
            did(where=[{"name": "sum", "test": {"op": "in_next_days", "days": 1}}]),
            "/where/0/test/op",
            "does not fit metadata",
        ),
        ({"type": "stage", "stages": [None, "payin"]}, "/stages/1", "did you mean paying?"),
        ({"type": "stage", "stages": []}, "/stages", "length >= 1"),
        ({"type": "health", "health": ["fine"]}, "/health/0", "'fine'"),
        (
            {"type": "score", "score": "engagment", "test": {"op": "less", "value": 5}},
            "/score",
            "did you mean engagement?",
        ),
        (
            {"type": "score", "score": "engagement", "test": {"op": "contains", "value": "5"}},
            "/test/op",
            "does not fit",
        ),
        ({"type": "signal", "signal": "buys", "on": True}, "/signal", "there is ready to buy"),
        ({"type": "segment", "segment": "x"}, "/segment", "invalid UUID"),
        ({"type": "segment", "segment": str(UUID(int=9))}, "/segment", "no such segment"),
        ({"type": "segment", "segment": str(OF_ACCOUNTS)}, "/segment", "a segment of accounts"),
        ({"type": "membership", "role": "\ud800"}, "", "no JSON"),
        ({"type": "attribute", "name": "emial", "test": {"op": "is_set"}}, "/name", "email"),
        ({"type": "attribute", "name": "domain", "test": {"op": "is_set"}}, "/name", "have no"),
        (
            {"type": "users", "quantifier": {"op": "any"}, "where": did()},
            "/type",
            "a question about users",
        ),
        (
            {"type": "accounts", "quantifier": {"op": "all"}, "where": did()},
            "/quantifier/op",
            "there are any, at_least, every",
        ),
    ],
)
def test_a_refusal_names_the_place_and_what_would_do(sent: Any, place: str, says: str) -> None:
    for around, at in (
        ({"type": "all", "of": [{"type": "health", "health": ["bad"]}, sent]}, "/of/1"),
        ({"type": "not", "of": {"type": "any", "of": [sent]}}, "/of/of/0"),
        (sent, ""),
    ):
        refused = refusal(around)
        assert says in refused.detail
        if "no JSON" not in says:
            assert refused.pointer == at + place
            pointed_at(around, refused.pointer)


def test_places_go_on_into_the_other_kind() -> None:
    sent = {
        "type": "users",
        "quantifier": {"op": "every"},
        "where": {"type": "accounts", "quantifier": {"op": "any"}, "where": did(name="x")},
    }
    assert refusal(sent, ACCOUNT).pointer == "/where/where/name"
    sent["where"] = of_property("mrr", op="is_set")
    refused = refusal(sent, ACCOUNT)
    assert (refused.pointer, "property of users" in refused.detail) == ("/where/name", True)


def test_the_places_begin_where_the_condition_stands() -> None:
    with pytest.raises(InvalidInput) as caught:
        check(decode(b'{"type": "not", "of": 5}', "/condition"), USER, Known(), "/condition")
    assert caught.value.pointer == "/condition/of"
    condition = decode(json.dumps(did(name="x")).encode(), "/condition")
    with pytest.raises(InvalidInput) as caught:
        check(condition, USER, Known(), "/condition")
    assert caught.value.pointer == "/condition/name"


def nested(levels: int) -> dict[str, Any]:
    condition: dict[str, Any] = did()
    for _ in range(levels - 1):
        condition = {"type": "all", "of": [condition]}
    return condition


def test_as_deep_as_allowed_is_taken_and_deeper_is_refused_at_the_first_part_too_deep() -> None:
    check(decode(json.dumps(nested(ask.MAX_DEPTH)).encode()), USER, Known())
    for levels in (ask.MAX_DEPTH + 1, ask.MAX_DEPTH + 2):
        refused = refusal(nested(levels))
        assert refused.pointer == "/of/0" * ask.MAX_DEPTH
        assert "deeper than 12 levels" in refused.detail


@pytest.mark.parametrize("levels", [40, 10_000, 200_000])
@pytest.mark.parametrize(
    ("opens", "closes"),
    [(b'{"type":"not","of":', b"}"), (b'{"type":"all","of":[', b"]}"), (b"[", b"]"), (b"{", b"")],
)
def test_nesting_without_end_is_refused_before_it_can_hurt(
    opens: bytes, closes: bytes, levels: int
) -> None:
    refused = refusal(opens * levels + b'{"type":"stage"}' + closes * levels)
    assert "nested deeper" in refused.detail
    assert 0 < len(refused.pointer) < 300


def test_conditions_made_in_python_are_measured_too() -> None:
    condition: ask.Condition = ask.HealthIs([ask.Health.BAD])
    for _ in range(5_000):
        condition = ask.Not(condition)
    with pytest.raises(InvalidInput, match="nested deeper"):
        check(condition, USER, Known())


def test_too_large_a_condition_is_refused_at_the_first_part_too_many() -> None:
    most = {"type": "any", "of": [did()] * (ask.MAX_NODES - 1)}
    check(decode(json.dumps(most).encode()), USER, Known())
    most["of"] = [did()] * ask.MAX_NODES
    refused = refusal(most)
    assert refused.pointer == f"/of/{ask.MAX_NODES - 1}"
    assert "more than 500 parts" in refused.detail


@pytest.mark.parametrize("raw", [b"", b"\xff", b'{"type": "not"', b"nul", b'"\xc3"', b"{}{}"])
def test_what_is_no_json_is_refused(raw: bytes) -> None:
    assert refusal(raw).pointer == ""


@given(st.binary(max_size=200))
def test_any_bytes_are_a_condition_or_refused(raw: bytes) -> None:
    with suppress(InvalidInput):
        decode(raw)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
    | st.sampled_from(["all", "property", "op", "is", "between", "last_days", "activity"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["type", "of", "name", "test", "op", "value", "count", "period", "days"]),
        inner,
        max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip


@given(json_values)
def test_any_json_is_a_condition_or_refused_at_a_place_that_is_there(sent: Any) -> None:
    try:
        check(decode(json.dumps(sent).encode()), USER, Known())
    except InvalidInput as refused:
        if "no JSON" not in refused.detail:
            pointed_at(sent, refused.pointer)


@given(conditions(USER) | conditions(ACCOUNT))
def test_a_condition_is_the_same_after_a_turn_through_json(condition: ask.Condition) -> None:
    assert decode(msgspec.json.encode(condition)) == condition


def test_what_fits_is_taken() -> None:
    taken = [
        of_property("plan", op="in", values=["pro", ""]),
        of_property("seats", op="between", low=1, high=1.0),
        of_property("vip", op="is_not", value=True),
        of_property("born", op="before", at="2026-05-13T10:00:00+02:00"),
        of_property("tags", op="contains", value="x"),
        did(activity="page", name="never seen/"),
        did(where=[{"name": "sum", "test": {"op": "greater", "value": 5}}]),
        {"type": "stage", "stages": [None]},
        {"type": "segment", "segment": str(OF_USERS)},
        {"type": "accounts", "quantifier": {"op": "any"}, "where": of_property("mrr", op="is_set")},
    ]
    check(decode(json.dumps({"type": "all", "of": taken}).encode()), USER, Known())
