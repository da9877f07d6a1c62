"""Live: streams that say that something changed, hold nothing of what, and end when they must."""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import httpx
import pytest

from infra import change_feed
from tests.serving import Clients, account, problem, user

SECONDS = 20.0


class Message(NamedTuple):
    event: str
    position: str


class Heard:
    """What comes on a stream, read in a thread."""

    def __init__(self, answer: httpx.Response) -> None:
        self.text = ""
        self._messages: queue.Queue[Message | None] = queue.Queue()
        self._thread = threading.Thread(target=self._read, args=(answer,), daemon=True)
        self._thread.start()

    def _read(self, answer: httpx.Response) -> None:
        event, data = "", ""
        try:
            for line in answer.iter_lines():
                self.text += line + "\n"
                name, _, value = line.partition(": ")
                if name == "event":
                    event = value
                if name == "data":
                    data = value
                if not line and event:
                    self._messages.put(Message(event, json.loads(data)["position"]))
                    event = ""
        except httpx.HTTPError:
            pass
        self._messages.put(None)

    def next(self) -> Message | None:
        """The next message; None: it ended."""
        return self._messages.get(timeout=SECONDS)

    def nothing_for(self, seconds: float) -> bool:
        try:
            return self._messages.get(timeout=seconds) is None and False
        except queue.Empty:
            return True


Hearing = Callable[..., Heard]


@pytest.fixture
def hearing(client: Clients) -> Iterator[Hearing]:
    with ExitStack() as stack:

        def begun(path: str, key: str | None = None) -> Heard:
            headers = {"Authorization": f"Bearer {key or client.keys['read']}"}
            http = stack.enter_context(httpx.Client(base_url=client.url, timeout=SECONDS))
            answer = stack.enter_context(http.stream("GET", path, headers=headers))
            assert answer.status_code == 200
            assert answer.headers["content-type"].startswith("text/event-stream")
            assert answer.headers["cache-control"] == "no-store"
            heard = Heard(answer)
            first = heard.next()
            assert first is not None
            assert first.event == "open"
            return heard

        yield begun


