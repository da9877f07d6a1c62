"""Puts an oracle's world straight into the read models' tables."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from uuid import UUID

import msgspec
import psycopg

from domain.calendar import Moment
from domain.conditions.counters import counters_of
from domain.conditions.evaluation import Facts, World
from domain.conditions.language import Attribute, Condition
from domain.identity import Scheme, SubjectId, SubjectKind, log_partition

_SCHEMES = {
    (SubjectKind.USER, Attribute.EXTERNAL_ID): Scheme.USER_ID,
    (SubjectKind.USER, Attribute.EMAIL): Scheme.EMAIL,
    (SubjectKind.ACCOUNT, Attribute.EXTERNAL_ID): Scheme.ACCOUNT_ID,
    (SubjectKind.ACCOUNT, Attribute.DOMAIN): Scheme.DOMAIN,
}
_SEEN = (Attribute.FIRST_SEEN, Attribute.LAST_SEEN)
_TABLES = (
    "seen", "contacts", "memberships", "merges", "names", "activity_days", "segment_members",
    "definitions", "scores", "signals",
)  # fmt: skip

# The planner takes tables for empty that were filled in the same transaction.
_ANALYZE = f"""
SET LOCAL ROLE none;
ANALYZE {", ".join(f"views.{table}" for table in _TABLES)};
SET LOCAL ROLE annals_views"""


def store(conn: psycopg.Connection, world: World) -> None:
    """Replaces what the read models hold by a world."""
    for table in _TABLES:
        conn.execute(f"DELETE FROM views.{table}")
    keys = sorted({(d.activity, d.name) for facts in world.subjects.values() for d in facts.deeds})
    ids = {key: n for n, key in enumerate(keys, 1)}
    _copy(conn, "names (kind, name, id)", [(*key, id) for key, id in ids.items()])
    _copy(
        conn,
        "contacts (log_partition, subject, kind, identities, properties, registered_at, stage,"
        " health)",
        [_contact(id, facts) for id, facts in world.subjects.items()],
    )
    _copy(
        conn,
        "seen (log_partition, subject, kind, first_seen, last_seen)",
        [
            (_partition(id), id, facts.kind.value, *map(facts.attributes.get, _SEEN))
            for id, facts in world.subjects.items()
        ],
    )
    conn.execute(
        "UPDATE views.contacts SET name = views.name_of(properties),"
        " external_id = views.external_id_of(identities), email = views.email_of(identities),"
        " domain = views.domain_of(identities)"
    )
    _copy(
        conn,
        "activity_days (log_partition, subject, name_id, day, in_account, count, first_at,"
        " last_at)",
        [
            (
                _partition(id),
                id,
                ids[d.activity, d.name],
                d.day,
                d.in_account,
                d.count,
                d.day,
                d.day,
            )
            for id, facts in world.subjects.items()
            for d in facts.deeds
        ],
    )
    _copy(
        conn,
        "memberships (log_partition, user_id, account_id, role, joined_at, left_at)",
        [
            (
                _partition(membership.user),
                membership.user,
                membership.account,
                membership.role,
                membership.joined_at,
                membership.left_at,
            )
            for membership in world.memberships
        ],
    )
    _copy(
        conn,
        "merges (log_partition, loser, survivor)",
        [(_partition(loser), loser, survivor) for loser, survivor in world.merged.items()],
    )
    _store_decided(conn, world)
    _copy(
        conn,
        "segment_members (log_partition, segment, subject, ordinal, entered_at)",
        [
            (_partition(id), segment, id, 1, "2024-05-13")
            for id, facts in world.subjects.items()
            for segment in facts.segments
        ],
    )
    conn.execute(_ANALYZE)


def _store_decided(conn: psycopg.Connection, world: World) -> None:
    """Scores and signals, each under its name; and one of the same name that is archived."""
    names: set[tuple[str, str, str]] = set()
    for facts in world.subjects.values():
        names |= {("score", facts.kind.value, name) for name in facts.scores}
        names |= {("signal", facts.kind.value, name) for name in facts.signals}
    ids = {key: UUID(int=2**126 + n) for n, key in enumerate(sorted(names))}
    old = {key: UUID(int=2**125 + n) for n, key in enumerate(sorted(names))}
    by, at = UUID(int=1), "2024-05-13"
    _copy(
        conn,
        "definitions (id, family, kind, name, definition, version, status, created_at, created_by,"
        " changed_at, changed_by)",
        [
            (id, *key, "{}", 1, status, at, by, at, by)
            for found, status in ((ids, "active"), (old, "archived"))
            for key, id in found.items()
        ],
    )
    _copy(
        conn,
        "scores (log_partition, subject, score, ordinal, value, held, since, changed_at)",
        [
            (_partition(subject), subject, id, 1, value, [], "{}", at)
            for subject, facts in world.subjects.items()
            for name, score in facts.scores.items()
            for key in [("score", facts.kind.value, name)]
            for id, value in ((ids[key], score), (old[key], None))
        ],
    )
    _copy(
        conn,
        "signals (log_partition, subject, signal, ordinal, is_on, triggers)",
        [
            (_partition(subject), subject, id, 1, key[2] in facts.signals, 1)
            for subject, facts in world.subjects.items()
            for key, id in ids.items()
            if key[:2] == ("signal", facts.kind.value)
        ],
    )


def store_counters(
    conn: psycopg.Connection, world: World, condition: Condition, moment: Moment
) -> None:
    """What the counters of a condition would hold. They are only read here: that they hold this
    is for `test_counters.py` to say."""
    conn.execute("DELETE FROM views.counter_days")
    _copy(
        conn,
        "counter_days (log_partition, subject, counter, day, in_account, by_subject, count)",
        [
            (_partition(id), id, counter.id, d.day, d.in_account, id, d.count)
            for counter in counters_of(condition)
            for id, facts in world.subjects.items()
            for d in facts.deeds
            if (d.activity, d.name) == (counter.activity, counter.name)
            and d.metadata is not None
            and counter.counts(d.metadata, moment)
        ],
    )


def _contact(id: UUID, facts: Facts) -> tuple[Any, ...]:
    identities = [
        {"scheme": scheme.value, "value": facts.attributes[attribute]}
        for (kind, attribute), scheme in _SCHEMES.items()
        if kind is facts.kind and attribute in facts.attributes
    ]
    return (
        _partition(id),
        id,
        facts.kind.value,
        _json(identities),
        _json(facts.properties),
        facts.attributes.get(Attribute.REGISTERED_AT),
        facts.stage,
        facts.health.value,
    )


def _copy(conn: psycopg.Connection, target: str, rows: Iterable[tuple[Any, ...]]) -> None:
    with conn.cursor().copy(f"COPY views.{target} FROM STDIN") as copy:
        for row in rows:
            copy.write_row(row)


def _partition(id: UUID) -> int:
    return log_partition(SubjectId(id))


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
