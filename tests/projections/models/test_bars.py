"""Bars: at any time what a recount says, exact to the last digit."""

from __future__ import annotations

import math
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC
from decimal import Decimal
from fractions import Fraction

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from domain.calendar import Moment
from domain.commands import Alias, Change, Command, Join, Track
from domain.identity import SubjectId, SubjectKind, log_partition
from infra.bootstrap.annals import Annals
from infra.settings import Settings
from projections.conditions.selection import Selection
from projections.kernel.tables import contacts
from projections.models.bars import amount, currency
from projections.models.contacts import _add, _see, _Sight
from projections.projector.pace import Pace
from projections.queries.bars import Bars, bars_of, bars_of_all, shown
from projections.queries.contact_list import list_contacts
from projections.queries.contact_view import view
from tests.infra.erasures import erase
from tests.projections.read_models import (
    NOON,
    account,
    drain,
    empty,
    event,
    found,
    owner,
    project,
    user,
    write,
)

AMOUNTS = [0, 1, 19.99, 0.1, -3.5, 1e22, 5e-324, 2**63 - 1, "12.50", "-7", "abc", None]
CURRENCIES = ["EUR", "usd", "euros", "", None]


def kept(annals: Annals, kind: SubjectKind) -> Bars:
    with annals.queries.connect() as conn:
        return bars_of_all(conn, kind)


def recounted(annals: Annals, kind: SubjectKind) -> Bars:
    with annals.queries.connect() as conn:
        return bars_of(conn, [contacts.c.kind == kind.value])


users = st.sampled_from(["u1", "u2", "u3", "u4"]).map(user)
accounts = st.sampled_from(["a1", "a2", "a3"]).map(account)
values = st.fixed_dictionaries(
    {}, optional={"mrr": st.sampled_from(AMOUNTS), "currency": st.sampled_from(CURRENCIES)}
)
commands: st.SearchStrategy[Command] = st.one_of(
    st.builds(Change, st.just(SubjectKind.USER), users, values, st.just(NOON)),
    st.builds(Change, st.just(SubjectKind.ACCOUNT), accounts, values, st.just(NOON)),
    st.builds(Join, users, accounts, values, st.just({}), st.just(NOON)),
    st.builds(Track, users, accounts | st.just(()), st.just(event("login")), st.just(NOON)),
    st.builds(Alias, users, users, st.just(NOON)),
)


def test_kept_bars_are_what_a_recount_says_after_every_batch(
    annals: Annals, database_url: str
) -> None:
    @given(
        st.lists(st.tuples(commands, st.sampled_from(["", "", "project", "erase"])), max_size=25)
    )
    def whatever_happens(history: list[tuple[Command, str]]) -> None:
        empty(database_url)
        worker = annals.projector()
        worker._pace = Pace(3)
        for command, then in history:
            write(annals, command)
            if then:
                drain(worker)
            if then == "erase" and isinstance(command, Change):
                subject = found(annals, command.identities)
                erase(annals, subject, kind=command.kind)
                worker.step()
            for kind in SubjectKind:
                assert kept(annals, kind) == recounted(annals, kind)
        worker.release()
        project(annals)
        for kind in SubjectKind:
            assert kept(annals, kind) == recounted(annals, kind)
            with annals.queries.connect() as conn:
                stored = conn.scalars(
                    sa.select(contacts.c.properties).where(contacts.c.kind == kind.value)
                ).all()
            assert kept(annals, kind).total == len(stored)
            exact = sum(Fraction(amount(properties.get("mrr")) or 0) for properties in stored)
            sums = [total for health in kept(annals, kind).health for total in health.mrr]
            assert sum(Fraction(item.amount) for item in sums) == exact

    whatever_happens()


def test_of_two_workers_that_meet_an_account_first_one_alone_counts_it(
    annals: Annals, database_url: str
) -> None:
    unseen = {SubjectId(uuid.uuid4()): "account" for _ in range(3)}
    sights = sorted(_Sight(log_partition(id), id.bytes, kind) for id, kind in unseen.items())
    with (
        owner(database_url) as holder,
        owner(database_url) as other,
        ThreadPoolExecutor(1) as threads,
    ):
        with holder.transaction():
            assert _see(holder, sights) == unseen
            _add(holder, unseen)
            second = threads.submit(_see, other, sights)
            waiting = "SELECT FROM pg_stat_activity WHERE pid = %s AND wait_event_type = 'Lock'"
            while not holder.execute(waiting, (other.info.backend_pid,)).fetchall():
                assert not second.done()
        assert second.result() == {}


