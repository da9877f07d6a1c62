"""Read model: the scores of each subject, the rules that hold, and since when each holds or not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import ClassVar

import msgspec
import psycopg

from domain.events.decisions import ScoreChanged
from domain.identity import SubjectId, log_partition
from projections.kernel import pg_arrays
from projections.kernel.batch import Batch

SINCE = """
SELECT s.subject, s.score, s.held, s.since FROM views.scores s
JOIN unnest(%(partitions)b::smallint[], %(subjects)b::uuid[], %(scores)b::uuid[]) AS w(p, s, score)
  ON s.log_partition = w.p AND s.subject = w.s AND s.score = w.score"""

CHANGE_SCORES = """
INSERT INTO views.scores (log_partition, subject, score, ordinal, value, held, since, changed_at)
SELECT p, s, score, o, v::numeric, ARRAY(SELECT jsonb_array_elements_text(h)), m, t
FROM unnest(%(partitions)b::smallint[], %(subjects)b::uuid[], %(scores)b::uuid[],
            %(ordinals)b::int[], %(values)b::text[], %(held)b::jsonb[], %(since)b::jsonb[],
            %(changed_at)b::timestamptz[]) AS w(p, s, score, o, v, h, m, t)
ON CONFLICT (log_partition, subject, score) DO UPDATE
SET ordinal = excluded.ordinal, value = excluded.value, held = excluded.held,
    since = excluded.since, changed_at = excluded.changed_at"""

FORGET = "DELETE FROM views.scores WHERE log_partition = ANY(%b) AND subject = ANY(%b)"

Since = dict[str, str]
"""By the name of a rule, the instant since which it holds, or does not."""

_encode = msgspec.json.Encoder().encode


class Scores:
    tables: ClassVar[Sequence[str]] = ("scores",)

    def apply(self, conn: psycopg.Connection, batch: Batch) -> None:
        changes: dict[tuple[int, bytes, bytes], list[tuple[SubjectId, ScoreChanged, datetime]]]
        changes = {}
        for _, _, _, _, event in batch.changes:
            payload, stream = event.payload, event.row.stream
            if isinstance(payload, ScoreChanged) and stream not in batch.survivors:
                key = (log_partition(stream), stream.bytes, payload.definition.bytes)
                change = (stream, payload, event.row.occurred_at)
                changes.setdefault(key, []).append(change)
        if not changes:
            return
        keys = sorted(changes)
        last = [changes[key][-1] for key in keys]
        places = {
            "partitions": pg_arrays.smallints([key[0] for key in keys]),
            "subjects": pg_arrays.uuids([subject for subject, _, _ in last]),
            "scores": pg_arrays.uuids([payload.definition for _, payload, _ in last]),
        }
        known = {
            (subject.bytes, score.bytes): (held, since)
            for subject, score, held, since in conn.execute(SINCE, places, binary=True)
        }
        since: list[Since] = []
        for key in keys:
            held, marks = known.get(key[1:], ([], {}))
            for _, payload, at in changes[key]:
                marks = marked(held, marks, payload, at)
                held = payload.held
            since.append(marks)
        values = [payload.after for _, payload, _ in last]
        conn.execute(
            CHANGE_SCORES,
            {
                **places,
                "ordinals": pg_arrays.integers([payload.ordinal for _, payload, _ in last]),
                "values": pg_arrays.texts(
                    [None if value is None else f"{value:.2f}" for value in values]
                ),
                "held": pg_arrays.jsons([_encode(payload.held) for _, payload, _ in last]),
                "since": pg_arrays.jsons([_encode(marks) for marks in since]),
                "changed_at": pg_arrays.instants([at for _, _, at in last]),
            },
        )

    def merge(self, conn: psycopg.Connection, loser: SubjectId, survivor: SubjectId) -> None:
        self.erase(conn, [loser])

    def erase(self, conn: psycopg.Connection, subjects: Sequence[SubjectId]) -> None:
        conn.execute(
            FORGET, (sorted({log_partition(subject) for subject in subjects}), list(subjects))
        )


def marked(
    held: Sequence[str], since: Mapping[str, str], change: ScoreChanged, at: datetime
) -> Since:
    """The instants of the rules after a change. A new rule has the instant of the change."""
    now = at.isoformat()
    return {
        name: since[name] if name in since and (name in held) is holds else now
        for names, holds in ((change.held, True), (change.missed, False))
        for name in names
    }
