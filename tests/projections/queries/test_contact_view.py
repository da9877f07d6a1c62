"""Pages of lists: nothing skipped, nothing twice, and no cursor of another list."""

from __future__ import annotations

import base64
import contextlib
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.activity import Activity, ActivityKind
from domain.calendar import Moment
from domain.commands import Change, Join, Leave, Track
from domain.conditions.language import Attribute, AttributeIs, Condition, MoreThanDaysAgo
from domain.errors import InvalidInput, NotFound
from domain.identity import SubjectId, SubjectKind
from infra.bootstrap.annals import Annals
from projections.conditions.selection import Selection
from projections.kernel.paging import Page, decoded, encoded
from projections.queries.contact_list import SORTABLE, ContactItem, list_contacts
from projections.queries.contact_view import (
    list_activity,
    list_members,
    list_properties,
    view,
)
from tests.infra.plans import nodes, plans
from tests.projections.read_models import (
    NOON,
    account,
    event,
    found,
    owner,
    project,
    user,
    write,
)

SORTS = [sign + name for name in SORTABLE for sign in ("", "-")]
PEOPLE = 13
ADD_CONTACTS = """
WITH made AS (
    INSERT INTO views.contacts (log_partition, subject, kind)
    SELECT n % 256, gen_random_uuid(), 'user' FROM generate_series(1, 5000) n
    RETURNING log_partition, subject)
INSERT INTO views.seen (log_partition, subject, kind, first_seen, last_seen)
SELECT log_partition, subject, 'user', at, at FROM made, make_interval(days => log_partition) d,
       LATERAL (SELECT timestamptz '2024-05-13 12:00Z' - d AS at) seen"""
NOW = Moment(NOON, UTC)


def page(annals: Annals, sort: str, cursor: str | None, **asked: Any) -> Page[ContactItem]:
    options = {"limit": 3} | asked
    selection = Selection(SubjectKind.USER, search=options.pop("search", None))
    with annals.queries.connect() as conn:
        return list_contacts(conn, selection, NOW, sort=sort, cursor=cursor, **options)


def pages(annals: Annals, sort: str, **asked: Any) -> list[ContactItem]:
    items: list[ContactItem] = []
    cursor: str | None = None
    while True:
        current = page(annals, sort, cursor, **asked)
        items += current.items
        cursor = current.next
        if cursor is None:
            assert len(items) == current.total
            return items


def some_people(annals: Annals) -> None:
    """Names that repeat, differ in case, are empty or missing; some are seen and some are not."""
    names = ["Zoé", "ann", "Ann", "", None, "ann", "50%_\\", "Bob", "bob", "Ann", None, "é", "z"]
    for n in range(PEOPLE):
        identities = user(f"u{n}") + (user(f"{n % 4}{n}@x.be") if n % 2 else ())
        write(annals, Change(SubjectKind.USER, identities, {"name": names[n]}, NOON))
        if n % 3:
            at = NOON + timedelta(hours=n % 4)
            write(annals, Track(user(f"u{n}"), (), event("login"), at))
    project(annals)


def test_every_order_shows_everyone_once_whatever_the_length_of_a_page(annals: Annals) -> None:
    some_people(annals)
    for sort in SORTS:
        whole = page(annals, sort, None, limit=100).items
        assert len({item.id for item in whole}) == PEOPLE
        for limit in (1, 3, PEOPLE):
            assert pages(annals, sort, limit=limit) == whole
        reverse = sort.removeprefix("-") if sort.startswith("-") else "-" + sort
        assert pages(annals, reverse) == whole[::-1]


def test_who_has_no_value_to_sort_by_counts_as_least(annals: Annals) -> None:
    some_people(annals)
    seen = [item.last_seen for item in pages(annals, "last_seen")]
    present = [at for at in seen if at is not None]
    assert seen == [None] * (len(seen) - len(present)) + sorted(present)


def test_writes_between_two_pages_neither_hide_nor_repeat_those_who_do_not_move(
    annals: Annals,
) -> None:
    some_people(annals)
    still = [item.id for item in pages(annals, "external_id")]
    shown: list[UUID] = []
    cursor: str | None = None
    for n in range(100):
        current = page(annals, "external_id", cursor)
        shown += [item.id for item in current.items]
        cursor = current.next
        if cursor is None:
            break
        for name in (f"a{n}", f"u{n}x", f"z{n}"):
            write(annals, Change(SubjectKind.USER, user(name), {}, NOON))
        write(annals, Change(SubjectKind.USER, user("u3"), {"name": f"changed {n}"}, NOON))
        project(annals)
    assert len(shown) == len(set(shown))
    assert [id for id in shown if id in still] == still


@pytest.mark.parametrize(
    ("search", "expected"),
    [
        ("ANN", 4),
        ("50%_\\", 1),
        ("%", 1),
        ("u1", 4),
        ("x.be", 6),
        ("nobody", 0),
        ("ZOÉ", 1),
    ],
)
def test_a_search_finds_a_part_of_a_name_or_identity_in_any_case(
    annals: Annals, search: str, expected: int
) -> None:
    some_people(annals)
    assert len(pages(annals, "name", search=search)) == expected


