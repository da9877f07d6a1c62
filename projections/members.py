"""Read model: who belongs to which account, in which role, since when and until when.

A row is one record of one user's aggregate, under the ids that its events name. Which account that
is today, after merges of accounts, is seen when it is read: so it does not matter which of the two
partitions was projected first. A user's row goes when it is merged: what it belonged to continues
in events of the user it lives on in.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import psycopg

from domain.events import MembershipChanged, MembershipStarted
from domain.identity import SubjectId, log_partition
from projections.batch import Batch

START = """
INSERT INTO views.memberships
       (log_partition, user_id, account_id, properties, role, joined_at)
VALUES (%s, %s, %s, %s::jsonb, %s, %s)
ON CONFLICT (log_partition, user_id, account_id) DO UPDATE
SET properties = excluded.properties, role = excluded.role, joined_at = excluded.joined_at,
    left_at = NULL"""

CHANGE = """
UPDATE views.memberships
SET properties = (properties || %(values)s::jsonb) - %(deleted)s::text[],
    role = ((properties || %(values)s::jsonb) - %(deleted)s::text[]) ->> 'role'
WHERE log_partition = %(partition)s AND user_id = %(user)s AND account_id = %(account)s"""

END = """
UPDATE views.memberships SET left_at = %s
WHERE log_partition = %s AND user_id = %s AND account_id = %s"""

DELETE_OF_USER = "DELETE FROM views.memberships WHERE log_partition = %s AND user_id = %s"

# The account goes on knowing that there was a member, and when; nothing about who or in which role.
ERASE_USERS = """
UPDATE views.memberships SET role = NULL, properties = '{}'
WHERE log_partition = ANY(%s) AND user_id = ANY(%s)"""

_encode = msgspec.json.Encoder().encode


class Members:
    def apply(self, conn: psycopg.Connection, batch: Batch) -> None:
        steps: list[tuple[str, Sequence[object] | dict[str, object]]] = []
        for _, verb, _, _, event in batch.changes:
            payload, row = event.payload, event.row
            user, account, partition = row.stream, row.account, log_partition(row.stream)
            if verb == "merged_into":
                steps.append((DELETE_OF_USER, (partition, user)))
            elif account is None:
                continue
            elif verb == "membership_started":
                started = payload if isinstance(payload, MembershipStarted) else MembershipStarted()
                role, values = _role(started.properties), _json(started.properties)
                steps.append((START, (partition, user, account, values, role, row.occurred_at)))
            elif isinstance(payload, MembershipChanged):
                change = {
                    "values": _json(payload.values),
                    "deleted": payload.deleted,
                    "partition": partition,
                    "user": user,
                    "account": account,
                }
                steps.append((CHANGE, change))
            elif verb == "membership_ended":
                steps.append((END, (row.occurred_at, partition, user, account)))
        if steps:
            with conn.pipeline(), conn.cursor() as cursor:
                for statement, arguments in steps:
                    cursor.execute(statement, arguments)

    def merge(self, conn: psycopg.Connection, loser: SubjectId, survivor: SubjectId) -> None:
        """Done by `apply`, which also sees the merge of a user whose key is gone."""

    def erase(self, conn: psycopg.Connection, subjects: Sequence[SubjectId]) -> None:
        conn.execute(ERASE_USERS, ([log_partition(one) for one in subjects], list(subjects)))


def _role(properties: dict[str, object]) -> str | None:
    role = properties.get("role")
    return role if isinstance(role, str) or role is None else _json(role)


def _json(values: object) -> str:
    return _encode(values).decode()
