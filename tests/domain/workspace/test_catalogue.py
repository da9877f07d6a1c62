"""Names of the catalogue as admins decide about them, and what definitions make of that."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

import pytest

from domain.conditions import language as ask
from domain.definitions.destinations import Destination, Subscription, SubscriptionKind
from domain.definitions.links import Link
from domain.definitions.saved_views import SavedView
from domain.definitions.types import Preferred, Score, ScoreRule, Segment, Settings
from domain.errors import Conflict, InvalidInput
from domain.events.definitions import NamesRetired, PropertyTypeChanged
from domain.identity import SubjectKind
from domain.name_rules import CatalogueName, NameScope
from domain.properties import PropertyType
from domain.workspace import catalogue, editing
from domain.workspace.definitions import Definitions
from domain.workspace.name_uses import uses_of, uses_of_view
from domain.workspace.workspace import Workspace
from tests.domain.workspace.given import BY, IDS, NOON, after, made

USER, ACCOUNT = SubjectKind
OF_USERS, OF_ACCOUNTS = NameScope.USER_PROPERTY, NameScope.ACCOUNT_PROPERTY
LARGE = ask.PropertyIs("seats", ask.Greater(5))
PAID = ask.Did("event", "paid")


def retired(state: Definitions, scope: NameScope, *names: str) -> Definitions:
    return after(state, [NamesRetired(scope, list(names), BY)])


def test_whatever_a_definition_names_is_found() -> None:
    everywhere = ask.AllOf(
        [
            ask.OfAccounts(ask.AnyOf(), ask.Not(LARGE)),
            ask.OneOf([PAID, ask.Did("page", "/home")]),
            ask.BelongsTo(role="owner"),
        ]
    )
    rule = ScoreRule("all", 1, everywhere)
    assert {use.to for use in uses_of(Score(USER, "s", [rule]))} == {
        (OF_ACCOUNTS, "seats"),
        (NameScope.EVENT, "paid"),
        (NameScope.MEMBERSHIP_PROPERTY, "role"),
    }
    link = Link(ACCOUNT, "CRM", "https://crm.example/{properties.code}?of={name}")
    settings = Settings(mrr_property="fee", users=Preferred(["plan"], ["paid"]), links=[link])
    assert {(use.to, use.pointer) for use in uses_of(settings)} == {
        ((OF_USERS, "fee"), "/mrr_property"),
        ((OF_ACCOUNTS, "fee"), "/mrr_property"),
        ((OF_USERS, "plan"), "/users/properties/0"),
        ((NameScope.EVENT, "paid"), "/users/events/0"),
        ((OF_ACCOUNTS, "code"), "/links/0/url"),
    }
    view = SavedView(USER, "v", "-property:seats", ["plan"], None, PAID)
    assert [tuple(use.to) for use in uses_of_view(view)] == [
        (OF_USERS, "plan"),
        (OF_USERS, "seats"),
        (NameScope.EVENT, "paid"),
    ]


def test_a_definition_cannot_name_what_is_retired_until_it_is_restored() -> None:
    large = Segment(USER, "Large", ask.AllOf([PAID, LARGE]))
    state = retired(Definitions(), OF_USERS, "seats")
    with pytest.raises(InvalidInput, match="'seats' is retired") as refused:
        editing.make(state, IDS[0], large, BY)
    assert refused.value.pointer == "/condition/of/1/name"
    editing.make(state, IDS[0], Segment(ACCOUNT, "Large", LARGE), BY)
    back = catalogue.restore(state, OF_USERS, ["seats"], BY, claimed={"seats"}, limit=1)
    assert editing.make(after(state, back), IDS[0], large, BY)


def test_what_means_users_and_accounts_is_retired_only_where_both_are() -> None:
    news = Subscription(SubscriptionKind.PROPERTY, ["plan"])
    told = Destination("CRM", "https://crm.example", [news])
    state = retired(Definitions(), OF_USERS, "plan", "fee")
    editing.make(state, IDS[0], told, BY)
    editing.make(state, IDS[0], Settings(mrr_property="fee"), BY)
    state = retired(state, OF_ACCOUNTS, "plan", "fee")
    for one in (told, Settings(mrr_property="fee")):
        with pytest.raises(InvalidInput, match="is retired"):
            editing.make(state, IDS[0], one, BY)


def test_a_definition_tests_a_property_by_the_type_that_it_has_by_now() -> None:
    changed = PropertyTypeChanged(OF_USERS, "seats", PropertyType.STRING, BY)
    state = after(Definitions(), [changed])
    with pytest.raises(InvalidInput, match="is a string by now"):
        editing.make(state, IDS[0], Segment(USER, "Large", LARGE), BY)
    editing.make(state, IDS[0], Segment(USER, "Any", ask.PropertyIs("seats", ask.IsSet())), BY)


def test_what_is_archived_or_deleted_keeps_no_name_and_no_type() -> None:
    large, claimed = Segment(USER, "Large", LARGE), {"seats": PropertyType.NUMBER}
    state = made(Definitions(), large)

    def decide(state: Definitions) -> None:
        used = catalogue.uses(state, Workspace(), ())
        catalogue.retire(state, OF_USERS, ["seats"], BY, claimed=claimed, used=used)
        catalogue.change_type(
            state,
            OF_USERS,
            "seats",
            PropertyType.STRING,
            BY,
            claimed=claimed,
            used=used,
            workspace=Workspace(),
        )

    with pytest.raises(Conflict, match="“seats” is used inside “Large”"):
        decide(state)
    decide(after(state, editing.delete(state, IDS[0], BY)))


def test_the_settings_of_the_server_keep_their_names_too() -> None:
    used = catalogue.uses(Definitions(), Workspace(mrr_property="fee"), ())
    with pytest.raises(Conflict, match="inside the settings"):
        catalogue.retire(Definitions(), OF_USERS, ["fee"], BY, claimed={"fee"}, used=used)


def test_who_retired_a_name_and_when_is_known_until_it_is_restored() -> None:
    at, by = datetime(2026, 5, 14, tzinfo=UTC), uuid.UUID(int=7)
    name = CatalogueName(NameScope.EVENT, "paid")
    state = after(Definitions(), [NamesRetired(name.scope, ["paid"], by)], at)
    since = state.names.retired_since(*name)
    assert since is not None
    assert (since.at, since.by) == (at, by)
    assert state.names.retired_since("page", "paid") is None
    claimed = ["paid"]
    assert catalogue.retire(state, name.scope, claimed, BY, claimed=claimed, used={}) == []
    back = catalogue.restore(state, name.scope, claimed, BY, claimed=claimed, limit=1)
    assert after(state, back, NOON).names.retired_since(*name) is None
