"""Counters of metadata are a resource: bounded in number, filled in turns, gone when unused; those
that a definition needs stay with it."""

from __future__ import annotations

import random
import uuid
from collections import Counter as Tally
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.activity import Activity, ActivityKind
from domain.calendar import Moment
from domain.commands import Track
from domain.conditions import language as ask
from domain.conditions.counters import Counter, counter_of
from domain.conditions.evaluation import metadata_passes
from domain.definitions.types import DefinitionId
from domain.errors import InvalidInput, NotReady, TooManyAtOnce
from domain.events.payloads import Payload
from domain.events.recorded import RecordedEvent
from domain.identity import SubjectId
from domain.workspace import editing
from domain.workspace.definitions import Definitions
from infra.bootstrap.annals import Annals
from projections.counters import filler as counter_filler
from projections.counters import keeper as counter_keeper
from projections.counters import requests
from projections.counters.filler import CounterFiller
from projections.counters.requests import MAX_ASKED_BY_KEY, require
from tests.examples import examples
from tests.infra.erasures import erase
from tests.projections.counting import ASKER, need, ready
from tests.projections.read_models import (
    NOON,
    drain,
    empty,
    found,
    owner,
    project,
    user,
    write,
)
from tests.projections.segments import EDITOR, define, members, settle

KEYS = [uuid.UUID(int=n + 1, version=4) for n in range(3)]
HOUR = timedelta(hours=1)


def at_least(n: int) -> ask.Did:
    return ask.Did("event", "paid", where=[ask.MetadataIs("sum", ask.AtLeast(n))])


def paid(name: str, amount: int) -> Track:
    return Track(user(name), (), (Activity(ActivityKind.EVENT, "paid", {"sum": amount}),), NOON)


def states(annals: Annals) -> dict[uuid.UUID, str]:
    with annals.views.connection() as conn:
        return dict(conn.execute("SELECT id, state FROM views.counters").fetchall())


def days(annals: Annals, counter: Counter) -> dict[SubjectId, int]:
    with annals.views.connection() as conn:
        asked = (
            "SELECT subject, sum(count)::int FROM views.counter_days WHERE counter = %s GROUP BY 1"
        )
        return dict(conn.execute(asked, (counter.id,)).fetchall())


def asked_for(annals: Annals, *numbers: int, by: uuid.UUID | None = ASKER) -> None:
    for n in numbers:
        with pytest.raises(NotReady), annals.queries.connect() as conn:
            need(conn, at_least(n), by)


