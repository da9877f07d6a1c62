"""Lists of a search: the best first, page by page, as plain Python finds and ranks them."""

from __future__ import annotations

from datetime import UTC, timedelta
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.activity import Activity, ActivityKind
from domain.calendar import Moment
from domain.commands import Alias, Change, Track
from domain.conditions.language import Is, PropertyIs
from domain.errors import InvalidInput
from domain.identity import Identity, Scheme, SubjectKind
from domain.search.entry import SearchEntry, entry
from domain.search.question import rank, search_of
from infra.bootstrap.annals import Annals
from projections.conditions.selection import Selection
from projections.kernel.paging import encoded
from projections.queries import ranking
from projections.queries.bars import bars
from projections.queries.contact_list import ContactItem, list_contacts
from tests.domain.search.finding import finds
from tests.examples import examples
from tests.infra.plans import nodes, plans
from tests.projections.read_models import NOON, account, empty, found, owner, project, user, write

USER = SubjectKind.USER
NOW = Moment(NOON, UTC)


def people(annals: Annals, *names: str) -> None:
    """Users u0, u1 and so on; the later in the list, the later seen."""
    for n, name in enumerate(names):
        at = NOON + timedelta(minutes=n)
        seen = Track(user(f"u{n}"), (), (Activity(ActivityKind.EVENT, "came", {}),), at)
        write(annals, Change(USER, user(f"u{n}"), {"name": name, "n": n}, NOON), seen)
    project(annals)


def pages(
    annals: Annals, selection: Selection, limit: int, sort: str | None = None
) -> list[ContactItem]:
    """All pages; bars and totals have to agree."""
    items: list[ContactItem] = []
    cursor: str | None = None
    while True:
        with annals.queries.connect() as conn:
            page = list_contacts(
                conn, selection, NOW, sort=sort, cursor=cursor, limit=limit, with_total=True
            )
        assert len(page.items) == limit or page.next is None
        items += page.items
        cursor = page.next
        if cursor is None:
            assert page.total == len(items) == len({item.id for item in items})
            with annals.queries.connect() as conn:
                assert bars(conn, selection, NOW).total == len(items)
            return items


def names(annals: Annals, search: str, limit: int = 50, **asked: object) -> list[str | None]:
    return [item.name for item in pages(annals, Selection(USER, search=search), limit)]


def entry_of(item: ContactItem) -> SearchEntry:
    return entry(item.name, item.email, item.external_id, ())


syllables = st.sampled_from(
    ["jo", "hn", "ş", "ü", "an", "na", "s", "o'", "-", "1", "22", "é", "日本"]
)
called = st.lists(st.lists(syllables, min_size=1, max_size=4).map("".join), min_size=1, max_size=3)
typed = st.lists(st.lists(syllables, min_size=1, max_size=3).map("".join), max_size=2).map(" ".join)


