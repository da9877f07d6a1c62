"""After an erasure the read models hold nothing of the subject, and all of the others."""

from __future__ import annotations

from datetime import timedelta

import pytest

from domain.activity import Activity, ActivityKind
from domain.commands import Alias, Change, Join, Track
from domain.identity import Identity, Scheme, SubjectKind
from infra.bootstrap.annals import Annals
from projections.queries.contact_view import Contact, list_activity, list_members, streams_of, view
from projections.queries.timeline import timeline
from tests.infra.erasures import erase
from tests.projections.read_models import (
    NOON,
    account,
    dump,
    event,
    forget_read_models,
    found,
    owner,
    project,
    user,
    write,
)

PLANT = "zqplanted"
JO = (Identity(Scheme.USER_ID, f"{PLANT}-1"), Identity(Scheme.EMAIL, f"{PLANT}@x.be"))


def contact(annals: Annals, kind: SubjectKind, identities: tuple[Identity, ...]) -> Contact:
    with annals.queries.connect() as conn:
        return view(
            conn,
            kind,
            found(annals, identities),
            renewal_property="renewal_date",
        )


def places_of(url: str, text: str) -> set[str]:
    """The columns of read models in which a text stands, in any form."""
    places = set()
    with owner(url) as conn:
        columns = conn.execute(
            "SELECT table_name, column_name FROM information_schema.columns"
            " WHERE table_schema = 'views'"
        ).fetchall()
        for table, column in columns:
            query = f"SELECT count(*) FROM views.{table} WHERE {column}::text ILIKE %s"
            if conn.execute(query, (f"%{text}%",)).fetchone() != (0,):
                places.add(f"{table}.{column}")
    return places


def write_all_that_can_be_said_of_jo(annals: Annals) -> None:
    seen = [
        Activity(ActivityKind.EVENT, "login", {"note": f"{PLANT} note"}),
        Activity(ActivityKind.PAGE, f"shop.example/users/{PLANT}"),
        Activity(ActivityKind.SCREEN, "Profile"),
        Activity(ActivityKind.CAMPAIGN, f"for {PLANT}"),
        Activity(ActivityKind.CHANNEL, "email"),
    ]
    write(
        annals,
        Change(SubjectKind.USER, JO, {"name": f"{PLANT} Jo", "tags": [PLANT]}, NOON),
        Join(JO, account("acme"), {"plan": "pro"}, {"role": f"{PLANT} owner"}, NOON),
        Join(user("ann"), account("acme"), {}, {"role": "owner"}, NOON),
        Track(JO, account("acme"), event("login"), NOON),
        Track(JO, (), tuple(seen), NOON),
        Track(user("ann"), account("acme"), event("login"), NOON + timedelta(days=1)),
        Change(SubjectKind.USER, user(f"{PLANT}-old"), {"city": f"{PLANT}stad"}, NOON),
        Join(user(f"{PLANT}-old"), account("beta"), {}, {"role": PLANT}, NOON),
        Track(user(f"{PLANT}-old"), (), tuple(seen), NOON),
    )


def erase_jo(annals: Annals) -> None:
    erase(annals, found(annals, JO))


@pytest.mark.parametrize("merged", [False, True])
def test_nothing_of_an_erased_user_stands_in_any_read_model(
    annals: Annals, database_url: str, merged: bool
) -> None:
    write_all_that_can_be_said_of_jo(annals)
    if merged:
        write(annals, Alias(JO[:1], user(f"{PLANT}-old"), NOON))
    else:
        project(annals)
        erase(annals, found(annals, user(f"{PLANT}-old")))
    project(annals)
    assert places_of(database_url, PLANT) >= {
        "contacts.properties",
        "memberships.role",
        "names.name",
    }
    erase_jo(annals)
    project(annals)
    assert places_of(database_url, PLANT) == set()
    live = dump(database_url)
    forget_read_models(database_url)
    project(annals)
    assert places_of(database_url, PLANT) == set()
    assert dump(database_url) | {"catalogue": []} == live | {"catalogue": []}