class Clock:
    """One that is moved by hand."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.now


def test_a_key_that_asks_for_too_much_is_refused_and_others_are_not(annals: Annals) -> None:
    asked_for(annals, *range(MAX_ASKED_BY_KEY))
    with (
        pytest.raises(TooManyAtOnce, match="of this API key, of 20 that may be") as refused,
        annals.queries.connect() as conn,
    ):
        need(conn, at_least(1_000))
    assert 3_500 < refused.value.retry_after <= 3_600
    assert counter_of(at_least(1_000)).id not in states(annals)
    asked_for(annals, 1_000, by=KEYS[0])
    asked_for(annals, 1_001, by=None)
    asked_for(annals, 0)


def test_a_question_that_could_never_be_counted_is_told_so(annals: Annals) -> None:
    much = ask.AllOf([at_least(n) for n in range(MAX_ASKED_BY_KEY + 1)])
    with (
        pytest.raises(InvalidInput, match="21 new counters of metadata"),
        annals.queries.connect() as conn,
    ):
        need(conn, much)
    with pytest.raises(NotReady), annals.queries.connect() as conn:
        need(conn, much, by=None)


def test_however_many_ask_so_many_counters_are_there_in_all(annals: Annals) -> None:
    for n, key in enumerate(uuid.uuid4() for _ in range(5)):
        asked_for(annals, *range(20 * n, 20 * n + 20), by=key)
    with (
        pytest.raises(TooManyAtOnce, match="of 100 that may be in all"),
        annals.queries.connect() as conn,
    ):
        need(conn, at_least(1_000))
    asked_for(annals, *range(100, 500), by=None)
    with (
        pytest.raises(TooManyAtOnce, match="of 500 that may be: archive a definition"),
        annals.queries.connect() as conn,
    ):
        need(conn, at_least(1_000), by=None)
    assert len(states(annals)) == 500


def test_when_a_counter_was_used_is_noted_once_a_minute(annals: Annals) -> None:
    counter, start = counter_of(at_least(1)), datetime(2026, 5, 1, tzinfo=UTC)

    def used(seconds: int) -> datetime:
        at = start + timedelta(seconds=seconds)
        with pytest.raises(NotReady), annals.queries.connect() as conn:
            require(conn, at_least(1), by=ASKER, at=at)
        with annals.views.connection() as conn:
            asked = "SELECT last_used FROM views.counters WHERE id = %s"
            [(last_used,)] = conn.execute(asked, (counter.id,)).fetchall()
        return last_used - start

    assert [used(at).total_seconds() for at in (0, 59, 61, 70, 200)] == [0, 0, 61, 61, 200]


def test_a_counter_that_nobody_asks_for_goes_after_an_hour_with_all_its_rows(
    annals: Annals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counter_keeper, "PIECE_ROWS", 2)
    write(annals, *(paid(f"u{n}", 50) for n in range(5)))
    project(annals)
    clock = Clock()
    keeper = annals.counter_keeper(clock)
    asked_for(annals, 1)
    ready(annals)
    clock.now += timedelta(minutes=59)
    keeper.look()
    assert set(states(annals).values()) == {"ready"}
    clock.now += timedelta(minutes=2)
    keeper.look()
    assert set(states(annals).values()) == {"removing"}
    assert keeper.delete_some()
    assert len(days(annals, counter_of(at_least(1)))) == 3  # in pieces
    write(annals, paid("late", 50))
    project(annals)
    while keeper.delete_some():
        pass
    assert states(annals) == {}
    assert days(annals, counter_of(at_least(1))) == {}
    asked_for(annals, 1)
    ready(annals)
    assert len(days(annals, counter_of(at_least(1)))) == 6


def test_what_a_definition_needs_stays_until_it_is_deleted(annals: Annals) -> None:
    clock = Clock()
    keeper = annals.counter_keeper(clock)
    asked_for(annals, 1)
    ready(annals)
    segment = define(annals, at_least(1))
    settle(annals)
    clock.now += 100 * HOUR
    keeper.look()
    assert set(states(annals).values()) == {"ready"}
    annals.definitions.decide(
        lambda state: editing.delete(state, segment, EDITOR), datetime.now(UTC)
    )
    keeper.look()
    clock.now += 2 * HOUR
    keeper.look()
    assert set(states(annals).values()) == {"ready"}  # as long as the read models ask it
    settle(annals)
    keeper.look()
    assert set(states(annals).values()) == {"ready"}  # as if it had just been asked for
    clock.now += HOUR
    keeper.look()
    assert set(states(annals).values()) == {"removing"}


def test_nothing_is_decided_before_what_a_restored_database_lacks_is_counted(
    annals: Annals, database_url: str
) -> None:
    write(annals, paid("ann", 50), paid("bob", 1))
    project(annals)
    asked_for(annals, 10)
    ready(annals)
    rich = define(annals, at_least(10))
    settle(annals)
    ann = found(annals, user("ann"))
    assert members(annals, rich) == {ann}
    head = sum(annals.log.heads(range(256)).values())
    with owner(database_url) as conn:  # no backup holds read models
        conn.execute("DELETE FROM views.counters")
    annals.projector().start_over()
    decider = annals.decider()
    for _ in range(3):
        project(annals)
        decider.step()
        decider.sweep()
    assert sum(annals.log.heads(range(256)).values()) == head
    ready(annals)
    settle(annals)
    assert members(annals, rich) == {ann}
    assert sum(annals.log.heads(range(256)).values()) == head


def test_definitions_are_first_then_each_key_has_its_turn(
    annals: Annals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counter_filler, "IN_TURN", 3)
    asked_for(annals, *range(10), by=KEYS[0])
    asked_for(annals, 20, 21, by=KEYS[1])
    asked_for(annals, 30, by=None)
    annals.filler().fill()
    begun = {id for id, state in states(annals).items() if state != "waiting"}
    assert begun == {counter_of(at_least(n)).id for n in (0, 20, 30)}


class CountedLog:
    """The log, and how many events were read of it."""

    def __init__(self, annals: Annals) -> None:
        self._log = annals.log
        self.events = 0

    def read_after(self, after: Mapping[int, int], limit: int) -> Sequence[RecordedEvent]:
        rows = self._log.read_after(after, limit)
        self.events += len(rows)
        return rows


def filler_over(annals: Annals, log: Any, clock: Callable[[], datetime], chunk: int) -> Any:
    return CounterFiller(
        log=log,
        opener=annals.sealer,
        pool=annals.views,
        workspace=annals.workspace_now,
        projector="main",
        keeper=annals.counter_keeper(clock),
        clock=clock,
        chunk_events=chunk,
    )


def test_one_reading_of_the_log_serves_all_that_are_in_turn_and_who_comes_later(
    annals: Annals,
) -> None:
    write(annals, *(paid(f"u{n}", n) for n in range(100)))
    project(annals)
    log = CountedLog(annals)
    recorded = sum(annals.log.heads(range(256)).values())
    filler = filler_over(annals, log, Clock(), 40)
    asked_for(annals, *range(10))
    filler.step()
    filler.step()  # has begun the first ones, and read a piece for them
    read = log.events
    assert 0 < read < recorded
    asked_for(annals, *range(10, 16))
    while filler.step():
        pass
    assert log.events <= recorded + read + 40
    for n in range(16):
        assert len(days(annals, counter_of(at_least(n)))) == 100 - n


def test_a_counter_that_cannot_be_counted_is_put_off_and_the_others_are_filled(
    annals: Annals, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(annals, paid("ann", 50))
    project(annals)
    asked_for(annals, 1, 2, 3)
    wrong, clock = counter_of(at_least(2)).id, Clock()
    tallied = counter_filler.tallied

    def fails(opened: Any, survivors: Any, counters: Any, *rest: Any) -> Any:
        if any(counter.id == wrong for counter in counters):
            raise ArithmeticError
        return tallied(opened, survivors, counters, *rest)

    filler = annals.filler(clock)
    with monkeypatch.context() as patched:
        patched.setattr(counter_filler, "tallied", fails)
        while filler.step():
            pass
        assert {id for id, state in states(annals).items() if state == "filling"} == {wrong}
    assert not filler.step()
    clock.now += timedelta(minutes=2)
    while filler.step():
        pass
    assert set(states(annals).values()) == {"ready"}


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounds that a few questions reach."""
    for module in (requests, counter_keeper):
        monkeypatch.setattr(module, "MAX_COUNTERS", 7)
    monkeypatch.setattr(requests, "MAX_ASKED", 4)
    monkeypatch.setattr(requests, "MAX_ASKED_BY_KEY", 2)
    monkeypatch.setattr(counter_filler, "IN_TURN", 2)
    monkeypatch.setattr(counter_keeper, "PIECE_ROWS", 1)