@pytest.mark.parametrize("asked", [{"search": "a" * 201}])
def test_a_search_that_cannot_be_is_refused(annals: Annals, asked: dict[str, str]) -> None:
    with pytest.raises(InvalidInput):
        page(annals, "name", None, **asked)


def test_a_column_that_is_none_is_refused(annals: Annals) -> None:
    for sort in ("", "-", "plan", "--name", "name;"):
        with pytest.raises(InvalidInput):
            page(annals, sort, None)


def test_a_cursor_of_another_list_or_order_is_refused(annals: Annals) -> None:
    some_people(annals)
    cursors = {sort: page(annals, sort, None).next for sort in SORTS}
    for sort in SORTS:
        for other, cursor in cursors.items():
            if other != sort:
                with pytest.raises(InvalidInput):
                    page(annals, sort, cursor)
    subject = found(annals, user("u1"))
    with annals.queries.connect() as conn:
        with pytest.raises(InvalidInput):
            list_members(conn, SubjectKind.USER, subject, cursor=cursors["name"], limit=2)
        with pytest.raises(InvalidInput):
            list_activity(conn, SubjectKind.USER, subject, "event", cursor=cursors["name"], limit=2)


keys = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.uuids()
cursors = st.one_of(
    st.text(),
    st.binary().map(lambda packed: base64.urlsafe_b64encode(packed).decode()),
    st.lists(st.just("list") | keys.filter(lambda key: not isinstance(key, int)), max_size=5).map(
        lambda parts: base64.urlsafe_b64encode(msgspec.msgpack.encode(parts)).decode()
    ),
)


@given(cursors)
def test_whatever_is_sent_as_a_cursor_is_one_or_is_refused(cursor: str) -> None:
    for types in ((str, UUID), (datetime | None, UUID), (int, str), (datetime, int, int, int)):
        try:
            values = decoded("list", cursor, *types)
        except InvalidInput:
            continue
        assert len(values) == len(types)


@given(
    st.text().filter(lambda text: "\0" not in text),  # which no stored text holds
    st.uuids(),
    st.datetimes(timezones=st.just(UTC)),
)
def test_a_cursor_reads_back_as_what_it_was_made_of(text: str, id: UUID, at: datetime) -> None:
    assert decoded("list", encoded("list", text, id, at), str, UUID, datetime) == (text, id, at)


FORGED = [
    ("name", encoded("user:name", "a\0b", UUID(int=1))),
    ("last_seen", encoded("user:last_seen", datetime(2024, 1, 1), UUID(int=1))),  # noqa: DTZ001 - a forger's
]


@pytest.mark.parametrize(("sort", "cursor"), FORGED)
def test_a_forged_cursor_is_refused_or_gives_a_page(annals: Annals, sort: str, cursor: str) -> None:
    with contextlib.suppress(InvalidInput):
        assert page(annals, sort, cursor).items == []


@pytest.mark.parametrize("keys", [(2**70, "a"), (2**63, "a"), (-(2**63) - 1, "a"), (1, "a\0")])
def test_a_forged_cursor_of_counts_is_refused_or_gives_a_page(
    annals: Annals, keys: tuple[int, str]
) -> None:
    some_people(annals)
    packed = (
        b"\x93\xa5event"
        + (b"\xcf" + (keys[0] % 2**64).to_bytes(8, "big"))
        + msgspec.msgpack.encode(keys[1])
    )
    cursor = base64.urlsafe_b64encode(packed).decode()
    with annals.queries.connect() as conn, contextlib.suppress(InvalidInput):
        list_activity(
            conn, SubjectKind.USER, found(annals, user("u1")), "event", cursor=cursor, limit=2
        )


def test_an_account_shows_the_pages_of_its_members_that_name_no_account(annals: Annals) -> None:
    def look(name: str, at: datetime = NOON) -> tuple[Activity, ...]:
        return (Activity(ActivityKind.PAGE, name), Activity(ActivityKind.EVENT, f"saw {name}"))

    write(
        annals,
        Join(user("jo"), account("acme"), {}, {}, NOON),
        Join(user("ann"), account("acme"), {}, {}, NOON),
        Join(user("ex"), account("acme"), {}, {}, NOON),
        Leave(user("ex"), account("acme"), NOON),
        Track(user("jo"), (), look("home"), NOON),
        Track(user("ann"), (), look("home"), NOON + timedelta(days=1)),
        Track(user("jo"), account("acme"), look("cart"), NOON),
        Track(user("jo"), account("beta"), look("beta's"), NOON),
        Track(user("ex"), (), look("ex's"), NOON),
        Track((), account("acme"), look("own"), NOON),
    )
    project(annals)
    acme = found(annals, account("acme"))
    with annals.queries.connect() as conn:
        seen = list_activity(conn, SubjectKind.ACCOUNT, acme, "page", cursor=None, limit=9)
        did = list_activity(conn, SubjectKind.ACCOUNT, acme, "event", cursor=None, limit=9)
        whole = view(conn, SubjectKind.ACCOUNT, acme, renewal_property="renewal")
    assert [(item.name, item.count) for item in seen.items] == [
        ("home", 2),
        ("cart", 1),
        ("own", 1),
    ]
    assert seen.items[0].last_at == NOON + timedelta(days=1)
    assert {item.name for item in did.items} == {"saw cart", "saw own"}
    assert (whole.counts.pages, whole.counts.events) == (4, 2)