def test_an_erasure_that_overtakes_the_projection_leaves_nothing(
    annals: Annals, database_url: str
) -> None:
    write_all_that_can_be_said_of_jo(annals)
    write(annals, Alias(JO[:1], user(f"{PLANT}-old"), NOON))
    erase_jo(annals)
    project(annals)
    assert places_of(database_url, PLANT) == set()


def test_case_8_the_account_of_an_erased_user_counts_on_and_shows_a_member_without_a_name(
    annals: Annals, database_url: str
) -> None:
    write_all_that_can_be_said_of_jo(annals)
    project(annals)
    acme = (SubjectKind.ACCOUNT, account("acme"))
    before = contact(annals, *acme)
    erase_jo(annals)
    project(annals)
    after = contact(annals, *acme)
    assert after.counts.events == before.counts.events == 2
    assert (after.first_seen, after.last_seen) == (before.first_seen, before.last_seen)
    assert after.members == before.members == 2
    [erased] = [membership for membership in after.memberships if membership.erased]
    [known] = [membership for membership in before.memberships if membership.id == erased.id]
    assert (erased.name, erased.email, erased.role, erased.properties) == (None, None, None, {})
    assert (erased.joined_at, erased.left_at) == (known.joined_at, known.left_at)


def test_case_8_the_timeline_of_the_account_keeps_the_name_of_what_an_erased_user_did(
    annals: Annals,
) -> None:
    write_all_that_can_be_said_of_jo(annals)
    erase_jo(annals)
    project(annals)
    with annals.queries.connect() as conn:
        streams = streams_of(conn, found(annals, account("acme")))
        page = timeline(
            conn,
            annals.timelines,
            annals.sealer,
            SubjectKind.ACCOUNT,
            streams,
            cursor=None,
            limit=50,
        )
    gone = [item for item in page.items if item.user is not None and item.user.erased]
    assert {
        (subject.type, subject.name, subject.details) for subject in gone if subject.type == "event"
    } == {("event", "login", None)}
    assert all(
        subject.user and subject.user.name is None and subject.user.external_id is None
        for subject in gone
    )
    assert PLANT not in repr(page)


def test_case_9_members_of_an_erased_account_keep_their_own_and_show_it_without_a_name(
    annals: Annals, database_url: str
) -> None:
    write(
        annals,
        Change(SubjectKind.ACCOUNT, account(PLANT) + account(f"{PLANT}.be"), {"city": PLANT}, NOON),
        Join(user("ann"), account(PLANT), {}, {"role": "owner"}, NOON),
        Track(user("ann"), account(PLANT), event("login"), NOON),
    )
    project(annals)
    erase(annals, found(annals, account(PLANT)), kind=SubjectKind.ACCOUNT)
    project(annals)
    assert places_of(database_url, PLANT) == set()
    with annals.queries.connect() as conn:
        ann = found(annals, user("ann"))
        [company] = list_members(conn, SubjectKind.USER, ann, cursor=None, limit=9).items
        events = list_activity(conn, SubjectKind.USER, ann, "event", cursor=None, limit=9)
    assert (company.erased, company.name, company.external_id) == (True, None, None)
    assert [(item.name, item.count) for item in events.items] == [("login", 1)]


def test_who_comes_back_after_an_erasure_is_somebody_new(annals: Annals) -> None:
    write_all_that_can_be_said_of_jo(annals)
    before = found(annals, JO)
    erase_jo(annals)
    write(annals, Change(SubjectKind.USER, JO, {"name": "Jo again"}, NOON))
    project(annals)
    assert found(annals, JO) != before
    jo = contact(annals, SubjectKind.USER, JO)
    assert (jo.name, jo.members, jo.counts.events) == ("Jo again", 0, 0)


def test_a_search_finds_nothing_of_the_erased(annals: Annals, database_url: str) -> None:
    write(annals, Change(SubjectKind.USER, JO, {"name": f"Jo {PLANT}"}, NOON))
    write(annals, Change(SubjectKind.USER, user("stays"), {"name": "Stays"}, NOON))
    project(annals)
    erase(annals, found(annals, JO))
    project(annals)
    assert PLANT not in str(dump(database_url))
    with owner(database_url) as conn:
        assert conn.execute("SELECT name FROM views.search_entries").fetchall() == [("stays",)]
