"""The 360 view says where somebody stands: scores with their markers, signals, segments, hands."""

from __future__ import annotations

from datetime import datetime, timedelta

from domain.commands import Change, ReleaseStage, SetStage
from domain.conditions.language import AllOf, Is, PropertyIs
from domain.identity import SubjectId, SubjectKind
from infra.bootstrap.annals import Annals
from projections.queries.contact_view import Contact, view
from projections.queries.lifecycle import ManualStage, Marker
from tests.projections.definitions import activate, archive, score, signal, stages
from tests.projections.read_models import NOON, found, user, write
from tests.projections.segments import EDITOR, define, settle

USER = SubjectKind.USER
IS_PRO, IS_HAPPY = PropertyIs("plan", Is("pro")), PropertyIs("mood", Is("happy"))
HOUR = timedelta(hours=1)


def told(annals: Annals, at: datetime, **values: object) -> SubjectId:
    """What somebody's properties become, decided on at an instant."""
    write(annals, Change(USER, user("jo"), values, at))
    settle(annals, annals.decider(clock=lambda: at))
    return found(annals, user("jo"))


def shown(annals: Annals, subject: SubjectId) -> Contact:
    with annals.queries.connect() as conn:
        return view(conn, USER, subject, renewal_property="renewal")


def test_a_score_shows_each_rule_with_whether_it_holds_and_since_when(annals: Annals) -> None:
    id = activate(annals, score(USER, "fit", pays=(3, IS_PRO), happy=(1, IS_HAPPY)))
    told(annals, NOON, plan="pro", mood="sad")
    told(annals, NOON + HOUR, mood="happy")
    jo = told(annals, NOON + 2 * HOUR, plan="free")
    [fit] = shown(annals, jo).scores
    assert (fit.id, fit.name, fit.value, fit.changed_at) == (id, "fit", 25.0, NOON + 2 * HOUR)
    assert fit.rules == [
        Marker("pays", 3, False, NOON + 2 * HOUR),
        Marker("happy", 1, True, NOON + HOUR),
    ]


def test_a_score_of_the_other_kind_or_one_that_is_archived_is_not_shown(annals: Annals) -> None:
    activate(annals, score(SubjectKind.ACCOUNT, "theirs", any=(1, AllOf([]))))
    old = activate(annals, score(USER, "old", pays=(1, IS_PRO)))
    jo = told(annals, NOON, plan="pro")
    assert [score.name for score in shown(annals, jo).scores] == ["old"]
    archive(annals, old)
    settle(annals)
    assert shown(annals, jo).scores == []


def test_a_signal_shows_once_it_has_triggered(annals: Annals) -> None:
    id = activate(
        annals, signal(IS_HAPPY, name="glad", reentry_hours=1, goal=IS_PRO, goal_hours=24)
    )
    jo = told(annals, NOON, mood="sad")
    assert shown(annals, jo).signals == []
    told(annals, NOON + HOUR, mood="happy")
    [glad] = shown(annals, jo).signals
    assert (glad.id, glad.name, glad.is_on, glad.triggers) == (id, "glad", True, 1)
    assert (glad.triggered_at, glad.ended_at) == (NOON + HOUR, None)
    assert (glad.goal, glad.goal_due_at) == ("waiting", NOON + 25 * HOUR)
    told(annals, NOON + 2 * HOUR, mood="sad", plan="pro")
    [glad] = shown(annals, jo).signals
    assert (glad.is_on, glad.ended_at, glad.goal) == (False, NOON + 2 * HOUR, "reached")


def test_stage_and_health_show_since_when_and_who_set_them(annals: Annals) -> None:
    activate(annals, stages(paying=IS_PRO))
    segment = define(annals, IS_PRO, name="Pros")
    jo = told(annals, NOON, plan="pro")
    seen = shown(annals, jo)
    assert (seen.stage, seen.stage_since, seen.by_hand) == ("paying", NOON, None)
    assert [(segment.id, segment.name, segment.entered_at) for segment in seen.segments] == [
        (segment, "Pros", NOON)
    ]
    annals.manual_stages.apply(SetStage(USER, jo, None, "a talk", EDITOR, NOON + HOUR))
    settle(annals, annals.decider(clock=lambda: NOON + HOUR))
    seen = shown(annals, jo)
    assert (seen.stage, seen.by_hand) == (None, ManualStage(None, "a talk", EDITOR, NOON + HOUR))
    annals.manual_stages.apply(ReleaseStage(USER, jo, EDITOR, NOON + 2 * HOUR))
    settle(annals, annals.decider(clock=lambda: NOON + 2 * HOUR))
    seen = shown(annals, jo)
    assert (seen.stage, seen.stage_since, seen.by_hand) == ("paying", NOON + 2 * HOUR, None)
