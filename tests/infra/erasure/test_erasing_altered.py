"""An erasure overlooks nobody, and nothing that names them, where rows of the log were altered."""

from __future__ import annotations

import uuid
from typing import cast

import pytest

from domain.commands import Position, SetStage
from domain.definitions.types import DefinitionId
from domain.erasure.erasure import TargetOutcome
from domain.erasure.order import ErasureScope
from domain.erasure.redaction import MARK
from domain.erasure.steps import ErasureStep
from domain.errors import Altered, NotFound
from domain.identity import SubjectId, SubjectKind
from infra.bootstrap.annals import Annals
from infra.erasure.certificates import verified
from tests.altered import ALTERATIONS, alter, places_of
from tests.commands import alias, identify
from tests.infra.commands import stored, subject_of
from tests.infra.erasure.test_redaction import ANN, mail, view_of
from tests.infra.erasures import OFFICER, carried_through, erased
from tests.infra.erasures import ask as ask_to_erase
from tests.projections.read_models import NOON, owner, project
from tests.projections.segments import EDITOR, define

USER, ACCOUNT = SubjectKind.USER, SubjectKind.ACCOUNT
BROKEN = ALTERATIONS["state"]
FIRST = {
    "no kind": "topic = 'person.registered'",
    "another kind": "topic = 'account.registered'",
    "no version": "version = NULL",
    "newer": ALTERATIONS["newer"],
}


def id_of(annals: Annals, name: str) -> SubjectId:
    id = subject_of(annals, name)
    assert id is not None
    return id


def first_of(url: str, id: SubjectId) -> Position:
    return places_of(url, id, "user.registered")[0]


def keys_of(annals: Annals, *ids: SubjectId) -> set[int]:
    annals.keys.refresh()
    return set(annals.keys.fetch([subject.int for subject in ids]))


@pytest.mark.parametrize("further", [True, False], ids=["more events", "no other event"])
@pytest.mark.parametrize("assignment", FIRST.values(), ids=FIRST.keys())
def test_whose_first_event_does_not_open_is_erased_and_taken_out_of_what_names_them(
    annals: Annals, database_url: str, assignment: str, further: bool
) -> None:
    stored(annals, identify(f"u1 {ANN}"), identify("u2", plan="free"))
    if further:
        stored(annals, identify("u1", plan="free"), identify("u1", plan="pro"))
    segment, view = define(annals, mail(ANN)), view_of(annals, mail(ANN))
    project(annals)
    ann, other = id_of(annals, "u1"), id_of(annals, "u2")
    alter(database_url, first_of(database_url, ann), assignment)
    with pytest.raises(NotFound):
        ask_to_erase(annals, ann, kind=ACCOUNT)
    done = erased(annals, ann, other)
    assert done.outcomes == {"erased": 2}
    assert keys_of(annals, ann, other) == set()
    assert {each.id for each in done.named_in} == {segment, view}
    assert annals.definitions.load().segment(segment).definition.condition == mail(MARK)


@pytest.mark.parametrize("assignment", FIRST.values(), ids=FIRST.keys())
def test_a_later_event_says_what_a_subject_is_that_no_read_model_has(
    annals: Annals, database_url: str, assignment: str
) -> None:
    stored(annals, identify("u1"), identify("u1", plan="free"))
    ann = id_of(annals, "u1")
    alter(database_url, first_of(database_url, ann), assignment)
    erased(annals, ann)
    assert keys_of(annals, ann) == set()


def test_of_whom_nothing_says_what_they_are_the_erasure_is_refused_and_never_called_unknown(
    annals: Annals, database_url: str
) -> None:
    stored(annals, identify("u1"), identify("u2"))
    ann, other = id_of(annals, "u1"), id_of(annals, "u2")
    place = first_of(database_url, ann)
    alter(database_url, place, FIRST["no kind"])
    for kind in SubjectKind:
        with pytest.raises(Altered):
            ask_to_erase(annals, ann, kind=kind)
    stranger = SubjectId(uuid.uuid4())
    request = erased(annals, ann, other, stranger, scope=ErasureScope.LIST)
    assert request.outcomes == {"erased": 1, "altered": 1, "unknown": 1}
    [left] = annals.erasures.record.targets(request.id, TargetOutcome.ALTERED, None, 10)
    assert left.subject == ann
    assert keys_of(annals, ann, other) == {ann.int}
    alter(database_url, place, "topic = 'user.registered'")
    assert erased(annals, ann).outcomes == {"erased": 1}
    assert keys_of(annals, ann) == set()


def test_a_hold_is_placed_on_them_and_what_is_done_by_hand_is_refused_as_altered(
    annals: Annals, database_url: str
) -> None:
    stored(annals, identify("u1"), identify("u1", plan="free"))
    project(annals)
    ann = id_of(annals, "u1")
    alter(database_url, first_of(database_url, ann), FIRST["no kind"])
    with pytest.raises(Altered):
        annals.manual_stages.apply(SetStage(USER, ann, None, "a test", EDITOR, NOON))
    assert annals.holds.place(USER, ann, reason="a case", by=OFFICER).subject == ann


