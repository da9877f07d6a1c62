"""Read model: a row for each user and account: identities, properties, when it was seen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from operator import itemgetter
from typing import ClassVar, NamedTuple

import msgspec
import psycopg

from domain.events.payloads import (
    Absorbed,
    Dating,
    Identified,
    IdentitiesReleased,
    PropertiesBackdated,
    PropertiesChanged,
    PropertiesConfirmed,
    Registered,
)
from domain.identity import Identity, Scheme, SubjectId, SubjectKind, log_partition
from domain.properties import PropertyType, Value, converted
from domain.registration import created_at
from projections.kernel import pg_arrays
from projections.kernel.batch import Batch
from projections.models import bars, retyping
from projections.models.bars import Counted

# A batch writes each contact once, and deletes properties in a second step. The name, the e-mail
# and the other columns that follow from identities and properties are written with these.
CHANGE_CONTACTS = """
INSERT INTO views.contacts AS c
       (log_partition, subject, kind, identities, properties, sent, changed_at, registered_at, mrr,
        currency, name, external_id, email, domain)
SELECT p, s, k, i, v, o, t, r, m::numeric, u, views.name_of(v), views.external_id_of(i),
       views.email_of(k, i, v), views.domain_of(k, i, v)
FROM unnest(%(partitions)b::smallint[], %(subjects)b::uuid[], %(kinds)b::text[],
            %(identities)b::jsonb[], %(properties)b::jsonb[], %(sent)b::jsonb[],
            %(changed_at)b::jsonb[],
            %(registered_at)b::timestamptz[], %(mrr)b::text[], %(currencies)b::text[])
     AS w(p, s, k, i, v, o, t, r, m, u)
ON CONFLICT (log_partition, subject) DO UPDATE
SET identities = c.identities || excluded.identities,
    properties = c.properties || excluded.properties,
    sent = c.sent || excluded.sent,
    changed_at = c.changed_at || excluded.changed_at,
    registered_at = least(c.registered_at, excluded.registered_at),
    mrr = CASE WHEN excluded.properties ? %(mrr_property)b THEN excluded.mrr ELSE c.mrr END,
    currency = CASE WHEN excluded.properties ? 'currency' THEN excluded.currency
                    ELSE c.currency END,
    name = views.name_of(c.properties || excluded.properties),
    external_id = views.external_id_of(c.identities || excluded.identities),
    email = views.email_of(c.kind, c.identities || excluded.identities,
                           c.properties || excluded.properties),
    domain = views.domain_of(c.kind, c.identities || excluded.identities,
                             c.properties || excluded.properties)"""

# Without the identities that a contact gave up, and with a mark on the id that it goes by; before
# new ones are added.
REVISE_IDENTITIES = """
UPDATE views.contacts c SET identities = w.identities
FROM (SELECT v.p, v.s, coalesce(jsonb_agg(
                 CASE WHEN v.goes_by = 'null' THEN i.item
                      WHEN v.goes_by = i.item - 'absorbed' - 'goes_by'
                      THEN i.item || '{"goes_by": true}'
                      ELSE i.item - 'goes_by' END
                 ORDER BY i.n) FILTER (
                 WHERE NOT v.released @> jsonb_build_array(i.item - 'absorbed' - 'goes_by')),
             '[]') AS identities
      FROM unnest(%(partitions)b::smallint[], %(subjects)b::uuid[], %(released)b::jsonb[],
                  %(goes_by)b::jsonb[]) AS v(p, s, released, goes_by)
      JOIN views.contacts o ON o.log_partition = v.p AND o.subject = v.s
      CROSS JOIN LATERAL jsonb_array_elements(o.identities) WITH ORDINALITY AS i(item, n)
      WHERE o.log_partition = ANY(%(partitions)b)
      GROUP BY v.p, v.s) w