def test_a_member_of_two_accounts_that_became_one_is_counted_once(annals: Annals) -> None:
    write(
        annals,
        Join(user("jo"), account("acme"), {}, {"role": "owner"}, NOON),
        Join(user("jo"), account("beta"), {}, {"role": "guest"}, NOON + timedelta(days=1)),
        Track(user("jo"), (), (Activity(ActivityKind.PAGE, "home"),), NOON),
        Change(SubjectKind.ACCOUNT, account("acme") + account("beta"), {}, NOON),
    )
    project(annals)
    acme = found(annals, account("beta"))
    with annals.queries.connect() as conn:
        [member] = list_members(conn, SubjectKind.ACCOUNT, acme, cursor=None, limit=9).items
        [company] = list_members(
            conn, SubjectKind.USER, found(annals, user("jo")), cursor=None, limit=9
        ).items
        whole = view(conn, SubjectKind.ACCOUNT, acme, renewal_property="renewal")
    assert (member.role, member.joined_at, member.left_at) == ("owner", NOON, None)
    assert (company.id, company.role, company.joined_at) == (acme, "owner", NOON)
    assert (whole.members, whole.counts.pages) == (1, 1)


def test_who_leaves_an_account_leaves_those_that_were_merged_into_it(annals: Annals) -> None:
    write(
        annals,
        Join(user("jo"), account("beta"), {}, {}, NOON),
        Change(SubjectKind.ACCOUNT, account("acme"), {}, NOON),
        Change(SubjectKind.ACCOUNT, account("acme") + account("beta"), {}, NOON),
        Leave(user("jo"), account("acme"), NOON + timedelta(days=2)),
    )
    project(annals)
    with annals.queries.connect() as conn:
        acme = found(annals, account("acme"))
        [member] = list_members(conn, SubjectKind.ACCOUNT, acme, cursor=None, limit=9).items
    assert (member.joined_at, member.left_at) == (NOON, NOON + timedelta(days=2))


def test_a_subject_that_is_not_there_is_not_found(annals: Annals) -> None:
    nobody = SubjectId(UUID(int=7))
    write(annals, Change(SubjectKind.USER, user("u"), {}, NOON))
    project(annals)
    with annals.queries.connect() as conn:
        for subject, kind in (
            (nobody, SubjectKind.USER),
            (found(annals, user("u")), SubjectKind.ACCOUNT),
        ):
            with pytest.raises(NotFound):
                view(conn, kind, subject, renewal_property="renewal")
            with pytest.raises(NotFound):
                list_properties(conn, kind, subject)


def test_numbers_show_as_they_were_sent(annals: Annals) -> None:
    sent = {"mrr": 19.99, "most": 2**63 - 1, "least": 5e-324, "large": 9e18, "whole": 3.0}
    write(annals, Change(SubjectKind.ACCOUNT, account("a"), dict(sent), NOON))
    project(annals)
    with annals.queries.connect() as conn:
        whole = view(
            conn,
            SubjectKind.ACCOUNT,
            found(annals, account("a")),
            renewal_property="renewal",
        )
    assert whole.properties == sent
    assert msgspec.json.decode(msgspec.json.encode(whole))["mrr"]["amount"] == "19.99"


def test_a_list_reads_by_an_index_in_its_default_order_however_deep_the_page(
    annals: Annals, database_url: str
) -> None:
    long_ago = AttributeIs(Attribute.LAST_SEEN, MoreThanDaysAgo(100))
    with owner(database_url) as database:
        database.execute(ADD_CONTACTS)
        database.execute("ANALYZE views.contacts, views.seen")
    with annals.queries.connect() as conn:

        def page(condition: Condition | None, cursor: str | None) -> str | None:
            selection = Selection(SubjectKind.USER, filter=condition)
            return list_contacts(
                conn,
                selection,
                NOW,
                sort="-last_seen",
                cursor=cursor,
                limit=10,
                with_total=False,
            ).next

        def ask() -> None:
            page(None, page(None, None))
            page(long_ago, None)

        found = plans(conn, ask, about="whole_contacts")
    conditions = []
    for plan in found:
        steps = nodes(plan)
        assert not [step for step in steps if "Sort" in step["Node Type"]]
        [order] = [step for step in steps if step.get("Index Name") == "seen_in_order"]
        conditions.append(order["Index Cond"])
    first, second, filtered = conditions
    assert "last_seen" not in first
    assert "ROW(COALESCE(last_seen" in second
    assert "COALESCE(last_seen" in filtered
