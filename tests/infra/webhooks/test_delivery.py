"""Destinations are told what they ask for: all of it, in order, at least once, and nothing else."""

from __future__ import annotations

import random
import uuid
from collections import defaultdict
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from domain.activity import ActivityKind
from domain.commands import Alias, Change, Join, Leave
from domain.conditions import language as ask_
from domain.definitions.destinations import NAMED, Destination, Subscription, SubscriptionKind
from domain.definitions.types import Score, ScoreRule, Signal
from domain.events.definitions import MembersListed, MembersUnlisted
from domain.identity import SubjectKind, log_partition
from infra.bootstrap.annals import Annals
from infra.webhooks import items as outgoing
from infra.webhooks.cursors import DeliveryCursors
from tests.examples import examples
from tests.infra import destinations
from tests.infra.destinations import (
    deliverer,
    did,
    ids,
    let_lease_expire,
    logins,
    make,
    tell,
    turn,
)
from tests.projections.definitions import activate, profile, stages
from tests.projections.read_models import (
    NOON,
    account,
    forget_read_models,
    found,
    owner,
    project,
    user,
    write,
)
from tests.projections.segments import define, settle
from tests.receiver import Receiver

U, A = SubjectKind.USER, SubjectKind.ACCOUNT


def assert_in_order(items: list[dict[str, Any]]) -> None:
    """Each partition's items in order, counted when each came for the first time."""
    seen: dict[str, list[int]] = defaultdict(list)
    for item in {item["id"]: item for item in reversed(items)}.values():
        partition, _, position = item["position"].partition(":")
        seen[partition].append(int(position))
    # `reversed` left the first one of each id, and the order turned round.
    assert all(some == sorted(some, reverse=True) for some in seen.values())


WORDS = {
    "event_tracked": "event", "page_viewed": "page", "screen_viewed": "screen",
    "channel_touched": "channel", "campaign_touched": "campaign",
    "properties_changed": "property", "registered": "identity", "identified": "identity",
    "membership_started": "membership", "membership_changed": "membership",
    "membership_ended": "membership", "merged_into": "merge", "absorbed": "merge",
    "stage_entered": "stage", "stage_left": "stage", "health_changed": "health",
    "score_changed": "score", "segment_entered": "segment", "segment_left": "segment",
    "signal_triggered": "signal", "signal_ended": "signal", "goal_reached": "goal",
    "goal_missed": "goal",
}  # fmt: skip
"""What destinations ask for, in the test's own table."""


def a_world(annals: Annals) -> dict[str, uuid.UUID]:
    """Something of each kind; returns the segments that there are."""
    paying = ask_.PropertyIs("plan", ask_.Is("pro"))
    activate(annals, stages(paying=paying, free=ask_.AllOf([])))
    activate(annals, profile("paying", good=ask_.AllOf([])))
    activate(annals, Score(U, "fit", [ScoreRule("pays", 1, paying)]))
    activate(annals, Signal(U, "grown", paying, None, paying, 1))
    pros, static = define(annals, paying), define(annals, None)
    big = define(annals, ask_.PropertyIs("size", ask_.Is(9)), A)
    write(
        annals,
        Join(user("u0"), account("a0"), {"size": 9}, {"role": "owner"}, NOON),
        Join(user("u1"), account("a1"), {"size": 1}, {}, NOON),
        Change(U, user("u0"), {"plan": "pro", "age": 5}, NOON),
        Change(U, (*user("u1"), *user("u1@acme.example")), {"age": 7}, NOON),
    )
    settle(annals)
    static_one = found(annals, user("u1"))
    annals.definitions.change_list(static, [MembersListed([static_one], destinations.BY)], NOON)
    for kind in ActivityKind:
        write(
            annals,
            did("x", "a0", kind)("u0"),
            did("y", None, kind)("u0"),
            did("x", "a1", kind)("u1"),
            did("y", None, kind)("u2"),
        )
    write(
        annals,
        Change(U, user("u0"), {"plan": None, "age": 6}, NOON),
        Change(U, user("u3"), {"plan": "pro", "city": "Ghent"}, NOON),
        Alias(user("u2"), user("u3"), NOON),
        Join(user("u0"), account("a0"), {}, {"role": "guest"}, NOON),
        Leave(user("u1"), account("a1"), NOON),
    )
    settle(annals)
    return {"pros": pros, "static": static, "big": big}