@pytest.mark.parametrize("most", [1_000, 3])
def test_postgresql_finds_what_plain_python_finds_and_ranks_it_so(
    annals: Annals, database_url: str, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(ranking, "MAX_RANKED", most)

    @settings(max_examples=examples(12))
    @given(
        st.lists(called.map(" ".join), min_size=1, max_size=12),
        st.lists(typed, min_size=6),
        st.integers(1, 4),
    )
    def whoever_there_is(all_names: list[str], searches: list[str], limit: int) -> None:
        empty(database_url)
        people(annals, *all_names)
        everybody = pages(annals, Selection(USER), 50)
        for text in [*searches, *all_names]:
            items = pages(annals, Selection(USER, search=text), limit)
            search = search_of(text)
            if search is None:
                assert items == everybody
                continue
            entries = {item.id: entry_of(item) for item in everybody}
            assert {item.id for item in items} == {
                item.id for item in everybody if finds(search, entries[item.id], item.id)
            }
            if most > len(items):
                seen = {item.id: -n for n, item in enumerate(reversed(everybody))}
                expected = sorted(
                    items,
                    key=lambda item: (rank(search, entries[item.id], item.id), seen[item.id]),
                )
                assert [item.name for item in items] == [item.name for item in expected]

    whoever_there_is()


def test_exact_answers_come_first_and_then_the_last_seen(annals: Annals) -> None:
    people(annals, "Mara", "Mara Jade", "Jo Mara", "Mira", "Mara", "Mara Blue")
    assert names(annals, "mara") == ["Mara", "Mara", "Mara Blue", "Mara Jade", "Jo Mara", "Mira"]
    assert [i.external_id for i in pages(annals, Selection(USER, search="mara"), 2)][:2] == [
        "u4",
        "u0",
    ]


def test_where_more_answer_than_are_ranked_the_best_still_come_first_and_nobody_is_missing(
    annals: Annals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranking, "MAX_RANKED", 5)
    people(
        annals,
        *(f"Mara {n}" for n in range(8)),
        *(f"Jo Mara {n}" for n in range(8)),
        "Mira",
        "Mara",
    )
    for limit in (1, 4, 50):
        assert names(annals, "mara", limit) == [
            "Mara",
            *(f"Mara {n}" for n in range(7, -1, -1)),
            *(f"Jo Mara {n}" for n in range(7, -1, -1)),
            "Mira",
        ]  # fmt: skip


def test_a_list_goes_on_as_it_began_though_more_answer_by_now(
    annals: Annals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranking, "MAX_RANKED", 4)
    people(annals, *(f"Mara {n}" for n in range(4)))
    selection = Selection(USER, search="mara")
    with annals.queries.connect() as conn:
        page = list_contacts(conn, selection, NOW, sort=None, cursor=None, limit=2)
    write(annals, *(Change(USER, user(f"x{n}"), {"name": f"Mara {n}x"}, NOON) for n in range(3)))
    project(annals)
    with annals.queries.connect() as conn:
        rest = list_contacts(conn, selection, NOW, sort=None, cursor=page.next, limit=9)
    seen = [item.name for item in (*page.items, *rest.items)]
    assert seen[:4] == ["Mara 3", "Mara 2", "Mara 1", "Mara 0"]
    assert len(seen) == len(set(seen))


def test_a_sort_that_is_asked_for_holds_in_a_search_too(annals: Annals) -> None:
    people(annals, "Mira", "Mara", "Jo Mara")
    selection = Selection(USER, search="mara")
    assert [i.name for i in pages(annals, selection, 1, "name")] == ["Jo Mara", "Mara", "Mira"]
    assert [i.name for i in pages(annals, selection, 1, "-last_seen")] == [
        "Jo Mara",
        "Mara",
        "Mira",
    ]


def test_segment_and_filter_narrow_what_is_ranked(
    annals: Annals, monkeypatch: pytest.MonkeyPatch
) -> None:
    people(annals, *("Mara" for _ in range(6)))
    one = Selection(USER, filter=PropertyIs("n", Is(2)), search="mara")
    assert [item.external_id for item in pages(annals, one, 2)] == ["u2"]
    monkeypatch.setattr(ranking, "MAX_RANKED", 0)
    assert [item.external_id for item in pages(annals, one, 2)] == ["u2"]


def test_an_annals_id_is_found_of_who_was_merged_too(annals: Annals) -> None:
    people(annals, "Mara", "Jo")
    first, second = found(annals, user("u0")), found(annals, user("u1"))
    write(annals, Alias(user("u0"), user("u1"), NOON))
    project(annals)
    survivor = found(annals, user("u0"))
    for id in (first, second):
        for text in (str(id), str(id).upper(), f" {id.hex} ", f"{{{id}}}"):
            items = pages(annals, Selection(USER, search=text), 5)
            assert [item.id for item in items] == [survivor]


def test_every_identity_of_a_contact_finds_it(annals: Annals) -> None:
    both = (Identity(Scheme.USER_ID, "ada"), Identity(Scheme.EMAIL, "ada@old.example"))
    write(annals, Change(USER, both, {"name": "Ada"}, NOON))
    write(annals, Change(USER, (both[0], Identity(Scheme.EMAIL, "ada@new.example")), {}, NOON))
    project(annals)
    for text in ("ada@old.example", "ADA@new.example", "ada", "old.example"):
        assert names(annals, text) == ["Ada"]
    kind = SubjectKind.ACCOUNT
    write(annals, Change(kind, account("acme.example"), {"name": "Acmé"}, NOON))
    project(annals)
    for text in ("acme", "ACME.example", "amce", "acme.exampel"):
        items = pages(annals, Selection(kind, search=text), 5)
        assert [item.domain for item in items] == ["acme.example"]


@pytest.mark.parametrize(
    "text", ["@", "---", "'", "\\", "%", "_", "\x00", "\ud800", "§", "🙂", "a" * 200]
)
def test_a_search_without_a_word_is_answered(annals: Annals, text: str) -> None:
    people(annals, "Mara", "--- so ---")
    expected = {
        "---": ["--- so ---"],
        "\x00": ["--- so ---", "Mara"],
        "\ud800": ["--- so ---", "Mara"],
    }
    assert names(annals, text) == expected.get(text, [])


def test_a_search_that_is_too_long_is_refused(annals: Annals) -> None:
    with annals.queries.connect() as conn, pytest.raises(InvalidInput) as refusal:
        list_contacts(conn, Selection(USER, search="a" * 201), NOW, sort=None, cursor=None, limit=2)
    assert refusal.value.pointer == "/search"


@pytest.mark.parametrize(
    "keys",
    [
        (9, True, 0, 0, None),
        (0, True, 2**62, -9, None),
        (-1, False, 0, 0, NOON),
        (1, False, 0, 0, None),
    ],
)
def test_no_cursor_of_a_search_makes_the_database_fail(
    annals: Annals, keys: tuple[object, ...]
) -> None:
    people(annals, "Mara")
    cursor = encoded("user:search", *keys, UUID(int=1))
    with annals.queries.connect() as conn:
        page = list_contacts(
            conn, Selection(USER, search="mara"), NOW, sort=None, cursor=cursor, limit=2
        )
    assert page.next is None
    other = encoded("user:-last_seen", NOON, UUID(int=1))
    with annals.queries.connect() as conn, pytest.raises(InvalidInput):
        list_contacts(conn, Selection(USER, search="mara"), NOW, sort=None, cursor=other, limit=2)


@pytest.mark.parametrize(
    "text",
    [
        "user-123@example.com",
        "user-123",
        "Grahma",
        "jhon smtih",
        "name 12",
        "49cd1461-1ff2-4d47-aa08-952c6a31a1a8",
    ],
)
def test_a_search_reads_no_table_whole(annals: Annals, database_url: str, text: str) -> None:
    with owner(database_url) as conn:
        conn.execute(
            "INSERT INTO views.contacts (log_partition, subject, kind)"
            " SELECT n % 256, gen_random_uuid(), 'user' FROM generate_series(1, 20000) n"
        )
        conn.execute(
            "INSERT INTO views.search_entries SELECT log_partition, subject, kind,"
            " 'name ' || n, 'user-' || n || '@example.com', 'user-' || n, '', ARRAY[n]"
            " FROM (SELECT *, row_number() OVER ()::integer AS n FROM views.contacts)"
        )
        conn.execute("VACUUM ANALYZE views.contacts, views.search_entries")
    with annals.queries.connect() as conn:
        shown = plans(
            conn,
            lambda: list_contacts(
                conn, Selection(USER, search=text), NOW, sort=None, cursor=None, limit=50
            ),
            about="search_entries",
        )
    assert shown
    scans = {
        node["Node Type"]
        for plan in shown
        for node in nodes(plan)
        if node.get("Relation Name") == "search_entries"
    }
    assert scans <= {"Bitmap Heap Scan", "Index Scan"}
