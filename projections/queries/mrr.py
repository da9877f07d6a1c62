"""Query: the MRR of a contact: its own, or, for a user without one, that of its accounts."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from decimal import Decimal

import msgspec
import sqlalchemy as sa

from domain.identity import SubjectId, SubjectKind, log_partition
from projections.kernel.merges import ALL_PARTITIONS
from projections.models.bars import EXACT
from projections.queries.bars import CurrencySum, shown

# Memberships of accounts that are one today count once.
OF_ACCOUNTS = sa.text("""
SELECT currency, sum(mrr) FROM views.contacts a
WHERE a.log_partition = ANY(:all) AND a.mrr IS NOT NULL AND a.subject IN (
    SELECT coalesce(g.survivor, m.account_id) FROM views.memberships m
    LEFT JOIN views.merges g ON g.log_partition = ANY(:all) AND g.loser = m.account_id
    WHERE m.log_partition = :partition AND m.user_id = :user AND m.left_at IS NULL)
GROUP BY currency""")


class MrrSource(enum.StrEnum):
    """The source of an MRR: the contact's own property, or the accounts that a user belongs to."""

    OWN = "own"
    ACCOUNTS = "accounts"


class Mrr(msgspec.Struct, frozen=True):
    """An exact amount, with the currency as ISO 4217.

    Attributes:
        amount: null: several currencies, which have no common sum; `sums` has each.
        currency: null: unknown, or several.
        source: `own`: the contact's own property, as lists and bars count it. `accounts`: the user
            has none; the sum is that of its present accounts.
        sums: by currency.
    """

    amount: Decimal | None
    currency: str | None
    source: MrrSource
    sums: list[CurrencySum]


def mrr_of(
    conn: sa.Connection,
    kind: SubjectKind,
    subject: SubjectId,
    own: tuple[Decimal | None, str | None],
    default_currency: str | None,
) -> Mrr | None:
    """The MRR of a contact; None: it has none.

    Args:
        own: stored amount and currency of the contact.
        default_currency: of an amount without one.
    """
    amount, currency = own
    if amount is not None:
        return _mrr([(currency or default_currency, amount)], MrrSource.OWN)
    if kind is SubjectKind.ACCOUNT:
        return None
    return _of_accounts(conn, subject, default_currency)


def _of_accounts(conn: sa.Connection, user: SubjectId, default_currency: str | None) -> Mrr | None:
    params = {"all": ALL_PARTITIONS, "partition": log_partition(user), "user": user}
    sums: dict[str | None, Decimal] = {}
    for known, amount in conn.execute(OF_ACCOUNTS, params):
        code = known or default_currency
        sums[code] = EXACT.add(sums.get(code, Decimal(0)), amount)
    return _mrr(list(sums.items()), MrrSource.ACCOUNTS) if sums else None


def _mrr(sums: Sequence[tuple[str | None, Decimal]], source: MrrSource) -> Mrr:
    by_name = sorted(sums, key=lambda entry: (entry[0] is None, entry[0] or ""))
    code, amount = by_name[0]
    is_one = len(by_name) == 1
    return Mrr(
        amount if is_one else None,
        code if is_one else None,
        source,
        [CurrencySum(code, shown(exact)) for code, exact in by_name],
    )
