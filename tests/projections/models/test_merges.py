"""Merged subjects show as one, whichever of their partitions is projected first."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from itertools import permutations

import pytest

from domain.commands import Alias, Change, Join, Leave, Track
from domain.identity import Identity, SubjectId, SubjectKind, log_partition
from infra.bootstrap.annals import Annals
from projections.queries.contact_view import streams_of, survivor_of
from tests.infra.erasures import erase
from tests.projections.read_models import (
    NOON,
    account,
    dump,
    event,
    forget_read_models,
    found,
    owner,
    parked,
    project,
    user,
    write,
)


def project_in_order(annals: Annals, url: str, subjects: Sequence[SubjectId]) -> None:
    """Projects one subject's partition after the other, and then all the rest."""
    forget_read_models(url)
    for subject in (*subjects, None):
        with owner(url) as conn:
            conn.execute(
                "INSERT INTO views.checkpoints (projector, log_partition)"
                " SELECT 'main', p FROM generate_series(0, 255) p ON CONFLICT DO NOTHING"
            )
            conn.execute(
                "UPDATE views.checkpoints SET leased_until = CASE WHEN log_partition = %s OR %s"
                " THEN '-infinity'::timestamptz ELSE 'infinity' END",
                (log_partition(subject) if subject else 0, subject is None),
            )
        project(annals)
    assert parked(url) == []


def begun(annals: Annals, *identities: Sequence[Identity]) -> list[SubjectId]:
    return [found(annals, identity) for identity in identities]


def test_a_chain_of_merged_users_ends_in_the_last(annals: Annals, database_url: str) -> None:
    for n, name in enumerate("abc"):
        at = NOON + timedelta(days=n)
        write(annals, Join(user(name), account("acme"), {}, {"role": name}, at))
        write(annals, Track(user(name), account("acme"), event("login"), at))
    a, b, c = begun(annals, user("a"), user("b"), user("c"))
    write(annals, Alias(user("b"), user("a"), NOON), Track(user("a"), (), event("login"), NOON))
    write(annals, Alias(user("c"), user("b"), NOON), Track(user("a"), (), event("login"), NOON))
    dumps = []
    for order in permutations((a, b, c)):
        project_in_order(annals, database_url, order)
        dumps.append(dump(database_url))
        with annals.queries.connect() as conn:
            assert [survivor_of(conn, subject) for subject in (a, b, c)] == [c, c, c]
            assert set(streams_of(conn, c)) == {a, b, c}
    assert all(rows == dumps[0] for rows in dumps)
    assert len(dumps[0]["contacts"]) == 2
    assert len(dumps[0]["memberships"]) == 1


@pytest.mark.parametrize("leaves", [False, True])
def test_a_member_of_merged_accounts_is_shown_alike_in_every_order(
    annals: Annals, database_url: str, leaves: bool
) -> None:
    write(
        annals,
        Join(user("jo"), account("a"), {}, {"role": "owner"}, NOON),
        Join(user("jo"), account("b"), {}, {"role": "guest"}, NOON + timedelta(days=1)),
    )
    jo, a, b = begun(annals, user("jo"), account("a"), account("b"))
    write(annals, Change(SubjectKind.ACCOUNT, account("b") + account("a"), {}, NOON))
    if leaves:
        write(annals, Leave(user("jo"), account("a"), NOON + timedelta(days=2)))
    else:
        write(
            annals, Join(user("jo"), account("a"), {}, {"role": "boss"}, NOON + timedelta(days=1))
        )
    dumps = []
    for order in permutations((jo, a, b)):
        project_in_order(annals, database_url, order)
        dumps.append(dump(database_url))
    assert all(rows == dumps[0] for rows in dumps)
    with owner(database_url) as conn:
        rows = conn.execute("SELECT role, left_at FROM views.memberships").fetchall()
    left = NOON + timedelta(days=2) if leaves else None
    roles = ["guest", "owner"] if leaves else ["boss", "boss"]
    assert sorted(rows) == [(role, left) for role in roles]


def test_a_member_of_an_erased_account_can_be_merged(annals: Annals, database_url: str) -> None:
    write(annals, Join(user("old"), account("acme"), {}, {"role": "owner"}, NOON))
    write(annals, Change(SubjectKind.USER, user("jo"), {}, NOON))
    [acme] = begun(annals, account("acme"))
    erase(annals, acme, kind=SubjectKind.ACCOUNT)
    write(annals, Alias(user("jo"), user("old"), NOON + timedelta(days=1)))
    project(annals)
    with owner(database_url) as conn:
        rows = conn.execute("SELECT user_id, account_id, joined_at FROM views.memberships")
        assert rows.fetchall() == [(found(annals, user("jo")), acme, NOON)]
