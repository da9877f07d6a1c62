"""Destinations over HTTP, told by the worker of the server, at a receiver that is really there."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infra import bootstrap
from infra.settings import Settings
from tests.receiver import Message, Receiver
from tests.serving import Clients, problem, served, until

PAGE = Path(__file__).parents[3] / "docs" / "destinations.md"
API = "/api/destinations"
EVENTS = [{"about": "event"}]


@pytest.fixture
def here(database_url: str, tmp_path: Path) -> Iterator[Clients]:
    """A server that may post to the machine itself."""
    chosen = Settings(data=tmp_path, private_destinations="allow")
    with bootstrap.opened(chosen, database_url, connections=4) as annals, served(annals) as clients:
        yield clients


def make(client: Clients, url: str, *, name: str = "CRM", **rest: Any) -> dict[str, Any]:
    sent = {"name": name, "url": url, "news": EVENTS, **rest}
    return client.taken(client("admin").post(API, json=sent))


def move(client: Clients, id: str, step: str) -> dict[str, Any]:
    return client.taken(client("admin").post(f"{API}/{id}/{step}"))


def seen(client: Clients, id: str) -> dict[str, Any]:
    answer = client("admin").get(f"{API}/{id}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def login(client: Clients, who: str = "ada") -> None:
    client.send({"type": "track", "userId": who, "event": "login"})


def verified(message: Message, secret: str) -> bool:
    """By the lines that the page gives to whoever receives."""
    code = re.search(r"```python\n(.*?)```", PAGE.read_text(), re.S)
    assert code
    room: dict[str, Any] = {}
    exec(code[1], room)
    found: bool = room["verified"](secret, message.headers, message.body)
    return found


def test_a_destination_is_made_tested_activated_told_paused_resumed_and_archived(
    here: Clients, receiver: Receiver
) -> None:
    login(here)
    made = make(here, receiver.url)
    id = made["id"]
    assert seen(here, id)["status"] == "draft"
    assert made["secret"] not in here("admin").get(API).text + here("admin").get(f"{API}/{id}").text
    assert move(here, id, "test") == {"taken": True, "failure": None}
    assert b'"type":"test"' in receiver.came[0].body
    assert verified(receiver.came[0], made["secret"])
    assert not verified(receiver.came[0], "whsec_AAAA")
    move(here, id, "activate")
    login(here)
    until(lambda: len(receiver.taken()) == 1)
    [item] = receiver.taken()
    assert (item["type"], item["data"]["name"]) == ("user.event_tracked", "login")
    assert item["user"]["external_id"] == "ada"
    assert verified(receiver.came[1], made["secret"])
    until(lambda: seen(here, id)["delivery"]["behind"] == 0)
    assert seen(here, id)["delivery"]["sent_at"] is not None
    paused = move(here, id, "pause")["delivery"]
    assert paused["paused_at"] is not None
    assert paused["paused_by"] is not None
    login(here)
    here.see("/api/users")
    assert seen(here, id)["delivery"]["behind"] > 0
    assert move(here, id, "resume")["delivery"]["paused_at"] is None
    until(lambda: len(receiver.taken()) == 2)
    move(here, id, "archive")
    assert seen(here, id)["status"] == "archived"
    for step in ("pause", "resume", "test", "activate"):
        problem(here("admin").post(f"{API}/{id}/{step}"), 409, "conflict")


def test_what_cannot_be_a_destination_is_refused_with_the_place(client: Clients) -> None:
    login(client)
    client.see("/api/users")
    good = {"name": "CRM", "url": "https://crm.example/", "news": EVENTS}
    for change, place, words in (
        ({"name": ""}, "/name", "1 to 200"),
        ({"url": "http://crm.example/"}, "/url", "https://"),
        ({"url": "https://10.0.0.8/"}, "/url", "ANNALS_PRIVATE_DESTINATIONS"),
        ({"url": "http://127.0.0.1:1/"}, "/url", "ANNALS_PRIVATE_DESTINATIONS"),
        ({"news": []}, "/news", "empty"),
        ({"news": [{"about": "weather"}]}, "/news/0/about", "weather"),
        ({"news": [{"about": "event", "names": ["logn"]}]}, "/news/0/names/0", "did you mean"),
        ({"segment": str(uuid.UUID(int=1))}, "/kind", "of which"),
        ({"kind": "user", "segment": str(uuid.UUID(int=1))}, "/segment", "no such segment"),
        ({"weather": 1}, None, "weather"),
    ):
        answer = problem(client("admin").post(API, json=good | change), 400)
        assert (answer.get("place"), words in answer["detail"]) == (place, True), answer
    nobody = f"{API}/{uuid.UUID(int=1)}"
    for method, path in (
        ("GET", nobody),
        ("PUT", nobody),
        ("DELETE", nobody),
        *(("POST", f"{nobody}/{step}") for step in ("activate", "pause", "secret", "test")),
    ):
        body = {"json": good} if method == "PUT" else {}
        problem(client("admin").request(method, path, **body), 404, "not-found")
    assert client("admin").get(API).json()["items"] == []


def test_a_destination_is_changed_and_its_draft_deleted(client: Clients) -> None:
    id = make(client, "https://crm.example/")["id"]
    sent = seen(client, id)["definition"] | {"name": "Sales", "news": [{"about": "merge"}]}
    answer = client("admin").put(f"{API}/{id}", json=sent)
    assert answer.status_code == 200, answer.text
    found = seen(client, id)
    assert (found["version"], found["definition"]) == (2, sent)
    move(client, id, "activate")
    assert client("admin").put(f"{API}/{id}", json=sent).json()["position"] == ""
    history = client("admin").get(f"{API}/{id}/history").json()["items"]
    assert [(one["version"], one["status"], one["definition"]["name"]) for one in history] == [
        (3, "active", "Sales"),
        (2, "draft", "Sales"),
        (1, "draft", "CRM"),
    ]
    other = make(client, "https://b.example/", name="Sales")["id"]
    answer = problem(client("admin").post(f"{API}/{other}/activate"), 400)
    assert (answer["place"], answer["detail"]) == (
        "/name",
        "there is a destination with this name",
    )
    assert client("admin").delete(f"{API}/{other}").status_code == 200
    problem(client("admin").delete(f"{API}/{id}"), 409, "conflict")
    names = [one["definition"]["name"] for one in client("admin").get(API).json()["items"]]
    assert names == ["Sales"]
    assert client.see("/api/definitions")["items"] == []


def test_a_segment_that_a_destination_is_for_is_not_deleted(client: Clients) -> None:
    segment = client.taken(
        client("admin").post(
            "/api/segments",
            json={"kind": "user", "name": "Pros", "condition": {"type": "all", "of": []}},
        )
    )["id"]
    sent = {"name": "CRM", "url": "https://crm.example/", "news": EVENTS, "segment": segment}
    answer = problem(client("admin").post(API, json=sent | {"kind": "account"}), 400)
    assert answer["place"] == "/segment"
    id = make(client, "https://crm.example/", kind="user", segment=segment)["id"]
    move(client, id, "activate")
    answer = problem(client("admin").delete(f"/api/segments/{segment}"), 409, "conflict")
    assert "“CRM”" in answer["detail"]
    move(client, id, "archive")
    assert client("admin").delete(f"/api/segments/{segment}").status_code == 200


def test_a_new_secret_signs_beside_the_one_before(here: Clients, receiver: Receiver) -> None:
    made = make(here, receiver.url)
    renewed = here("admin").post(f"{API}/{made['id']}/secret")
    assert renewed.headers["cache-control"] == "no-store"
    assert renewed.json()["secret"] != made["secret"]
    move(here, made["id"], "test")
    [message] = receiver.came
    assert verified(message, made["secret"])
    assert verified(message, renewed.json()["secret"])
    late = {**message.headers, "webhook-timestamp": str(int(time.time()) - 3_600)}
    message.headers = late
    assert not verified(message, made["secret"])


def test_case_23_a_destination_that_named_an_erased_one_by_value_is_cleaned(
    here: Clients, receiver: Receiver
) -> None:
    name = "ada@acme.example"
    here.send({"type": "identify", "userId": "ada", "traits": {"email": name}})
    news = [{"about": "page", "names": ["/home", f"/of/{name}"]}]
    id = make(here, f"{receiver.url}?who={name}", news=news)["id"]
    move(here, id, "activate")
    here.erase("user", "external:ada")
    until(lambda: len(receiver.taken()) == 1)
    for path in (API, f"{API}/{id}", f"{API}/{id}/history"):
        text = here("admin").get(path).text
        assert name not in text
        assert "(erased)" in text
    assert [message.path for message in receiver.came] == ["/hooks?who=(erased)"]
    history = here("admin").get(f"{API}/{id}/history").json()["items"]
    assert [one["version"] for one in history] == [2, 1]


def test_the_receipt_of_an_erasure_says_which_destinations_were_told(
    here: Clients, receiver: Receiver
) -> None:
    login(here)
    told, paused, gone = (
        make(here, f"{receiver.url}/{name}", name=name)["id"] for name in ("told", "paused", "gone")
    )
    for id in (told, paused, gone):
        move(here, id, "activate")
    move(here, paused, "pause")
    move(here, gone, "archive")
    answer = here.taken(
        here("comply").post(
            "/api/erasures", json={"kind": "user", "id": "external:ada", "confirm": "confirm"}
        )
    )
    late = make(here, f"{receiver.url}/late", name="late")["id"]
    move(here, late, "activate")

    def states() -> dict[str, str]:
        receipt = here("comply").get(f"/api/erasures/{answer['id']}").json()
        return {one["name"]: one["state"] for one in receipt["destinations"]}

    until(lambda: states().get("told") == "told")
    assert states() == {"told": "told", "paused": "paused", "gone": "archived"}
    [item] = receiver.taken("/hooks/told")
    assert (item["type"], item["user"]["id"]) == ("contact.erased", answer["subject"])
    move(here, paused, "resume")
    until(lambda: states()["paused"] == "told")
