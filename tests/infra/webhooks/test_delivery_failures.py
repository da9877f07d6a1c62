"""Destinations that fail, are gone or belong to another worker: told later, and hold up nobody."""

from __future__ import annotations

import threading

from hypothesis import given
from hypothesis import strategies as st

from domain.definitions.destinations import Subscription, SubscriptionKind
from infra.bootstrap.annals import Annals
from infra.webhooks import delivery
from tests.infra.destinations import (
    PLANTED,
    deliverer,
    ids,
    logins,
    make,
    tell,
    turn,
)
from tests.projections.read_models import (
    found,
    owner,
    project,
    user,
)
from tests.receiver import Receiver


def test_two_processes_do_not_both_send(annals: Annals, receiver: Receiver) -> None:
    logins(annals, *(f"u{n}" for n in range(40)))
    project(annals)
    id = make(annals, receiver.url)
    gate = threading.Event()
    inside = threading.Event()

    def slowly(_: object) -> int:
        inside.set()
        assert gate.wait(10)
        return 204

    receiver.answer = slowly
    first = threading.Thread(target=turn, args=(annals, id))
    first.start()
    assert inside.wait(10)
    turn(annals, id)  # finds it leased
    gate.set()
    first.join()
    tell(annals, id)
    taken = ids(receiver.taken())
    assert len(taken) == len(set(taken)) == 80


def test_one_that_fails_is_tried_again_later_says_why_and_holds_up_nobody(
    annals: Annals, receiver: Receiver
) -> None:
    logins(annals, "ada", "bob")
    project(annals)
    bad, good = (make(annals, f"{receiver.url}/{each}") for each in ("bad", "good"))
    receiver.answer = lambda message: 503 if message.path.endswith("bad") else 204
    receiver.answer_body = PLANTED.encode()
    worker = deliverer(annals, pause=delivery.backoff)
    turn(annals, bad, worker)
    tell(annals, good, worker)
    assert len(receiver.taken("/hooks/good")) == 4
    state = annals.delivery_cursors.states([bad])[bad]
    assert (state.failure, state.failures, state.sent_at) == ("503", 1, None)
    assert state.behind >= 4
    assert state.retry_at is not None
    assert worker.due() == []
    annals.delivery_cursors.resume(bad)
    receiver.answer = lambda _: 204
    project(annals)
    tell(annals, bad, worker)
    state = annals.delivery_cursors.states([bad])[bad]
    assert (state.failures, state.retry_at, state.behind) == (0, None, 0)
    assert len(receiver.taken("/hooks/bad")) == 4


@given(st.integers(1, 40))
def test_pauses_grow_to_an_hour_and_are_not_all_alike(failures: int) -> None:
    some = [delivery.backoff(failures) for _ in range(20)]
    assert all(min(3_600, 2**failures) / 2 <= each <= 3_600 for each in some)
    assert len(set(some)) > 1


def test_one_that_says_it_is_gone_is_paused_until_it_is_resumed(
    annals: Annals, receiver: Receiver
) -> None:
    logins(annals, "ada")
    project(annals)
    id = make(annals, receiver.url, [Subscription(SubscriptionKind.EVENT)])
    receiver.answer = lambda _: 410
    worker = deliverer(annals)
    turn(annals, id, worker)
    state = annals.delivery_cursors.states([id])[id]
    assert (state.failure, state.paused_by) == ("gone", None)
    assert state.paused_at is not None
    turn(annals, id, worker)
    assert len(receiver.came) == 1
    receiver.answer = lambda _: 204
    annals.delivery_cursors.resume(id)
    tell(annals, id, worker)
    assert len(receiver.taken()) == 1


def test_an_event_that_does_not_open_holds_up_nobody(
    annals: Annals, receiver: Receiver, database_url: str
) -> None:
    logins(annals, "ada", "bob")
    project(annals)
    with owner(database_url) as conn:
        conn.execute(
            "UPDATE log.events SET state = state || 'x' WHERE topic = 'user.event_tracked'"
            " AND stream = %s",
            (found(annals, user("ada")),),
        )
    id = make(annals, receiver.url, [Subscription(SubscriptionKind.EVENT)])
    tell(annals, id)
    assert [item["user"]["external_id"] for item in receiver.taken()] == ["bob"]