def expected(
    annals: Annals, url: str, destination: Destination, survivors: dict[uuid.UUID, uuid.UUID]
) -> dict[str, dict[str, Any]]:
    """What a destination has to be told, by id of event: the filter again, in plain words."""
    wanted = {news.about.value: news.names for news in destination.news}
    with owner(url) as conn:
        members = {
            row[0]
            for row in conn.execute(
                "SELECT subject FROM views.segment_members WHERE segment = %s",
                (destination.segment,),
            )
        }
    told: dict[str, dict[str, Any]] = {}
    for opened in annals.sealer.open_rows(
        annals.log.read_after(dict.fromkeys(range(256), 0), 1_000_000)
    ):
        row, payload = opened.row, opened.payload
        kind, _, verb = row.topic.partition(".")
        word = WORDS.get(verb)
        if kind not in ("user", "account") or word is None:
            continue
        stream = survivors.get(row.stream, row.stream)
        account = None if row.account is None else survivors.get(row.account, row.account)
        refs = {"user": stream, "account": account} if kind == "user" else {"account": stream}
        if destination.kind is not None and refs.get(destination.kind.value) is None:
            continue
        own = word == "segment" and payload.definition == destination.segment
        if (
            destination.segment is not None
            and refs[destination.kind.value] not in members
            and not own
        ):
            continue
        names = None
        if verb == "absorbed":
            allowed = wanted.get("property", [])
            names = {n for n in payload.properties if allowed is None or n in allowed}
            if "merge" not in wanted and not names:
                continue
        elif word not in wanted:
            continue
        elif word == "property":
            changed = {*payload.values, *payload.deleted}
            names = {n for n in changed if wanted[word] is None or n in wanted[word]}
            if not names:
                continue
        elif wanted[word] is not None and payload.activity.name not in wanted[word]:
            continue
        told[str(row.event_id)] = {
            "type": row.topic,
            "user": refs.get("user") and str(refs["user"]),
            "account": refs.get("account") and str(refs["account"]),
            "names": names,
        }
    return told


def wanted_news() -> st.SearchStrategy[list[Subscription]]:
    def one(about: SubscriptionKind) -> st.SearchStrategy[Subscription]:
        if about not in NAMED:
            return st.just(Subscription(about))
        names = ["age", "city", "plan"] if about is SubscriptionKind.PROPERTY else ["x", "y"]
        some = st.lists(st.sampled_from(names), min_size=1, max_size=2, unique=True)
        return st.builds(Subscription, st.just(about), st.none() | some)

    return st.lists(st.sampled_from(list(SubscriptionKind)), min_size=1, unique=True).flatmap(
        lambda kinds: st.tuples(*map(one, kinds)).map(list)
    )


def test_a_destination_is_told_exactly_what_it_asks_for(
    annals: Annals, receiver: Receiver, database_url: str
) -> None:
    segments = a_world(annals)
    with owner(database_url) as conn:
        survivors = dict(conn.execute("SELECT loser, survivor FROM views.merges").fetchall())
    assert survivors
    seen: set[str] = set()

    @given(
        wanted_news(),
        st.sampled_from(
            [(None, None), (U, None), (A, None), (U, "pros"), (U, "static"), (A, "big")]
        ),
    )
    @example(destinations.EVERYTHING, (None, None))
    @settings(max_examples=examples(25))
    def holds(news: list[Subscription], about: tuple[SubjectKind | None, str | None]) -> None:
        kind, segment = about
        id = make(
            annals, receiver.url, news, kind=kind, segment=segments[segment] if segment else None
        )
        receiver.came.clear()
        tell(annals, id)
        destination = annals.definitions.load().destination(id).definition
        told = {
            item["id"]: {
                "type": item["type"],
                "user": item["user"] and item["user"]["id"],
                "account": item["account"] and item["account"]["id"],
                "names": {change["name"] for change in item["data"]["changes"]}
                if item["type"].endswith(("properties_changed", "absorbed"))
                else None,
            }
            for item in receiver.taken()
        }
        assert told == expected(annals, database_url, destination, survivors)
        assert len(receiver.taken()) == len(told)
        assert_in_order(receiver.taken())
        seen.update(each["type"] for each in told.values())
        destinations.archive(annals, id)

    holds()
    assert {each.partition(".")[2] for each in seen} >= set(WORDS) - {"goal_missed"}