def test_stages_are_counted_with_their_healths_and_no_stage_comes_last(
    annals: Annals, database_url: str
) -> None:
    for n in range(6):
        write(annals, Change(SubjectKind.USER, user(f"u{n}"), {"mrr": n, "currency": "EUR"}, NOON))
    project(annals)
    with owner(database_url) as conn:
        conn.execute(
            "UPDATE views.contacts SET stage = CASE WHEN mrr < 4 THEN 'trial' END,"
            " health = CASE WHEN mrr < 2 THEN 'bad' ELSE 'good' END"
        )
    bars = recounted(annals, SubjectKind.USER)
    assert [
        (stage.stage, stage.count, stage.good, stage.normal, stage.bad) for stage in bars.stages
    ] == [
        ("trial", 4, 2, 0, 2),
        (None, 2, 2, 0, 0),
    ]
    assert [
        (health.health, health.count, [total.amount for total in health.mrr])
        for health in bars.health
    ] == [
        ("good", 4, ["14"]),
        ("normal", 0, []),
        ("bad", 2, ["1"]),
    ]


def test_the_property_that_supplies_mrr_is_the_settings(annals: Annals) -> None:
    write(annals, Change(SubjectKind.USER, user("u1"), {"mrr": 1, "revenue": "2.50"}, NOON))
    settings = Settings(data=annals.settings.data, mrr_property="revenue")
    other = Annals(
        **{name: getattr(annals, name) for name in annals.__dataclass_fields__}
        | {"settings": settings}
    )
    project(other)
    [good, normal, bad] = kept(annals, SubjectKind.USER).health
    assert (good.mrr, bad.mrr) == ([], [])
    assert [(total.currency, total.amount) for total in normal.mrr] == [(None, "2.5")]


@given(st.floats(allow_nan=False, allow_infinity=False) | st.integers() | st.decimals(-99, 99))
def test_an_amount_is_exact_and_shown_in_plain_digits(value: float | Decimal) -> None:
    exact = amount(value) if not isinstance(value, Decimal) else value
    assert exact is not None
    text = shown(exact)
    assert Decimal(text) == exact
    assert "E" not in text.upper()


@pytest.mark.parametrize(
    "value", [True, "", "1e5", " 1", "1,5", "NaN", "٣", "1" * 31, ["1"], None, "0x1"]
)
def test_what_is_no_plain_number_is_no_amount(value: object) -> None:
    assert amount(value) is None


@pytest.mark.parametrize(("value", "code"), [("eur", "EUR"), ("euro", None), ("éur", None)])
def test_a_currency_is_three_letters(value: str, code: str | None) -> None:
    assert currency(value) == code
    assert currency(math.pi) is None


@pytest.mark.parametrize("sent", [12.5, "12.50", 0, "abc", None])
def test_the_360_view_the_list_and_the_bars_show_the_same_mrr(annals: Annals, sent: object) -> None:
    values = {"mrr": sent, "currency": "eur"}
    write(annals, Change(SubjectKind.ACCOUNT, account("a"), values, NOON))
    project(annals)
    kind, subject = SubjectKind.ACCOUNT, found(annals, account("a"))
    with annals.queries.connect() as conn:
        whole = view(conn, kind, subject, renewal_property="renewal")
        page = list_contacts(
            conn, Selection(kind), Moment(NOON, UTC), sort="mrr", cursor=None, limit=1
        )
    [normal] = [health.mrr for health in kept(annals, kind).health if health.health == "normal"]
    amounts = [Decimal(total.amount) for total in normal]
    exact = amount(sent)
    assert amounts == ([] if exact is None else [exact])
    assert page.items[0].mrr == exact
    assert (None if whole.mrr is None else (whole.mrr.amount, whole.mrr.currency)) == (
        None if exact is None else (exact, "EUR")
    )
