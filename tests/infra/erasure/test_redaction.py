"""Case 23: what names an erased one by value is cleaned, in definitions, in what they said before
and in saved views; what it says is sealed under keys of its own, which the erasure destroys."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest

from domain.activity import Activity, ActivityKind
from domain.commands import Track
from domain.conditions import language as ask
from domain.conditions.counters import counter_of
from domain.conditions.language import Attribute, Condition
from domain.definitions.destinations import Destination, Subscription, SubscriptionKind
from domain.definitions.saved_views import SavedView, SavedViewItem
from domain.definitions.types import DefinitionId, Segment
from domain.erasure.erasure import NamedIn
from domain.erasure.order import ErasureScope
from domain.erasure.redaction import MARK
from domain.errors import Conflict, NotReady
from domain.identity import SubjectId, SubjectKind
from domain.workspace import editing
from infra.bootstrap.annals import Annals
from infra.erasure.certificates import verified
from infra.keys import sealing
from infra.write.definition_store import DefinitionStore
from projections.queries import definition_list
from tests.commands import identify, named
from tests.infra import chain
from tests.infra.commands import stored, subject_of
from tests.infra.erasures import OFFICER, carried_through, destroy_keys, erase, erased
from tests.infra.erasures import ask as ask_to_erase
from tests.pasts import seen_at
from tests.projections.counting import need, ready
from tests.projections.definitions import change
from tests.projections.read_models import dump, forget_read_models, project
from tests.projections.segments import EDITOR, define, members, settle

ANN, BEN = "ann@x.example", "ben@x.example"
USER = SubjectKind.USER


def mail(*values: str) -> Condition:
    return ask.AttributeIs(Attribute.EMAIL, ask.In(list(values)))


def view_of(annals: Annals, filter: Condition) -> uuid.UUID:
    now = datetime.now(UTC)
    item = SavedViewItem(
        uuid.uuid4(), SavedView(USER, "mine", "name", None, None, filter), now, EDITOR, now, EDITOR
    )
    annals.saved_views.add(item)
    return item.id


def versions(annals: Annals, id: DefinitionId) -> list[Any]:
    with annals.queries.connect() as conn:
        return [version.definition for version in definition_list.list_versions(conn, id).items]


def people(annals: Annals) -> None:
    stored(annals, identify(f"u1 {ANN}", name="Ann"), identify(f"u2 {BEN}", name="Ben"))


def in_clear(database_url: str, value: str) -> list[str]:
    return [table for table, rows in dump(database_url).items() if value in str(rows)]


def test_case_23_definitions_what_they_said_before_and_saved_views_are_cleaned(
    annals: Annals, open_annals: Callable[[], Annals], database_url: str
) -> None:
    other = open_annals()
    people(annals)
    both, replaced = define(annals, mail(ANN, BEN)), define(annals, mail(ANN))
    change(annals, replaced, Segment(USER, "now of Ben", mail(BEN)))
    gone = define(annals, mail(ANN), name=f"for {ANN}")
    annals.definitions.decide(lambda state: editing.delete(state, gone, EDITOR), datetime.now(UTC))
    untouched = define(annals, mail(BEN))
    told = DefinitionId(uuid.uuid4())
    destination = Destination(
        f"about {ANN}", "https://a.example", [Subscription(SubscriptionKind.EVENT)]
    )
    now = datetime.now(UTC)
    annals.definitions.decide(lambda state: editing.make(state, told, destination, EDITOR), now)
    view = view_of(annals, mail(ANN))
    project(annals)
    assert other.definitions.load().segment(both).definition.condition == mail(ANN, BEN)
    assert in_clear(database_url, ANN)
    place = "/condition/test/values/0"
    assert annals.redaction.find(annals.aggregates.load({subject_of(annals, "u1"): USER})[
        subject_of(annals, "u1")].identities) == sorted(
        [
            NamedIn("segment", both, [1], [place]),
            NamedIn("segment", replaced, [1], [place]),
            NamedIn("segment", gone, [1, 2], [place, "/name"]),
            NamedIn("destination", told, [1], ["/name"]),
            NamedIn("saved_view", view, [], ["/filter/test/values/0"]),
        ],
        key=lambda named: (named.what, named.id),
    )  # fmt: skip
    before = datetime.now(UTC)
    done = erased(annals, subject_of(annals, "u1"))
    assert {mention.id for mention in done.named_in} == {both, replaced, gone, told, view}
    assert ANN not in str(done)
    assert in_clear(database_url, ANN) == []
    assert in_clear(database_url, BEN)
    for process in (annals, other):
        state = process.definitions.load()
        assert state.segment(both).definition.condition == mail(MARK, BEN)
        assert state.segment(replaced).definition == Segment(USER, "now of Ben", mail(BEN))
        assert state.deleted[gone].definition == Segment(USER, f"for {MARK}", mail(MARK))
        assert state.destination(told).definition.name == f"about {MARK}"
        assert state.segment(untouched).version == state.segment(both).version == 1
        assert process.saved_views.get(view).view.filter == mail(MARK)
        assert ANN not in str(process.definitions.history())
    assert ANN not in str(versions(annals, both) + versions(annals, replaced))
    then = seen_at(annals, before)
    assert then.definitions.load().segment(both).definition.condition == mail(MARK, BEN)
    assert ANN not in str(then.definitions.history())
    live = dump(database_url)
    forget_read_models(database_url)
    project(annals)
    again = dump(database_url)
    assert {
        table: again[table] for table in ("definitions", "definition_versions", "segments")
    } == {table: live[table] for table in ("definitions", "definition_versions", "segments")}
    assert chain.problems(database_url) == []


def test_case_23_the_keys_of_what_named_them_are_destroyed_and_certified(
    annals: Annals, database_url: str
) -> None:
    people(annals)
    segment = define(annals, mail(ANN))
    view_of(annals, mail(ANN))
    [row] = annals.log.read_streams({annals.definitions.stream: 0})[annals.definitions.stream]
    done = erased(annals, subject_of(annals, "u1"))
    with psycopg.connect(database_url) as conn:
        state = "SELECT state FROM keys.subject_keys WHERE subject = %s"
        assert conn.execute(state, (row.event_id,)).fetchall() == [("destroyed",)]
        contents = conn.execute("SELECT content FROM keys.erasure_mentions").fetchall()
    statement = verified(annals.erasures.record.certificate(done.id), annals.certifier.public_key())
    assert {erased for (erased,) in contents} < {erased.subject for erased in statement.subjects}
    assert len(statement.subjects) == 3
    assert annals.definitions.load().segment(segment).definition.condition == mail(MARK)


def test_case_23_two_who_are_named_in_one_are_taken_out_one_after_the_other(
    annals: Annals,
    open_annals: Callable[[], Annals],
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The second looks while the first is still named, and destroys after the first."""
    other = open_annals()
    people(annals)
    both, view = define(annals, mail(ANN, BEN)), view_of(annals, mail(ANN, BEN))
    ann, ben = subject_of(annals, "u1"), subject_of(annals, "u2")
    destroy = annals.erasure_requests._destruction.destroy

    def destroy_late(*given: Any) -> Any:
        monkeypatch.undo()
        erase(other, ann)
        return destroy(*given)

    monkeypatch.setattr(annals.erasure_requests._destruction, "destroy", destroy_late)
    erase(annals, ben)
    for process in (annals, other):
        condition = process.definitions.load().segment(both).definition.condition
        assert condition == mail(MARK, MARK)
        assert process.saved_views.get(view).view.filter == mail(MARK, MARK)
    with psycopg.connect(database_url) as conn:
        alive = conn.execute(
            "SELECT count(*) FROM keys.replacements r JOIN keys.subject_keys k"
            " ON k.subject = r.content WHERE k.state = 'active'"
        )
        # The view, the definition, and the event that said it was cleaned of Ann; of what else was
        # ready the keys are gone.
        assert alive.fetchone() == (3,)


