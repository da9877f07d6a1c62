"""User and Account: given events, when a command, then events."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.activity import Activity, ActivityKind
from domain.events.event import Event
from domain.events.payloads import (
    Absorbed,
    AccountPart,
    Identified,
    MembershipChanged,
    MembershipEnded,
    MembershipStarted,
    MergedInto,
    Payload,
    PropertiesChanged,
    Registered,
    StageReleased,
    StageSet,
    Tracked,
)
from domain.events.topics import PAYLOAD_OF_TOPIC
from domain.identity import Identity, Scheme, SubjectId, SubjectKind
from domain.properties import PropertyWrite
from domain.subjects.account import Account
from domain.subjects.history import new_subject, numbered, replay
from domain.subjects.user import MembershipRecord, User

MONDAY = datetime(2024, 5, 13, 9, tzinfo=UTC)
TUESDAY, WEDNESDAY = MONDAY + timedelta(days=1), MONDAY + timedelta(days=2)
JO, ANN = SubjectId(uuid.UUID(int=1)), SubjectId(uuid.UUID(int=2))
ACME, BETA = SubjectId(uuid.UUID(int=11)), SubjectId(uuid.UUID(int=12))
SOMEBODY = uuid.UUID(int=99)
U1, U2 = Identity(Scheme.USER_ID, "u1"), Identity(Scheme.USER_ID, "u2")
MAIL, SAME_MAIL = Identity(Scheme.EMAIL, "jo@x.be"), Identity(Scheme.EMAIL, "JO@X.be")


def writes(*deleted: str, **values: object) -> PropertyWrite:
    return PropertyWrite(values, deleted, ())


def user(*payloads: Payload | tuple[datetime, SubjectId, Payload], id: SubjectId = JO) -> User:
    """Given: a user with this history."""
    state = User(id)
    for one in payloads:
        at, account, payload = one if isinstance(one, tuple) else (MONDAY, None, one)
        [state] = [replay(state, numbered(state, [payload], at, account))]
    assert isinstance(state, User)
    return state


REGISTERED = Registered((U1,))
JOINED = (MONDAY, ACME, MembershipStarted({"role": "owner"}))
LEFT = (TUESDAY, ACME, MembershipEnded())


def test_a_subject_begins_with_the_identities_it_is_first_seen_under() -> None:
    assert user().register([U1, MAIL]) == [Registered((U1, MAIL))]


def test_an_identity_given_twice_is_registered_once() -> None:
    assert user().register([MAIL, SAME_MAIL, U1, U1]) == [Registered((MAIL, U1))]


def test_a_further_identity_is_added_and_a_known_one_is_not() -> None:
    assert user(Registered((U1, MAIL))).register([U2, U1, SAME_MAIL]) == [Identified((U2,))]
    assert user(Registered((U1, MAIL))).register([SAME_MAIL, U1]) == []


def test_a_write_records_what_it_changes_and_nothing_else() -> None:
    jo = user(REGISTERED, PropertiesChanged({"plan": "pro", "seats": 3}))
    assert jo.change_properties(writes("seats", "city", plan="free")) == [
        PropertiesChanged({"plan": "free"}, ["seats"], {"plan": "pro", "seats": 3})
    ]
    assert jo.change_properties(writes(city="Ghent")) == [PropertiesChanged({"city": "Ghent"})]
    assert jo.change_properties(writes("city", plan="pro")) == []


def test_an_empty_text_stays_and_a_null_deletes() -> None:
    jo = user(REGISTERED, PropertiesChanged({"plan": "pro"}), PropertiesChanged({"plan": ""}))
    assert jo.properties == {"plan": ""}
    assert (
        user(REGISTERED, PropertiesChanged({"a": 1}), PropertiesChanged({}, ["a"])).properties == {}
    )


def test_who_joins_becomes_a_member_with_a_role() -> None:
    assert user(REGISTERED).join(ACME, writes(role="owner")) == [
        MembershipStarted({"role": "owner"})
    ]
    assert user(REGISTERED, JOINED).memberships == {
        ACME: MembershipRecord(MONDAY, None, {"role": "owner"})
    }


def test_who_joins_again_changes_the_membership() -> None:
    jo = user(REGISTERED, JOINED)
    assert jo.join(ACME, writes(role="guest")) == [
        MembershipChanged({"role": "guest"}, before={"role": "owner"})
    ]
    assert jo.join(ACME, writes("role")) == [MembershipChanged({}, ["role"], {"role": "owner"})]
    assert jo.join(ACME, writes(role="owner")) == []
    changed = user(REGISTERED, JOINED, (TUESDAY, ACME, MembershipChanged({"role": "guest"})))
    assert changed.memberships == {ACME: MembershipRecord(MONDAY, None, {"role": "guest"})}


def test_who_leaves_stays_on_record_with_both_dates() -> None:
    assert user(REGISTERED, JOINED).leave(ACME) == [MembershipEnded()]
    assert user(REGISTERED, JOINED, LEFT).memberships == {
        ACME: MembershipRecord(MONDAY, TUESDAY, {"role": "owner"})
    }


def test_who_is_no_member_cannot_leave() -> None:
    assert user(REGISTERED).leave(ACME) == []
    assert user(REGISTERED, JOINED, LEFT).leave(ACME) == []
    assert user(REGISTERED, JOINED).leave(BETA) == []


def test_who_comes_back_begins_anew() -> None:
    jo = user(REGISTERED, JOINED, LEFT)
    assert jo.join(ACME, writes(role="guest")) == [MembershipStarted({"role": "guest"})]
    back = user(REGISTERED, JOINED, LEFT, (WEDNESDAY, ACME, MembershipStarted()))
    assert back.memberships == {ACME: MembershipRecord(WEDNESDAY, None, {})}


def test_a_member_of_a_merged_account_is_one_of_the_account_it_lives_on_in() -> None:
    acme = Account(ACME, version=2, absorbed=(BETA,))
    jo = user(REGISTERED, (MONDAY, BETA, MembershipStarted()))
    assert jo.member_as(acme) == [BETA]
    assert user(REGISTERED, JOINED, (MONDAY, BETA, MembershipStarted())).member_as(acme) == [
        ACME,
        BETA,
    ]
    assert user(REGISTERED, JOINED, LEFT).member_as(acme) == []


def test_merging_takes_over_what_the_other_knew_and_keeps_what_both_know() -> None:
    jo = user(Registered((U1, MAIL)), PropertiesChanged({"plan": "pro"}))
    ann = user(
        Registered((U2, SAME_MAIL)),
        PropertiesChanged({"plan": "free", "city": "Ghent"}),
        Absorbed((BETA,), ()),
        id=ANN,
    )
    assert jo.absorb(ann) == [Absorbed((ANN, BETA), (U2,), {"city": "Ghent"})]
    assert ann.merge_into(JO) == [MergedInto(JO)]


def test_a_stage_set_by_hand_outlives_a_merge_unless_the_survivor_has_one_of_its_own() -> None:
    paying, trial = StageSet("paying", "signed", SOMEBODY), StageSet("trial", "again", SOMEBODY)
    jo, ann = user(Registered((U1,))), user(Registered((U2,)), paying, id=ANN)
    assert jo.absorb(ann)[1:] == [paying]
    assert user(Registered((U1,)), trial).absorb(ann)[1:] == []
    released = user(Registered((U2,)), paying, StageReleased(SOMEBODY), id=ANN)
    assert jo.absorb(released)[1:] == []


def test_merging_twice_is_merging_once() -> None:
    assert user(Registered((U1,)), MergedInto(ANN)).merge_into(ANN) == []


def test_merging_takes_over_memberships_at_their_own_dates() -> None:
    ann = user(Registered((U2,)), JOINED, LEFT, (TUESDAY, BETA, MembershipStarted()), id=ANN)
    assert user(REGISTERED).memberships_from(ann) == [
        (ACME, MONDAY, MembershipStarted({"role": "owner"}, ANN)),
        (ACME, TUESDAY, MembershipEnded()),
        (BETA, TUESDAY, MembershipStarted({}, ANN)),
    ]


def test_a_membership_that_both_have_stays_the_survivors_unless_only_the_others_holds() -> None:
    ann = user(Registered((U2,)), (TUESDAY, ACME, MembershipStarted()), id=ANN)
    assert user(REGISTERED, JOINED).memberships_from(ann) == []
    assert user(REGISTERED, JOINED, LEFT).memberships_from(ann) == [
        (ACME, TUESDAY, MembershipStarted({}, ANN))
    ]
    assert ann.memberships_from(user(REGISTERED, JOINED, LEFT)) == []


login = Activity(ActivityKind.EVENT, "login")


def test_login_account_user() -> None:
    """login(account, user): the user's event, of which the account keeps the name."""
    event = Event(SubjectKind.USER, JO, None, MONDAY, Tracked(login), ACME)
    assert event.topic == "user.event_tracked"
    assert event.account_part == AccountPart("login")


