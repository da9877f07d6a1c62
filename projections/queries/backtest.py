"""Back-test, over the log: who is looked at, their past read and opened, what comes of it.

Who there is, and who belongs to whom, is asked of the read models; what was known of them when, of
the log alone (`domain.backtest.replay`). The erased are left out: their past cannot be read any
more.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, tzinfo
from typing import Any, NamedTuple, Protocol
from uuid import UUID

import msgspec
import sqlalchemy as sa

from domain.backtest.backtest import Backtest, moments
from domain.backtest.outcomes import BacktestDay, DayCount, Move, Outcome, Verdict, moves
from domain.backtest.plan import Active, Plan
from domain.backtest.replay import Replay
from domain.backtest.replay_scope import ReplayEvent
from domain.definitions.retention import RetentionBounds
from domain.definitions.types import Definition, DefinitionId, Undeciding, family_of
from domain.events.decisions import DecisionEvent
from domain.events.definitions import ListChange
from domain.events.payloads import Absorbed, Erased, MergedInto
from domain.events.recorded import OpenedEvent, RecordedEvent
from domain.events.topics import ACTIVITY_OF_TOPIC, PAYLOAD_OF_TOPIC, SUMMED_TOPICS, stream_kind
from domain.identity import LOG_PARTITIONS, SubjectId, SubjectKind, log_partition
from domain.name_rules import NameRules
from projections.conditions import membership_paths
from projections.kernel.gaps import Gap, parted, place_of, tell
from projections.kernel.paging import Page, decoded, encoded
from projections.kernel.ports import Log, Opener

STREAMS_A_READ = 1_000
PARTITIONS_A_READ = 16
EVENTS_A_READ = 8_000

READER = "back-test"
"""The name in the log of who goes on without an event."""

LISTED_GAPS = 100

COUNT = sa.text("SELECT count(*) FROM views.contacts WHERE kind = :kind")

# Ids are random: the first ones are as good a sample as any, and the same ones the next time.
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

SUBJECT_TOPICS = [
    topic
    for topic, payload in PAYLOAD_OF_TOPIC.items()
    if topic.partition(".")[0] in set(SubjectKind)
    and not issubclass(payload, DecisionEvent | Erased)
]
MEMBERSHIP_TOPICS = [topic for topic in SUBJECT_TOPICS if topic.startswith("user.membership_")]
ACCOUNT_TOPICS = [*ACTIVITY_OF_TOPIC, *SUMMED_TOPICS, *MEMBERSHIP_TOPICS]
MERGE_TOPICS = [
    topic for topic, one in PAYLOAD_OF_TOPIC.items() if issubclass(one, Absorbed | MergedInto)
]
LIST_TOPICS = [topic for topic, one in PAYLOAD_OF_TOPIC.items() if issubclass(one, ListChange)]


class Compared(msgspec.Struct, frozen=True):
    """What a draft is held against. `id` is null where it is all health profiles together."""

    id: UUID | None
    name: str | None


class BacktestResult(msgspec.Struct, frozen=True):
    """What a definition would have decided.

    Attributes:
        type, kind, name: of the definition that was tested.
        as_of: the end of the last day, which is today.
        subjects: that were looked at and are there today; `of`: how many there are in all.
        today: how many are where, as the last of `days` says.
        compared_with: the active definition whose place it would take; null: there is none.
        differing: how many would be elsewhere than the active definition has them; `moves`: from
            where to where.
        gaps: positions of events that do not open, and are left out; 100 at most.
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
    """Where one would be, and where the active definition has it.

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
    """A result, with each subject's verdict."""

    result: BacktestResult
    verdicts: dict[SubjectId, Verdict]


class Records(Protocol):
    """What it asks of the log by subject."""

    def of_streams(
        self, streams: Sequence[SubjectId], topics: Sequence[str]
    ) -> Iterator[Sequence[RecordedEvent]]: ...
    def of_accounts(
        self, accounts: Sequence[SubjectId], topics: Sequence[str]
    ) -> Iterator[Sequence[RecordedEvent]]: ...


Progress = Callable[[str, int, int], None]
"""Is told what is being done, how much of it, and of how much; what it raises ends the work."""