def test_case_23_who_is_on_hold_stays_named_when_another_goes(annals: Annals) -> None:
    people(annals)
    both, view = define(annals, mail(ANN, BEN)), view_of(annals, mail(BEN))
    ann, ben = subject_of(annals, "u1"), subject_of(annals, "u2")
    hold = annals.holds.place(USER, ben, reason="lawsuit-7", by=OFFICER)
    with pytest.raises(Conflict):
        erase(annals, ben)
    done = carried_through(annals, ask_to_erase(annals, ann, ben, scope=ErasureScope.SEGMENT).id)
    assert done.outcomes == {"erased": 1, "held": 1}
    assert [mention.id for mention in done.named_in] == [both]
    assert annals.definitions.load().segment(both).definition.condition == mail(MARK, BEN)
    assert annals.saved_views.get(view).view.filter == mail(BEN)
    annals.holds.release(hold.id, reason="settled", by=OFFICER)
    erase(annals, ben)
    assert annals.saved_views.get(view).view.filter == mail(MARK)


def test_case_23_what_was_recorded_before_there_were_such_keys_is_cleaned_too(
    annals: Annals, monkeypatch: pytest.MonkeyPatch
) -> None:
    people(annals)
    with monkeypatch.context() as before:
        before.setattr(sealing, "SAYS", ())
        old = define(annals, mail(ANN))
    assert annals.definitions.load().segment(old).definition.condition == mail(ANN)
    [row] = annals.log.read_streams({annals.definitions.stream: 0})[annals.definitions.stream]
    assert row.schema_version == 1
    erase(annals, subject_of(annals, "u1"))
    assert annals.definitions.load().segment(old).definition.condition == mail(MARK)
    assert ANN not in str(annals.definitions.history())


