"""Counters of a database from before they had owners: what is needed stays, the rest goes."""

from __future__ import annotations

import runpy
from pathlib import Path

from domain.conditions import language as ask
from domain.conditions.counters import counter_of
from infra import migrations
from infra.bootstrap.annals import Annals
from tests.projections.counting import need
from tests.projections.read_models import owner, project
from tests.projections.segments import define

[MIGRATION] = Path(migrations.__file__).parent.glob("versions/*_counters_come_and_go.py")

AS_IT_WAS = """
DELETE FROM views.counters;
ALTER TABLE views.counters DROP CONSTRAINT counters_state_check,
    DROP COLUMN kept, DROP COLUMN asked_by, DROP COLUMN asked_at, DROP COLUMN last_used,
    ALTER state SET DEFAULT 'building',
    ADD CONSTRAINT counters_state_check CHECK (state IN ('building', 'ready'));
ALTER TABLE views.counter_fills DROP COLUMN upto;
"""

ADD = "INSERT INTO views.counters (id, activity, name, tests, state) VALUES (%s, %s, %s, %s, %s)"

DAY = """
INSERT INTO views.counter_days (log_partition, subject, counter, day, in_account, by_subject, count)
VALUES (7, gen_random_uuid(), %s, '2026-05-13', false, gen_random_uuid(), 1)"""

FILL = "INSERT INTO views.counter_fills (log_partition, counter, position) VALUES (7, %s, 3)"


def asking(n: int) -> ask.Did:
    return ask.Did("event", "paid", where=[ask.MetadataIs("sum", ask.AtLeast(n))])


def test_counters_of_before_stay_where_a_definition_needs_them_and_go_where_none_does(
    annals: Annals, database_url: str
) -> None:
    define(annals, asking(1))
    project(annals)
    needed, left, half = (counter_of(asking(n)) for n in (1, 2, 3))
    with owner(database_url) as conn:
        conn.execute(AS_IT_WAS)
        for each, state in ((needed, "ready"), (left, "ready"), (half, "building")):
            conn.execute(ADD, (each.id, each.activity, each.name, each.tests, state))
            conn.execute(DAY, (each.id,))
        conn.execute(FILL, (half.id,))
        conn.execute(runpy.run_path(str(MIGRATION))["COUNTERS"])
    keeper = annals.counter_keeper()
    while keeper.step():
        pass
    with annals.views.connection() as conn:
        rows = conn.execute("SELECT id, state, kept FROM views.counters").fetchall()
        days = conn.execute("SELECT counter FROM views.counter_days").fetchall()
    assert rows == [(needed.id, "ready", True)]
    assert days == [(needed.id,)]


def test_a_question_of_before_that_is_asked_again_at_once_stays(
    annals: Annals, database_url: str
) -> None:
    counter = counter_of(asking(2))
    with owner(database_url) as conn:
        conn.execute(AS_IT_WAS)
        conn.execute(ADD, (counter.id, counter.activity, counter.name, counter.tests, "ready"))
        conn.execute(runpy.run_path(str(MIGRATION))["COUNTERS"])
    with annals.queries.connect() as conn:
        need(conn, asking(2))
    annals.counter_keeper().look()
    with annals.views.connection() as conn:
        assert conn.execute("SELECT state FROM views.counters").fetchall() == [("ready",)]
