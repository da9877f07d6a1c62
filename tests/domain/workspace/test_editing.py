"""Definitions are made, changed, activated, archived and deleted, or it is said why not."""

from __future__ import annotations

import pytest

from domain.conditions import language as ask
from domain.definitions.destinations import Destination, Subscription, SubscriptionKind
from domain.definitions.types import (
    Definition,
    HealthProfile,
    Score,
    ScoreRule,
    Segment,
    Settings,
    Signal,
    Stage,
    Stages,
    StageType,
    Status,
)
from domain.events.definitions import (
    DefinitionActivated,
    DefinitionArchived,
    DefinitionChanged,
    DefinitionCleaned,
    DefinitionDeleted,
    DefinitionMade,
    MembersListed,
    MembersUnlisted,
    NamesRetired,
    PropertyTypeChanged,
)
from domain.identity import SubjectId, SubjectKind
from domain.name_rules import NameScope
from domain.properties import PropertyType
from domain.workspace import editing
from domain.workspace.definitions import Definitions
from tests.domain.given import refused
from tests.domain.workspace.given import BY, IDS, Given, given, made

USER, ACCOUNT = SubjectKind
FIRST, SECOND, THIRD = IDS[:3]
ANYBODY = ask.AllOf([])
LARGE = Segment(ACCOUNT, "Large", ask.PropertyIs("seats", ask.Greater(5)))
LISTED = Segment(USER, "Pilot users")
PAYING = Stage("paying", StageType.PAYING, ANYBODY)
LIFE = Stages(USER, "Life", [PAYING])
FIT = Score(USER, "Fit", [ScoreRule("all", 1, ANYBODY)])
LOW = Signal(USER, "Low", ask.ScoreIs("Fit", ask.Less(20)))
CRM = Destination("CRM", "https://crm.example", [Subscription(SubscriptionKind.STAGE)])


def active(*definitions: Definition) -> Given:
    """Given definitions that are active, the n-th under `IDS[n]`."""
    return Given(made(Definitions(), *definitions))


class TestMake:
    @pytest.mark.parametrize(
        ("definition", "status"),
        [
            (LARGE, Status.ACTIVE),
            (Settings(currency="EUR"), Status.ACTIVE),
            (LIFE, Status.DRAFT),
            (FIT, Status.DRAFT),
            (CRM, Status.DRAFT),
        ],
    )
    def test_segments_and_settings_are_active_at_once_and_others_begin_as_drafts(
        self, definition: Definition, status: Status
    ) -> None:
        caused = given().when(editing.make, FIRST, definition, BY)
        caused.then(DefinitionMade(FIRST, definition, BY))
        made = caused.state.current[FIRST]
        assert (made.status, made.version, made.created_by) == (status, 1, BY)

    def test_a_definition_that_is_not_consistent_is_refused(self) -> None:
        given().when(editing.make, FIRST, Score(USER, "Fit", []), BY).then(
            refused("invalid-input", "there is no rule; a score has at least one", "/rules")
        )

    def test_a_definition_names_only_what_is_active(self) -> None:
        given(DefinitionMade(FIRST, FIT, BY)).when(editing.make, SECOND, LOW, BY).then(
            refused("invalid-input", "unknown score of users 'Fit'", "/condition/score")
        )
        active(FIT).when(editing.make, SECOND, LOW, BY).then(DefinitionMade(SECOND, LOW, BY))

    def test_a_segment_that_was_deleted_cannot_be_named(self) -> None:
        given(DefinitionMade(FIRST, LARGE, BY), DefinitionDeleted(FIRST, BY)).when(
            editing.make, SECOND, Segment(ACCOUNT, "Not", ask.Not(ask.InSegment(FIRST))), BY
        ).then(
            refused(
                "invalid-input",
                "there is no such segment; it may have been deleted",
                "/condition/of/segment",
            )
        )

    def test_a_name_is_given_once_among_the_active_of_a_family_and_kind(self) -> None:
        large = DefinitionMade(FIRST, LARGE, BY)
        given(large).when(editing.make, SECOND, LARGE, BY).then(
            refused("invalid-input", "there is a segment of accounts with this name", "/name")
        )
        users = Segment(USER, "Large")
        given(large).when(editing.make, SECOND, users, BY).then(DefinitionMade(SECOND, users, BY))
        given(large, DefinitionDeleted(FIRST, BY)).when(editing.make, SECOND, LARGE, BY).then(
            DefinitionMade(SECOND, LARGE, BY)
        )

    def test_a_retired_name_and_a_property_of_another_type_are_refused(self) -> None:
        scope = NameScope.ACCOUNT_PROPERTY
        given(NamesRetired(scope, ["seats"], BY)).when(editing.make, FIRST, LARGE, BY).then(
            refused(
                "invalid-input",
                "the account property 'seats' is retired; restore it, or ask for another",
                "/condition/name",
            )
        )
        given(PropertyTypeChanged(scope, "seats", PropertyType.STRING, BY)).when(
            editing.make, FIRST, LARGE, BY
        ).then(
            refused("invalid-input", "the property 'seats' is a string by now", "/condition/name")
        )

    def test_a_workspace_has_one_set_of_settings(self) -> None:
        euro, dollar = Settings(currency="EUR"), Settings(currency="USD")
        given(DefinitionMade(FIRST, euro, BY)).when(editing.make, SECOND, dollar, BY).then(
            refused("conflict", "the workspace has settings already; change those")
        )
        given().when(editing.choose, FIRST, euro, BY).then(DefinitionMade(FIRST, euro, BY))
        given(DefinitionMade(FIRST, euro, BY)).when(editing.choose, SECOND, dollar, BY).then(
            DefinitionChanged(FIRST, dollar, BY)
        )