def test_changed_last_name_user_alone() -> None:
    """changed_last_name(-, user): nobody else keeps anything of it."""
    changed = Tracked(Activity(ActivityKind.EVENT, "changed_last_name"))
    event = Event(SubjectKind.USER, JO, None, MONDAY, changed)
    assert event.topic == "user.event_tracked"
    assert event.account_part is None


def test_terminated_account_alone() -> None:
    """terminated(account, -): the account's own event."""
    terminated = Tracked(Activity(ActivityKind.EVENT, "terminated"))
    event = Event(SubjectKind.ACCOUNT, ACME, None, MONDAY, terminated)
    assert event.topic == "account.event_tracked"
    assert event.account_part is None


def test_the_account_keeps_nothing_of_a_members_role_or_properties() -> None:
    event = Event(SubjectKind.USER, JO, 1, MONDAY, MembershipStarted({"role": "owner"}), ACME)
    assert event.account_part is None


@pytest.mark.parametrize("activity", list(ActivityKind))
@pytest.mark.parametrize("kind", list(SubjectKind))
def test_every_kind_of_activity_has_a_topic_of_its_own(
    kind: SubjectKind, activity: ActivityKind
) -> None:
    event = Event(kind, JO, None, MONDAY, Tracked(Activity(activity, "a")))
    assert PAYLOAD_OF_TOPIC[event.topic] is Tracked
    assert event.topic.startswith(f"{kind}.{activity}_")


