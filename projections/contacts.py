"""Read model: a row for each user and account: identities, properties, when it was seen."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

import msgspec
import psycopg

from domain.events import Absorbed, Identified, PropertiesChanged, Registered
from domain.identity import Identity, SubjectId, log_partition
from domain.properties import Value
from projections import arrays
from projections.batch import Batch

# A contact is written once a batch; what the batch deletes goes in a second step.
CHANGE_CONTACTS = """
INSERT INTO views.contacts AS c
       (log_partition, subject, kind, identities, properties, changed_at, registered_at)
SELECT p, s, k, i, v, t, r
FROM unnest(%b::smallint[], %b::uuid[], %b::text[], %b::jsonb[], %b::jsonb[], %b::jsonb[],
            %b::timestamptz[]) AS w(p, s, k, i, v, t, r)
ON CONFLICT (log_partition, subject) DO UPDATE
SET identities = c.identities || excluded.identities,
    properties = c.properties || excluded.properties,
    changed_at = c.changed_at || excluded.changed_at,
    registered_at = coalesce(c.registered_at, excluded.registered_at)"""

DELETE_PROPERTIES = """
UPDATE views.contacts c
SET properties = c.properties - w.names, changed_at = c.changed_at - w.names
FROM (SELECT p, s, string_to_array(n, E'\\x01') AS names
      FROM unnest(%b::smallint[], %b::uuid[], %b::text[]) AS v(p, s, n)) w
WHERE c.log_partition = w.p AND c.subject = w.s AND c.log_partition = ANY(%b)"""

TOUCH_CONTACTS = """
INSERT INTO views.contacts AS c (log_partition, subject, kind, first_seen, last_seen)
SELECT * FROM unnest(%b::smallint[], %b::uuid[], %b::text[], %b::timestamptz[], %b::timestamptz[])
ON CONFLICT (log_partition, subject) DO UPDATE
SET first_seen = least(c.first_seen, excluded.first_seen),
    last_seen = greatest(c.last_seen, excluded.last_seen)
WHERE (c.first_seen > excluded.first_seen OR c.last_seen < excluded.last_seen
       OR c.last_seen IS NULL)"""

MOVE_CONTACT = """
WITH gone AS (
    DELETE FROM views.contacts WHERE log_partition = %(from_partition)s AND subject = %(loser)s
    RETURNING kind, first_seen, last_seen)
INSERT INTO views.contacts AS c (log_partition, subject, kind, first_seen, last_seen)
SELECT %(to_partition)s, %(survivor)s, kind, first_seen, last_seen FROM gone
ON CONFLICT (log_partition, subject) DO UPDATE
SET first_seen = least(c.first_seen, excluded.first_seen),
    last_seen = greatest(c.last_seen, excluded.last_seen)"""

DELETE_CONTACTS = "DELETE FROM views.contacts WHERE log_partition = ANY(%s) AND subject = ANY(%s)"

_encode = msgspec.json.Encoder().encode


class _Change:
    """What a batch makes of one contact: folded first, so that it is written once."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.identities: list[dict[str, object]] = []
        self.values: dict[str, Value] = {}
        self.changed_at: dict[str, str] = {}
        self.deleted: set[str] = set()
        self.registered_at: datetime | None = None

    def know(self, identities: Iterable[Identity], *, absorbed: bool = False) -> None:
        for one in identities:
            entry: dict[str, object] = {"scheme": one.scheme.value, "value": one.value}
            self.identities.append(entry | {"absorbed": True} if absorbed else entry)

    def set(self, values: dict[str, Value], deleted: Iterable[str], at: datetime) -> None:
        stamp = at.isoformat()
        for name, value in values.items():
            self.values[name] = value
            self.changed_at[name] = stamp
            self.deleted.discard(name)
        for name in deleted:
            self.values.pop(name, None)
            self.changed_at.pop(name, None)
            self.deleted.add(name)


class Contacts:
    def apply(self, conn: psycopg.Connection, batch: Batch) -> None:
        self._change(conn, batch)
        self._touch(conn, batch)

    def _change(self, conn: psycopg.Connection, batch: Batch) -> None:
        changes: dict[SubjectId, _Change] = {}
        for kind, _, subject, _, event in batch.changes:
            payload, at = event.payload, event.row.occurred_at
            if not isinstance(payload, Registered | Identified | PropertiesChanged | Absorbed):
                continue
            change = changes.get(subject)
            if change is None:
                change = changes[subject] = _Change(kind.value)
            match payload:
                case Registered(identities):
                    change.know(identities)
                    change.registered_at = at
                case Identified(identities):
                    change.know(identities)
                case PropertiesChanged(values, deleted):
                    change.set(values, deleted, at)
                case Absorbed():
                    change.know(payload.identities, absorbed=True)
                    change.set(payload.properties, (), at)
        if not changes:
            return
        rows = sorted(
            ((log_partition(id), id.bytes, id, change) for id, change in changes.items()),
            key=lambda row: row[:2],
        )
        conn.execute(
            CHANGE_CONTACTS,
            (
                arrays.smallints([row[0] for row in rows]),
                arrays.uuids([row[2] for row in rows]),
                arrays.texts([row[3].kind for row in rows]),
                arrays.jsons([_encode(row[3].identities) for row in rows]),
                arrays.jsons([_encode(row[3].values) for row in rows]),
                arrays.jsons([_encode(row[3].changed_at) for row in rows]),
                arrays.instants([row[3].registered_at for row in rows]),
            ),
        )
        less = [row for row in rows if row[3].deleted]
        if less:
            conn.execute(
                DELETE_PROPERTIES,
                (
                    [row[0] for row in less],
                    [row[2] for row in less],
                    ["\x01".join(sorted(row[3].deleted)) for row in less],
                    sorted({row[0] for row in less}),
                ),
            )

    def _touch(self, conn: psycopg.Connection, batch: Batch) -> None:
        if not batch.tallies:
            return
        partitions = [partition for partition, _ in batch.tallies]
        tallies = [tally for _, tally in batch.tallies]
        conn.execute(
            TOUCH_CONTACTS,
            (
                arrays.smallints(partitions),
                arrays.uuids([one.subject for one in tallies]),
                arrays.texts([one.kind for one in tallies]),
                arrays.instants([one.first_at for one in tallies]),
                arrays.instants([one.last_at for one in tallies]),
            ),
        )

    def merge(self, conn: psycopg.Connection, loser: SubjectId, survivor: SubjectId) -> None:
        conn.execute(
            MOVE_CONTACT,
            {
                "from_partition": log_partition(loser),
                "loser": loser,
                "to_partition": log_partition(survivor),
                "survivor": survivor,
            },
        )

    def erase(self, conn: psycopg.Connection, subjects: Sequence[SubjectId]) -> None:
        partitions = [log_partition(one) for one in subjects]
        conn.execute(DELETE_CONTACTS, (partitions, list(subjects)))
