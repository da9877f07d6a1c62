"""Memberships: which user belongs to which account, in which role, since when and until when."""

from __future__ import annotations

from tests.projections.given import (
    NOON,
    Tables,
    acme,
    ada,
    ben,
    days_later,
    erased,
    given,
    initech,
    joined,
    left,
    membership_changed,
    merged,
)

MEMBERSHIPS = """
SELECT user_id, account_id, role, properties, joined_at, left_at
FROM views.memberships ORDER BY joined_at, left_at"""


def test_a_user_belongs_to_the_account_that_it_joined(tables: Tables) -> None:
    events = given(joined(ada, acme, {"role": "admin", "team": "sales"}))
    assert tables.after(MEMBERSHIPS, events) == [
        (ada.id, acme.id, "admin", {"role": "admin", "team": "sales"}, NOON, None)
    ]


def test_a_membership_that_ended_stays_with_its_end(tables: Tables) -> None:
    in_one_batch = [given(joined(ada, acme), left(ada, acme, at=days_later(3)))]
    in_two = [given(joined(ada, acme)), given(left(ada, acme, at=days_later(3)))]
    for batches in (in_one_batch, in_two):
        assert tables.after(MEMBERSHIPS, *batches) == [
            (ada.id, acme.id, None, {}, NOON, days_later(3))
        ]


def test_a_user_that_joins_again_has_one_membership(tables: Tables) -> None:
    first = given(joined(ada, acme, {"role": "admin"}), left(ada, acme))
    second = given(joined(ada, acme, at=days_later(5)))
    assert tables.after(MEMBERSHIPS, first, second) == [
        (ada.id, acme.id, None, {}, days_later(5), None)
    ]


def test_a_change_of_role_is_one_of_the_membership_alone(tables: Tables) -> None:
    first = given(joined(ada, acme, {"role": "guest"}), joined(ada, initech, at=days_later(1)))
    second = given(membership_changed(ada, acme, {"role": "admin"}))
    assert tables.after(MEMBERSHIPS, first, second) == [
        (ada.id, acme.id, "admin", {"role": "admin"}, NOON, None),
        (ada.id, initech.id, None, {}, days_later(1), None),
    ]


def test_the_memberships_of_a_merged_user_are_gone(tables: Tables) -> None:
    """The events of the survivor carry them on."""
    events = given(joined(ada, acme), joined(ben, acme), merged(ada, ben))
    assert tables.after(MEMBERSHIPS, events) == [(ben.id, acme.id, None, {}, NOON, None)]


def test_an_account_keeps_that_an_erased_user_was_a_member_and_nothing_else(
    tables: Tables,
) -> None:
    events = given(joined(ada, acme, {"role": "admin"}), erased(ada))
    assert tables.after(MEMBERSHIPS, events) == [(ada.id, acme.id, None, {}, NOON, None)]
