"""A batch of commands: whom each is about, which events it causes, and what is refused."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given as for_all
from hypothesis import strategies as st

from domain.activity import Activity, ActivityKind
from domain.commands import Command, Join, Track
from domain.events.event import Event
from domain.events.payloads import (
    Absorbed,
    Erased,
    Identified,
    MembershipChanged,
    MembershipEnded,
    MembershipStarted,
    MergedInto,
    PropertiesChanged,
    Registered,
    StageSet,
    Tracked,
)
from domain.identity import Merge
from domain.name_rules import CatalogueName, NameScope
from domain.properties import RETIRED, PropertyType
from domain.subjects.command_batch import identities_of, new_names
from domain.subjects.user import MembershipRecord
from tests.commands import AT, alias, group, identify, leave, names, track
from tests.domain.given import (
    SOMEBODY,
    acme,
    ada,
    beta,
    bob,
    cyd,
    given,
    left_out,
    new_account,
    new_user,
    refused,
)

EARLIER, LATER = AT - timedelta(days=1), AT + timedelta(days=1)
ADA, BOB = ada(Registered(names("u1"))), bob(Registered(names("u2")))
ACME, BETA = acme(Registered(names("a1"))), beta(Registered(names("a2")))


def did(name: str) -> Tracked:
    return Tracked(Activity(ActivityKind.EVENT, name))


class TestIdentities:
    def test_a_user_is_made_on_first_sight(self) -> None:
        given().when(
            identify("u1 ada@example.com", plan="pro"),
        ).then(
            new_user()(Registered(names("u1 ada@example.com"))),
            new_user()(PropertiesChanged({"plan": "pro"})),
        )

    def test_later_commands_of_a_batch_find_who_an_earlier_one_made(self) -> None:
        given().when(
            identify("u1", plan="pro"),
            identify("u1", plan="free"),
            track("u1", "", "login"),
        ).then(
            new_user()(Registered(names("u1"))),
            new_user()(PropertiesChanged({"plan": "pro"})),
            new_user()(PropertiesChanged({"plan": "free"}, before={"plan": "pro"})),
            new_user()(did("login")),
        )

    def test_a_batch_claims_the_identities_that_were_not_known(self) -> None:
        caused = given(ADA).when(identify("u1 ada@example.com"), identify("u2"), track("u2"))
        [mail], [u2] = names("ada@example.com"), names("u2")
        assert caused.batch.claims == {mail: ada.id, u2: new_user().id}

    def test_a_second_identity_is_added_to_who_is_known_by_the_first(self) -> None:
        given(ADA).when(
            identify("u1 ada@example.com"),
            identify("ada@example.com", city="Ghent"),
        ).then(
            ada(Identified(names("ada@example.com"))),
            ada(PropertiesChanged({"city": "Ghent"})),
        )

    def test_mail_matches_in_any_case_and_ids_to_the_letter(self) -> None:
        given(ada(Registered(names("u1a ada@example.com")))).when(
            identify("Ada@Example.com", plan="pro"),
            identify("u1A"),
        ).then(
            ada(PropertiesChanged({"plan": "pro"})),
            new_user()(Registered(names("u1A"))),
        )

    def test_users_and_accounts_of_one_group_command_are_both_made(self) -> None:
        given().when(
            group("u1", "a1", role="owner"),
        ).then(
            new_account(2)(Registered(names("a1"))),
            new_user(1)(Registered(names("u1"))),
            new_user(1)(MembershipStarted({"role": "owner"}), new_account(2)),
        )

    def test_a_claimed_identity_begins_with_the_first_command_about_it(self) -> None:
        """Its first writer died between the claim and the append."""
        given(claimed={"u1": ada, "u2": bob}).when(
            identify("u1", plan="pro"),
            track("u2", "", "login"),
        ).then(
            ada(Registered(names("u1"))),
            ada(PropertiesChanged({"plan": "pro"})),
            bob(Registered(names("u2"))),
            bob(did("login")),
        )

    def test_the_batch_names_the_identities_to_look_up_each_once(self) -> None:
        commands = [
            identify("u1 ada@example.com"),
            group("u1", "a1"),
            alias("u3", "u1"),
            track("u2", "a1"),
            leave("u2", "a2"),
        ]
        assert identities_of(commands) == list(names("u1 ada@example.com a1 u3 u2 a2"))


class TestMerges:
    def test_identities_of_two_users_make_them_one_in_which_the_first_named_survives(self) -> None:
        caused = (
            given(
                ADA,
                ada(PropertiesChanged({"plan": "pro"})),
                bob(Registered(names("ada@example.com"))),
                bob(PropertiesChanged({"plan": "free", "age": 36})),
            )
            .when(identify("u1 ada@example.com"))
            .then(
                ada(
                    Absorbed((bob.id,), names("ada@example.com"), {"age": 36}, said_at={"age": AT})
                ),
                bob(MergedInto(ada.id)),
            )
        )
        assert caused.batch.merges == [Merge(loser=bob.id, survivor=ada.id)]
        assert caused.state(ada).properties == {"plan": "pro", "age": 36}

    def test_commands_after_a_merge_are_about_the_survivor(self) -> None:
        given(ADA, BOB).when(
            alias("u1", "u2"),
            identify("u2", plan="pro"),
            track("u2", "", "login"),
        ).then(
            ada(Absorbed((bob.id,), names("u2"))),
            bob(MergedInto(ada.id)),
            ada(PropertiesChanged({"plan": "pro"})),
            ada(did("login")),
        )

    def test_users_who_merged_before_stay_merged(self) -> None:
        given(ADA, BOB, ada(Absorbed((bob.id,), names("u2"))), bob(MergedInto(ada.id))).when(
            alias("u1", "u2"),
            identify("u2", plan="pro"),
        ).then(
            ada(PropertiesChanged({"plan": "pro"})),
        )

    def test_three_users_become_one_and_the_chain_is_kept(self) -> None:
        caused = (
            given(ADA, BOB, cyd(Registered(names("u3"))))
            .when(alias("u2", "u3"), alias("u1", "u2"))
            .then(
                bob(Absorbed((cyd.id,), names("u3"))),
                cyd(MergedInto(bob.id)),
                ada(Absorbed((bob.id, cyd.id), names("u2 u3"))),
                bob(MergedInto(ada.id)),
            )
        )
        assert caused.state(ada).absorbed == (bob.id, cyd.id)

    def test_a_survivor_who_was_only_claimed_begins_before_it_absorbs(self) -> None:
        given(BOB, claimed={"u1": ada}).when(
            alias("u1", "u2"),
        ).then(
            ada(Registered(())),
            ada(Absorbed((bob.id,), names("u2"))),
            bob(MergedInto(ada.id)),
            ada(Identified(names("u1"))),
            ada(Identified((), names("u1")[0])),
        )

    def test_a_loser_who_was_only_claimed_is_merged_all_the_same(self) -> None:
        given(ADA, claimed={"u2": bob}).when(
            alias("u1", "u2"),
        ).then(
            ada(Absorbed((bob.id,), ())),
            bob(MergedInto(ada.id)),
            ada(Identified(names("u2"))),
        )

    def test_memberships_of_the_loser_are_taken_over_at_their_own_dates(self) -> None:
        given(
            ADA,
            BOB,
            bob(MembershipStarted({"role": "owner"}), acme, EARLIER),
            bob(MembershipEnded(), acme, AT),
        ).when(
            alias("u1", "u2", at=LATER),
        ).then(
            ada(Absorbed((bob.id,), names("u2")), at=LATER),
            ada(MembershipStarted({"role": "owner"}, bob.id), acme, EARLIER),
            ada(MembershipEnded(), acme, AT),
            bob(MergedInto(ada.id), at=LATER),
        )

    def test_a_stage_that_was_set_manually_goes_over_to_a_survivor_without_one(self) -> None:
        paying = StageSet("paying", "signed", SOMEBODY)
        given(ADA, BOB, bob(paying)).when(
            alias("u1", "u2"),
        ).then(
            ada(Absorbed((bob.id,), names("u2"))),
            ada(paying),
            bob(MergedInto(ada.id)),
        )

    def test_accounts_merge_as_users_do(self) -> None:
        given(ACME, beta(Registered(names("example.com")))).when(
            identify("a1 example.com"),
        ).then(
            acme(Absorbed((beta.id,), names("example.com"))),
            beta(MergedInto(acme.id)),
        )

    def test_tracked_activity_with_two_known_identities_merges_too(self) -> None:
        given(ADA, bob(Registered(names("ada@example.com")))).when(
            track("u1 ada@example.com", "", "login"),
        ).then(
            ada(Absorbed((bob.id,), names("ada@example.com"))),
            bob(MergedInto(ada.id)),
            ada(did("login")),
        )


class TestMemberships:
    def test_who_joins_twice_changes_the_membership(self) -> None:
        given(ADA, ACME).when(
            group("u1", "a1", role="guest"),
            group("u1", "a1", role="owner"),
            group("u1", "a1", role="owner"),
        ).then(
            ada(MembershipStarted({"role": "guest"}), acme),
            ada(MembershipChanged({"role": "owner"}, before={"role": "guest"}), acme),
        )

    def test_a_group_command_writes_the_properties_of_the_account(self) -> None:
        given(ADA, ACME).when(
            Join(names("u1"), names("a1"), {"plan": "pro"}, {"role": "owner"}, AT),
        ).then(
            acme(PropertiesChanged({"plan": "pro"})),
            ada(MembershipStarted({"role": "owner"}), acme),
        )

    def test_who_leaves_and_comes_back_begins_a_new_membership(self) -> None:
        caused = (
            given(ADA, ACME, ada(MembershipStarted({"role": "owner"}), acme, EARLIER))
            .when(leave("u1", "a1"), group("u1", "a1", at=LATER))
            .then(
                ada(MembershipEnded(), acme),
                ada(MembershipStarted(), acme, LATER),
            )
        )
        assert caused.user(ada).memberships == {acme.id: MembershipRecord(LATER)}

    def test_who_is_no_member_leaves_nothing(self) -> None:
        given(ADA, ACME, ada(MembershipStarted(), acme), ada(MembershipEnded(), acme), BETA).when(
            leave("u1", "a1"),
            leave("u1", "a2"),
        ).then()

    def test_a_member_of_a_merged_account_leaves_and_joins_under_the_id_it_had(self) -> None:
        merged = (
            ADA,
            ACME,
            BETA,
            ada(MembershipStarted({"role": "guest"}), beta),
            acme(Absorbed((beta.id,), names("a2"))),
            beta(MergedInto(acme.id)),
        )
        given(*merged).when(
            group("u1", "a1", role="owner"),
        ).then(
            ada(MembershipChanged({"role": "owner"}, before={"role": "guest"}), beta),
        )
        given(*merged).when(leave("u1", "a2")).then(ada(MembershipEnded(), beta))


class TestActivity:
    def test_activity_of_a_user_names_the_account_that_it_was_for(self) -> None:
        given(ADA, ACME).when(
            track("u1", "a1", "login", "export"),
        ).then(
            ada(did("login"), acme),
            ada(did("export"), acme),
        )

    def test_activity_of_an_account_alone_is_in_the_accounts_stream(self) -> None:
        given(ACME).when(track("", "a1", "renewed")).then(acme(did("renewed")))

    def test_tracked_activity_decides_on_no_state(self) -> None:
        caused = given(ADA, ada(did("login"))).when(track("u1", "", "login"))
        caused.then(ada(did("login")))
        assert ada.id not in caused.batch.states

    def test_an_identity_that_activity_brings_is_added(self) -> None:
        given(ADA, ACME).when(
            track("u1 ada@example.com", "a1 example.com", "login"),
        ).then(
            ada(Identified(names("ada@example.com"))),
            acme(Identified(names("example.com"))),
            ada(did("login"), acme),
        )


class TestRefusals:
    def test_one_refused_command_leaves_the_rest_of_the_batch(self) -> None:
        given(ADA, ACME).when(
            identify("u1", plan="pro"),
            leave("u9", "a1"),
            leave("u1", "a9"),
            track("u1", "", "login"),
        ).then(
            ada(PropertiesChanged({"plan": "pro"})),
            refused("not-found", "there is no such user"),
            refused("not-found", "there is no such account"),
            ada(did("login")),
        )

    def test_a_refused_command_makes_nobody(self) -> None:
        caused = given(ADA).when(leave("u1", "a9"), leave("u9", "a1"))
        assert not caused.batch.claims
        assert not caused.batch.states

    def test_whoever_a_batch_makes_first_can_leave_later_in_it(self) -> None:
        given(ADA).when(
            leave("u1", "a1"),
            group("u1", "a1"),
            leave("u1", "a1"),
        ).then(
            refused("not-found", "there is no such account"),
            new_account()(Registered(names("a1"))),
            ada(MembershipStarted(), new_account()),
            ada(MembershipEnded(), new_account()),
        )

    def test_a_value_that_does_not_fit_is_left_out_and_the_others_are_kept(self) -> None:
        given(ADA, types={NameScope.USER_PROPERTY: {"seats": PropertyType.NUMBER}}).when(
            identify("u1", seats="many", plan="pro"),
        ).then(
            ada(PropertiesChanged({"plan": "pro"})),
            left_out("seats", "expected a number, got a string"),
        )

    def test_the_first_value_of_a_batch_gives_a_new_property_its_type(self) -> None:
        given(ADA).when(
            identify("u1", seats=3),
            identify("u1", seats="many"),
        ).then(
            ada(PropertiesChanged({"seats": 3})),
            left_out("seats", "expected a number, got a string"),
        )

    def test_values_of_an_account_and_of_a_membership_are_left_out_alike(self) -> None:
        types = {
            NameScope.ACCOUNT_PROPERTY: {"seats": PropertyType.NUMBER},
            NameScope.MEMBERSHIP_PROPERTY: {"since": PropertyType.DATE},
        }
        given(ADA, ACME, types=types).when(
            Join(names("u1"), names("a1"), {"seats": True}, {"since": "yesterday"}, AT),
        ).then(
            ada(MembershipStarted(), acme),
            left_out("seats", "expected a number, got a boolean"),
            left_out("since", "expected a date, got a string"),
        )

    def test_a_value_under_a_retired_name_is_left_out_and_null_still_deletes_the_old_one(
        self,
    ) -> None:
        old = (ADA, ada(PropertiesChanged({"fax": "1", "plan": "pro"})))
        retired = {NameScope.USER_PROPERTY: ["fax"]}
        given(*old, retired=retired).when(
            identify("u1", fax="2", plan="free"),
        ).then(
            ada(PropertiesChanged({"plan": "free"}, before={"plan": "pro"})),
            left_out("fax", RETIRED),
        )
        given(*old, retired=retired).when(
            identify("u1", fax=None),
        ).then(
            ada(PropertiesChanged({}, ["fax"], {"fax": "1"})),
        )

    def test_activity_under_a_retired_name_is_refused_whole(self) -> None:
        given(ADA, retired={NameScope.EVENT: ["ping"]}).when(
            track("u1", "", "login", "ping"),
            track("u1", "", "login"),
        ).then(
            refused("invalid-input", f"this event is refused: {RETIRED}"),
            ada(did("login")),
        )

    def test_a_full_catalogue_refuses_new_events_and_leaves_out_new_properties(self) -> None:
        given(
            ADA,
            types={
                NameScope.EVENT: {"login": PropertyType.STRING},
                NameScope.USER_PROPERTY: {"plan": PropertyType.STRING},
            },
            names_per_scope=1,
        ).when(
            track("u1", "", "login"),
            track("u1", "", "clicked button 4711"),
            identify("u1", plan="pro", city="Ghent"),
        ).then(
            ada(did("login")),
            refused(
                "invalid-input",
                "there are too many event names already; put what varies into the properties,"
                " not into the name",
            ),
            ada(PropertiesChanged({"plan": "pro"})),
            left_out("city", "there are too many property names already, and this one is new"),
        )

    def test_pages_channels_and_campaigns_are_in_no_catalogue(self) -> None:
        page = Activity(ActivityKind.PAGE, "example.com/prices")
        given(ADA, names_per_scope=0).when(
            Track(names("u1"), (), (page,), AT),
        ).then(
            ada(Tracked(page)),
        )


class TestErasures:
    def test_an_erased_identity_is_free_and_names_a_new_subject(self) -> None:
        given(ADA, ada(PropertiesChanged({"plan": "pro"})), ada(Erased())).when(
            identify("u1", plan="free"),
        ).then(
            new_user()(Registered(names("u1"))),
            new_user()(PropertiesChanged({"plan": "free"})),
        )

    def test_nobody_leaves_an_erased_account(self) -> None:
        given(ADA, ACME, ada(MembershipStarted(), acme), acme(Erased())).when(
            leave("u1", "a1"),
        ).then(
            refused("not-found", "there is no such account"),
        )

    def test_a_membership_that_was_taken_over_needs_no_account_that_is_there_still(self) -> None:
        """The account was erased since; what began before may be taken over and end."""
        caused = given(
            ADA,
            BOB,
            ACME,
            bob(MembershipStarted(), acme, EARLIER),
            bob(MembershipEnded(), acme, AT),
            acme(Erased()),
        ).when(alias("u1", "u2", at=LATER))
        caused.then(
            ada(Absorbed((bob.id,), names("u2")), at=LATER),
            ada(MembershipStarted({}, bob.id), acme, EARLIER),
            ada(MembershipEnded(), acme, AT),
            bob(MergedInto(ada.id), at=LATER),
        )
        about_acme = [event for event in caused.events if event.account == acme.id]
        assert not any(event.needs_account for event in about_acme)


def test_each_new_name_has_the_type_of_its_first_value() -> None:
    known = {NameScope.USER_PROPERTY: {"plan": PropertyType.STRING}}
    commands: list[Command] = [
        identify("u1", plan="pro", seats=3, since="2024-05-13", tags=["a"], vip=True, odd={"a": 1}),
        identify("u2", seats="many", **{"jo@example.com": "a name that is refused"}),
        identify("u3", nul="a value that is not storable\0"),
        Join(names("u1"), names("a1"), {"plan": "pro"}, {"role": "owner"}, AT),
        track("u1", "", "login"),
        leave("u1", "a1"),
    ]
    assert new_names(commands, lambda scope: known.get(scope, {})) == {
        CatalogueName(NameScope.USER_PROPERTY, "seats"): PropertyType.NUMBER,
        CatalogueName(NameScope.USER_PROPERTY, "since"): PropertyType.DATE,
        CatalogueName(NameScope.USER_PROPERTY, "tags"): PropertyType.LIST,
        CatalogueName(NameScope.USER_PROPERTY, "vip"): PropertyType.BOOLEAN,
        CatalogueName(NameScope.ACCOUNT_PROPERTY, "plan"): PropertyType.STRING,
        CatalogueName(NameScope.MEMBERSHIP_PROPERTY, "role"): PropertyType.STRING,
        CatalogueName(NameScope.EVENT, "login"): PropertyType.STRING,
    }


users = st.sampled_from(["u1", "u2", "u3", "u1 ada@x.be", "ada@x.be", "ada@x.be u2"])
accounts = st.sampled_from(["a1", "a2", "x.be", "a1 x.be", "x.be a2"])
plans = st.sampled_from(["pro", "free", None, 3])
commands = st.one_of(
    st.builds(lambda who, plan: identify(who, plan=plan), users | accounts, plans),
    st.builds(lambda user, account, plan: group(user, account, role=plan), users, accounts, plans),
    st.builds(leave, users, accounts),
    st.builds(alias, users, users),
    st.builds(lambda user, account: track(user, account, "login"), users, accounts),
)
batches = st.lists(commands, max_size=12)


TYPES = {
    NameScope.USER_PROPERTY: {"plan": PropertyType.STRING},
    NameScope.ACCOUNT_PROPERTY: {"plan": PropertyType.STRING},
    NameScope.MEMBERSHIP_PROPERTY: {"role": PropertyType.STRING},
}


def carried_out(*batches: list[Command]) -> list[Event]:
    """The events of batches, each decided on what those before it left."""
    history: list[Event] = []
    for batch in batches:
        history += given(*history, types=TYPES).when(*batch).events
    return history


@for_all(batches)
def test_a_batch_decides_the_same_as_its_commands_one_by_one(batch: list[Command]) -> None:
    assert carried_out(batch) == carried_out(*([command] for command in batch))


@for_all(batches)
def test_the_versions_of_each_stream_have_no_gap(batch: list[Command]) -> None:
    history = carried_out(batch)
    for stream in {event.stream for event in history}:
        versions = [one.version for one in history if one.stream == stream and one.version]
        assert versions == list(range(1, len(versions) + 1))


@for_all(batches)
def test_whoever_merged_has_one_survivor_and_says_nothing_more(batch: list[Command]) -> None:
    history = carried_out(batch)
    merged: set[object] = set()
    for event in history:
        assert event.stream not in merged
        if isinstance(event.payload, MergedInto):
            merged.add(event.stream)


@for_all(batches)
def test_a_command_that_is_given_again_at_once_changes_nothing(batch: list[Command]) -> None:
    """Tracked activity alone is recorded as often as it is sent."""
    twice = [one for one in batch for _ in range(1 if isinstance(one, Track) else 2)]
    assert carried_out(twice) == carried_out(batch)


@for_all(batches)
def test_each_identity_is_on_record_with_one_subject(batch: list[Command]) -> None:
    history = carried_out(batch)
    merged = {event.stream for event in history if isinstance(event.payload, MergedInto)}
    owners = [
        (identity.scheme, identity.matching)
        for id in {event.stream for event in history} - merged
        for identity in given(*history).state_of(id).identities
    ]
    assert len(owners) == len(set(owners))