def test_an_item_says_what_happened_and_names_user_and_account_apart(
    annals: Annals, receiver: Receiver
) -> None:
    write(
        annals,
        Join(user("ada"), (*account("acme"), *account("acme.example")), {}, {}, NOON),
        Change(U, (*user("ada"), *user("ada@acme.example")), {"plan": "pro"}, NOON),
        did("login", "acme")("ada"),
    )
    project(annals)
    id = make(
        annals,
        receiver.url,
        [Subscription(SubscriptionKind.EVENT), Subscription(SubscriptionKind.PROPERTY)],
    )
    tell(annals, id)
    changed, login = sorted(receiver.taken(), key=lambda item: item["type"], reverse=True)
    ada, acme = found(annals, user("ada")), found(annals, account("acme"))
    assert login["user"] == {
        "id": str(ada),
        "external_id": "ada",
        "email": "ada@acme.example",
        "domain": None,
        "identities": [
            {"scheme": "user_id", "value": "ada"},
            {"scheme": "email", "value": "ada@acme.example"},
        ],
        "erased": False,
    }
    assert (login["account"]["id"], login["account"]["domain"]) == (str(acme), "acme.example")
    assert (login["type"], login["data"]) == (
        "user.event_tracked",
        {"name": "login", "metadata": {"by": "test"}},
    )
    assert changed["account"] is None
    assert changed["data"]["changes"] == [{"name": "plan", "before": None, "after": "pro"}]


