"""Settings in the read models: another MRR property, another time zone."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from domain.calendar import Moment, Today
from domain.commands import Change, Join, Leave, Track
from domain.conditions.language import Attribute, AttributeIs, InPeriod
from domain.definitions.types import DefinitionId, Settings
from domain.identity import SubjectKind
from domain.properties import Value
from domain.workspace import editing
from infra.bootstrap.annals import Annals
from infra.write.definition_store import DefinitionStore
from projections.conditions.selection import Selection
from projections.kernel import fences
from projections.models.bars import EXACT, amount
from projections.projector.checkpoints import PROJECTOR
from projections.queries import bars
from projections.queries.bars import CurrencySum
from projections.queries.contact_list import list_contacts
from projections.queries.contact_view import view
from projections.queries.mrr import Mrr, MrrSource
from tests.infra.erasures import erase
from tests.projections.read_models import (
    NOON,
    account,
    drain,
    dump,
    empty,
    event,
    forget_read_models,
    found,
    owner,
    project,
    user,
    write,
)
from tests.projections.segments import EDITOR, define, members, settle

USER, ACCOUNT = SubjectKind


def choose(annals: Annals, settings: Settings) -> None:
    id = DefinitionId(uuid.uuid4())
    annals.definitions.decide(
        lambda state: editing.choose(state, id, settings, EDITOR), datetime.now(UTC)
    )


PLAIN = ("+1.50", "-0", "0.00", "12", "1" * 30)
NOT_PLAIN = ("1e3", " 1", "1 ", "1.", ".5", "", "1\n", "١", "1" * 31, "1.5x")
VALUES: dict[str, st.SearchStrategy[Value]] = {
    "text": st.sampled_from((*PLAIN, *NOT_PLAIN)),
    "number": st.integers(-(10**15), 10**15) | st.floats(allow_nan=False, allow_infinity=False),
    "flag": st.booleans(),
    "list": st.just(["1"]),
}


def test_another_mrr_property_supplies_the_mrr_of_all_and_bars_follow(
    annals: Annals, database_url: str
) -> None:
    secret = annals.secrets.get("definitions")

    @given(
        st.lists(
            st.tuples(
                st.sampled_from(SubjectKind),
                st.fixed_dictionaries({}, optional=VALUES),
                st.sampled_from([None, "EUR", "usd", "euros"]),
            ),
            min_size=1,
            max_size=8,
        ),
        st.lists(st.sampled_from([None, "text", "number", *VALUES]), min_size=1, max_size=3),
    )
    def whatever_was_sent(
        contacts: list[tuple[SubjectKind, dict[str, Value], str | None]],
        chosen: list[str | None],
    ) -> None:
        empty(database_url)
        told = replace(
            annals,
            definitions=DefinitionStore(annals.log, annals.sealer, secret),
            working_definitions=DefinitionStore(annals.working_log, annals.sealer, secret),
        )
        for n, (kind, values, code) in enumerate(contacts):
            traits = values if code is None else values | {"currency": code}
            identity = user(f"u{n}") if kind is USER else account(f"a{n}")
            write(told, Change(kind, identity, traits, NOON))
        projector = told.projector()
        drain(projector)
        for name in chosen:
            choose(told, Settings(mrr_property=name))
            drain(projector)
            with owner(database_url) as conn:
                for properties, kept in conn.execute("SELECT properties, mrr FROM views.contacts"):
                    exact = amount(properties.get(name or "mrr"))
                    assert (kept is None, kept) == (exact is None, exact)
            for kind in SubjectKind:
                bars_agree_with_the_list(told, kind)
        projector.release()
        live = dump(database_url)
        forget_read_models(database_url)
        project(told)
        assert dump(database_url) == live

    whatever_was_sent()


def bars_agree_with_the_list(annals: Annals, kind: SubjectKind) -> None:
    with annals.queries.connect() as conn:
        kept = bars.bars(conn, Selection(kind), Moment(NOON, UTC), currency="JPY")
        page = list_contacts(
            conn,
            Selection(kind),
            Moment(NOON, UTC),
            sort="mrr",
            cursor=None,
            limit=50,
            currency="JPY",
        )
    sums: dict[str | None, Decimal] = {}
    for item in page.items:
        if item.mrr is not None:
            sums[item.currency] = EXACT.add(sums.get(item.currency, Decimal(0)), item.mrr)
    assert None not in sums
    shown = {
        total.currency: Decimal(total.amount) for health in kept.health for total in health.mrr
    }
    assert shown == sums
    assert sum(health.count for health in kept.health) == len(page.items)


def test_what_is_chosen_holds_at_once_here_and_in_other_processes(
    open_annals: Callable[[], Annals],
) -> None:
    here, there = open_annals(), open_annals()
    assert here.workspace().currency is there.workspace_now().currency is None
    choose(here, Settings(currency="EUR"))
    assert here.workspace().currency == there.workspace_now().currency == "EUR"


def test_settings_wait_for_batches_under_way_that_may_know_the_old_ones(
    annals: Annals, database_url: str
) -> None:
    """Or contacts that such a batch writes would have been passed over already."""
    choose(annals, Settings())
    project(annals)
    choose(annals, Settings(mrr_property="revenue"))
    waiting = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND"
    waiting += " wait_event_type = 'Lock'"
    with owner(database_url) as conn, ThreadPoolExecutor(1) as threads:
        with conn.transaction():
            fences.share(conn, PROJECTOR)
            projecting = threads.submit(project, annals)
            while not conn.execute(waiting).fetchall():
                assert not projecting.done()
        projecting.result()


def test_what_was_recorded_while_a_time_zone_held_counts_on_its_days(
    annals: Annals, database_url: str
) -> None:
    late = datetime(2024, 5, 13, 23, 30, tzinfo=UTC)

    def track() -> None:
        write(annals, Track(user("u"), (), event("login"), late))

    def days() -> dict[int, int]:
        with owner(database_url) as conn:
            rows = conn.execute("SELECT day, count FROM views.activity_days").fetchall()
            return {day.day: count for day, count in rows}

    track()
    choose(annals, Settings(time_zone="Europe/Brussels"))
    track()
    track()
    choose(annals, Settings(time_zone=None))
    track()
    project(annals)
    assert days() == {13: 2, 14: 2}
    live = dump(database_url)
    forget_read_models(database_url)
    project(annals)
    assert dump(database_url) == live


def test_another_time_zone_has_what_asks_the_calendar_decided_anew(annals: Annals) -> None:
    now = datetime(2024, 5, 13, 23, 30, tzinfo=UTC)
    decider = annals.decider(lambda: now)
    write(annals, Track(user("u"), (), event("login"), now - timedelta(hours=2)))
    today = define(annals, AttributeIs(Attribute.LAST_SEEN, InPeriod(Today())))
    settle(annals, decider)
    subject = found(annals, user("u"))
    assert members(annals, today) == {subject}
    choose(annals, Settings(time_zone="Europe/Brussels"))
    settle(annals, decider)
    assert members(annals, today) == set()
    choose(annals, Settings(time_zone="America/Lima"))
    settle(annals, decider)
    assert members(annals, today) == {subject}


def mrr(annals: Annals, name: str, currency: str | None = None) -> Mrr | None:
    project(annals)
    subject = found(annals, user(name))
    with annals.queries.connect() as conn:
        return view(conn, USER, subject, renewal_property="r", currency=currency).mrr


def of_accounts(*sums: tuple[str | None, str]) -> Mrr:
    shown = [CurrencySum(code, amount) for code, amount in sums]
    if len(sums) > 1:
        return Mrr(None, None, MrrSource.ACCOUNTS, shown)
    return Mrr(Decimal(sums[0][1]), sums[0][0], MrrSource.ACCOUNTS, shown)


def test_a_user_has_the_mrr_of_the_accounts_that_it_belongs_to_now(annals: Annals) -> None:
    for name, value, code in (("a", 10.1, "EUR"), ("b", 0.2, "EUR"), ("c", 5, "USD")):
        write(annals, Change(ACCOUNT, account(name), {"mrr": value, "currency": code}, NOON))
        write(annals, Join(user("u"), account(name), {}, {}, NOON))
    write(annals, Join(user("u"), account("without"), {}, {}, NOON))
    assert mrr(annals, "u") == of_accounts(("EUR", "10.3"), ("USD", "5"))
    write(annals, Leave(user("u"), account("c"), NOON))
    assert mrr(annals, "u") == of_accounts(("EUR", "10.3"))
    write(annals, Change(ACCOUNT, account("b"), {"currency": None}, NOON))
    assert mrr(annals, "u") == of_accounts(("EUR", "10.1"), (None, "0.2"))
    assert mrr(annals, "u", "EUR") == of_accounts(("EUR", "10.3"))
    assert mrr(annals, "u", "USD") == of_accounts(("EUR", "10.1"), ("USD", "0.2"))
    write(annals, Change(USER, user("u"), {"mrr": 0}, NOON))
    own = Mrr(Decimal(0), None, MrrSource.OWN, [CurrencySum(None, "0")])
    assert mrr(annals, "u") == own
    write(annals, Change(USER, user("u"), {"mrr": None}, NOON))
    assert mrr(annals, "u", "EUR") == of_accounts(("EUR", "10.3"))


def test_accounts_that_turned_out_to_be_one_count_once_and_an_erased_one_not_at_all(
    annals: Annals,
) -> None:
    for name in ("a", "b"):
        write(annals, Change(ACCOUNT, account(name), {"mrr": 7}, NOON))
        write(annals, Join(user("u"), account(name), {}, {}, NOON))
        write(annals, Join(user(f"of {name}"), account(name), {}, {}, NOON))
    write(annals, Join(user("u"), account("a") + account("b.example"), {}, {}, NOON))
    write(annals, Change(ACCOUNT, account("b") + account("b.example"), {}, NOON))
    for name in ("u", "of a", "of b"):
        assert mrr(annals, name) == of_accounts((None, "7"))
    erase(annals, found(annals, account("a")), kind=ACCOUNT)
    assert mrr(annals, "u") is None
