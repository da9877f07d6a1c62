"""What users and accounts have in common: identities, properties, merges, manual stages."""

from __future__ import annotations

from datetime import timedelta

from domain.events.event import Event
from domain.events.payloads import (
    Absorbed,
    Identified,
    IdentitiesReleased,
    MergedInto,
    PropertiesBackdated,
    PropertiesChanged,
    PropertiesConfirmed,
    Registered,
    StageReleased,
    StageSet,
)
from domain.properties import PropertyWrite
from domain.subjects.history import numbered, replay
from domain.subjects.user import User
from tests.commands import AT, names
from tests.domain.given import SOMEBODY, ada, beta, bob, given

ADA, BOB = ada(Registered(names("u1"))), bob(Registered(names("u2")))
EARLIER, LATER = AT - timedelta(days=1), AT + timedelta(days=1)
BACKDATED = PropertiesBackdated({"plan": "free"})
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
    def test_a_write_records_what_it_changes_and_what_it_says_again(self) -> None:
        known = user(ADA, ada(PropertiesChanged({"plan": "pro", "seats": 3})))
        assert known.change_properties(write("seats", "city", plan="free"), LATER) == [
            PropertiesChanged({"plan": "free"}, ["seats"], {"plan": "pro", "seats": 3}, ["city"])
        ]
        assert known.change_properties(write(city="Ghent"), LATER) == [
            PropertiesChanged({"city": "Ghent"})
        ]
        assert known.change_properties(write("city", plan="pro"), LATER) == [
            PropertiesConfirmed(["plan", "city"])
        ]
        assert known.change_properties(write(plan="pro"), AT) == []

    def test_a_value_that_is_sent_late_is_recorded_for_its_time_and_does_not_hold(self) -> None:
        known = user(ADA, ada(PropertiesChanged({"plan": "pro"}, confirmed=["city"])))
        assert known.change_properties(write("plan", city="Ghent", seats=3), EARLIER) == [
            PropertiesChanged({"seats": 3}),
            PropertiesBackdated({"city": "Ghent"}, ["plan"]),
        ]
        assert known.change_properties(write("city", plan="pro"), EARLIER) == []
        late = user(ADA, ada(PropertiesChanged({"plan": "pro"})), ada(BACKDATED, at=EARLIER))
        assert late.properties == {"plan": "pro"}

    def test_a_value_that_was_said_again_is_as_late_as_that(self) -> None:
        again = user(
            ADA,
            ada(PropertiesChanged({"plan": "pro"})),
            ada(PropertiesConfirmed(["plan"]), at=LATER),
        )
        between = AT + (LATER - AT) / 2
        assert again.change_properties(write(plan="free"), between) == [BACKDATED]

    def test_an_email_that_is_a_property_no_more_is_given_up(self) -> None:
        both = names("u1 a@x.be")
        known = user(ada(Registered(both)), ada(PropertiesChanged({"email": "a@x.be"})))
        for change in (write(email="b@x.be"), write("email")):
            changes = known.change_properties(change, LATER)
            after = replay(known, numbered(known, changes, LATER))
            assert after.release(changes) == [IdentitiesReleased(names("a@x.be"))]
        for change in (write(email="A@X.be"), write(plan="pro")):
            changes = known.change_properties(change, LATER)
            after = replay(known, numbered(known, changes, LATER))
            assert after.release(changes) == []
        released = user(ada(Registered(both)), ada(IdentitiesReleased(names("a@x.be"))))
        assert released.identities == names("u1")
        [address] = names("A@x.be")
        assert released.has_released(address)
        assert not replay(released, [ada(Identified((address,)), at=LATER)]).has_released(address)

    def test_an_email_that_was_sent_late_is_not_kept_as_an_identity(self) -> None:
        known = user(
            ada(Registered(names("u1 new@x.be old@x.be"))),
            ada(PropertiesChanged({"email": "new@x.be"})),
        )
        changes = known.change_properties(write(email="old@x.be"), EARLIER)
        assert known.release(changes) == [IdentitiesReleased(names("old@x.be"))]

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
            Absorbed((bob.id, beta.id), names("u2"), {"city": "Ghent"}, said_at={"city": AT})
        ]
        assert known.user(bob).merge_into(ada.id) == [MergedInto(ada.id)]

    def test_of_two_values_the_survivor_takes_the_one_that_was_sent_for_the_later_time(
        self,
    ) -> None:
        known = given(
            ADA,
            ada(PropertiesChanged({"plan": "pro", "city": "Ghent", "seats": 3})),
            BOB,
            bob(PropertiesChanged({"plan": "free", "city": "Lier"}), at=LATER),
            bob(PropertiesChanged({}, ["city"], {"city": "Lier"}), at=LATER),
            bob(PropertiesChanged({"seats": 1}), at=EARLIER),
        )
        [absorbed] = known.user(ada).absorb(known.user(bob))
        assert absorbed == Absorbed(
            (bob.id,), names("u2"), {"plan": "free"}, ["city"], {"plan": LATER, "city": LATER}
        )
        merged = replay(known.user(ada), numbered(known.user(ada), [absorbed], LATER))
        assert merged.properties == {"plan": "free", "seats": 3}

    def test_a_subject_goes_by_its_first_id_until_it_is_called_by_another(self) -> None:
        [visitor], [u1] = names("v1"), names("u1")
        both = user(ada(Registered((visitor,))), ada(Identified((u1,))))
        assert both.external_id == visitor
        assert both.go_by(visitor) == []
        assert both.go_by(u1) == [Identified((), u1)]
        called = replay(both, numbered(both, both.go_by(u1), LATER))
        assert called.external_id == u1
        assert called.go_by(u1) == []
        [absorbed] = user().absorb(called)
        assert isinstance(absorbed, Absorbed)
        assert absorbed.identities == (u1, visitor)

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