@pytest.mark.parametrize("target", ["loser", "survivor"])
@pytest.mark.parametrize("whose", ["loser", "survivor"])
def test_both_sides_of_a_merge_go_where_the_first_event_of_one_does_not_open(
    annals: Annals, database_url: str, whose: str, target: str
) -> None:
    stored(annals, identify("u1"), identify("u2"))
    sides = {id_of(annals, "u1"), id_of(annals, "u2")}
    stored(annals, alias("u1", "u2"))
    survivor = id_of(annals, "u1")
    [loser] = sides - {survivor}
    project(annals)
    of = {"loser": loser, "survivor": survivor}
    alter(database_url, first_of(database_url, of[whose]), FIRST["no kind"])
    erased(annals, of[target])
    assert keys_of(annals, *sides) == set()


def test_whoever_is_asked_for_goes_where_the_survivor_does_not_say_that_it_absorbed_them(
    annals: Annals, database_url: str
) -> None:
    stored(annals, identify("u1"), identify(f"u2 {ANN}"))
    sides = {id_of(annals, "u1"), id_of(annals, "u2")}
    stored(annals, alias("u1", "u2"))
    survivor = id_of(annals, "u1")
    [loser] = sides - {survivor}
    segment = define(annals, mail(ANN))
    alter(database_url, places_of(database_url, survivor, "user.absorbed")[0], BROKEN)
    erased(annals, loser)
    assert keys_of(annals, *sides) == set()
    assert annals.definitions.load().segment(segment).definition.condition == mail(MARK)


@pytest.mark.parametrize("topic", ["user.registered", "user.identified", "user.absorbed"])
def test_names_in_an_event_that_does_not_open_are_taken_out_of_what_names_them(
    annals: Annals, database_url: str, topic: str
) -> None:
    names = {
        "user.registered": [identify(f"u1 {ANN}")],
        "user.identified": [identify("u1"), identify(f"u1 {ANN}")],
        "user.absorbed": [identify("u1"), identify(f"u2 {ANN}"), alias("u1", "u2")],
    }
    for command in names[topic]:
        stored(annals, command)
    segment, view = define(annals, mail(ANN)), view_of(annals, mail(ANN))
    project(annals)
    ann = id_of(annals, "u1")
    alter(database_url, places_of(database_url, ann, topic)[0], BROKEN)
    done = erased(annals, ann)
    assert {each.id for each in done.named_in} == {segment, view}
    assert condition_of(annals, segment) == mail(MARK)
    assert annals.saved_views.get(view).view.filter == mail(MARK)


def condition_of(annals: Annals, segment: DefinitionId) -> object:
    return annals.definitions.load().segment(segment).definition.condition


def test_a_replay_of_the_ledger_looks_for_these_names_too(
    annals: Annals, database_url: str
) -> None:
    stored(annals, identify(f"u1 {ANN}"))
    segment = define(annals, mail(ANN))
    project(annals)
    ann = id_of(annals, "u1")
    alter(database_url, first_of(database_url, ann), FIRST["no kind"])
    define(annals, mail(ANN), name="another")
    stream = annals.definitions.stream
    alter(database_url, places_of(database_url, stream, "segment.defined")[1], BROKEN)
    request = uuid.uuid4()
    annals.erasure_requests._destruction.prepare_replay(request, USER, [ann])
    with owner(database_url) as conn:
        query = "SELECT id FROM keys.erasure_mentions WHERE request = %s"
        assert conn.execute(query, (request,)).fetchall() == [(cast(uuid.UUID, segment),)]
        remembered = conn.execute("SELECT request FROM keys.erasure_names").fetchall()
    assert set(remembered) == {(request,)}


@pytest.mark.parametrize("assignment", [BROKEN, ALTERATIONS["event id"]], ids=["state", "id"])
def test_what_a_definition_says_and_does_not_open_keeps_the_erasure_from_being_certified(
    annals: Annals, database_url: str, assignment: str
) -> None:
    stored(annals, identify(f"u1 {ANN}"))
    segment = define(annals, mail(ANN))
    stream = annals.definitions.stream
    place = places_of(database_url, stream, "segment.defined")[0]
    with owner(database_url) as conn:
        original = conn.execute(
            "SELECT state, event_id FROM log.events WHERE log_partition = %s AND position = %s",
            (place.log_partition, place.position),
        ).fetchone()
    assert original is not None
    alter(database_url, place, assignment)
    ann = id_of(annals, "u1")
    accepted = ask_to_erase(annals, ann)
    assert (accepted.outcomes, keys_of(annals, ann)) == ({"erased": 1}, set())
    for _ in range(4):
        project(annals)
        annals.erasures.step()
    waiting = annals.erasures.record.get(accepted.id)
    assert waiting.step is ErasureStep.CLEANED
    assert f"{place.log_partition}:{place.position} in the log" in (waiting.waits_for or "")
    alter(database_url, place, f"state = '\\x{original[0].hex()}', event_id = '{original[1]}'")
    done = carried_through(annals, accepted.id)
    assert [each.id for each in done.named_in] == [segment]
    assert ANN not in str(annals.definitions.history())
    assert MARK in str(annals.definitions.history())
    with owner(database_url) as conn:
        assert conn.execute("SELECT count(*) FROM keys.erasure_names").fetchone() == (0,)
    statement = verified(annals.erasures.record.certificate(done.id), annals.certifier.public_key())
    assert {SubjectId(original[1]), ann} <= {each.subject for each in statement.subjects}
