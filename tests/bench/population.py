"""A made-up population, straight into the read models: as large as asked for, always the same."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import islice
from uuid import UUID

import msgspec
import psycopg

from domain.identity import log_partition
from domain.search.entry import entry

TODAY = datetime(2026, 5, 13, 12, tzinfo=UTC)
SEGMENT = UUID("5e9ae000-0000-4000-8000-000000000010")
"""A segment of users that holds a tenth of them."""

PLANS = ("free",) * 10 + ("pro",) * 5 + ("team",) * 3 + ("enterprise",) * 2
COUNTRIES = tuple(f"country {n:02}" for n in range(40))
STAGES = (r"\N", "trial", "paying", "paying", "churned")
HEALTHS = ("good", "good", "normal", "normal", "bad")
CURRENCIES = ("EUR", "USD", "GBP")
EVENTS = tuple(f"event {n:02}" for n in range(40))
FIRST_NAMES = ("Ada", "Grace", "Edsger", "Barbara", "Alan", "Niklaus", "Tony", "Frances", "John")
LAST_NAMES = ("Lovelace", "Hopper", "Dijkstra", "Liskov", "Turing", "Wirth", "Hoare", "Allen")

# A million rows go in many times faster without indexes, which are made at the end.
SELECT_INDEXES = """
SELECT format('DROP INDEX %I.%I', schemaname, indexname), indexdef FROM pg_indexes
WHERE schemaname = 'views' AND indexname NOT LIKE '%_pkey' AND indexname NOT LIKE '%_key'"""

COUNT_BARS = """
INSERT INTO views.bar_counts
SELECT log_partition, kind, coalesce(stage, ''), health, coalesce(currency, ''), count(*),
       count(mrr), coalesce(sum(mrr), 0)
FROM views.contacts GROUP BY 1, 2, 3, 4, 5"""

MAKE_SEGMENT = """
INSERT INTO views.segments
       (segment, kind, name, condition, version, created_at, created_by, changed_at, changed_by)