WHERE c.log_partition = w.p AND c.subject = w.s AND c.log_partition = ANY(%(partitions)b)"""

DELETE_PROPERTIES = """
UPDATE views.contacts c
SET properties = c.properties - w.missing, changed_at = c.changed_at - w.names,
    sent = c.sent - w.names, name = views.name_of(c.properties - w.missing),
    email = views.email_of(c.kind, c.identities, c.properties - w.missing),
    domain = views.domain_of(c.kind, c.identities, c.properties - w.missing),
    mrr = CASE WHEN %(mrr_property)b = ANY(w.missing) THEN NULL ELSE c.mrr END,
    currency = CASE WHEN 'currency' = ANY(w.missing) THEN NULL ELSE c.currency END
FROM (SELECT p, s, string_to_array(n, E'\\x01') AS names,
             string_to_array(m, E'\\x01') AS missing
      FROM unnest(%(partitions)b::smallint[], %(subjects)b::uuid[], %(names)b::text[],
                  %(missing)b::text[]) AS v(p, s, n, m)) w
WHERE c.log_partition = w.p AND c.subject = w.s AND c.log_partition = ANY(%(partitions)b)"""

ADD_CONTACTS = """
INSERT INTO views.contacts (log_partition, subject, kind)
SELECT * FROM unnest(%(partitions)b::smallint[], %(subjects)b::uuid[], %(kinds)b::text[])
ON CONFLICT DO NOTHING"""

# Several workers can see an account first: only PostgreSQL can tell which of them adds it.
SEE = """
WITH seen AS (
    INSERT INTO views.seen AS s (log_partition, subject, kind, first_seen, last_seen)
    SELECT * FROM unnest(%(partitions)b::smallint[], %(subjects)b::uuid[], %(kinds)b::text[],
                         %(first_at)b::timestamptz[], %(last_at)b::timestamptz[])
    ON CONFLICT (log_partition, subject) DO UPDATE
    SET first_seen = least(s.first_seen, excluded.first_seen),
        last_seen = greatest(s.last_seen, excluded.last_seen), is_known = true
    WHERE s.first_seen > excluded.first_seen OR s.last_seen < excluded.last_seen
       OR (s.last_seen IS NULL AND excluded.last_seen IS NOT NULL)
    RETURNING subject, is_known)
SELECT subject FROM seen WHERE NOT is_known"""

MOVE_CONTACT = """
WITH gone AS (
    DELETE FROM views.contacts WHERE log_partition = %(from_partition)s AND subject = %(loser)s
    RETURNING kind, registered_at)
INSERT INTO views.contacts AS c (log_partition, subject, kind, registered_at)
SELECT %(to_partition)s, %(survivor)s, kind, registered_at FROM gone
ON CONFLICT (log_partition, subject) DO UPDATE
SET registered_at = least(c.registered_at, excluded.registered_at)"""

MOVE_SEEN = """
WITH gone AS (
    DELETE FROM views.seen WHERE log_partition = %(from_partition)s AND subject = %(loser)s
    RETURNING kind, first_seen, last_seen)
