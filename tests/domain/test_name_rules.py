"""Rules about names: which are retired since when, and which type an admin gave to a property."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from domain.identity import SubjectKind
from domain.name_rules import CatalogueName, NameRules, NameScope, Retired, property_scope
from domain.properties import PropertyType

AT, BY = datetime(2026, 5, 13, tzinfo=UTC), uuid.UUID(int=1)
names = st.lists(st.sampled_from("abc"), unique=True, max_size=3)
scopes = st.sampled_from(NameScope)


def test_a_name_is_retired_in_its_scope_alone() -> None:
    rules = NameRules().retire(NameScope.EVENT, ["ping"], AT, BY)
    assert rules.retired_since("event", "ping") == Retired(AT, BY)
    assert rules.retired_since("screen", "ping") is None
    assert rules.retired_since("page", "ping") is None


def test_a_property_has_the_type_that_an_admin_gave_last() -> None:
    rules = NameRules().change_type(NameScope.USER_PROPERTY, "seats", PropertyType.STRING)
    rules = rules.change_type(NameScope.USER_PROPERTY, "seats", PropertyType.NUMBER)
    assert rules.type_of("user.property", "seats") is PropertyType.NUMBER
    assert rules.type_of("account.property", "seats") is None
    assert rules.type_of("page", "seats") is None
    assert rules.types_of(SubjectKind.USER) == {"seats": PropertyType.NUMBER}
    assert rules.types_of(SubjectKind.ACCOUNT) == {}


def test_scopes_are_named_in_words() -> None:
    assert [scope.in_words for scope in NameScope] == [
        "user property",
        "account property",
        "membership property",
        "event",
        "screen",
    ]
    assert {property_scope(kind) for kind in SubjectKind} == {
        NameScope.USER_PROPERTY,
        NameScope.ACCOUNT_PROPERTY,
    }


@given(st.lists(st.tuples(scopes, names, st.booleans()), max_size=8))
def test_the_last_decision_about_a_name_holds(
    decisions: list[tuple[NameScope, list[str], bool]],
) -> None:
    rules, expected = NameRules(), set[CatalogueName]()
    for scope, some, retires in decisions:
        mentioned = {CatalogueName(scope, name) for name in some}
        if retires:
            rules, expected = rules.retire(scope, some, AT, BY), expected | mentioned
        else:
            rules, expected = rules.restore(scope, some), expected - mentioned
    assert set(rules.retired) == expected
