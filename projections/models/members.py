"""Read model: memberships of users in accounts, with role, beginning and end.

A row has the ids that the events of the user name. Queries replace a merged account by its
survivor, so that the order in which partitions are projected does not matter. A merged user's rows
are deleted: the events of the survivor carry its memberships on.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import ClassVar

import msgspec
import psycopg

from domain.events.payloads import MembershipChanged, MembershipStarted
from domain.identity import SubjectId, log_partition
from projections.kernel import pg_arrays
from projections.kernel.batch import Batch

START = """
INSERT INTO views.memberships
       (log_partition, user_id, account_id, properties, role, joined_at, left_at)
SELECT * FROM unnest(%(partitions)b::smallint[], %(users)b::uuid[], %(accounts)b::uuid[],
                     %(properties)b::jsonb[], %(roles)b::text[], %(joined_at)b::timestamptz[],
                     %(left_at)b::timestamptz[])
ON CONFLICT (log_partition, user_id, account_id) DO UPDATE
SET properties = excluded.properties, role = excluded.role, joined_at = excluded.joined_at,
    left_at = excluded.left_at"""

CHANGE = """
UPDATE views.memberships
SET properties = (properties || %(values)s::jsonb) - %(deleted)s::text[],
    role = ((properties || %(values)s::jsonb) - %(deleted)s::text[]) ->> 'role'
WHERE log_partition = %(partition)s AND user_id = %(user)s AND account_id = %(account)s"""

END = """
UPDATE views.memberships SET left_at = %(left_at)s
WHERE log_partition = %(partition)s AND user_id = %(user)s AND account_id = %(account)s"""

BACKDATE = """
UPDATE views.memberships SET joined_at = %(joined_at)s
WHERE log_partition = %(partition)s AND user_id = %(user)s AND account_id = %(account)s"""

DELETE_OF_USER = "DELETE FROM views.memberships WHERE log_partition = %s AND user_id = %s"

# The account keeps that it had a member, and when; not whom, nor in which role.
ERASE_USERS = """
UPDATE views.memberships SET role = NULL, properties = '{}'
WHERE log_partition = ANY(%s) AND user_id = ANY(%s)"""

_encode = msgspec.json.Encoder().encode


class _Started:
    """A membership that starts in a batch, with its later changes in the batch: written as one
    row, which replaces an older one."""

    def __init__(self, properties: dict[str, object], joined_at: datetime) -> None:
        self.properties = properties
        self.joined_at = joined_at
        self.left_at: datetime | None = None

    def change(self, values: dict[str, object], deleted: Sequence[str]) -> None:
        others = {name: value for name, value in self.properties.items() if name not in deleted}
        self.properties = others | {k: v for k, v in values.items() if k not in deleted}


class Members:
    tables: ClassVar[Sequence[str]] = ("memberships",)

    def apply(self, conn: psycopg.Connection, batch: Batch) -> None:
        merged = {
            event.row.stream for _, verb, _, _, event in batch.changes if verb == "merged_into"
        }
        started: dict[tuple[int, SubjectId, SubjectId], _Started] = {}
        steps: list[tuple[str, Sequence[object] | dict[str, object]]] = [
            (DELETE_OF_USER, (log_partition(user), user)) for user in merged
        ]
        for _, verb, _, _, event in batch.changes:
            payload, row = event.payload, event.row
            if row.account is None or row.stream in merged:
                continue
            key = (log_partition(row.stream), row.stream, row.account)
            if verb == "membership_started":
                properties = payload.properties if isinstance(payload, MembershipStarted) else {}
                started[key] = _Started(properties, row.occurred_at)
            elif verb == "membership_ended":
                if key in started:
                    started[key].left_at = row.occurred_at
                else:
                    steps.append((END, {"left_at": row.occurred_at} | _place(key)))
            elif verb == "membership_backdated":
                if key in started:
                    started[key].joined_at = row.occurred_at
                else:
                    steps.append((BACKDATE, {"joined_at": row.occurred_at} | _place(key)))
            elif isinstance(payload, MembershipChanged):
                if key in started:
                    started[key].change(payload.values, payload.deleted)
                else:
                    change = {"values": _json(payload.values), "deleted": payload.deleted}
                    steps.append((CHANGE, change | _place(key)))
        for statement, arguments in steps:
            conn.execute(statement, arguments)
        if started:
            self._start(conn, started)

    def _start(
        self, conn: psycopg.Connection, started: dict[tuple[int, SubjectId, SubjectId], _Started]
    ) -> None:
        rows = sorted(started.items(), key=lambda row: (row[0][0], row[0][1].bytes))
        conn.execute(
            START,
            {
                "partitions": pg_arrays.smallints([key[0] for key, _ in rows]),
                "users": pg_arrays.uuids([key[1] for key, _ in rows]),
                "accounts": pg_arrays.uuids([key[2] for key, _ in rows]),
                "properties": pg_arrays.jsons([_encode(row.properties) for _, row in rows]),
                "roles": pg_arrays.texts([_role(row.properties) for _, row in rows]),
                "joined_at": pg_arrays.instants([row.joined_at for _, row in rows]),
                "left_at": pg_arrays.instants([row.left_at for _, row in rows]),
            },
        )

    def merge(self, conn: psycopg.Connection, loser: SubjectId, survivor: SubjectId) -> None:
        """`apply` deletes the rows, also of a user whose key is destroyed."""

    def erase(self, conn: psycopg.Connection, subjects: Sequence[SubjectId]) -> None:
        conn.execute(
            ERASE_USERS, ([log_partition(subject) for subject in subjects], list(subjects))
        )


def _place(key: tuple[int, SubjectId, SubjectId]) -> dict[str, object]:
    """The parameters that say which row a statement is about."""
    return dict(zip(("partition", "user", "account"), key, strict=True))


def _role(properties: dict[str, object]) -> str | None:
    role = properties.get("role")
    return role if isinstance(role, str) or role is None else _json(role)


def _json(values: object) -> str:
    return _encode(values).decode()
