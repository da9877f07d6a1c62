"""Names in definitions and saved views: found wherever they stand, taken out without a trace, and
nothing else is touched."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.calendar import Moment
from domain.conditions import language as ask
from domain.conditions.evaluation import Facts, World, holds
from domain.conditions.language import Attribute
from domain.definitions.destinations import Destination, Subscription, SubscriptionKind
from domain.definitions.links import Link
from domain.definitions.saved_views import SavedView
from domain.definitions.types import (
    Score,
    ScoreRule,
    Segment,
    Settings,
    Signal,
    Stage,
    Stages,
    StageType,
)
from domain.erasure.redaction import MARK, Names, without
from domain.identity import Identity, Scheme, SubjectKind

USER, ACCOUNT = SubjectKind.USER, SubjectKind.ACCOUNT
ANN = [
    Identity(Scheme.USER_ID, "u-17"),
    Identity(Scheme.EMAIL, "Ann@x.org"),
]
NAMES = Names(ANN)


def email(test: ask.Test) -> ask.Condition:
    return ask.AttributeIs(ask.Attribute.EMAIL, test)


def external(test: ask.Test) -> ask.Condition:
    return ask.AttributeIs(ask.Attribute.EXTERNAL_ID, test)


@pytest.mark.parametrize(
    ("content", "places"),
    [
        (Segment(USER, "of one", email(ask.Is("ann@X.org"))), ["/condition/test/value"]),
        (Segment(USER, "list", external(ask.In(["u-1", "u-17"]))), ["/condition/test/values/1"]),
        (Segment(USER, "call ann@x.org, soon", None), ["/name"]),
        (
            Segment(
                ACCOUNT, "hers", ask.OfUsers(ask.AnyOf(), ask.Not(external(ask.IsNot("u-17"))))
            ),
            ["/condition/where/of/test/value"],
        ),
        (
            Stages(
                USER, "s", [Stage("Ann", StageType.FREE, email(ask.Contains("mail ann@x.org")))]
            ),
            ["/stages/0/condition/test/value"],
        ),
        (
            Score(USER, "s", [ScoreRule("r", 1, ask.PropertyIs("p", ask.NotIn(["ann@x.org"])))]),
            ["/rules/0/condition/test/values/0"],
        ),
        (
            Signal(
                USER,
                "s",
                ask.Did("event", "x", where=[ask.MetadataIs("by", ask.Is("ann@x.org"))]),
                goal=email(ask.StartsWith("ann@x.org")),
                goal_hours=1,
            ),
            ["/condition/where/0/test/value", "/goal/test/value"],
        ),
        (Settings(links=[Link(USER, "ann@x.org", "https://a.example")]), ["/links/0/name"]),
        (
            Destination(
                "d",
                "https://a.example/?for=ann@x.org",
                [Subscription(SubscriptionKind.EVENT, ["ann@x.org"])],
            ),
            ["/url", "/news/0/names/0"],
        ),
        (
            SavedView(USER, "mine", "name", filter=ask.AllOf([email(ask.Is("ann@x.org"))])),
            ["/filter/of/0/test/value"],
        ),
    ],
)
def test_a_name_is_found_where_it_stands_and_is_gone_from_what_is_left(
    content: msgspec.Struct, places: list[str]
) -> None:
    clean, pointers = without(content, NAMES)
    assert pointers == places
    text = msgspec.json.encode(clean).decode().casefold()
    assert "ann@x.org" not in text
    assert "u-17" not in text
    assert MARK in text
    assert without(clean, NAMES) == (clean, [])


@pytest.mark.parametrize(
    "content",
    [
        Segment(USER, "others", email(ask.Is("joann@x.org"))),
        Segment(USER, "others", email(ask.Is("ann@x.organic.example"))),
        Segment(USER, "all of a host", email(ask.Contains("@x.org"))),
        Segment(USER, "ids that begin so", external(ask.StartsWith("u-17"))),
        Segment(ACCOUNT, "an account's id", external(ask.Is("u-17"))),
        Segment(USER, "its users", ask.OfAccounts(ask.AnyOf(), external(ask.Is("u-17")))),
        Segment(USER, "another thing", ask.PropertyIs("plan", ask.Is("u-17"))),
        Segment(USER, "u-17", None),
    ],
)
def test_what_only_looks_alike_stays(content: Segment) -> None:
    assert without(content, NAMES) == (content, [])


def test_a_domain_is_a_name_where_accounts_are_asked_for_it() -> None:
    names = Names([Identity(Scheme.DOMAIN, "acme.example")])
    condition = ask.AttributeIs(ask.Attribute.DOMAIN, ask.Is("ACME.example"))
    clean, places = without(Segment(ACCOUNT, "one", condition), names)
    assert (places, "acme" in str(clean).casefold()) == (["/condition/test/value"], False)
    mails = Segment(USER, "its mails", email(ask.Contains("acme.example")))
    assert without(mails, names) == (mails, [])


TESTS = st.sampled_from(
    [
        ask.Is("ann@x.org"),
        ask.IsNot("u-17"),
        ask.In(["ben@x.org", "ann@x.org"]),
        ask.NotIn(["u-17"]),
    ]
)
ASKED = st.recursive(
    st.builds(
        ask.AttributeIs,
        st.sampled_from([ask.Attribute.EMAIL, ask.Attribute.EXTERNAL_ID]),
        TESTS,
    ),
    lambda inner: st.one_of(
        st.builds(ask.Not, inner),
        st.builds(ask.AllOf, st.lists(inner, max_size=3)),
        st.builds(ask.OneOf, st.lists(inner, max_size=3)),
    ),
    max_leaves=6,
)


@given(condition=ASKED)
def test_nobody_else_is_answered_otherwise(condition: ask.Condition) -> None:
    segment = Segment(USER, "s", condition)
    clean, _ = without(segment, NAMES)
    assert clean.condition is not None
    for id, mail in (("u-18", "ben@x.org"), ("u-1", None), (None, "joann@x.org")):
        attributes = {Attribute.EXTERNAL_ID: id, Attribute.EMAIL: mail}
        facts = Facts(USER, attributes={k: v for k, v in attributes.items() if v is not None})
        who, moment = uuid.uuid4(), Moment(datetime(2026, 5, 13, tzinfo=UTC), UTC)
        world = World({who: facts})
        assert holds(condition, who, world, moment) == holds(clean.condition, who, world, moment)
