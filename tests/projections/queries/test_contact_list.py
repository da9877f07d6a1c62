"""Lists: every order by every property, page by page, is what sorting by hand gives."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import psycopg
import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.calendar import Moment
from domain.commands import Change
from domain.conditions.language import AtLeast, InSegment, Is, IsSet, Not, OneOf, PropertyIs
from domain.errors import InvalidInput
from domain.identity import SubjectKind
from infra.bootstrap.annals import Annals
from projections.conditions import selection as selection_module
from projections.conditions.selection import Selection, chosen
from projections.kernel.paging import encoded
from projections.kernel.tables import contacts
from projections.queries.bars import bars
from projections.queries.contact_list import ContactItem, list_contacts
from tests.examples import examples
from tests.infra.plans import nodes, plans
from tests.projections.read_models import NOON, empty, owner, project, user, write
from tests.projections.segments import define, settle

USER = SubjectKind.USER
NOW = Moment(NOON, UTC)
SEGMENT = UUID(int=7)
SIZED = PropertyIs("size", IsSet())


def listed(annals: Annals, selection: Selection, sort: str, limit: int = 3) -> list[ContactItem]:
    """All pages, whose totals have to agree."""
    items: list[ContactItem] = []
    cursor: str | None = None
    while True:
        with annals.queries.connect() as conn:
            page = list_contacts(conn, selection, NOW, sort=sort, cursor=cursor, limit=limit)
        items += page.items
        cursor = page.next
        if cursor is None:
            assert page.total == len(items)
            return items


def people(annals: Annals, *values: dict[str, Any]) -> None:
    write(annals, *(Change(USER, user(f"u{n}"), value, NOON) for n, value in enumerate(values)))
    project(annals)


def key(name: str, value: Any) -> Any:
    """By what a value is sorted, by hand; what is missing is least."""
    match name, value:
        case ("text", _):
            return (value or "").encode()
        case ("number", None):
            return (0, 0)
        case ("number", _):
            return (1, value)
        case ("date", None):
            return datetime.min.replace(tzinfo=UTC)
        case ("date", _):
            return datetime.fromisoformat(value)
        case ("flag", _):
            return {None: 0, False: 1, True: 2}[value]
        case _:
            raise AssertionError(name)


texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=3)
numbers = st.integers(-(2**62), 2**62) | st.floats(-9e18, 9e18) | st.sampled_from([5e-324, 0.1])
dates = st.datetimes(timezones=st.just(UTC)).map(lambda at: at.isoformat()) | st.sampled_from(
    ["2024-05-13T12:00:00Z", "2024-05-13T12:00:00.5Z", "2024-05-13T14:00:00.25+02:00"]
)
lives = st.fixed_dictionaries(
    {}, optional={"text": texts, "number": numbers, "date": dates, "flag": st.booleans()}
)


def test_every_property_sorts_by_its_type_both_ways_and_what_is_missing_is_least(
    annals: Annals, database_url: str
) -> None:
    @settings(max_examples=examples(20))
    @given(st.lists(lives, min_size=1, max_size=12), st.integers(1, 5))
    def whoever_there_is(values: list[dict[str, Any]], limit: int) -> None:
        empty(database_url)
        people(annals, *values)
        for name in {name for value in values for name in value}:
            sort = f"property:{name}"
            up = listed(annals, Selection(USER), sort, limit)
            assert len({row.id for row in up}) == len(up) == len(values)
            keys = [key(name, row.properties.get(name)) for row in up]
            assert keys == sorted(keys)
            assert listed(annals, Selection(USER), f"-{sort}", limit) == up[::-1]

    whoever_there_is()


def test_mrr_sorts_as_the_exact_number_it_is(annals: Annals) -> None:
    people(annals, {"mrr": 10}, {"mrr": 9.5}, {}, {"mrr": -1}, {"mrr": 9.25})
    found = [row.mrr for row in listed(annals, Selection(USER), "mrr")]
    assert [None if row is None else str(row) for row in found] == [None, "-1", "9.25", "9.5", "10"]


def member(database_url: str, *external_ids: str) -> None:
    """Puts users into the segment, as its decider would."""
    with owner(database_url) as conn:
        conn.execute(
            "INSERT INTO views.segment_members (log_partition, segment, subject, ordinal,"
            " entered_at) SELECT log_partition, %s, subject, 1, now() FROM views.contacts"
            " WHERE external_id = ANY(%s)",
            (SEGMENT, list(external_ids)),
        )
        conn.execute(
            "INSERT INTO views.segment_counts (log_partition, segment, members)"
            " SELECT log_partition, segment, count(*) FROM views.segment_members GROUP BY 1, 2"
        )


@pytest.mark.parametrize("few", [0, 1_000_000])
def test_segment_filter_and_search_all_have_to_hold(
    annals: Annals, database_url: str, monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    monkeypatch.setattr(selection_module, "FEW", few)
    people(
        annals,
        *({"plan": ("pro", "free")[n % 2], "name": ("Ada", "Grace")[n // 2 % 2]} for n in range(8)),
    )
    member(database_url, "u0", "u1", "u2", "u3")
    pro = PropertyIs("plan", Is("pro"))
    for selection, expected in (
        (Selection(USER, SEGMENT), ["u0", "u1", "u2", "u3"]),
        (Selection(USER, filter=pro), ["u0", "u2", "u4", "u6"]),
        (Selection(USER, SEGMENT, pro), ["u0", "u2"]),
        (Selection(USER, SEGMENT, Not(pro), "grace"), ["u3"]),
        (Selection(USER, UUID(int=8)), []),
        (Selection(USER, SEGMENT, OneOf([])), []),
    ):
        found = listed(annals, selection, "external_id")
        assert [row.external_id for row in found] == expected
        with annals.queries.connect() as conn:
            assert bars(conn, selection, NOW).total == len(expected)


@pytest.mark.parametrize("sort", ["name", "-name", "property:size"])
def test_a_filter_that_rows_leave_and_enter_between_pages_hides_nobody_who_stays(
    annals: Annals, sort: str
) -> None:
    people(annals, *({"size": n, "name": f"n{n:02}"} for n in range(20)))
    big = Selection(USER, filter=PropertyIs("size", AtLeast(10)))
    seen: list[str | None] = []
    cursor: str | None = None
    for n in range(20):
        with annals.queries.connect() as conn:
            page = list_contacts(conn, big, NOW, sort=sort, cursor=cursor, limit=3)
        seen += [item.external_id for item in page.items]
        cursor = page.next
        if cursor is None:
            break
        write(annals, Change(USER, user(f"u{n}"), {"size": 50 + n}, NOON))
        write(annals, Change(USER, user(f"x{n}"), {"size": 30, "name": f"n{n + 5:02}x"}, NOON))
        project(annals)
    assert len(seen) == len(set(seen))
    assert {f"u{n}" for n in range(10, 20)} <= set(seen)


@pytest.mark.parametrize(
    ("search", "finds"),
    [("Lovelace", True), ("lovelcae", True), ("lovelac", True), ("Lovlace", True),
     ("Turing", False), ("lvl", False), ("xyzlove", False)],
)  # fmt: skip
def test_a_longer_search_forgives_a_slip(annals: Annals, search: str, finds: bool) -> None:
    people(annals, {"name": "Ada Lovelace"}, {"name": "Grace Hopper"})
    found = listed(annals, Selection(USER, search=search), "name")
    assert [row.name for row in found] == (["Ada Lovelace"] if finds else [])


def test_columns_choose_the_properties_that_come_back(annals: Annals) -> None:
    people(annals, {"plan": "pro", "size": 1}, {"size": 2})

    def shown(columns: list[str] | None) -> list[list[str]]:
        with annals.queries.connect() as conn:
            page = list_contacts(
                conn,
                Selection(USER),
                NOW,
                sort="external_id",
                columns=columns,
                cursor=None,
                limit=9,
            )
        return [sorted(item.properties) for item in page.items]

    assert shown(None) == [["plan", "size"], ["size"]]
    assert shown(["plan"]) == [["plan"], []]
    assert shown([]) == [[], []]
    for unknown in (["plam"], [""], ["plan"] * 101):
        with pytest.raises(InvalidInput):
            shown(unknown)


@pytest.mark.parametrize("value", ["1e999999", "-1e-999999", "NaN", "Infinity", "x", True])
def test_no_cursor_makes_the_database_fail(annals: Annals, value: object) -> None:
    people(annals, {"size": 1})
    for sort in ("mrr", "-property:size"):
        cursor = encoded(f"user:{sort}", value, UUID(int=1))
        with annals.queries.connect() as conn, pytest.raises(InvalidInput) as refusal:
            list_contacts(conn, Selection(USER), NOW, sort=sort, cursor=cursor, limit=2)
        assert refusal.value.pointer == "/cursor"


def test_a_total_that_was_not_asked_for_is_null(annals: Annals) -> None:
    people(annals, {"size": 1})
    with annals.queries.connect() as conn:
        page = list_contacts(
            conn, Selection(USER), NOW, sort="name", cursor=None, limit=2, with_total=False
        )
    assert (len(page.items), page.total) == (1, None)


def test_a_total_is_given_unasked_where_nothing_has_to_be_counted(annals: Annals) -> None:
    people(annals, *({"size": n} for n in range(3)))
    segment = define(annals, SIZED)
    settle(annals)
    some = Selection(USER, filter=SIZED)

    def total(selection: Selection, limit: int) -> int | None:
        with annals.queries.connect() as conn:
            return list_contacts(
                conn, selection, NOW, sort="name", cursor=None, limit=limit, with_total=None
            ).total

    assert total(Selection(USER), 1) == total(Selection(USER, segment), 1) == 3
    assert (total(some, 2), total(some, 3)) == (None, 3)


def add_crowd(conn: psycopg.Connection, *, partitions_in_segment: int) -> int:
    """20,000 users, as the planner sees them; returns how many are in the segment."""
    conn.execute(
        "INSERT INTO views.contacts (log_partition, subject, kind)"
        " SELECT n % 256, gen_random_uuid(), 'user' FROM generate_series(1, 20000) n"
    )
    members = conn.execute(
        "INSERT INTO views.segment_members SELECT log_partition, %s, subject, 1, now()"
        " FROM views.contacts WHERE log_partition < %s",
        (SEGMENT, partitions_in_segment),
    ).rowcount
    conn.execute("VACUUM ANALYZE views.contacts, views.segment_members")
    return members


def test_the_planner_knows_about_how_many_are_in_a_segment(
    annals: Annals, database_url: str
) -> None:
    """Or else it goes through all members for a page that the order gives at once."""
    with owner(database_url) as conn:
        members = add_crowd(conn, partitions_in_segment=26)
    with annals.queries.connect() as conn:
        meant = chosen(conn, Selection(USER, SEGMENT), NOW, in_order=contacts.c.subject)
        query = sa.select(contacts.c.subject).where(*meant)
        found = query.compile(conn.engine, compile_kwargs={"literal_binds": True})
        plan = conn.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {found}").scalar_one()
    assert members / 4 < plan[0]["Plan"]["Plan Rows"] < members * 4


def test_a_list_says_how_far_the_segments_that_it_asks_for_are_decided(annals: Annals) -> None:
    write(annals, Change(SubjectKind.USER, user("u"), {"plan": "pro"}, NOON))
    other = define(annals, PropertyIs("plan", Is("pro")))
    settle(annals)
    segment = define(annals, PropertyIs("plan", IsSet()))
    project(annals)

    def built(**asked: Any) -> float | None:
        with annals.queries.connect() as conn:
            page = list_contacts(
                conn,
                Selection(SubjectKind.USER, **asked),
                Moment(NOON, UTC),
                sort="name",
                cursor=None,
                limit=1,
            )
            return page.building

    inside = Not(OneOf([InSegment(segment), InSegment(other)]))
    decider, seen = annals.decider(), list[float | None]()
    while (far := built(segment=segment)) is not None:
        assert built(filter=inside) == built(segment=other, filter=inside) == far
        assert built() is built(segment=other) is None
        seen.append(far)
        project(annals)
        decider.sweep()
    assert seen[0] == 0
    assert seen == sorted(seen, key=lambda value: value or 0)
    assert len(set(seen)) > 2
    assert built(filter=inside) is None


def test_bars_over_a_segment_are_read_from_an_index_alone(
    annals: Annals, database_url: str
) -> None:
    with owner(database_url) as conn:
        add_crowd(conn, partitions_in_segment=256)
    with annals.queries.connect() as conn:
        found = [
            plan
            for condition in (PropertyIs("plan", IsSet()), None)
            for plan in plans(
                conn,
                lambda condition=condition: bars(conn, Selection(USER, SEGMENT, condition), NOW),
                about="whole_contacts",
            )
        ]
    with_filter, of_segment = [
        {node.get("Relation Name"): node["Node Type"] for node in nodes(plan)} for plan in found
    ]
    assert of_segment["contacts"] == "Index Only Scan"
    assert with_filter["contacts"] != "Index Only Scan"