class TestChange:
    def test_a_change_is_a_new_version_and_no_change_is_none(self) -> None:
        larger = Segment(ACCOUNT, "Large", ask.PropertyIs("seats", ask.Greater(9)))
        caused = given(DefinitionMade(FIRST, LARGE, BY)).when(editing.change, FIRST, larger, BY)
        caused.then(DefinitionChanged(FIRST, larger, BY))
        assert caused.state.current[FIRST].version == 2
        given(DefinitionMade(FIRST, LARGE, BY)).when(editing.change, FIRST, LARGE, BY).then()

    def test_a_definition_that_does_not_exist_cannot_be_changed(self) -> None:
        given().when(editing.change, FIRST, LARGE, BY).then(
            refused("not-found", "there is no such definition")
        )

    @pytest.mark.parametrize(
        ("before", "after", "refusal"),
        [
            (
                LARGE,
                FIT,
                refused("invalid-input", "this is a segment and stays so; define another"),
            ),
            (
                LIFE,
                Stages(ACCOUNT, "Life", [PAYING]),
                refused(
                    "invalid-input",
                    "this is a list of stages of users; define another for accounts",
                    "/kind",
                ),
            ),
            (
                LISTED,
                Segment(USER, "Pilot users", ANYBODY),
                refused(
                    "invalid-input",
                    "this segment is static and stays so; define another",
                    "/condition",
                ),
            ),
        ],
    )
    def test_family_kind_and_whether_a_segment_is_static_never_change(
        self, before: Definition, after: Definition, refusal: str
    ) -> None:
        given(DefinitionMade(FIRST, before, BY)).when(editing.change, FIRST, after, BY).then(
            refusal
        )

    def test_a_score_that_others_use_keeps_its_name(self) -> None:
        renamed = Score(USER, "Fitness", FIT.rules)
        active(FIT, LOW).when(editing.change, FIRST, renamed, BY).then(
            refused("conflict", "“Fit” is used inside “Low”: change or delete that first")
        )
        active(FIT).when(editing.change, FIRST, renamed, BY).then(
            DefinitionChanged(FIRST, renamed, BY)
        )

    def test_a_draft_may_change_its_name_for_nothing_rests_on_it(self) -> None:
        renamed = Score(USER, "Fitness", FIT.rules)
        given(DefinitionMade(FIRST, FIT, BY)).when(editing.change, FIRST, renamed, BY).then(
            DefinitionChanged(FIRST, renamed, BY)
        )

    def test_a_segment_cannot_come_to_rest_on_itself(self) -> None:
        not_large = Segment(ACCOUNT, "Small", ask.Not(ask.InSegment(FIRST)))
        circular = Segment(ACCOUNT, "Large", ask.InSegment(SECOND))
        active(LARGE, not_large).when(editing.change, FIRST, circular, BY).then(
            refused(
                "invalid-input",
                "the segment would rest on itself: “Large” → “Small” → “Large”",
                "/condition/segment",
            )
        )

    def test_an_archived_definition_stays_as_it_is(self) -> None:
        given(
            DefinitionMade(FIRST, FIT, BY),
            DefinitionActivated(FIRST, BY),
            DefinitionArchived(FIRST, BY),
        ).when(editing.change, FIRST, Score(USER, "Fitness", FIT.rules), BY).then(
            refused("conflict", "an archived definition cannot change; make a new one like it")
        )