def test_what_was_destroyed_with_nothing_in_its_place_is_missing_and_all_else_goes_on(
    annals: Annals,
) -> None:
    """A backup from before somebody had a name, replayed: what names them by it is not found."""
    lost, kept = define(annals, mail(ANN)), define(annals, mail(BEN))
    change(annals, lost, Segment(USER, "renamed", mail(ANN)))
    define(annals, mail(ANN))
    rows = annals.log.read_streams({annals.definitions.stream: 0})[annals.definitions.stream]
    destroy_keys(annals.keys, [SubjectId(rows[n].event_id) for n in (0, -1)])
    store = DefinitionStore(annals.log, annals.sealer, annals.secrets.get("definitions"))
    assert store.load().segments.keys() == {kept}
    project(annals)
    with annals.queries.connect() as conn:
        assert [definition.id for definition in definition_list.list_definitions(conn).items] == [
            kept
        ]
    store.decide(lambda state: editing.delete(state, kept, EDITOR), datetime.now(UTC))
    assert store.load().segments == {}


def referred(test: ask.Test) -> ask.Did:
    return ask.Did("event", "came", where=[ask.MetadataIs("by", test)])


def came(who: str, by: str) -> Track:
    did = (Activity(ActivityKind.EVENT, "came", {"by": by}),)
    return Track((named(who),), (), did, datetime(2026, 5, 13, tzinfo=UTC))


def test_case_23_counters_that_ask_for_an_erased_one_go_and_definitions_have_theirs_counted_anew(
    annals: Annals, database_url: str
) -> None:
    people(annals)
    stored(annals, came("u3", ANN), came("u4", BEN), came("u5", "a friend"))
    project(annals)
    kept, of_ben = referred(ask.IsNot(ANN)), referred(ask.Is(BEN))
    naming = [referred(ask.Is(ANN)), referred(ask.Is("a friend"))]
    for each in (kept, of_ben, *naming):
        with pytest.raises(NotReady), annals.queries.connect() as conn:
            need(conn, each)
    ready(annals)
    segment = define(annals, kept)
    define(annals, of_ben)
    settle(annals)
    u3, u4, u5 = (subject_of(annals, name) for name in ("u3", "u4", "u5"))
    assert members(annals, segment) == {u4, u5}
    erased(annals, subject_of(annals, "u1"))
    with psycopg.connect(database_url) as conn:
        rows = conn.execute("SELECT id, tests, state FROM views.counters").fetchall()
        left = conn.execute("SELECT DISTINCT counter FROM views.counter_days").fetchall()
    cleaned = counter_of(referred(ask.IsNot(MARK))).id
    remaining = {counter_of(each).id for each in (of_ben, naming[1])}
    assert {id for id, *_ in rows} == remaining | {cleaned}
    assert {id for (id,) in left} == remaining
    assert all(ANN not in tests for _, tests, _ in rows)
    findings = annals.residue_scan.scan([ANN]).findings
    assert [finding.place for finding in findings if finding.place.startswith("table ")] == []
    decider = annals.decider()
    for _ in range(3):
        project(annals)
        decider.step()
        decider.sweep()
    assert members(annals, segment) == {u4, u5}  # decides nothing until that is counted
    ready(annals)
    settle(annals)
    # Whoever came by the erased one did not come by the mark: the plain evaluator says so, too.
    assert members(annals, segment) == {u3, u4, u5}
