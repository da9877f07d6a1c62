"""Quick filters: what is frequent, counted exactly; what may be a name, never."""

from __future__ import annotations

import threading
from collections import Counter
from datetime import UTC
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.commands import Change
from domain.identity import SubjectKind
from infra.bootstrap.annals import Annals
from projections.models import filters as module
from projections.models.filters import FEWEST, _refresh, refresh, run
from projections.queries.filters import Filters, filters
from tests.examples import examples
from tests.infra.erasures import erase
from tests.projections.read_models import NOON, account, empty, found, owner, project, user, write

USER = SubjectKind.USER


def kept(annals: Annals, kind: SubjectKind = USER) -> Filters:
    with annals.queries.connect() as conn:
        return filters(conn, kind)


def of(found: Filters, name: str) -> Any:
    [property] = [property for property in found.properties if property.name == name]
    return property


def counts(found: Filters, name: str) -> dict[str | bool, int]:
    return {value.value: value.count for value in of(found, name).values}


def people(annals: Annals, *values: dict[str, Any]) -> None:
    write(annals, *(Change(USER, user(f"u{n}"), value, NOON) for n, value in enumerate(values)))
    project(annals)


words = st.sampled_from(["pro", "free", "", "é", "日本", "a\\b", 'say "x"', "{}", "null"])
lives = st.fixed_dictionaries(
    {},
    optional={
        "plan": words,
        "trial": st.booleans(),
        "tags": st.lists(words, max_size=4),
        "seats": st.integers(-3, 3) | st.floats(-2, 2),
        "born": st.sampled_from(["2001-01-01", "1999-12-31T23:00:00.5Z", "2001-01-01T00:00:00Z"]),
    },
)


@pytest.mark.parametrize("sample", [1, 50_000])
def test_values_are_those_of_three_and_more_with_exact_counts(
    annals: Annals, database_url: str, monkeypatch: pytest.MonkeyPatch, sample: int
) -> None:
    monkeypatch.setattr(module, "SAMPLE", sample)

    @settings(max_examples=examples(15))
    @given(st.lists(lives, max_size=30))
    def whoever_there_is(values: list[dict[str, Any]]) -> None:
        empty(database_url)
        with owner(database_url) as conn:
            conn.execute("TRUNCATE views.filter_states, views.filter_values, views.filter_ranges")
        if not values:
            return
        people(annals, *values)
        refresh(annals.views, lambda: UTC)
        shown = kept(annals)
        for name in ("plan", "trial", "tags"):
            expected = Counter[str | bool]()
            for properties in values:
                value = properties.get(name)
                expected.update(
                    set(value) if isinstance(value, list) else () if value is None else [value]
                )
            frequent = {value: n for value, n in expected.items() if n >= FEWEST}
            if not any(name in value for value in values):
                assert name not in {property.name for property in shown.properties}
            elif sample == 1:
                assert counts(shown, name).items() <= frequent.items()
            else:
                assert counts(shown, name) == frequent
        seats = [value["seats"] for value in values if "seats" in value]
        if seats:
            assert (of(shown, "seats").low, of(shown, "seats").high) == (min(seats), max(seats))
        if any("born" in value for value in values):
            assert of(shown, "born").low <= of(shown, "born").high

    whoever_there_is()


def test_an_erasure_takes_out_what_became_rare_before_anything_is_counted_again(
    annals: Annals,
) -> None:
    people(annals, *({"name": "Ada", "plan": "pro", "age": n} for n in range(3)), {"plan": "pro"})
    refresh(annals.views, lambda: UTC)
    assert counts(kept(annals), "name") == {"Ada": 3}
    assert (of(kept(annals), "age").low, of(kept(annals), "age").high) == (0, 2)
    gone = found(annals, user("u2"))
    erase(annals, gone)
    project(annals)
    assert counts(kept(annals), "name") == {}
    assert counts(kept(annals), "plan") == {"pro": 3}
    assert (of(kept(annals), "age").low, of(kept(annals), "age").high) == (None, None)
    refresh(annals.views, lambda: UTC)
    assert (of(kept(annals), "age").low, of(kept(annals), "age").high) == (0, 1)


def test_what_was_counted_before_an_erasure_is_not_kept_after_it(annals: Annals) -> None:
    people(annals, *({"name": "Ada"} for _ in range(3)))
    refresh(annals.views, lambda: UTC)
    with annals.views.connection() as conn:
        row = conn.execute("SELECT erasures FROM views.filter_states WHERE kind = 'user'")
        before = row.fetchone()[0]
        gone = found(annals, user("u2"))
        erase(annals, gone)
        project(annals)
        conn.execute("UPDATE views.filter_values SET count = 1")
        _refresh(conn, USER, 0, before, UTC)
        assert conn.execute("SELECT count(*) FROM views.filter_values").fetchone() == (0,)
        as_of = conn.execute("SELECT positions FROM views.filter_states WHERE kind = 'user'")
        assert as_of.fetchone() == (0,)


def test_nothing_is_counted_again_until_something_changed(annals: Annals) -> None:
    people(annals, {"plan": "pro"})
    refresh(annals.views, lambda: UTC)
    first = kept(annals).as_of
    assert first is not None
    refresh(annals.views, lambda: UTC)
    assert kept(annals).as_of == first
    assert kept(annals, SubjectKind.ACCOUNT).as_of is not None


def test_users_and_accounts_have_filters_of_their_own(annals: Annals) -> None:
    people(annals, *({"plan": "pro"} for _ in range(3)))
    for n in range(4):
        write(annals, Change(SubjectKind.ACCOUNT, account(f"a{n}"), {"plan": "team"}, NOON))
    project(annals)
    refresh(annals.views, lambda: UTC)
    assert counts(kept(annals), "plan") == {"pro": 3}
    accounts = kept(annals, SubjectKind.ACCOUNT)
    assert counts(accounts, "plan") == {"team": 4}
    assert [(stage.stage, stage.count) for stage in accounts.stages] == [(None, 4)]
    assert [health.count for health in accounts.health] == [0, 4, 0]


class LastWait:
    """The wait of a worker that is told to end meanwhile."""

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop

    def wait(self, seconds: float) -> None:
        self._stop.set()

    def moved(self) -> None: ...

    def begins(self, seconds: float) -> None: ...


def test_a_worker_that_is_told_to_end_counts_nothing_more(annals: Annals) -> None:
    people(annals, *[{"plan": "pro"}] * FEWEST)
    stop = threading.Event()
    run(annals.views, lambda: UTC, stop, LastWait(stop))
    assert kept(annals).as_of is None
    refresh(annals.views, lambda: UTC)
    assert counts(kept(annals), "plan") == {"pro": FEWEST}