VALUES (%(id)s, 'user', 'A tenth', '{"type": "all", "of": []}', 1, now(), %(id)s, now(), %(id)s)"""

MAKE_MEMBERS = """
INSERT INTO views.segment_members (log_partition, segment, subject, ordinal, entered_at)
SELECT log_partition, %s, subject, 1, now() FROM views.contacts
WHERE kind = 'user' AND right(external_id, 1) = '7'"""

COUNT_MEMBERS = """
INSERT INTO views.segment_counts (log_partition, segment, members)
SELECT log_partition, segment, count(*) FROM views.segment_members GROUP BY 1, 2"""


class Size(msgspec.Struct, frozen=True):
    """How many there are of each."""

    users: int = 1_000_000
    accounts: int = 50_000
    days: int = 4_000_000


def populate(url: str, size: Size) -> None:
    """Fills empty read models.

    Args:
        url: of the database, as its owner.
    """
    chance = random.Random(13)
    users = [_id(chance) for _ in range(size.users)]
    accounts = [_id(chance) for _ in range(size.accounts)]
    with psycopg.connect(url, autocommit=True) as conn:
        indexes = conn.execute(SELECT_INDEXES).fetchall()
        with conn.transaction():
            conn.execute("SET LOCAL maintenance_work_mem = '512MB'")
            conn.execute("SET LOCAL session_replication_role = replica")  # asks no foreign key
            for drop, _ in indexes:
                conn.execute(drop)
            _copy(conn, _CONTACTS, _contacts(chance, users, accounts))
            _copy(conn, _ENTRIES, _entries(users, accounts))
            _copy(conn, _SEEN, _seen(chance, {"user": users, "account": accounts}))
            _copy(conn, _MEMBERSHIPS, _memberships(chance, users, accounts))
            _copy(conn, _NAMES, (f"event\t{name}\t{n}" for n, name in enumerate(EVENTS)))
            _copy(conn, _DAYS, _days(chance, users, size.days))
            _copy(conn, _CATALOGUE, _catalogue())
            conn.execute(MAKE_SEGMENT, {"id": SEGMENT})
            conn.execute(MAKE_MEMBERS, (SEGMENT,))
            conn.execute(COUNT_MEMBERS)
            conn.execute(COUNT_BARS)
            for _, definition in indexes:
                conn.execute(definition)
        conn.execute("VACUUM ANALYZE")


_CONTACTS = """
COPY views.contacts (log_partition, subject, kind, identities, properties, registered_at,
                     stage, health, mrr, currency, name, external_id, email, domain) FROM STDIN"""
_ENTRIES = """
COPY views.search_entries (log_partition, subject, kind, name, address, external_id, others, keys)
FROM STDIN"""
_SEEN = "COPY views.seen (log_partition, subject, kind, first_seen, last_seen) FROM STDIN"
_MEMBERSHIPS = """
COPY views.memberships (log_partition, user_id, account_id, joined_at) FROM STDIN"""
_NAMES = "COPY views.names (kind, name, id) FROM STDIN"
_DAYS = """
COPY views.activity_days (log_partition, subject, name_id, day, in_account, count, first_at,
                          last_at) FROM STDIN"""
_CATALOGUE = """
COPY views.catalogue (scope, name, value_type, uses, first_at, last_at) FROM STDIN"""


def _copy(conn: psycopg.Connection, statement: str, lines: Iterable[str]) -> None:
    remaining = iter(lines)
    with conn.cursor().copy(statement) as copy:
        while chunk := list(islice(remaining, 1_000)):
            copy.write("\n".join(chunk) + "\n")


def _id(chance: random.Random) -> UUID:
    return UUID(int=chance.getrandbits(128), version=4)


def _ago(chance: random.Random, days: float) -> str:
    return (TODAY - timedelta(days=chance.random() * days)).isoformat()


def _contacts(chance: random.Random, users: list[UUID], accounts: list[UUID]) -> Iterator[str]:
    for n, id in enumerate(users):
        name = name_of(n)
        identities = [
            {"scheme": "user_id", "value": f"user-{n}"},
            {"scheme": "email", "value": f"user-{n}@example.com"},
        ]
        properties: dict[str, object] = {
            "name": name,
            "plan": PLANS[chance.randrange(20)],
            "country": COUNTRIES[int(chance.random() ** 2 * 40)],
            "seats": chance.randrange(1_000),
            "trial": n % 3 == 0,
            "signed_up": f"{date(2020 + n % 6, n % 12 + 1, n % 28 + 1)}T00:00:00Z",
        }
        yield _contact(chance, id, "user", identities, properties, r"\N", r"\N")
    for n, id in enumerate(accounts):
        identities = [{"scheme": "account_id", "value": f"account-{n}"}]
        mrr, currency = f"{chance.random() * 1_000:.2f}", CURRENCIES[n % 3]
        company: dict[str, object] = {
            "name": f"Company {n}",
            "mrr": float(mrr),
            "currency": currency,
        }
        yield _contact(chance, id, "account", identities, company, mrr, currency)


def name_of(n: int) -> str:
    """The name of the n-th user."""
    return f"{FIRST_NAMES[n % 9]} {LAST_NAMES[n // 9 % 8]} {n}"


def _entries(users: list[UUID], accounts: list[UUID]) -> Iterator[str]:
    for n, id in enumerate(users):
        of_user = entry(name_of(n), f"user-{n}@example.com", f"user-{n}", ())
        yield _entry(id, "user", *of_user)
    for n, id in enumerate(accounts):
        yield _entry(id, "account", *entry(f"Company {n}", None, f"account-{n}", ()))


def _entry(id: UUID, kind: str, *entry: object) -> str:
    *texts, keys = entry
    listed = ",".join(map(str, keys if isinstance(keys, list) else ()))
    return "\t".join((str(log_partition(id)), str(id), kind, *map(str, texts), f"{{{listed}}}"))


def _seen(chance: random.Random, contacts: dict[str, list[UUID]]) -> Iterator[str]:
    for kind, subjects in contacts.items():
        for id in subjects:
            yield f"{log_partition(id)}\t{id}\t{kind}\t{_ago(chance, 400)}\t{_ago(chance, 120)}"


def _contact(
    chance: random.Random,
    id: UUID,
    kind: str,
    identities: list[dict[str, str]],
    properties: dict[str, object],
    mrr: str,
    currency: str,
) -> str:
    called = {one["scheme"]: one["value"] for one in identities}
    return "\t".join(
        (
            str(log_partition(id)),
            str(id),
            kind,
            json.dumps(identities),
            json.dumps(properties),
            _ago(chance, 400),
            STAGES[chance.randrange(5)],
            HEALTHS[chance.randrange(5)],
            mrr,
            currency,
            str(properties["name"]),
            called.get("user_id") or called["account_id"],
            called.get("email", r"\N"),
            r"\N",
        )
    )


def _memberships(chance: random.Random, users: list[UUID], accounts: list[UUID]) -> Iterator[str]:
    for id in users if accounts else ():
        account = accounts[chance.randrange(len(accounts))]
        yield f"{log_partition(id)}\t{id}\t{account}\t{_ago(chance, 400)}"


def _days(chance: random.Random, users: list[UUID], wanted: int) -> Iterator[str]:
    """As many for each user, each of another event on another day."""
    first = TODAY.date()
    for n, id in enumerate(users):
        partition = log_partition(id)
        many = wanted * (n + 1) // len(users) - wanted * n // len(users)
        start = chance.randrange(1 << 20)
        for k in range(many):
            day = first - timedelta(days=(start // 7 + k * 11) % 90)
            name, count = (start + k) % len(EVENTS), start % 4 + 1
            yield f"{partition}\t{id}\t{name}\t{day}\tf\t{count}\t{day}\t{day}"


def _catalogue() -> Iterator[str]:
    stamp = TODAY.isoformat()
    types = {
        "user.property": {
            "name": "string",
            "plan": "string",
            "country": "string",
            "seats": "number",
            "trial": "boolean",
            "signed_up": "date",
        },
        "account.property": {"name": "string", "mrr": "number", "currency": "string"},
    }
    for scope, properties in types.items():
        for name, type in properties.items():
            yield f"{scope}\t{name}\t{type}\t1000\t{stamp}\t{stamp}"
    for name in EVENTS:
        yield f"event\t{name}\t\\N\t1000\t{stamp}\t{stamp}"