names = st.sampled_from(["plan", "seats"])
write_of_any = st.builds(
    lambda values, deleted: PropertyWrite(
        values, tuple(name for name in deleted if name not in values), ()
    ),
    st.dictionaries(names, st.sampled_from(["", "pro", 1, True])),
    st.lists(names, unique=True),
)
identities = st.lists(st.sampled_from([U1, U2, MAIL, SAME_MAIL]), min_size=1, max_size=2)
accounts = st.sampled_from([ACME, BETA])
commands = st.one_of(
    st.tuples(st.just("register"), identities),
    st.tuples(st.just("change_properties"), write_of_any),
    st.tuples(st.just("join"), accounts, write_of_any),
    st.tuples(st.just("leave"), accounts),
    st.tuples(st.just("absorb"), st.integers(20, 22)),
)
histories = st.lists(commands, max_size=15)


def carried_out(history: Iterable[tuple[object, ...]]) -> tuple[User, list[Event]]:
    """A user to whom commands were given one by one, and the events that came of it."""
    state, events, at = User(JO), [], MONDAY
    for name, *arguments in [("register", [U1]), *history]:
        at += timedelta(hours=1)
        account = None
        if name == "absorb":
            other = user(Registered((U2,)), JOINED, id=SubjectId(uuid.UUID(int=arguments[0])))
            if other.id in state.absorbed:
                continue
            payloads = state.absorb(other)
        else:
            account = arguments[0] if name in ("join", "leave") else None
            payloads = getattr(state, str(name))(*arguments)
        caused = numbered(state, payloads, at, account)
        events += caused
        state = replay(state, caused)
    return state, events


@given(histories)
def test_whatever_is_asked_of_a_subject_its_laws_hold(history: list[tuple[object, ...]]) -> None:
    state, events = carried_out(history)
    assert [event.version for event in events] == list(range(1, state.version + 1))
    known = [(one.scheme, one.matching) for one in state.identities]
    assert len(known) == len(set(known))
    assert len(state.absorbed) == len(set(state.absorbed))
    assert None not in state.properties.values()
    for record in state.memberships.values():
        assert record.ended_at is None or record.started_at < record.ended_at


@given(histories)
def test_a_command_that_is_given_again_at_once_changes_nothing(
    history: list[tuple[object, ...]],
) -> None:
    once, _ = carried_out(history)
    twice, _ = carried_out([command for command in history for _ in range(2)])
    assert twice.properties == once.properties
    assert twice.identities == once.identities
    assert twice.version == once.version


@given(histories, st.integers(0, 20))
def test_a_snapshot_and_the_rest_give_the_same_as_all(
    history: list[tuple[object, ...]], cut: int
) -> None:
    state, events = carried_out(history)
    begun = replay(new_subject(SubjectKind.USER, JO), events[:cut])
    restored = msgspec.msgpack.decode(msgspec.msgpack.encode(begun), type=User)
    assert replay(restored, events[cut:]) == state == replay(User(JO), events)


@given(histories)
def test_an_event_that_was_stored_reads_back_as_it_was(history: list[tuple[object, ...]]) -> None:
    for event in carried_out(history)[1]:
        stored = msgspec.msgpack.encode(event.payload)
        assert msgspec.msgpack.decode(stored, type=PAYLOAD_OF_TOPIC[event.topic]) == event.payload
