"""Read model: the signals of each subject, on or off, and the state of their goals."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, ClassVar

import psycopg

from domain.events.decisions import (
    DecisionEvent,
    GoalMissed,
    GoalReached,
    SignalEnded,
    SignalTriggered,
)
from domain.identity import SubjectId, log_partition
from domain.workspace.signals import Goal, SignalState
from projections.kernel import pg_arrays
from projections.kernel.batch import Batch

KNOWN = """
SELECT s.subject, s.signal, s.ordinal, s.is_on, s.triggered_at, s.ended_at, s.triggers, s.goal,
       s.goal_due_at
FROM views.signals s
JOIN unnest(%(partitions)b::smallint[], %(subjects)b::uuid[], %(signals)b::uuid[])
     AS w(p, s, signal)
  ON s.log_partition = w.p AND s.subject = w.s AND s.signal = w.signal"""

CHANGE_SIGNALS = """
INSERT INTO views.signals (log_partition, subject, signal, ordinal, is_on, triggered_at, ended_at,
                           triggers, goal, goal_due_at)
SELECT * FROM unnest(%(partitions)b::smallint[], %(subjects)b::uuid[], %(signals)b::uuid[],
                     %(ordinals)b::int[], %(is_on)b::boolean[], %(triggered_at)b::timestamptz[],
                     %(ended_at)b::timestamptz[], %(triggers)b::int[], %(goals)b::text[],
                     %(goal_due_at)b::timestamptz[])
ON CONFLICT (log_partition, subject, signal) DO UPDATE
SET ordinal = excluded.ordinal, is_on = excluded.is_on, triggered_at = excluded.triggered_at,
    ended_at = excluded.ended_at, triggers = excluded.triggers, goal = excluded.goal,
    goal_due_at = excluded.goal_due_at"""

FORGET = "DELETE FROM views.signals WHERE log_partition = ANY(%b) AND subject = ANY(%b)"

FORGET_TIMERS = "DELETE FROM views.timers WHERE log_partition = ANY(%b) AND subject = ANY(%b)"


class Signals:
    tables: ClassVar[Sequence[str]] = ("signals", "timers")

    def apply(self, conn: psycopg.Connection, batch: Batch) -> None:
        histories: dict[
            tuple[int, bytes, bytes], list[tuple[SubjectId, DecisionEvent, datetime]]
        ] = {}
        for _, _, _, _, event in batch.changes:
            payload, stream = event.payload, event.row.stream
            if (
                isinstance(payload, SignalTriggered | SignalEnded | GoalReached | GoalMissed)
                and stream not in batch.survivors
            ):
                key = (log_partition(stream), stream.bytes, payload.definition.bytes)
                histories.setdefault(key, []).append((stream, payload, event.row.occurred_at))
        if not histories:
            return
        keys = sorted(histories)
        firsts = [histories[key][0] for key in keys]
        places = {
            "partitions": pg_arrays.smallints([key[0] for key in keys]),
            "subjects": pg_arrays.uuids([subject for subject, _, _ in firsts]),
            "signals": pg_arrays.uuids([payload.definition for _, payload, _ in firsts]),
        }
        states = {
            (subject.bytes, signal.bytes): _state(row)
            for subject, signal, *row in conn.execute(KNOWN, places, binary=True)
        }
        after: list[SignalState] = []
        for key in keys:
            state = states.get(key[1:], SignalState())
            for _, payload, at in histories[key]:
                state = state.evolve(payload, at)
            after.append(state)
        conn.execute(
            CHANGE_SIGNALS,
            {
                **places,
                "ordinals": pg_arrays.integers([state.ordinal for state in after]),
                "is_on": pg_arrays.booleans([state.is_on for state in after]),
                "triggered_at": pg_arrays.instants([state.triggered_at for state in after]),
                "ended_at": pg_arrays.instants([state.ended_at for state in after]),
                "triggers": pg_arrays.integers([state.triggers for state in after]),
                "goals": pg_arrays.texts([state.goal for state in after]),
                "goal_due_at": pg_arrays.instants([state.goal_due_at for state in after]),
            },
        )

    def merge(self, conn: psycopg.Connection, loser: SubjectId, survivor: SubjectId) -> None:
        self.erase(conn, [loser])

    def erase(self, conn: psycopg.Connection, subjects: Sequence[SubjectId]) -> None:
        params = (sorted({log_partition(subject) for subject in subjects}), list(subjects))
        conn.execute(FORGET, params)
        conn.execute(FORGET_TIMERS, params)


def _state(row: Sequence[Any]) -> SignalState:
    state = SignalState(*row)
    return state if state.goal is None else state._replace(goal=Goal(state.goal))