INSERT INTO views.seen AS s (log_partition, subject, kind, first_seen, last_seen)
SELECT %(to_partition)s, %(survivor)s, kind, first_seen, last_seen FROM gone
ON CONFLICT (log_partition, subject) DO UPDATE
SET first_seen = least(s.first_seen, excluded.first_seen),
    last_seen = greatest(s.last_seen, excluded.last_seen)"""

DELETE_CONTACTS = "DELETE FROM views.contacts WHERE log_partition = ANY(%s) AND subject = ANY(%s)"

DELETE_SEEN = "DELETE FROM views.seen WHERE log_partition = ANY(%s) AND subject = ANY(%s)"

SELECT_SHOWN = """
SELECT c.subject, c.kind, c.identities FROM views.contacts c
JOIN unnest(%b::smallint[], %b::uuid[]) AS w(p, s) ON c.log_partition = w.p AND c.subject = w.s"""

_encode = msgspec.json.Encoder().encode


class Shown(NamedTuple):
    """Kind and identities of a subject in the read models."""

    kind: SubjectKind
    identities: tuple[Identity, ...]


def shown(conn: psycopg.Connection, subjects: Iterable[SubjectId]) -> dict[SubjectId, Shown]:
    """Returns the subjects that the read models contain."""
    rows = conn.execute(SELECT_SHOWN, pg_arrays.placed(list(subjects)), binary=True)
    return {
        SubjectId(subject): Shown(
            SubjectKind(kind),
            tuple(
                Identity(Scheme(identity["scheme"]), identity["value"]) for identity in identities
            ),
        )
        for subject, kind, identities in rows
    }


class _Change:
    """The changes of one contact in a batch, folded into one write."""

    def __init__(self, kind: str, types: Mapping[str, PropertyType]) -> None:
        self.kind = kind
        self._types = types
        self.identities: list[dict[str, object]] = []
        self.released: list[dict[str, object]] = []
        self.goes_by: dict[str, object] | None = None
        self.values: dict[str, Value] = {}
        self.sent: dict[str, Value] = {}
        self.unfit: set[str] = set()
        self.changed_at: dict[str, str] = {}
        self.deleted: set[str] = set()
        self.registered_at: datetime | None = None

    def counts_as(self, before: Counted, mrr_property: str) -> Counted:
        """The bucket of the contact after the change."""
        mrr, code = before.mrr, before.currency
        if mrr_property in self.values or mrr_property in self.missing:
            mrr = bars.amount(self.values.get(mrr_property))
        if bars.CURRENCY_PROPERTY in self.values or bars.CURRENCY_PROPERTY in self.missing:
            code = bars.currency(self.values.get(bars.CURRENCY_PROPERTY))
        return before._replace(mrr=mrr, currency=code)

    def know(self, identities: Iterable[Identity], *, absorbed: bool = False) -> None:
        for identity in identities:
            entry = _entry(identity)
            self.identities.append(entry | {"absorbed": True} if absorbed else entry)

    def release(self, identities: Iterable[Identity]) -> None:
        for entry in map(_entry, identities):
            self.released.append(entry)
            self.identities = [
                known for known in self.identities if not entry.items() <= known.items()
            ]

    def go_by(self, identity: Identity) -> None:
        self.goes_by = _entry(identity)
        self.identities = [self._marked(known) for known in self.identities]

    def _marked(self, known: dict[str, object]) -> dict[str, object]:
        bare = {key: value for key, value in known.items() if key != "goes_by"}
        is_shown = self.goes_by is not None and self.goes_by.items() <= bare.items()
        return bare | {"goes_by": True} if is_shown else bare

    def register(self, at: datetime | None) -> None:
        """The contact is on record since a time, or since an earlier one."""
        if at is not None and (self.registered_at is None or at < self.registered_at):
            self.registered_at = at

    def set(self, values: dict[str, Value], deleted: Iterable[str], at: datetime) -> None:
        stamp = at.isoformat()
        for name, value in values.items():
            if name in self._types:
                self._convert(name, value)
            else:
                self.values[name] = value
            self.changed_at[name] = stamp
            self.deleted.discard(name)
        for name in deleted:
            self.values.pop(name, None)
            self.sent.pop(name, None)
            self.unfit.discard(name)
            self.changed_at.pop(name, None)
            self.deleted.add(name)

    def _convert(self, name: str, value: Value) -> None:
        """Converts a value of a property that an admin gave another type."""
        self.sent[name] = value
        fitting = converted(value, self._types[name])
        if fitting is None:
            self.values.pop(name, None)
            self.unfit.add(name)
        else:
            self.values[name] = fitting
            self.unfit.discard(name)

    @property
    def missing(self) -> frozenset[str]:
        """The properties that have no value after the change."""
        return frozenset(self.deleted | self.unfit)


class Contacts:
    tables: ClassVar[Sequence[str]] = ("contacts", "seen")

    def apply(self, conn: psycopg.Connection, batch: Batch) -> None:
        changes = _changes(batch)
        made = _see(conn, _sights(batch, changes))
        if made or changes:
            self._write(conn, batch, made, changes)
        retyping.apply(conn, batch)

    def _write(
        self,
        conn: psycopg.Connection,
        batch: Batch,
        made: Mapping[SubjectId, str],
        changes: dict[SubjectId, _Change],
    ) -> None:
        before = bars.counted(conn, [id for id in changes if id not in made])
        _add(conn, {id: kind for id, kind in made.items() if id not in changes})
        mrr_property = batch.workspace.mrr_property
        self._change(conn, changes, mrr_property)
        after = {id: Counted(kind) for id, kind in made.items()}
        for id, change in changes.items():
            was = after[id] if id in made else before[id]
            after[id] = change.counts_as(was, mrr_property)
        bars.move(conn, before, after)

    def _change(
        self, conn: psycopg.Connection, changes: dict[SubjectId, _Change], mrr_property: str
    ) -> None:
        if not changes:
            return
        rows = sorted(
            ((log_partition(id), id.bytes, id, change) for id, change in changes.items()),
            key=lambda row: row[:2],
        )
        revised = [row for row in rows if row[3].released or row[3].goes_by]
        if revised:
            conn.execute(
                REVISE_IDENTITIES,
                {
                    "partitions": pg_arrays.smallints([row[0] for row in revised]),
                    "subjects": pg_arrays.uuids([row[2] for row in revised]),
                    "released": pg_arrays.jsons([_encode(row[3].released) for row in revised]),
                    "goes_by": pg_arrays.jsons([_encode(row[3].goes_by) for row in revised]),
                },
            )
        values = [row[3].values for row in rows]
        amounts = [bars.amount(value.get(mrr_property)) for value in values]
        conn.execute(
            CHANGE_CONTACTS,
            {
                "partitions": pg_arrays.smallints([row[0] for row in rows]),
                "subjects": pg_arrays.uuids([row[2] for row in rows]),
                "kinds": pg_arrays.texts([row[3].kind for row in rows]),
                "identities": pg_arrays.jsons([_encode(row[3].identities) for row in rows]),
                "properties": pg_arrays.jsons([_encode(value) for value in values]),
                "sent": pg_arrays.jsons([_encode(row[3].sent) for row in rows]),
                "changed_at": pg_arrays.jsons([_encode(row[3].changed_at) for row in rows]),
                "registered_at": pg_arrays.instants([row[3].registered_at for row in rows]),
                "mrr": pg_arrays.texts(
                    [None if amount is None else f"{amount:f}" for amount in amounts]
                ),
                "currencies": pg_arrays.texts(
                    [bars.currency(value.get(bars.CURRENCY_PROPERTY)) for value in values]
                ),
                "mrr_property": mrr_property,
            },
        )
        less = [row for row in rows if row[3].missing]
        if less:
            conn.execute(
                DELETE_PROPERTIES,
                {
                    "partitions": [row[0] for row in less],
                    "subjects": [row[2] for row in less],
                    "names": ["\x01".join(sorted(row[3].deleted)) for row in less],
                    "missing": ["\x01".join(sorted(row[3].missing)) for row in less],
                    "mrr_property": mrr_property,
                },
            )

    def merge(self, conn: psycopg.Connection, loser: SubjectId, survivor: SubjectId) -> None:
        before = bars.counted(conn, [loser, survivor])
        moved = {
            "from_partition": log_partition(loser),
            "loser": loser,
            "to_partition": log_partition(survivor),
            "survivor": survivor,
        }
        conn.execute(MOVE_CONTACT, moved)
        conn.execute(MOVE_SEEN, moved)
        bars.move(conn, before, bars.counted(conn, [loser, survivor]))

    def erase(self, conn: psycopg.Connection, subjects: Sequence[SubjectId]) -> None:
        bars.move(conn, bars.counted(conn, subjects), {})
        partitions = [log_partition(subject) for subject in subjects]
        conn.execute(DELETE_CONTACTS, (partitions, list(subjects)))
        conn.execute(DELETE_SEEN, (partitions, list(subjects)))


def _entry(identity: Identity) -> dict[str, object]:
    return {"scheme": identity.scheme.value, "value": identity.value}


def _changes(batch: Batch) -> dict[SubjectId, _Change]:
    changes: dict[SubjectId, _Change] = {}
    types = {kind: batch.workspace.names.types_of(kind) for kind in SubjectKind}
    zone = batch.workspace.zone
    for kind, _, subject, account, event in batch.changes:
        payload, at = event.payload, event.row.occurred_at
        if account is not None or not isinstance(payload, Dating):
            continue
        change = changes.get(subject)
        if change is None:
            change = changes[subject] = _Change(kind.value, types[kind])
        match payload:
            case Registered(identities):
                change.know(identities)
            case Identified(identities, goes_by):
                change.know(identities)
                if goes_by is not None:
                    change.go_by(goes_by)
            case IdentitiesReleased(identities):
                change.release(identities)
            case PropertiesChanged(values, deleted):
                change.set(values, deleted, at)
                change.register(created_at(values, zone))
            case PropertiesBackdated(values):
                change.register(created_at(values, zone))
            case Absorbed():
                change.know(payload.identities, absorbed=True)
                change.set(payload.properties, payload.deleted, at)
            case PropertiesConfirmed():
                pass
        change.register(at)
    return changes


class _Sight(NamedTuple):
    """First and last instant in a batch at which a contact was seen; None where it only changed."""

    partition: int
    id: bytes
    kind: str
    first_at: datetime | None = None
    last_at: datetime | None = None


def _sights(batch: Batch, changes: Mapping[SubjectId, _Change]) -> list[_Sight]:
    """All contacts of a batch, in the order of the key."""
    seen = [
        _Sight(partition, tally.subject.bytes, tally.kind, tally.first_at, tally.last_at)
        for partition, tally in batch.tallies
    ]
    tallied = {sight.id for sight in seen}
    seen += [
        _Sight(log_partition(id), id.bytes, change.kind)
        for id, change in changes.items()
        if id.bytes not in tallied
    ]
    return sorted(seen, key=itemgetter(0, 1))


def _see(conn: psycopg.Connection, sights: Sequence[_Sight]) -> dict[SubjectId, str]:
    """Writes when contacts were seen; returns the new contacts with their kinds."""
    if not sights:
        return {}
    rows = conn.execute(
        SEE,
        {
            "partitions": pg_arrays.smallints([sight.partition for sight in sights]),
            "subjects": pg_arrays.ids([sight.id for sight in sights]),
            "kinds": pg_arrays.texts([sight.kind for sight in sights]),
            "first_at": pg_arrays.instants([sight.first_at for sight in sights]),
            "last_at": pg_arrays.instants([sight.last_at for sight in sights]),
        },
        binary=True,
    ).fetchall()
    kinds = {sight.id: sight.kind for sight in sights} if rows else {}
    return {SubjectId(subject): kinds[subject.bytes] for (subject,) in rows}


def _add(conn: psycopg.Connection, kinds: Mapping[SubjectId, str]) -> None:
    if not kinds:
        return
    subjects = sorted(kinds, key=lambda subject: (log_partition(subject), subject.int))
    partitions, ids = pg_arrays.placed(subjects)
    conn.execute(
        ADD_CONTACTS,
        {
            "partitions": partitions,
            "subjects": ids,
            "kinds": pg_arrays.texts([kinds[id] for id in subjects]),
        },
    )