class Chance:
    """Answers as chance has it: takes, refuses, or takes and goes away before it says so."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def __call__(self, _: object) -> int:
        return self._random.choice((204, 204, 200, 500, 0, 429))


def test_all_of_it_is_taken_in_order_whatever_fails_and_whoever_dies(
    annals: Annals,
    receiver: Receiver,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(outgoing, "MAX_ITEMS", 3)
    monkeypatch.setattr(outgoing, "SCANNED_ROWS", 7)

    class Died(BaseException):
        """Of a kill: nothing that is under way is ended in order."""

    @given(
        st.lists(st.sampled_from(("write", "turn", "turn", "die")), min_size=4, max_size=12),
        st.integers(0, 1 << 30),
    )
    @settings(max_examples=examples(8))
    def holds(deeds: list[str], seed: int) -> None:
        receiver.came.clear()
        receiver.answer = Chance(seed)
        chance = random.Random(seed)
        before = annals.log.heads(range(256))
        id = make(annals, receiver.url, since=before)
        worker = deliverer(annals)
        for deed in deeds:
            if deed == "write":
                logins(annals, *chance.choices([f"u{n}" for n in range(4)], k=5))
                project(annals)
            elif deed == "turn":
                turn(annals, id, worker)
            else:
                with monkeypatch.context() as patched:
                    patched.setattr(
                        DeliveryCursors,
                        chance.choice(("extend", "confirm")),
                        lambda *_, **__: (_ for _ in ()).throw(Died),
                    )
                    try:
                        turn(annals, id, worker)
                    except Died:
                        worker = deliverer(annals)
                        let_lease_expire(database_url, id)
        tell(annals, id, worker)
        rows = annals.log.read_after(before, 1_000)
        events = [str(row.event_id) for row in rows if row.topic in TOPICS]
        taken = receiver.taken()
        assert set(ids(taken)) == set(events)
        assert_in_order(taken)
        assert all(len(message.items) <= 3 for message in receiver.came)
        items_of = {message.id: ids(message.items) for message in receiver.came}
        assert all(items_of[message.id] == ids(message.items) for message in receiver.came)
        destinations.archive(annals, id)

    holds()


TOPICS = {f"{kind}.{verb}" for kind in SubjectKind for verb in WORDS}


def test_what_happened_before_a_destination_was_activated_is_not_sent(
    annals: Annals, receiver: Receiver
) -> None:
    logins(annals, "ada")
    id = make(
        annals,
        receiver.url,
        [Subscription(SubscriptionKind.EVENT)],
        since=annals.log.heads(range(256)),
    )
    logins(annals, "ada")
    project(annals)
    tell(annals, id)
    assert len(receiver.taken()) == 1


def test_nothing_is_sent_before_the_read_models_show_it(annals: Annals, receiver: Receiver) -> None:
    id = make(annals, receiver.url, [Subscription(SubscriptionKind.EVENT)])
    logins(annals, "ada")
    turn(annals, id)
    assert receiver.came == []
    project(annals)
    logins(annals, "ada")
    turn(annals, id)
    assert len(receiver.taken()) == 1
    project(annals)
    turn(annals, id)
    assert len(receiver.taken()) == 2


def test_what_is_about_somebody_whom_the_read_models_do_not_show_yet_waits(
    annals: Annals, receiver: Receiver, database_url: str
) -> None:
    names = [f"{n}" for n in range(6)]
    write(
        annals,
        Join(user("bob"), account("corp"), {}, {}, NOON),
        *(Join(user(f"ada{n}"), account(f"acme{n}"), {}, {}, NOON) for n in names),
    )

    def places(n: str) -> list[int]:
        subjects = user("bob"), user(f"ada{n}"), account(f"acme{n}")
        return [log_partition(found(annals, subject)) for subject in subjects]

    n = next(name for name in names if len(set(places(name))) == 3)
    write(annals, did("login", "corp")("bob"), did("login", f"acme{n}")(f"ada{n}"))
    project(annals)
    acme = found(annals, account(f"acme{n}"))
    with owner(database_url) as conn:  # as far as when that partition is projected last
        for table in ("seen", "contacts"):
            conn.execute(f"DELETE FROM views.{table} WHERE subject = %s", (acme,))
        conn.execute(
            "UPDATE views.checkpoints SET position = 0 WHERE log_partition = %s",
            (log_partition(acme),),
        )
    id = make(annals, receiver.url, [Subscription(SubscriptionKind.EVENT)])
    turn(annals, id)
    turn(annals, id)
    assert [item["user"]["external_id"] for item in receiver.taken()] == ["bob"]
    forget_read_models(database_url)
    project(annals)
    tell(annals, id)
    last = receiver.taken()[-1]
    assert last["account"]["external_id"] == f"acme{n}"
    assert last["user"]["external_id"] == f"ada{n}"
    assert len(receiver.taken()) == 2


def test_who_leaves_the_segment_of_a_destination_is_told_of_as_the_last_thing(
    annals: Annals, receiver: Receiver
) -> None:
    segment = define(annals, None)
    logins(annals, "ada", "bob")
    ada = found(annals, user("ada"))
    annals.definitions.change_list(segment, [MembersListed([ada], destinations.BY)], NOON)
    settle(annals)
    id = make(
        annals,
        receiver.url,
        [Subscription(SubscriptionKind.EVENT), Subscription(SubscriptionKind.SEGMENT)],
        since=annals.log.heads(range(256)),
        kind=U,
        segment=segment,
    )
    logins(annals, "ada", "bob")
    settle(annals)
    tell(annals, id)
    annals.definitions.change_list(segment, [MembersUnlisted([ada], destinations.BY)], NOON)
    settle(annals)
    logins(annals, "ada", "bob")
    settle(annals)
    tell(annals, id)
    assert [(item["type"], item["user"]["external_id"]) for item in receiver.taken()] == [
        ("user.event_tracked", "ada"),
        ("user.segment_left", "ada"),
    ]


def test_a_large_item_goes_alone(
    annals: Annals, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outgoing, "MAX_BYTES", 100)
    logins(annals, "ada", "bob")
    project(annals)
    tell(annals, make(annals, receiver.url, [Subscription(SubscriptionKind.EVENT)]))
    assert [len(message.items) for message in receiver.came] == [1, 1]
