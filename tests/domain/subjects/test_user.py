"""A user's memberships: joining, leaving, coming back, and what a merge makes of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from domain.events.event import Event
from domain.events.payloads import (
    MembershipBackdated,
    MembershipChanged,
    MembershipEnded,
    MembershipStarted,
    PropertiesBackdated,
    PropertiesConfirmed,
    Registered,
)
from domain.properties import PropertyWrite
from domain.subjects.account import Account
from domain.subjects.user import MembershipRecord, User
from tests.commands import names
from tests.domain.given import acme, ada, beta, bob, given

MONDAY = datetime(2024, 5, 13, 9, tzinfo=UTC)
TUESDAY, WEDNESDAY = MONDAY + timedelta(days=1), MONDAY + timedelta(days=2)
ADA, BOB = ada(Registered(names("u1"))), bob(Registered(names("u2")))
OWNER = MembershipStarted({"role": "owner"})
JOINED, LEFT = ada(OWNER, acme, MONDAY), ada(MembershipEnded(), acme, TUESDAY)


def user(*events: Event) -> User:
    return given(*events).user(ada)


def write(*deleted: str, **values: object) -> PropertyWrite:
    return PropertyWrite(values, deleted, ())


def owner(since: datetime, until: datetime | None = None) -> MembershipRecord:
    return MembershipRecord(since, until, {"role": "owner"}, {"role": since})


def test_who_joins_becomes_a_member_with_a_role() -> None:
    assert user(ADA).join(acme.id, write(role="owner"), MONDAY) == [OWNER]
    assert user(ADA, JOINED).memberships == {acme.id: owner(MONDAY)}


def test_who_joins_again_changes_the_membership() -> None:
    member = user(ADA, JOINED)
    assert member.join(acme.id, write(role="guest"), TUESDAY) == [
        MembershipChanged({"role": "guest"}, before={"role": "owner"})
    ]
    assert member.join(acme.id, write("role"), TUESDAY) == [
        MembershipChanged({}, ["role"], {"role": "owner"})
    ]
    assert member.join(acme.id, write(role="owner"), MONDAY) == []
    assert member.join(acme.id, write(role="owner"), TUESDAY) == [PropertiesConfirmed(["role"])]
    changed = user(ADA, JOINED, ada(MembershipChanged({"role": "guest"}), acme, TUESDAY))
    assert changed.memberships == {
        acme.id: MembershipRecord(MONDAY, None, {"role": "guest"}, {"role": TUESDAY})
    }


def test_who_joined_earlier_than_was_known_is_a_member_since_then() -> None:
    late = ada(MembershipStarted({"role": "owner"}), acme, TUESDAY)
    assert user(ADA, late).join(acme.id, write(role="guest", team="a"), MONDAY) == [
        MembershipBackdated(),
        MembershipChanged({"team": "a"}),
        PropertiesBackdated({"role": "guest"}),
    ]
    left = (late, ada(MembershipEnded(), acme, WEDNESDAY))
    assert user(ADA, *left).join(acme.id, write(), MONDAY) == [MembershipBackdated()]
    member = user(ADA, *left, ada(MembershipBackdated(), acme, MONDAY)).memberships[acme.id]
    assert (member.started_at, member.ended_at) == (MONDAY, WEDNESDAY)


def test_a_membership_never_ends_before_it_begins() -> None:
    late = ada(OWNER, acme, TUESDAY)
    assert user(ADA, late).leave(acme.id, MONDAY) == []
    assert user(ADA, late).leave(acme.id, TUESDAY) == [MembershipEnded()]
    left = (JOINED, ada(MembershipEnded(), acme, WEDNESDAY))
    assert user(ADA, *left).leave(acme.id, TUESDAY) == [MembershipEnded()]
    assert user(ADA, *left).join(acme.id, write(role="owner"), TUESDAY) == [
        PropertiesConfirmed(["role"])
    ]


def test_who_leaves_stays_on_record_with_both_dates() -> None:
    assert user(ADA, JOINED).leave(acme.id, TUESDAY) == [MembershipEnded()]
    assert user(ADA, JOINED, LEFT).memberships == {acme.id: owner(MONDAY, TUESDAY)}


def test_who_is_no_member_cannot_leave() -> None:
    assert user(ADA).leave(acme.id, TUESDAY) == []
    assert user(ADA, JOINED, LEFT).leave(acme.id, TUESDAY) == []
    assert user(ADA, JOINED).leave(beta.id, TUESDAY) == []


def test_who_comes_back_begins_anew() -> None:
    assert user(ADA, JOINED, LEFT).join(acme.id, write(role="guest"), WEDNESDAY) == [
        MembershipStarted({"role": "guest"})
    ]
    back = user(ADA, JOINED, LEFT, ada(MembershipStarted(), acme, WEDNESDAY))
    assert back.memberships == {acme.id: MembershipRecord(WEDNESDAY, None, {})}


def test_a_member_of_a_merged_account_is_one_of_the_account_it_lives_on_in() -> None:
    merged = Account(acme.id, version=2, absorbed=(beta.id,))
    of_beta = ada(MembershipStarted(), beta, MONDAY)
    assert user(ADA, of_beta).member_as(merged) == [beta.id]
    assert user(ADA, JOINED, of_beta).member_as(merged) == [acme.id, beta.id]
    assert user(ADA, JOINED, LEFT).member_as(merged) == []


def test_a_merge_takes_over_memberships_at_their_own_dates() -> None:
    loser = given(
        BOB,
        bob(OWNER, acme, MONDAY),
        bob(MembershipEnded(), acme, TUESDAY),
        bob(MembershipStarted(), beta, TUESDAY),
    ).user(bob)
    assert user(ADA).memberships_from(loser) == [
        (acme.id, MONDAY, MembershipStarted({"role": "owner"}, bob.id)),
        (acme.id, TUESDAY, MembershipEnded()),
        (beta.id, TUESDAY, MembershipStarted({}, bob.id)),
    ]


def test_a_membership_that_both_have_stays_the_survivors_unless_only_the_others_holds() -> None:
    loser = given(BOB, bob(MembershipStarted(), acme, TUESDAY)).user(bob)
    assert user(ADA, JOINED).memberships_from(loser) == []
    assert user(ADA, JOINED, LEFT).memberships_from(loser) == [
        (acme.id, TUESDAY, MembershipStarted({}, bob.id))
    ]
    assert loser.memberships_from(user(ADA, JOINED, LEFT)) == []
