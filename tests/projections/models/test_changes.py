"""Changes: the facts that each batch leaves for the process manager, by subject and event."""

from __future__ import annotations

from domain.events.event import Event
from domain.identity import log_partition
from domain.workspace.dependencies import (
    ACTIVITY,
    EVERYTHING,
    MEMBERSHIP,
    PROPERTY,
    REGISTERED,
    Fact,
)
from projections.models.changes import facts_of, packed, unpacked
from tests.projections.given import (
    Subject,
    acme,
    ada,
    ben,
    changed,
    erased,
    given,
    joined,
    merged,
    registered,
    tracked,
)


def facts(*events: Event, **holds: object) -> dict[Fact, set[bytes]]:
    return {fact: set(ids) for fact, ids in facts_of(given(*events, **holds).batch()).items()}


def ids(*subjects: Subject) -> set[bytes]:
    return {subject.id.bytes for subject in subjects}


def test_a_property_changes_by_its_name() -> None:
    assert facts(changed(ada, {"plan": "pro"}), changed(ben, {"plan": "pro", "seats": 1})) == {
        Fact("user", PROPERTY, ("plan",)): ids(ada, ben),
        Fact("user", PROPERTY, ("seats",)): ids(ben),
        Fact("user", REGISTERED): ids(ada, ben),
    }


def test_activity_changes_what_user_and_account_did() -> None:
    assert facts(tracked(ada, "login", account=acme)) == {
        Fact("user", ACTIVITY, ("event", "login")): ids(ada),
        Fact("account", ACTIVITY, ("event", "login")): ids(acme),
    }


def test_a_membership_changes_both_sides() -> None:
    assert facts(joined(ada, acme)) == {
        Fact("user", MEMBERSHIP): ids(ada),
        Fact("account", MEMBERSHIP): ids(acme),
    }


def test_a_merge_changes_everything_of_the_survivor() -> None:
    assert facts(merged(ada, ben)) == {Fact("user", EVERYTHING): ids(ben)}


def test_registration_and_erasure_change_everything_of_the_subject() -> None:
    assert facts(registered(ada), erased(ben)) == {
        Fact("user", EVERYTHING): ids(ada, ben),
        Fact("user", REGISTERED): ids(ada),
    }


def test_the_newest_event_of_a_subject_is_the_reason() -> None:
    batch = given(changed(ada, {"plan": "free"}), changed(ada, {"plan": "pro"})).batch()
    assert facts_of(batch)[Fact("user", PROPERTY, ("plan",))] == {
        ada.id.bytes: (log_partition(ada.id), 2)
    }


def test_what_is_packed_comes_out_the_same() -> None:
    noted = facts_of(given(registered(ada), tracked(ben, "login", account=acme)).batch())
    assert dict(unpacked(packed(noted))) == noted
