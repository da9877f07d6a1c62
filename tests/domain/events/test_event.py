"""An event: its topic, and what the account of a user's event keeps of it."""

from __future__ import annotations

import pytest

from domain.activity import Activity, ActivityKind
from domain.events.event import Event
from domain.events.payloads import AccountPart, MembershipEnded, MembershipStarted, Tracked
from domain.events.topics import PAYLOAD_OF_TOPIC
from domain.identity import SubjectKind
from tests.commands import AT
from tests.domain.given import acme, ada, bob


def did(name: str) -> Tracked:
    return Tracked(Activity(ActivityKind.EVENT, name))


def test_the_account_of_a_users_activity_keeps_its_name() -> None:
    event = ada(did("login"), acme)
    assert event.topic == "user.event_tracked"
    assert event.account_part == AccountPart("login")


def test_nobody_else_keeps_anything_of_what_a_user_did_alone() -> None:
    event = ada(did("changed_last_name"))
    assert event.topic == "user.event_tracked"
    assert event.account_part is None


def test_activity_of_an_account_alone_is_the_accounts_own() -> None:
    event = acme(did("terminated"))
    assert event.topic == "account.event_tracked"
    assert event.account_part is None


def test_the_account_keeps_nothing_of_a_members_role_or_properties() -> None:
    assert ada(MembershipStarted({"role": "owner"}), acme).account_part is None


def test_an_account_has_to_be_there_for_what_begins_and_not_for_what_ends_or_is_taken_over() -> (
    None
):
    assert ada(MembershipStarted(), acme).needs_account
    assert ada(did("login"), acme).needs_account
    assert not ada(MembershipEnded(), acme).needs_account
    assert not ada(MembershipStarted({}, bob.id), acme).needs_account


@pytest.mark.parametrize("activity", list(ActivityKind))
@pytest.mark.parametrize("kind", list(SubjectKind))
def test_every_kind_of_activity_has_a_topic_of_its_own(
    kind: SubjectKind, activity: ActivityKind
) -> None:
    event = Event(kind, ada.id, None, AT, Tracked(Activity(activity, "a")))
    assert PAYLOAD_OF_TOPIC[event.topic] is Tracked
    assert event.topic.startswith(f"{kind}.{activity}_")
