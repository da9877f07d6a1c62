"""What MRR a contact has: its own, from the property that the workspace chose, which lists and
bars count; and of a user without one what the accounts have that it belongs to.

Kept with each contact as it is written (`projections.models.contacts`); made anew for all of them
when the workspace chooses another property.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from decimal import Decimal

import msgspec
import psycopg
import sqlalchemy as sa

from domain.identity import SubjectId, SubjectKind, log_partition
from projections.kernel.merges import ALL_PARTITIONS
from projections.models.bars import EXACT, CurrencySum, shown

# As `projections.models.bars.amount` reads it: a number, or a text that is a plain decimal.
RECOUNT = r"""
UPDATE views.contacts c SET mrr = n.mrr
FROM (SELECT log_partition, subject,
             CASE jsonb_typeof(properties -> %(property)s)
             WHEN 'number' THEN (properties ->> %(property)s)::numeric
             WHEN 'string' THEN
                 CASE WHEN properties ->> %(property)s ~ '^[+-]?[0-9]{1,30}(\.[0-9]{1,30})?$'
                      THEN (properties ->> %(property)s)::numeric END
             END AS mrr
      FROM views.contacts WHERE log_partition = ANY(%(all)s)) n
WHERE c.log_partition = n.log_partition AND c.subject = n.subject
  AND c.log_partition = ANY(%(all)s) AND c.mrr::text IS DISTINCT FROM n.mrr::text"""

FORGET_BARS = "DELETE FROM views.bar_counts WHERE log_partition = ANY(%s)"

COUNT_BARS = """
INSERT INTO views.bar_counts
       (log_partition, kind, stage, health, currency, count, with_mrr, mrr)
SELECT log_partition, kind, coalesce(stage, ''), health, coalesce(currency, ''), count(*),
       count(mrr), trim_scale(coalesce(sum(mrr), 0))
FROM views.contacts WHERE log_partition = ANY(%s) GROUP BY 1, 2, 3, 4, 5"""

# A user's memberships of accounts that are one today are one.
OF_ACCOUNTS = sa.text("""
SELECT currency, sum(mrr) FROM views.contacts a
WHERE a.log_partition = ANY(:all) AND a.mrr IS NOT NULL AND a.subject IN (
    SELECT coalesce(g.survivor, m.account_id) FROM views.memberships m
    LEFT JOIN views.merges g ON g.log_partition = ANY(:all) AND g.loser = m.account_id
    WHERE m.log_partition = :partition AND m.user_id = :user AND m.left_at IS NULL)
GROUP BY currency""")


class MrrSource(enum.StrEnum):
    """Where an MRR is from: the contact's own property, or the accounts that a user belongs to."""

    OWN = "own"
    ACCOUNTS = "accounts"


class Mrr(msgspec.Struct, frozen=True):
    """An exact amount, with the currency as ISO 4217.

    Attributes:
        amount: null: in more currencies than one, which have no sum; `sums` has each.
        currency: null where it is not known, or where there is more than one.
        source: `own`: by the contact's own property, as lists and bars count it. `accounts`: the
            user has none, and these are the accounts' that it belongs to now.
        sums: by currency.
    """

    amount: Decimal | None
    currency: str | None
    source: MrrSource
    sums: list[CurrencySum]


def recount(conn: psycopg.Connection, property: str) -> None:
    """Gives every contact the MRR that a property of it supplies, and counts the bars anew. While
    no other batch is under way."""
    conn.execute(RECOUNT, {"property": property, "all": ALL_PARTITIONS})
    conn.execute(FORGET_BARS, (ALL_PARTITIONS,))
    conn.execute(COUNT_BARS, (ALL_PARTITIONS,))


def mrr_of(
    conn: sa.Connection,
    kind: SubjectKind,
    subject: SubjectId,
    own: tuple[Decimal | None, str | None],
    default_currency: str | None,
) -> Mrr | None:
    """The MRR that is shown of a contact; None: there is none.

    Args:
        own: amount and currency that are kept with it.
        default_currency: of an amount that has none.
    """
    amount, currency = own
    if amount is not None:
        return _mrr([(currency or default_currency, amount)], MrrSource.OWN)
    if kind is SubjectKind.ACCOUNT:
        return None
    return _of_accounts(conn, subject, default_currency)


def _of_accounts(conn: sa.Connection, user: SubjectId, default_currency: str | None) -> Mrr | None:
    asked = {"all": ALL_PARTITIONS, "partition": log_partition(user), "user": user}
    sums: dict[str | None, Decimal] = {}
    for known, amount in conn.execute(OF_ACCOUNTS, asked):
        code = known or default_currency
        sums[code] = EXACT.add(sums.get(code, Decimal(0)), amount)
    return _mrr(list(sums.items()), MrrSource.ACCOUNTS) if sums else None


def _mrr(sums: Sequence[tuple[str | None, Decimal]], source: MrrSource) -> Mrr:
    by_name = sorted(sums, key=lambda one: (one[0] is None, one[0] or ""))
    code, amount = by_name[0]
    is_one = len(by_name) == 1
    return Mrr(
        amount if is_one else None,
        code if is_one else None,
        source,
        [CurrencySum(one, shown(exact)) for one, exact in by_name],
    )
