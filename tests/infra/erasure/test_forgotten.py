"""With the database's files in hand nothing of an erased one is found; of the others, all is."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest

from domain.activity import Activity, ActivityKind
from domain.commands import Change, Join, Request, Stored, Track
from domain.conditions.language import Attribute, AttributeIs, In
from domain.definitions.types import Segment
from domain.identity import Identity, Scheme, SubjectKind
from infra import bootstrap
from infra.bootstrap import erasure_parts
from infra.bootstrap.annals import Annals
from infra.settings import Settings
from tests.folders import initialise
from tests.infra.erasures import erased
from tests.projections.definitions import change
from tests.projections.read_models import project
from tests.projections.segments import define

NOON = datetime(2026, 5, 13, 12, tzinfo=UTC)
EVENT, PAGE, CAMPAIGN = ActivityKind.EVENT, ActivityKind.PAGE, ActivityKind.CAMPAIGN


@pytest.fixture
def own(new_data: Path, server: str) -> Iterator[tuple[Annals, str]]:
    """Annals on an embedded server of its own, whose files are nobody else's."""
    initialise(new_data, server, migrated=True)
    settings = Settings(data=new_data)
    with bootstrap.database_url(settings) as url, bootstrap.opened(settings, url) as annals:
        yield annals, url


def planted(who: str) -> list[str]:
    """Fifty values: names, e-mails, addresses, free text, in several scripts and forms."""
    names = [f"{who} Planted{n}" for n in range(10)]
    mails = [f"{who.lower()}.planted{n}@mail.example" for n in range(10)]
    addresses = [f"10.{ord(who[0])}.{n}.{n}77" for n in range(10)]
    texts = [f"{who} called about invoice {n}, and was upset" for n in range(10)]
    scripts = [f"{who} Пётр Планted{n}" if n % 2 else f"{who} 計画Päivi{n}" for n in range(10)]
    return names + mails + addresses + texts + scripts


def write_of(annals: Annals, who: str) -> list[str]:
    values = planted(who)
    names, mails, addresses, texts, scripts = (values[n : n + 10] for n in range(0, 50, 10))
    me = (Identity(Scheme.USER_ID, mails[0]), Identity(Scheme.EMAIL, mails[1]))
    properties = {
        "name": names[0],
        "tags": names[1:5],
        "first_name": scripts[0],
        "mails": mails[2:6],
        "encoded": base64.b64encode(texts[0].encode()).decode(),
        "escaped": quote(scripts[1]),
        "notes": " ".join(texts[1:5]),
        "last": scripts[2],
    }
    account = (Identity(Scheme.ACCOUNT_ID, "acme"),)
    activities = (
        Activity(EVENT, "login", dict(zip("abcdefghij", addresses, strict=True))),
        Activity(EVENT, "noted", dict(zip("abcdef", texts[4:], strict=True))),
    )
    spoken = (
        Activity(EVENT, "spoke", dict(zip("abcd", scripts[6:], strict=True))),
        Activity(PAGE, f"shop.example/{names[6]}", {"mail": mails[6], "seven": mails[7]}),
        Activity(CAMPAIGN, names[7], {"by": scripts[3], "for": scripts[4]}),
    )
    commands = [
        Change(SubjectKind.USER, me, properties, NOON),
        Change(SubjectKind.USER, me, {"name": names[5], "mails": mails[8:]}, NOON),
        Join(me, account, {}, {"role": names[8], "nick": names[9], "x": scripts[5]}, NOON),
        Track(me, account, activities, NOON),
        Track(me, (), spoken, NOON),
    ]
    for outcome in annals.handler.handle([Request(command) for command in commands]):
        assert isinstance(outcome, Stored), outcome
        assert not outcome.refused
    return values


def places(annals: Annals, values: list[str]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for finding in annals.residue_scan.scan(values).findings:
        found.setdefault(values[finding.value], set()).add(f"{finding.form} in {finding.place}")
    return found


def test_case_10_after_an_erasure_no_table_no_file_and_no_log_of_writes_holds_a_planted_value(
    own: tuple[Annals, str],
) -> None:
    annals, url = own
    gone, kept = write_of(annals, "Ada"), write_of(annals, "Bob")
    for n in range(3):  # what many have is kept in filters and statistics
        write_of(annals, f"Cy{n}")
    both = In([gone[11], kept[11]])  # by value, and once more in a version that is replaced
    segment = define(annals, AttributeIs(Attribute.EMAIL, both), name=f"for {gone[11]}")
    renamed = Segment(SubjectKind.USER, "for both", AttributeIs(Attribute.EMAIL, both))
    change(annals, segment, renamed)
    project(annals)
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute("ANALYZE")
        conn.execute("CHECKPOINT")
        conn.execute("SELECT lo_from_bytea(0, %s)", (kept[0].encode(),))
        sampled = conn.execute("SELECT count(*) FROM pg_statistic WHERE stavalues1 IS NOT NULL")
        assert sampled.fetchone() != (0,)
    before = places(annals, gone)
    in_clear = {each.split(" in ")[1].split()[0] for each in before.values() for each in each}
    assert in_clear == {"table", "file"}
    everywhere = {each for each in before.values() for each in each}
    assert any("pg_wal" in each for each in everywhere)
    assert any("pg_statistic" in each for each in everywhere)
    ada = annals.subject_lookup.find(Identity(Scheme.EMAIL, gone[11]))
    erased(annals, ada)
    assert places(annals, gone) == {}
    after = places(annals, kept)
    assert {each.split(" in ")[1].split()[0] for each in after.values() for each in each} == {
        "table",
        "file",
        "large",
    }
    scan = annals.residue_scan.scan(gone)
    assert (scan.not_searched, scan.large_objects) == ([], 1)
    assert min(scan.tables, scan.files) > 50


def test_the_destroyed_key_itself_is_in_no_file_any_more(own: tuple[Annals, str]) -> None:
    annals, url = own
    write_of(annals, "Ada")
    project(annals)
    ada = annals.subject_lookup.find(Identity(Scheme.EMAIL, "ada.planted1@mail.example"))
    with psycopg.connect(url) as conn:
        query = ("SELECT wrapped FROM keys.subject_keys WHERE subject = %s", (ada,))
        [(wrapped,)] = conn.execute(*query).fetchall()
    erased(annals, ada)
    cluster = erasure_parts.embedded_cluster(annals.settings)
    assert cluster is not None
    holding = [
        path for path in cluster.rglob("*") if path.is_file() and wrapped in path.read_bytes()
    ]
    assert holding == []


def test_of_the_last_one_of_all_no_sample_is_left_in_the_statistics(
    own: tuple[Annals, str],
) -> None:
    annals, url = own
    values = [f"Planted Ada{n}" for n in range(3)]
    people = [Identity(Scheme.EMAIL, f"ada{n}@mail.example") for n in range(3)]
    for each, name in zip(people, values, strict=True):
        change = Change(SubjectKind.USER, (each,), {"name": name}, NOON)
        annals.handler.handle([Request(change)])
    project(annals)
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute("ANALYZE")  # of a table that is empty afterwards, and sampled no more
    assert any("pg_statistic" in each for each in places(annals, values).values() for each in each)
    erased(annals, *(annals.subject_lookup.find(name) for name in people))
    assert places(annals, values) == {}