@contextmanager
def counted(client: Clients, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The statements of the poller."""
    statements: list[str] = []
    poller = client.annals.change_feed
    for name in ("_checkpoints", "_changes"):
        plain = getattr(poller, name)

        def noted(*args: Any, plain: Any = plain, name: str = name) -> Any:
            statements.append(name)
            return plain(*args)

        monkeypatch.setattr(poller, name, noted)
    yield statements


def track(client: Clients, id: str, **more: Any) -> dict[str, Any]:
    return client.send({"type": "track", "userId": id, "event": "login", **more})


def known(client: Clients) -> None:
    client.send(
        {"type": "identify", "userId": "ada", "traits": {"name": "Ada Secret"}},
        {"type": "identify", "userId": "bob"},
        {"type": "group", "userId": "ada", "groupId": "acme"},
    )
    client.see("/api/users")


def test_who_looks_at_a_user_is_told_of_its_changes_alone_and_nothing_of_what_they_are(
    client: Clients, hearing: Hearing
) -> None:
    known(client)
    heard = hearing(user("ada", "/changes"))
    track(client, "bob")
    assert heard.nothing_for(1.5)
    sent = client.send(
        {"type": "identify", "userId": "ada", "traits": {"phone": "555-0199"}},
    )
    assert heard.next() == Message("changed", sent["position"])
    # Told when it can be seen, not before.
    seen = client("read").get(user("ada")).json()
    assert seen["properties"]["phone"] == "555-0199"
    assert not [
        word for word in ("ada", "Secret", "555", "phone", seen["id"]) if word in heard.text
    ]


def test_who_looks_at_an_account_is_told_of_what_its_users_did_for_it(
    client: Clients, hearing: Hearing
) -> None:
    known(client)
    heard = hearing(account("acme", "/changes"))
    track(client, "bob")
    sent = track(client, "ada", context={"groupId": "acme"})
    assert heard.next() == Message("changed", sent["position"])


def test_who_looks_at_a_list_is_told_of_any_of_its_kind(client: Clients, hearing: Hearing) -> None:
    known(client)
    users, accounts = hearing("/api/users/changes"), hearing("/api/accounts/changes")
    sent = track(client, "bob")
    assert users.next() == Message("changed", sent["position"])
    assert accounts.nothing_for(1.0)
    sent = client.send({"type": "group", "groupId": "acme", "userId": "ada", "traits": {"a": 1}})
    told = accounts.next()
    assert told is not None
    assert set(told.position.split(",")) & set(sent["position"].split(","))


def test_a_definition_is_told_to_all_for_it_may_change_what_they_see(
    client: Clients, hearing: Hearing
) -> None:
    known(client)
    heard = hearing(user("ada", "/changes"))
    saved = client.taken(client("admin").put("/api/settings", json={"currency": "EUR"}))
    assert heard.next() == Message("changed", saved["position"])


def test_the_stream_of_who_is_erased_says_so_and_ends(client: Clients, hearing: Hearing) -> None:
    known(client)
    heard, other = hearing(user("ada", "/changes")), hearing(user("bob", "/changes"))
    client.erase("user", "external:ada")
    while (told := heard.next()) is not None and told.event == "changed":
        pass
    assert told is not None
    assert told.event == "contact.erased"
    assert heard.next() is None
    problem(client.get(user("ada", "/changes")), 404, "not-found")
    sent = track(client, "bob")
    assert other.next() == Message("changed", sent["position"])


def test_who_looks_at_a_user_that_is_merged_is_told_of_the_one_it_lives_on_in(
    client: Clients, hearing: Hearing
) -> None:
    client.send(
        {"type": "identify", "userId": "old", "traits": {"email": "ada@acme.example"}},
        {"type": "identify", "anonymousId": "visitor"},
    )
    client.see("/api/users")
    before = {one["id"] for one in client.see("/api/users")["items"]}
    streams = [hearing(f"/api/users/{id}/changes") for id in before]
    client.send({"type": "identify", "userId": "old", "anonymousId": "visitor"})
    assert len(client.see("/api/users")["items"]) == 1
    time.sleep(3 * change_feed.TICK_SECONDS)
    sent = track(client, "old")
    for heard in streams:
        while (told := heard.next()) is not None:
            if told.position == sent["position"]:
                break
        assert told is not None


def test_a_stream_ends_when_its_key_is_revoked(client: Clients, hearing: Hearing) -> None:
    known(client)
    made = client("admin").post("/api/api-keys", json={"scope": "read", "name": "x"}).json()
    heard, other = hearing("/api/users/changes", made["key"]), hearing("/api/users/changes")
    client("admin").delete(f"/api/api-keys/{made['id']}")
    assert heard.next() is None
    track(client, "bob")
    assert other.next() is not None


def test_streams_end_when_the_process_does_and_none_begins_any_more(
    client: Clients, hearing: Hearing
) -> None:
    known(client)
    heard = hearing("/api/users/changes")
    client.annals.change_feed.close()
    assert heard.next() is None
    problem(client("read").get("/api/users/changes"), 503, "unavailable")


def test_who_leaves_is_forgotten_and_only_so_many_are_told_at_once(
    client: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(change_feed, "MAX_WATCHES", 1)
    headers = {"Authorization": f"Bearer {client.keys['read']}"}
    with httpx.stream("GET", f"{client.url}/api/users/changes", headers=headers) as answer:
        lines = answer.iter_lines()
        while "open" not in next(lines):
            pass
        problem(client("read").get("/api/users/changes"), 503, "unavailable")
    until = time.monotonic() + SECONDS
    while len(client.annals.change_feed) and time.monotonic() < until:
        time.sleep(0.05)
    assert len(client.annals.change_feed) == 0


def test_however_many_listen_the_database_is_asked_as_often(
    client: Clients, hearing: Hearing, monkeypatch: pytest.MonkeyPatch
) -> None:
    known(client)
    streams = [hearing(user("ada", "/changes")) for _ in range(20)]
    with counted(client, monkeypatch) as statements:
        track(client, "ada")
        for heard in streams:
            assert heard.next() is not None
        assert statements.count("_changes") == 1


def test_who_hears_nothing_is_told_that_the_stream_lives(
    client: Clients, hearing: Hearing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.contacts.live.HEARTBEAT_SECONDS", 0.1)
    heard, until = hearing("/api/users/changes"), time.monotonic() + SECONDS
    while ":\n" not in heard.text and time.monotonic() < until:
        time.sleep(0.05)
    assert ":\n\n" in heard.text


def test_of_nobody_there_is_no_stream(client: Clients) -> None:
    problem(client("read").get(user("nobody", "/changes")), 404, "not-found")
    problem(client("read").get("/api/users/nothing/changes"), 400, "invalid-input")
    problem(client("write").get("/api/users/changes"), 403, "wrong-scope")


@pytest.mark.parametrize(
    ("seen", "now", "upto"),
    [
        ({0: 5, 1: 7}, {0: 5, 1: 7}, {}),
        ({0: 5}, {0: 8, 3: 2}, {0: 8, 3: 2}),
        ({0: 5}, {0: 3}, {}),
        ({0: 0}, {0: 200_000, 1: 1}, {0: 49_999, 1: 1}),
    ],
)
def test_what_is_more_than_a_tick_may_look_at_is_looked_at_in_the_next_ones(
    seen: dict[int, int], now: dict[int, int], upto: dict[int, int]
) -> None:
    assert change_feed._upto(seen, now) == upto