class TestActivate:
    def test_a_draft_decides_once_it_is_activated(self) -> None:
        caused = given(DefinitionMade(FIRST, FIT, BY)).when(editing.activate, FIRST, BY)
        caused.then(DefinitionActivated(FIRST, BY))
        assert caused.state.active == {FIRST: FIT}
        active(FIT).when(editing.activate, FIRST, BY).then()

    def test_new_stages_take_the_place_of_the_old_ones(self) -> None:
        new = Stages(USER, "New life", [PAYING])
        before = active(LIFE).when(editing.make, SECOND, new, BY).state
        caused = Given(before).when(editing.activate, SECOND, BY)
        caused.then(DefinitionArchived(FIRST, BY), DefinitionActivated(SECOND, BY))
        assert caused.state.active == {SECOND: new}

    def test_stages_that_others_use_are_not_replaced_by_a_list_without_them(self) -> None:
        pays = Signal(USER, "Pays", ask.StageIs(["paying"]))
        new = Stages(USER, "New life", [Stage("trial", StageType.TRIAL, ANYBODY)])
        before = active(LIFE, pays).when(editing.make, THIRD, new, BY).state
        Given(before).when(editing.activate, THIRD, BY).then(
            refused("conflict", "“paying” is used inside “Pays”: change or delete that first")
        )

    def test_two_drafts_of_one_name_cannot_both_be_activated(self) -> None:
        given(
            DefinitionMade(FIRST, FIT, BY),
            DefinitionMade(SECOND, FIT, BY),
            DefinitionActivated(FIRST, BY),
        ).when(editing.activate, SECOND, BY).then(
            refused("invalid-input", "there is a score of users with this name", "/name")
        )

    def test_a_stage_has_one_health_profile(self) -> None:
        well = HealthProfile(USER, "Well", ["paying"], ANYBODY)
        also = HealthProfile(USER, "Also well", [None, "paying"], ANYBODY)
        before = active(LIFE, well).when(editing.make, THIRD, also, BY).state
        Given(before).when(editing.activate, THIRD, BY).then(
            refused(
                "invalid-input",
                "'paying' has the health profile “Well” already; take it out there first",
                "/stages/1",
            )
        )

    def test_an_archived_definition_stays_archived(self) -> None:
        before = active(FIT).when(editing.archive, FIRST, BY).state
        Given(before).when(editing.activate, FIRST, BY).then(
            refused("conflict", "an archived definition stays archived; make a new one like it")
        )