class _Population(NamedTuple):
    """
    Attributes:
        counted: who is looked at, with those that turned out to be one of them.
        replayed: these, and those of the other kind and so on that answers may rest on.
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
        replaces: the active definition that it is held against, where there can be several.
        sample: how many subjects to look at; None: all.
        names: by which properties have other types than they were sent with.

    Raises:
        InvalidInput: what it asks for comes back to itself.
    """
    plan = Plan(draft, active, replaces)
    with queries.connect() as conn:
        population = _population(conn, plan, sample)
    replay = Replay(plan.scope, population.replayed, zone, names)
    reading = _Reading(replay, plan, opener, progress)
    reading.lists(records)
    if sample is None:
        reading.all(log)
    else:
        reading.some(records, population.replayed)
    backtest = Backtest(plan, replay, population.counted)
    found = backtest.run(now, zone, days, lambda done: progress("deciding", done, days))
    window = moments(now, zone, days)
    some_moves = moves(found.verdicts.values()) if plan.counterpart is not None else []
    assert not isinstance(draft, Undeciding)
    result = BacktestResult(
        type=family_of(draft).value,
        kind=plan.kind,
        name=draft.name,
        time_zone=str(zone),
        first_day=window[0].today,
        last_day=window[-1].today,
        as_of=now,
        subjects=len(found.verdicts),
        of=population.of,
        days=found.days,
        today=found.days[-1].counts,
        compared_with=_compared(plan),
        differing=sum(one.subjects for one in some_moves),
        moves=some_moves,
        gaps=list(reading.gaps)[:LISTED_GAPS],
    )
    return Tested(result, found.verdicts)


def _compared(plan: Plan) -> Compared | None:
    node = plan.counterpart
    if node is None:
        return None
    if node.of is not None:
        one = plan.active[node.of]
        return Compared(node.of, None if isinstance(one, Undeciding) else one.name)
    of_kind = [
        (id, one)
        for id, one in plan.active.items()
        if not isinstance(one, Undeciding)
        and (family_of(one), one.kind) == (node.family, node.kind)
    ]
    if len(of_kind) == 1:
        return Compared(of_kind[0][0], of_kind[0][1].name)
    return Compared(None, None)


def _population(conn: sa.Connection, plan: Plan, sample: int | None) -> _Population:
    asked = {"kind": plan.kind.value}
    of = int(conn.scalar(COUNT, asked) or 0)
    found = _with_losers(conn, conn.scalars(SUBJECTS, asked | {"limit": sample}))
    replayed, last, kind = set(found), set(found), plan.kind
    for _ in range(plan.reach):
        kind = SubjectKind.ACCOUNT if kind is SubjectKind.USER else SubjectKind.USER
        if sample is None:
            last = _with_losers(conn, conn.scalars(SUBJECTS, {"kind": kind.value, "limit": None}))
        else:
            reached = membership_paths.reached_by(conn, [kind.value], last)
            there = _present(conn, set().union(*reached.values()) if reached else set())
            last = _with_losers(conn, there)
        replayed |= last
    return _Population(found, replayed, of)


def _present(conn: sa.Connection, subjects: set[UUID]) -> list[UUID]:
    partitions = sorted({log_partition(one) for one in subjects})
    return [*conn.scalars(PRESENT, {"partitions": partitions, "subjects": list(subjects)})]


def _with_losers(conn: sa.Connection, subjects: Iterable[UUID]) -> set[SubjectId]:
    found = [SubjectId(one) for one in subjects]
    losers = [SubjectId(one) for one in conn.scalars(LOSERS, {"subjects": found})]
    return {*found, *losers}