def delete_all(annals: Annals) -> None:
    def delete(state: Definitions) -> list[Payload]:
        return [event for id in state.active for event in editing.delete(state, id, EDITOR)]

    annals.definitions.decide(delete, datetime.now(UTC))


@settings(max_examples=examples(12))
@given(
    seed=st.integers(0, 2**32),
    steps=st.lists(st.sampled_from("qqqqdddawpfffffhme"), min_size=8, max_size=30),
)
def test_whatever_is_asked_defined_and_erased_counters_are_bounded_true_and_not_left(
    annals: Annals, database_url: str, few: None, seed: int, steps: list[str]
) -> None:
    """Steps: a question, a definition, its end, a write, projecting, filling, 40 minutes, a minute,
    an erasure."""
    chance, clock = random.Random(seed), Clock()
    empty(database_url)
    with owner(database_url) as conn:
        for table in ("counters", "counter_fills"):
            conn.execute(f"DELETE FROM views.{table}")
    delete_all(annals)  # of another example
    projector, filler = annals.projector(), filler_over(annals, annals.log, clock, 3)
    keeper = annals.counter_keeper(clock)
    deeds: list[tuple[str, int]] = []
    gone: set[str] = set()
    defined: dict[DefinitionId, int] = {}

    def do_ask(by: uuid.UUID | None = None, n: int | None = None) -> int | None:
        n = chance.randrange(9) if n is None else n
        try:
            with annals.queries.connect() as conn:
                require(conn, at_least(10 * n), by=by, at=clock.now)
        except (NotReady, TooManyAtOnce):
            return None
        return n

    def do_define() -> None:
        n = do_ask()
        if n is not None:  # else it is refused until it is counted
            defined[define(annals, at_least(10 * n))] = n

    def do_delete() -> None:
        if defined:
            id, _ = defined.popitem()
            annals.definitions.decide(
                lambda state: editing.delete(state, id, EDITOR), datetime.now(UTC)
            )

    def do_write() -> None:
        some = [user for user in ("ann", "bob", "cleo") if user not in gone]
        new = [(chance.choice(some), chance.randrange(100)) for _ in range(3)]
        deeds.extend(new)
        write(annals, *(paid(*payment) for payment in new))

    def do_erase() -> None:
        known = {name for name, _ in deeds} - gone
        if len(known) > 1:
            name = chance.choice(sorted(known))
            erase(annals, found(annals, user(name)))
            gone.add(name)

    def do_wait(minutes: int) -> None:
        clock.now += timedelta(minutes=minutes)
        keeper.look()

    doing: dict[str, Callable[[], object]] = {
        "q": lambda: do_ask(chance.choice(KEYS)),
        "d": do_define,
        "a": do_delete,
        "w": do_write,
        "p": projector.step,
        "f": filler.step,
        "h": lambda: do_wait(40),
        "m": lambda: do_wait(1),
        "e": do_erase,
    }

    def check_bounds() -> None:
        with annals.views.connection() as conn:
            rows = conn.execute(
                "SELECT id, kept, asked_by, state FROM views.counters WHERE state <> 'removing'"
            ).fetchall()
        assert len(rows) <= 7
        by_key = Tally(by for _, kept, by, _ in rows if by is not None and not kept)
        assert by_key.total() <= 4
        assert all(number <= 2 for number in by_key.values())
        there = {id for id, _, _, state in rows if state == "ready"}
        assert {counter_of(at_least(10 * n)).id for n in defined.values()} <= there

    for step in ["w", "p", *steps]:
        doing[step]()
        check_bounds()
    drain(projector)
    projector.release()
    while filler.step():
        pass
    moment = Moment(NOON, UTC)
    for n in range(9):
        condition, expected = at_least(10 * n), Tally[SubjectId]()
        if states(annals).get(counter_of(condition).id) != "ready":
            continue
        for name, amount in deeds:
            if name not in gone and metadata_passes(condition.where[0].test, amount, moment):
                expected[found(annals, user(name))] += 1
        assert days(annals, counter_of(condition)) == expected, n
    keeper.look()  # notes that some definitions do not need theirs any more
    clock.now += 2 * HOUR
    keeper.look()
    while filler.step():
        pass
    needed = {counter_of(at_least(10 * n)).id for n in defined.values()}
    assert states(annals).keys() == needed
    with annals.views.connection() as conn:
        left = {id for (id,) in conn.execute("SELECT DISTINCT counter FROM views.counter_days")}
    assert left <= needed
