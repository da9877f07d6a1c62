"""Back-test: selects subjects, replays their past from the log, and compares the decisions.

The read models say which subjects there are, and their memberships; the log alone says what was
known at each instant (`domain.backtest.replay`). Erased subjects are left out: their past does not
open.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, tzinfo
from typing import NamedTuple
from uuid import UUID

import msgspec
import sqlalchemy as sa

from domain.backtest.backtest import Backtest, moments
from domain.backtest.outcomes import BacktestDay, DayCount, Move, Outcome, Verdict, moves
from domain.backtest.plan import Active, Plan
from domain.backtest.replay import Replay
from domain.definitions.types import Definition, DefinitionId, Undeciding, family_of
from domain.identity import SubjectId, SubjectKind, log_partition
from domain.name_rules import NameRules
from projections.conditions import membership_paths
from projections.kernel.paging import Page, decoded, encoded
from projections.kernel.ports import Log, Opener
from projections.queries.backtest_reading import LogReading, Progress, Records

LISTED_GAPS = 100

COUNT = sa.text("SELECT count(*) FROM views.contacts WHERE kind = :kind")

# Ids are random: the first ones are a fair sample, and the same one each time.
SUBJECTS = sa.text("""
SELECT subject FROM views.contacts WHERE kind = :kind
ORDER BY subject LIMIT CAST(:limit AS bigint)""")

PRESENT = sa.text("""
SELECT subject FROM views.contacts
WHERE log_partition = ANY(:partitions) AND subject = ANY(:subjects)""")

LOSERS = sa.text("SELECT loser FROM views.merges WHERE survivor = ANY(:subjects)")

NAMES = sa.text("""
SELECT subject, external_id, name FROM views.contacts
WHERE log_partition = ANY(:partitions) AND subject = ANY(:subjects)""")


class Compared(msgspec.Struct, frozen=True):
    """The definition that a draft is compared with; `id` is null: all health profiles together."""

    id: UUID | None
    name: str | None


class BacktestResult(msgspec.Struct, frozen=True):
    """The decisions that a definition would have made.

    Attributes:
        type, kind, name: of the tested definition.
        as_of: the end of the last day, which is today.
        subjects: how many were tested and exist today; `of`: how many exist in all.
        today: the counts of today, as in the last of `days`.
        compared_with: the active definition that it would replace; null: there is none.
        differing: how many subjects it places otherwise than the active definition; `moves`: from
            where to where.
        gaps: positions of events that do not open and are left out; 100 at most.
    """

    type: str
    kind: SubjectKind
    name: str
    time_zone: str
    first_day: date
    last_day: date
    as_of: datetime
    subjects: int
    of: int
    days: list[BacktestDay]
    today: list[DayCount]
    compared_with: Compared | None
    differing: int
    moves: list[Move]
    gaps: list[str]


class BacktestSubject(msgspec.Struct, frozen=True):
    """Where a subject would be, and where the active definition places it.

    Attributes:
        value, value_before: of scores.
    """

    id: UUID
    external_id: str | None
    name: str | None
    outcome: Outcome
    before: Outcome
    value: float | None
    value_before: float | None


class Tested(NamedTuple):
    """A result with the verdict on each subject."""

    result: BacktestResult
    verdicts: dict[SubjectId, Verdict]


class _Population(NamedTuple):
    """
    Attributes:
        counted: the subjects that the result counts, with those that were merged into them.
        replayed: these, and the subjects that their conditions may rest on.
        of: all subjects of the kind.
    """

    counted: set[SubjectId]
    replayed: set[SubjectId]
    of: int


def run(
    draft: Definition,
    active: Active,
    replaces: DefinitionId | None,
    *,
    days: int,
    sample: int | None,
    now: datetime,
    zone: tzinfo,
    names: NameRules,
    queries: sa.Engine,
    log: Log,
    records: Records,
    opener: Opener,
    progress: Progress,
) -> Tested:
    """Tests a definition over the last `days` days.

    Args:
        replaces: the active definition to compare with, where there can be several.
        sample: number of subjects; None: all.
        names: the types that an admin gave properties.

    Raises:
        InvalidInput: the definition rests on itself.
    """
    plan = Plan(draft, active, replaces)
    with queries.connect() as conn:
        population = _population(conn, plan, sample)
    replay = Replay(plan.scope, population.replayed, zone, names)
    reading = LogReading(replay, plan, opener, progress)
    reading.lists(records)
    if sample is None:
        reading.all(log)
    else:
        reading.some(records, population.replayed)
    backtest = Backtest(plan, replay, population.counted)
    outcome = backtest.run(now, zone, days, lambda done: progress("deciding", done, days))
    window = moments(now, zone, days)
    some_moves = moves(outcome.verdicts.values()) if plan.counterpart is not None else []
    assert not isinstance(draft, Undeciding)
    result = BacktestResult(
        type=family_of(draft).value,
        kind=plan.kind,
        name=draft.name,
        time_zone=str(zone),
        first_day=window[0].today,
        last_day=window[-1].today,
        as_of=now,
        subjects=len(outcome.verdicts),
        of=population.of,
        days=outcome.days,
        today=outcome.days[-1].counts,
        compared_with=_compared(plan),
        differing=sum(move.subjects for move in some_moves),
        moves=some_moves,
        gaps=list(reading.gaps)[:LISTED_GAPS],
    )
    return Tested(result, outcome.verdicts)


def _compared(plan: Plan) -> Compared | None:
    node = plan.counterpart
    if node is None:
        return None
    if node.of is not None:
        definition = plan.active[node.of]
        return Compared(node.of, None if isinstance(definition, Undeciding) else definition.name)
    of_kind = [
        (id, definition)
        for id, definition in plan.active.items()
        if not isinstance(definition, Undeciding)
        and (family_of(definition), definition.kind) == (node.family, node.kind)
    ]
    if len(of_kind) == 1:
        return Compared(of_kind[0][0], of_kind[0][1].name)
    return Compared(None, None)


def _population(conn: sa.Connection, plan: Plan, sample: int | None) -> _Population:
    params = {"kind": plan.kind.value}
    of = int(conn.scalar(COUNT, params) or 0)
    counted = _with_losers(conn, conn.scalars(SUBJECTS, params | {"limit": sample}))
    replayed, last, kind = set(counted), set(counted), plan.kind
    for _ in range(plan.reach):
        kind = SubjectKind.ACCOUNT if kind is SubjectKind.USER else SubjectKind.USER
        if sample is None:
            last = _with_losers(conn, conn.scalars(SUBJECTS, {"kind": kind.value, "limit": None}))
        else:
            reached = membership_paths.reached_by(conn, [kind.value], last)
            subjects = _present(conn, set().union(*reached.values()) if reached else set())
            last = _with_losers(conn, subjects)
        replayed |= last
    return _Population(counted, replayed, of)


def _present(conn: sa.Connection, subjects: set[UUID]) -> list[UUID]:
    partitions = sorted({log_partition(subject) for subject in subjects})
    return [*conn.scalars(PRESENT, {"partitions": partitions, "subjects": list(subjects)})]


def _with_losers(conn: sa.Connection, subjects: Iterable[UUID]) -> set[SubjectId]:
    ids = [SubjectId(subject) for subject in subjects]
    losers = [SubjectId(loser) for loser in conn.scalars(LOSERS, {"subjects": ids})]
    return {*ids, *losers}


def subjects(
    conn: sa.Connection,
    verdicts: Mapping[SubjectId, Verdict],
    matches: Callable[[Verdict], bool],
    *,
    cursor: str | None,
    limit: int,
) -> Page[BacktestSubject]:
    """A page of the subjects whose verdicts match, by id, without those erased since.

    Raises:
        InvalidInput: an unknown cursor.
    """
    after: UUID | None = None
    if cursor is not None:
        [after] = decoded("backtest", cursor, UUID)
    chosen = [id for id, verdict in verdicts.items() if matches(verdict)]
    left = [id for id in chosen if after is None or id > after]
    page = left[:limit]
    following = encoded("backtest", page[-1]) if len(left) > limit else None
    partitions = sorted({log_partition(subject) for subject in page})
    names = {
        row.subject: (row.external_id, row.name)
        for row in conn.execute(NAMES, {"partitions": partitions, "subjects": page})
    }
    items = [
        BacktestSubject(
            id, *names[id], verdict.after, verdict.before, verdict.after_value, verdict.before_value
        )
        for id in page
        if id in names and (verdict := verdicts[id])
    ]
    return Page(items, following, len(chosen))