class TestArchive:
    def test_an_archived_definition_decides_no_more_and_stays_on_record(self) -> None:
        caused = active(FIT).when(editing.archive, FIRST, BY)
        caused.then(DefinitionArchived(FIRST, BY))
        assert caused.state.active == {}
        assert caused.state.find(FIRST).status is Status.ARCHIVED
        Given(caused.state).when(editing.archive, FIRST, BY).then()

    @pytest.mark.parametrize(
        ("definition", "detail"),
        [
            (LARGE, "a segment is not archived; delete it"),
            (Settings(), "settings are not archived; change them"),
            (FIT, "a draft decides nothing; delete it"),
        ],
    )
    def test_only_active_definitions_are_archived_and_neither_segments_nor_settings(
        self, definition: Definition, detail: str
    ) -> None:
        given(DefinitionMade(FIRST, definition, BY)).when(editing.archive, FIRST, BY).then(
            refused("conflict", detail)
        )

    def test_a_score_that_others_use_is_not_archived(self) -> None:
        active(FIT, LOW).when(editing.archive, FIRST, BY).then(
            refused("conflict", "“Fit” is used inside “Low”: change or delete that first")
        )


class TestDelete:
    def test_segments_and_drafts_are_deleted_and_stay_on_record_as_deleted(self) -> None:
        caused = given(DefinitionMade(FIRST, LARGE, BY)).when(editing.delete, FIRST, BY)
        caused.then(DefinitionDeleted(FIRST, BY))
        assert (caused.state.current, list(caused.state.deleted)) == ({}, [FIRST])
        given(DefinitionMade(FIRST, FIT, BY)).when(editing.delete, FIRST, BY).then(
            DefinitionDeleted(FIRST, BY)
        )

    def test_what_decides_or_did_once_is_not_deleted(self) -> None:
        active(FIT).when(editing.delete, FIRST, BY).then(
            refused("conflict", "only drafts and segments are deleted; archive it")
        )
        archived = active(FIT).when(editing.archive, FIRST, BY).state
        Given(archived).when(editing.delete, FIRST, BY).then(
            refused("conflict", "only drafts and segments are deleted; it stays on record")
        )

    def test_a_segment_that_others_use_is_not_deleted(self) -> None:
        not_large = Segment(ACCOUNT, "Small", ask.Not(ask.InSegment(FIRST)))
        crm = Destination("CRM", "https://crm.example", CRM.news, ACCOUNT, FIRST)
        active(LARGE, not_large, crm).when(editing.delete, FIRST, BY).then(
            refused(
                "conflict",
                "“Large” is used inside “CRM”, “Small”: change or delete that first",
            )
        )


class TestLists:
    def test_subjects_are_put_on_the_list_of_a_static_segment_and_taken_off(self) -> None:
        users = [SubjectId(IDS[4]), SubjectId(IDS[5])]
        assert editing.change_list(users, BY, on=True) == [MembersListed(users, BY)]
        assert editing.change_list(users, BY, on=False) == [MembersUnlisted(users, BY)]
        assert editing.change_list([], BY, on=True) == []

    def test_only_a_static_segment_has_a_list(self) -> None:
        static = given(DefinitionMade(FIRST, LISTED, BY)).state
        assert static.static_segment(FIRST).definition == LISTED
        given(DefinitionMade(FIRST, LARGE, BY)).when(
            lambda state: [state.static_segment(FIRST)]
        ).then(
            refused(
                "invalid-input",
                "a condition selects the members of this segment; only a static one has a list",
            )
        )


class TestHistory:
    def test_an_erasure_takes_names_out_of_the_versions_that_had_them(self) -> None:
        mail = Segment(USER, "S", ask.AttributeIs(ask.Attribute.EMAIL, ask.Is("jo@example.com")))
        clean = Segment(USER, "S", ask.AttributeIs(ask.Attribute.EMAIL, ask.Is("")))
        state = given(DefinitionMade(FIRST, mail, BY), DefinitionCleaned(FIRST, [1], clean)).state
        assert state.find(FIRST).definition == clean
        unchanged = given(
            DefinitionMade(FIRST, mail, BY),
            DefinitionChanged(FIRST, LISTED, BY),
            DefinitionCleaned(FIRST, [1], clean),
        ).state
        assert unchanged.find(FIRST).definition == LISTED

    def test_events_about_a_definition_that_no_longer_opens_are_passed_over(self) -> None:
        """The event that made it is altered, or its key is destroyed."""
        state = given(DefinitionChanged(FIRST, LARGE, BY)).state
        assert (state.current, state.version) == ({}, 1)
