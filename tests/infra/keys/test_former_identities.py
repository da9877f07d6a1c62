"""Identities that were known before ß was apart from ss, and before ids were in NFC."""

from __future__ import annotations

from typing import Any

import psycopg

from domain.identity import Identity, Scheme
from infra.keys.former_identities import move_entries
from tests.projections.read_models import owner
from tests.serving import Clients, user

STREET = Identity(Scheme.EMAIL, "straße@x.de")
PLAIN = Identity(Scheme.EMAIL, "strasse@x.de")
DECOMPOSED = Identity(Scheme.USER_ID, "zoe\u0308")


def make_former(conn: psycopg.Connection, client: Clients, identity: Identity) -> None:
    """Turns the entry of an identity into that which 0.1.0 made."""
    index = client.annals.identities
    new, former = index.digest(identity), index.former_digest(identity)
    params = {"new": new, "former": former, "partition": former[0]}
    conn.execute(
        "UPDATE keys.identities SET lookup = %(former)s, log_partition = %(partition)s"
        " WHERE lookup = %(new)s",
        params,
    )


def moved(client: Clients) -> int:
    index, pools = client.annals.identities, client.annals.pools
    return move_entries(pools.workers.views, pools.keys, index.digest, index.former_digest)


def identify(id: str, email: str) -> dict[str, Any]:
    return {"type": "identify", "userId": id, "traits": {"email": email}}


def test_who_was_known_before_is_found_and_is_not_fused_with_who_looks_alike(
    client: Clients, database_url: str
) -> None:
    client.send(identify("a", STREET.value), {"type": "identify", "userId": "zoë"})
    before = {path: client.see(path)["id"] for path in (user("a"), user("zoë"))}
    with owner(database_url) as conn:
        make_former(conn, client, STREET)
        index = client.annals.identities
        assert index.former_digest(STREET) == index.digest(PLAIN)
    assert set(client.annals.identities.find([STREET, PLAIN])) == {(Scheme.EMAIL, PLAIN.value)}
    assert moved(client) == 1
    assert set(client.annals.identities.find([STREET, PLAIN])) == {(Scheme.EMAIL, STREET.value)}
    assert moved(client) == 0
    client.send(identify("b", PLAIN.value))
    ids = [client.see(f"/api/users/email:{one.value}")["external_id"] for one in (STREET, PLAIN)]
    assert ids == ["a", "b"]
    assert {path: client.see(path)["id"] for path in before} == before


def test_who_has_both_keeps_both(client: Clients, database_url: str) -> None:
    other = {"type": "track", "userId": "a", "event": "opened"}
    client.send(
        identify("a", PLAIN.value), {**other, "context": {"traits": {"email": STREET.value}}}
    )
    with owner(database_url) as conn:
        conn.execute(
            "DELETE FROM keys.identities WHERE lookup = %s",
            (client.annals.identities.digest(STREET),),
        )
    assert client.see(user("a"))["id"]
    assert moved(client) == 0
    found = client.annals.identities.find([STREET, PLAIN])
    assert len(found) == 2
    assert len(set(found.values())) == 1


def test_an_id_that_was_typed_with_accents_apart_is_found(
    client: Clients, database_url: str
) -> None:
    client.send({"type": "identify", "userId": DECOMPOSED.value})
    assert client.see(user("zoë"))["external_id"] == "zoë"
    with owner(database_url) as conn:
        make_former(conn, client, DECOMPOSED)
        conn.execute(
            "UPDATE views.contacts SET identities = jsonb_build_array("
            " jsonb_build_object('scheme', 'user_id', 'value', %s::text))",
            (DECOMPOSED.value,),
        )
    assert client.get(user("zoë")).status_code == 404
    assert moved(client) == 1
    assert client.get(user("zoë")).status_code == 200


def test_who_was_erased_for_good_before_does_not_come_back(
    client: Clients, database_url: str
) -> None:
    former = client.annals.identities.former_digest(STREET)
    with owner(database_url) as conn:
        conn.execute(
            "INSERT INTO keys.suppressed (log_partition, lookup, request)"
            " VALUES (%s, %s, gen_random_uuid())",
            (former[0], former),
        )
    answer = client.send(identify("a", STREET.value), identify("b", "other@x.de"))
    assert [one["status"] for one in answer["results"]] == ["refused", "stored"]
