"""Laws of a subject's history: after any commands, versions, replay and snapshots agree."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from datetime import timedelta

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from domain.events.event import Event
from domain.events.topics import PAYLOAD_OF_TOPIC
from domain.identity import SubjectId, SubjectKind
from domain.properties import PropertyWrite
from domain.subjects.history import new_subject, numbered, replay
from domain.subjects.subject import ManualStage
from domain.subjects.user import MembershipRecord, User
from tests.commands import AT, names
from tests.domain.given import acme, ada, beta

properties = st.sampled_from(["plan", "seats"])
write_of_any = st.builds(
    lambda values, deleted: PropertyWrite(
        values, tuple(name for name in deleted if name not in values), ()
    ),
    st.dictionaries(properties, st.sampled_from(["", "pro", 1, True])),
    st.lists(properties, unique=True),
)
identities = st.lists(st.sampled_from(names("u1 u2 jo@x.be JO@X.be")), min_size=1, max_size=2)
accounts = st.sampled_from([acme.id, beta.id])
lateness = st.one_of(st.just(0), st.integers(0, 10))
"""Hours between the time that a command is for and its arrival."""

commands = st.one_of(
    st.tuples(st.just("register"), identities),
    st.tuples(st.just("change_properties"), write_of_any, lateness),
    st.tuples(st.just("join"), accounts, write_of_any, lateness),
    st.tuples(st.just("leave"), accounts, lateness),
    st.tuples(st.just("absorb"), st.integers(20, 22)),
)
histories = st.lists(commands, max_size=15)


def carried_out(history: Iterable[tuple[object, ...]]) -> tuple[User, list[Event]]:
    """A user to whom commands were given one by one, and the events that came of it."""
    state, events, at = User(ada.id), list[Event](), AT
    for name, *arguments in [("register", names("u1")), *history]:
        at += timedelta(hours=1)
        account = None
        if name == "absorb":
            other = User(
                SubjectId(uuid.UUID(int=arguments[0])),
                1,
                names("u2"),
                memberships={acme.id: MembershipRecord(AT)},
            )
            if other.id in state.absorbed:
                continue
            dated = [(at, payload) for payload in state.absorb(other)]
        elif name == "register":
            dated = [(at, payload) for payload in state.register(arguments[0])]
        else:
            *rest, late = arguments
            account = rest[0] if name in ("join", "leave") else None
            said_for = at - timedelta(hours=late)
            payloads = getattr(state, str(name))(*rest, said_for)
            dated = [(said_for, payload) for payload in payloads]
        for time, payload in dated:
            caused = numbered(state, [payload], time, account)
            events += caused
            state = replay(state, caused)
    return state, events


@given(histories)
def test_whatever_is_asked_of_a_subject_its_laws_hold(history: list[tuple[object, ...]]) -> None:
    state, events = carried_out(history)
    assert [event.version for event in events] == list(range(1, state.version + 1))
    known = [(identity.scheme, identity.matching) for identity in state.identities]
    assert len(known) == len(set(known))
    assert len(state.absorbed) == len(set(state.absorbed))
    assert None not in state.properties.values()
    for record in state.memberships.values():
        assert record.ended_at is None or record.started_at <= record.ended_at


@given(histories)
def test_a_command_that_is_given_again_at_once_changes_nothing(
    history: list[tuple[object, ...]],
) -> None:
    state, _ = carried_out(history)
    for name, *arguments in history:
        if name in ("change_properties", "join", "leave"):
            rest, now = arguments[:-1], AT + timedelta(days=1)
            account = rest[0] if name != "change_properties" else None
            for _ in range(2):
                again = getattr(state, str(name))(*rest, now)
                state = replay(state, numbered(state, again, now, account))
            assert getattr(state, str(name))(*rest, now) == []


@given(histories, st.integers(0, 20))
def test_a_snapshot_and_the_rest_give_the_same_as_all(
    history: list[tuple[object, ...]], cut: int
) -> None:
    state, events = carried_out(history)
    begun = replay(new_subject(SubjectKind.USER, ada.id), events[:cut])
    restored = msgspec.msgpack.decode(msgspec.msgpack.encode(begun), type=User)
    assert replay(restored, events[cut:]) == state == replay(User(ada.id), events)


@given(histories)
def test_an_event_that_was_stored_reads_back_as_it_was(history: list[tuple[object, ...]]) -> None:
    for event in carried_out(history)[1]:
        stored = msgspec.msgpack.encode(event.payload)
        assert msgspec.msgpack.decode(stored, type=PAYLOAD_OF_TOPIC[event.topic]) == event.payload


def test_a_snapshot_holds_the_manual_stage_under_the_name_it_always_had() -> None:
    stored = {
        "id": str(ada.id),
        "version": 2,
        "by_hand": {"stage": None, "reason": "a", "by": ada.id},
    }
    state = msgspec.msgpack.decode(msgspec.msgpack.encode(stored), type=User)
    assert state.manual_stage == ManualStage(None, "a", ada.id)
    assert msgspec.to_builtins(state).keys() >= stored.keys()
