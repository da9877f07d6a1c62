"""Contacts: a row for each user and account that any event is about."""

from __future__ import annotations

from tests.projections.given import (
    NOON,
    Tables,
    acme,
    ada,
    ben,
    changed,
    days_later,
    erased,
    given,
    identified,
    merged,
    registered,
    tracked,
)

CONTACTS = "SELECT kind, external_id, email, properties FROM views.contacts ORDER BY external_id"
SEEN = """
SELECT c.external_id, s.first_seen, s.last_seen
FROM views.contacts c JOIN views.seen s ON s.subject = c.subject ORDER BY 1"""


def test_a_registered_user_is_a_contact_with_its_identities(tables: Tables) -> None:
    events = given(registered(ada), identified(ada, "ada@acme.com"), registered(acme))
    assert tables.after(CONTACTS, events) == [
        ("account", "acme", None, {}),
        ("user", "ada", "ada@acme.com", {}),
    ]


def test_the_last_value_of_a_property_stays(tables: Tables) -> None:
    events = given(
        registered(ada),
        changed(ada, {"plan": "free", "seats": 3}),
        changed(ada, {"plan": "pro"}),
    )
    assert tables.after(CONTACTS, events) == [("user", "ada", None, {"plan": "pro", "seats": 3})]


def test_a_deleted_property_is_gone_also_in_a_later_batch(tables: Tables) -> None:
    first = given(registered(ada), changed(ada, {"plan": "free", "seats": 3}))
    second = given(changed(ada, {}, deleted=["plan"]))
    assert tables.after(CONTACTS, first, second) == [("user", "ada", None, {"seats": 3})]


def test_activity_says_when_a_contact_was_seen(tables: Tables) -> None:
    events = given(
        registered(ada),
        registered(ben),
        tracked(ada, "login", at=days_later(2)),
        tracked(ada, "login"),
    )
    assert tables.after(SEEN, events) == [("ada", NOON, days_later(2)), ("ben", None, None)]


def test_a_merged_contact_leaves_its_survivor_alone(tables: Tables) -> None:
    events = given(registered(ada), registered(ben), tracked(ada, "login"), merged(ada, ben))
    assert tables.after(SEEN, events) == [("ben", NOON, NOON)]


def test_an_erased_contact_has_no_row(tables: Tables) -> None:
    first = given(registered(ada), changed(ada, {"plan": "pro"}), registered(ben))
    assert tables.after(CONTACTS, first, given(erased(ada))) == [("user", "ben", None, {})]
