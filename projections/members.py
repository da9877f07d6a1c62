"""Read model: who belongs to which account, in which role, since when and until when."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import psycopg

from domain.events import Absorbed, MembershipChanged, MembershipStarted
from domain.identity import SubjectId, log_partition
from projections.batch import Batch

START = """
INSERT INTO views.memberships AS m
       (log_partition, user_id, account_id, properties, role, joined_at, left_at)
VALUES (%s, %s, %s, %s::jsonb, %s, %s, %s)
ON CONFLICT (log_partition, user_id, account_id) DO UPDATE
SET properties = excluded.properties, role = excluded.role,
    joined_at = CASE WHEN m.left_at IS NULL THEN least(m.joined_at, excluded.joined_at)
                     ELSE excluded.joined_at END,
    left_at = excluded.left_at"""

CHANGE = """
UPDATE views.memberships
SET properties = jsonb_strip_nulls(properties || %(change)s::jsonb),
    role = jsonb_strip_nulls(properties || %(change)s::jsonb) ->> 'role'
WHERE log_partition = %(partition)s AND user_id = %(user)s AND account_id = %(account)s"""

END = """
UPDATE views.memberships SET left_at = %s
WHERE log_partition = %s AND user_id = %s AND account_id = %s"""

ABSORB = """
INSERT INTO views.memberships AS m
       (log_partition, user_id, account_id, properties, role, joined_at, left_at)
VALUES (%s, %s, %s, %s::jsonb, %s, %s, %s)
ON CONFLICT (log_partition, user_id, account_id) DO UPDATE
SET properties = excluded.properties, role = excluded.role, joined_at = excluded.joined_at,
    left_at = excluded.left_at"""

DELETE_OF_USER = "DELETE FROM views.memberships WHERE log_partition = %s AND user_id = %s"

MOVE_TO_ACCOUNT = """
WITH moved AS (
    DELETE FROM views.memberships WHERE log_partition = ANY(%(partitions)s)
       AND account_id = %(loser)s
    RETURNING log_partition, user_id, role, properties, joined_at, left_at)
INSERT INTO views.memberships AS m
       (log_partition, user_id, account_id, role, properties, joined_at, left_at)
SELECT log_partition, user_id, %(survivor)s, role, properties, joined_at, left_at FROM moved
ON CONFLICT (log_partition, user_id, account_id) DO UPDATE
SET joined_at = least(m.joined_at, excluded.joined_at),
    left_at = CASE WHEN m.left_at IS NULL OR excluded.left_at IS NULL THEN NULL
                   ELSE greatest(m.left_at, excluded.left_at) END"""

# The account goes on knowing that there was a member, and when; nothing about who or in which role.
ERASE_USER = """
UPDATE views.memberships SET role = NULL, properties = '{}'
WHERE log_partition = ANY(%s) AND user_id = ANY(%s)"""

_encode = msgspec.json.Encoder().encode


class Members:
    def apply(self, conn: psycopg.Connection, batch: Batch) -> None:
        steps: list[tuple[str, Sequence[object] | dict[str, object]]] = []
        for _, verb, user, account, event in batch.changes:
            payload, at, partition = event.payload, event.row.occurred_at, log_partition(user)
            if isinstance(payload, Absorbed):
                for absorbed, record in payload.memberships.items():
                    id = batch.survivors.get(absorbed, absorbed)
                    values, role = _json(record.properties), record.properties.get("role")
                    steps.append(
                        (
                            ABSORB,
                            (
                                partition,
                                user,
                                id,
                                values,
                                role,
                                record.started_at,
                                record.ended_at,
                            ),
                        )
                    )
            elif account is None:
                continue
            elif verb == "membership_started":
                started = payload if isinstance(payload, MembershipStarted) else MembershipStarted()
                role = started.properties.get("role")
                values = _json(started.properties)
                steps.append((START, (partition, user, account, values, role, at, None)))
            elif isinstance(payload, MembershipChanged):
                change = _json(payload.values | dict.fromkeys(payload.deleted))
                steps.append(
                    (
                        CHANGE,
                        {
                            "change": change,
                            "partition": partition,
                            "user": user,
                            "account": account,
                        },
                    )
                )
            elif verb == "membership_ended":
                steps.append((END, (at, partition, user, account)))
        if steps:
            with conn.pipeline(), conn.cursor() as cursor:
                for statement, arguments in steps:
                    cursor.execute(statement, arguments)

    def merge(self, conn: psycopg.Connection, loser: SubjectId, survivor: SubjectId) -> None:
        conn.execute(DELETE_OF_USER, (log_partition(loser), loser))
        conn.execute(
            MOVE_TO_ACCOUNT,
            {"partitions": list(range(256)), "loser": loser, "survivor": survivor},
        )

    def erase(self, conn: psycopg.Connection, subjects: Sequence[SubjectId]) -> None:
        conn.execute(ERASE_USER, ([log_partition(one) for one in subjects], list(subjects)))


def _json(values: object) -> str:
    return _encode(values).decode()
