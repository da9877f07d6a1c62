"""What users and accounts have in common: identities, properties, merges, manual stages."""

from __future__ import annotations

from domain.events.event import Event
from domain.events.payloads import (
    Absorbed,
    Identified,
    MergedInto,
    PropertiesChanged,
    Registered,
    StageReleased,
    StageSet,
)
from domain.properties import PropertyWrite
from domain.subjects.user import User
from tests.commands import names
from tests.domain.given import SOMEBODY, ada, beta, bob, given

ADA, BOB = ada(Registered(names("u1"))), bob(Registered(names("u2")))
PAYING = StageSet("paying", "signed", SOMEBODY)


def user(*events: Event) -> User:
    return given(*events).user(ada)


def write(*deleted: str, **values: object) -> PropertyWrite:
    return PropertyWrite(values, deleted, ())


class TestIdentities:
    def test_a_subject_begins_with_the_identities_it_is_first_seen_under(self) -> None:
        both = names("u1 jo@x.be")
        assert user().register(both) == [Registered(both)]

    def test_an_identity_that_is_given_twice_is_registered_once(self) -> None:
        given_twice = names("jo@x.be JO@X.be u1 u1")
        assert user().register(given_twice) == [Registered(names("jo@x.be u1"))]

    def test_a_further_identity_is_added_and_a_known_one_is_not(self) -> None:
        known = user(ada(Registered(names("u1 jo@x.be"))))
        assert known.register(names("u2 u1 JO@X.be")) == [Identified(names("u2"))]
        assert known.register(names("JO@X.be u1")) == []


class TestProperties:
    def test_a_write_records_what_it_changes_and_nothing_else(self) -> None:
        known = user(ADA, ada(PropertiesChanged({"plan": "pro", "seats": 3})))
        assert known.change_properties(write("seats", "city", plan="free")) == [
            PropertiesChanged({"plan": "free"}, ["seats"], {"plan": "pro", "seats": 3})
        ]
        assert known.change_properties(write(city="Ghent")) == [
            PropertiesChanged({"city": "Ghent"})
        ]
        assert known.change_properties(write("city", plan="pro")) == []

    def test_an_empty_text_stays_and_a_deleted_property_goes(self) -> None:
        pro = ada(PropertiesChanged({"plan": "pro"}))
        assert user(ADA, pro, ada(PropertiesChanged({"plan": ""}))).properties == {"plan": ""}
        assert user(ADA, pro, ada(PropertiesChanged({}, ["plan"]))).properties == {}


class TestMerges:
    def test_the_survivor_takes_over_what_it_lacks_and_keeps_what_both_have(self) -> None:
        known = given(
            ada(Registered(names("u1 jo@x.be"))),
            ada(PropertiesChanged({"plan": "pro"})),
            bob(Registered(names("u2 JO@x.be"))),
            bob(PropertiesChanged({"plan": "free", "city": "Ghent"})),
            bob(Absorbed((beta.id,), ())),
        )
        assert known.user(ada).absorb(known.user(bob)) == [
            Absorbed((bob.id, beta.id), names("u2"), {"city": "Ghent"})
        ]
        assert known.user(bob).merge_into(ada.id) == [MergedInto(ada.id)]

    def test_merging_twice_is_merging_once(self) -> None:
        assert user(ADA, ada(MergedInto(bob.id))).merge_into(bob.id) == []


class TestManualStages:
    def test_a_stage_is_set_with_a_reason_and_again_only_with_another(self) -> None:
        assert user(ADA).set_stage("paying", "signed", SOMEBODY) == [PAYING]
        assert user(ADA, ada(PAYING)).set_stage("paying", "signed", SOMEBODY) == []
        assert user(ADA, ada(PAYING)).set_stage(None, "signed", SOMEBODY) == [
            StageSet(None, "signed", SOMEBODY)
        ]

    def test_a_stage_is_released_once(self) -> None:
        assert user(ADA, ada(PAYING)).release_stage(SOMEBODY) == [StageReleased(SOMEBODY)]
        assert user(ADA, ada(PAYING), ada(StageReleased(SOMEBODY))).release_stage(SOMEBODY) == []

    def test_it_outlives_a_merge_unless_the_survivor_has_one_of_its_own(self) -> None:
        trial = ada(StageSet("trial", "again", SOMEBODY))
        set_by_bob = given(BOB, bob(PAYING)).user(bob)
        assert user(ADA).absorb(set_by_bob)[1:] == [PAYING]
        assert user(ADA, trial).absorb(set_by_bob)[1:] == []
        released = given(BOB, bob(PAYING), bob(StageReleased(SOMEBODY))).user(bob)
        assert user(ADA).absorb(released)[1:] == []