class _Reading:
    """Reads the past into a replay.

    Attributes:
        gaps: positions of what does not open, in the order in which they were met.
    """

    def __init__(self, replay: Replay, plan: Plan, opener: Opener, progress: Progress) -> None:
        self._replay = replay
        self._plan = plan
        self._opener = opener
        self._progress = progress
        self._traced: set[SubjectId] = set()
        self.gaps: dict[str, None] = {}
        self._opened_topics = (set(SUBJECT_TOPICS) - set(ACTIVITY_OF_TOPIC)) | plan.scope.topics

    def lists(self, records: Records) -> None:
        """The lists of static segments."""
        for segment in self._plan.lists:
            for piece in records.of_streams([SubjectId(segment)], LIST_TOPICS):
                for one in self._passed(self._opener.open_each(piece)):
                    if isinstance(one.payload, ListChange):
                        row = one.row
                        self._replay.add_list_change(
                            segment, row.position, row.occurred_at, one.payload
                        )

    def _passed(self, found: Sequence[OpenedEvent | Gap]) -> list[OpenedEvent]:
        """What opened; takes note of what did not."""
        opened, gaps = parted(found)
        new = {place_of(gap.row): gap for gap in gaps if place_of(gap.row) not in self.gaps}
        tell(READER, new.values())
        self.gaps |= dict.fromkeys(new)
        return opened

    def all(self, log: Log) -> None:
        """The whole log, some partitions at a time."""
        heads = log.heads(range(LOG_PARTITIONS))
        done, total = 0, sum(heads.values())
        for first in range(0, LOG_PARTITIONS, PARTITIONS_A_READ):
            some = range(first, min(first + PARTITIONS_A_READ, LOG_PARTITIONS))
            places = {one: 0 for one in some if heads.get(one, 0)}
            while places:
                self._progress("reading", done, total)
                limit = math.ceil(EVENTS_A_READ / len(places))
                rows = sorted(
                    log.read_after(places, limit),
                    key=lambda row: (row.log_partition, row.position),
                )
                if not rows:
                    break
                done += len(rows)
                places |= {row.log_partition: row.position for row in rows}
                places = {one: at for one, at in places.items() if at < heads[one]}
                self._tell(rows)

    def some(self, records: Records, replayed: set[SubjectId]) -> None:
        """The streams of some subjects, and what others did for the accounts among them."""
        streams = sorted(replayed, key=lambda one: (log_partition(one), one))
        self._traced |= replayed
        for first in range(0, len(streams), STREAMS_A_READ):
            some = streams[first : first + STREAMS_A_READ]
            self._progress("reading", first, len(streams))
            for piece in records.of_streams(some, SUBJECT_TOPICS):
                self._merges(records, {row.account for row in _memberships(piece) if row.account})
                self._tell(piece)
            for piece in records.of_accounts(some, ACCOUNT_TOPICS):
                self._progress("reading", first, len(streams))
                strangers = [row for row in piece if row.stream not in replayed]
                self._merges(records, {row.stream for row in _memberships(strangers)})
                self._tell(strangers)

    def _merges(self, records: Records, strangers: set[SubjectId]) -> None:
        """Who some became that are not replayed, and who those did, where that is asked for."""
        if not self._plan.scope.memberships:
            return
        while strangers := strangers - self._traced:
            self._traced |= strangers
            became: set[SubjectId] = set()
            for piece in records.of_streams(sorted(strangers), MERGE_TOPICS):
                payloads = [one.payload for one in self._tell(piece)]
                became |= {one.survivor for one in payloads if isinstance(one, MergedInto)}
            strangers = became

    def _tell(self, rows: Sequence[Any]) -> list[ReplayEvent]:
        self._opener.refresh()
        kept = self._opener.kept()
        rows = [row for row in rows if row.topic in _TOPICS and _tells(row, kept)]
        found = self._opener.open_each([row for row in rows if row.topic in self._opened_topics])
        opened: dict[tuple[int, int], OpenedEvent] = {
            (one.row.log_partition, one.row.position): one for one in self._passed(found)
        }
        if self.gaps:
            rows = [row for row in rows if place_of(row) not in self.gaps]
        told = [_told(row, opened.get((row.log_partition, row.position))) for row in rows]
        self._replay.add(told, kept)
        return told


_TOPICS = frozenset(SUBJECT_TOPICS)


def _memberships(rows: Sequence[RecordedEvent]) -> list[RecordedEvent]:
    return [row for row in rows if row.topic in MEMBERSHIP_TOPICS]


def _tells(row: RecordedEvent, kept: RetentionBounds) -> bool:
    """Whether an event counts: of activity that is no longer kept, its sums instead."""
    if row.topic in ACTIVITY_OF_TOPIC:
        return kept.has(row.occurred_at, row.log_partition, row.position)
    return row.topic not in SUMMED_TOPICS or row.occurred_at <= kept.since


def _told(row: RecordedEvent, one: OpenedEvent | None) -> ReplayEvent:
    kind = stream_kind(row.topic)
    assert isinstance(kind, SubjectKind)
    part = one.account_part if one is not None else None
    return ReplayEvent(
        kind,
        row.stream,
        row.position,
        row.topic.partition(".")[2],
        row.occurred_at,
        None if one is None else one.payload,
        row.account,
        None if part is None else part.name,
        one is not None,
        None if one is None else one.account_sums,
    )


def subjects(
    conn: sa.Connection,
    verdicts: Mapping[SubjectId, Verdict],
    matches: Callable[[Verdict], bool],
    *,
    cursor: str | None,
    limit: int,
) -> Page[BacktestSubject]:
    """A page of those whose verdicts match, by id. Who has been erased since is not among them.

    Raises:
        InvalidInput: an unknown cursor.
    """
    after: UUID | None = None
    if cursor is not None:
        [after] = decoded("backtest", cursor, UUID)
    chosen = [id for id, one in verdicts.items() if matches(one)]
    left = [id for id in chosen if after is None or id > after]
    page = left[:limit]
    following = encoded("backtest", page[-1]) if len(left) > limit else None
    partitions = sorted({log_partition(one) for one in page})
    names = {
        row.subject: (row.external_id, row.name)
        for row in conn.execute(NAMES, {"partitions": partitions, "subjects": page})
    }
    items = [
        BacktestSubject(id, *names[id], one.after, one.before, one.after_value, one.before_value)
        for id in page
        if id in names and (one := verdicts[id])
    ]
    return Page(items, following, len(chosen))
