"""Those who send while processes are killed: what is not answered is sent again under the same ids,
until it is acknowledged; and each keeps its own books of what was."""

from __future__ import annotations

import json
import random
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

USERS = 25
"""Of each sender."""
ACCOUNTS = 5
PLANS = ("free", "trial", "pro")
EVENT = "did"


class Caller:
    """A client with the key of a scope, which does not give up."""

    def __init__(self, url: str, data: Path, scope: str) -> None:
        key = json.loads((data / "keys.json").read_text())[scope]
        headers = {"Authorization": f"Bearer {key}"}
        self._client = httpx.Client(base_url=url, headers=headers, timeout=10)

    def __call__(self, method: str, path: str, *, seconds: float = 180, **how: Any) -> Any:
        """The answer that is no failure of the server's; a 4xx is the caller's to look at."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                answer = self._client.request(method, path, **how)
                if answer.status_code < 500 and answer.status_code != 429:
                    return answer
                reason = answer.text
            except httpx.HTTPError as error:
                reason = type(error).__name__
            assert time.monotonic() < deadline, f"{method} {path}: {reason}"
            time.sleep(0.1)

    def close(self) -> None:
        self._client.close()


class Sender:
    """Sends batches about users of its own, and merges some of them.

    Attributes:
        tracked: by mark of an event, the user that did it.
        changed: marks of changes of properties.
    """

    def __init__(self, name: str, call: Caller, seed: str) -> None:
        self._name = name
        self._call = call
        self._chance = random.Random(seed)
        self._known: list[str] = []
        self._lives_on: dict[str, str] = {}
        self.tracked: dict[str, str] = {}
        self.changed: set[str] = set()
        self.messages = 0

    def survivor(self, user: str) -> str:
        while user in self._lives_on:
            user = self._lives_on[user]
        return user

    @property
    def users(self) -> set[str]:
        return {self.survivor(user) for user in self._known}

    def step(self) -> None:
        """One batch, sent until it is acknowledged."""
        batch: list[dict[str, Any]] = []
        tracked: dict[str, str] = {}
        changed: set[str] = set()
        merged: set[str] = set()
        for _ in range(self._chance.randint(1, 30)):
            user = f"{self._name}-{self._chance.randrange(USERS)}"
            mark = uuid.UUID(int=self._chance.getrandbits(128), version=4).hex
            chance = self._chance.random()
            others = [one for one in self._known if self.survivor(one) != self.survivor(user)]
            message: dict[str, Any] = {"messageId": mark, "userId": user}
            if user not in self._known or chance < 0.25:
                plan = self._chance.choice(PLANS)
                message |= {"type": "identify", "traits": {"plan": plan, "mark": mark}}
                changed.add(mark)
                if user not in self._known:
                    self._known.append(user)
            elif chance < 0.35:
                account = f"{self._name}-account-{self._chance.randrange(ACCOUNTS)}"
                message |= {"type": "group", "groupId": account, "traits": {"size": len(mark)}}
            elif chance < 0.37 and others and user not in merged:
                other = self._chance.choice(others)
                message |= {"type": "alias", "previousId": other}
                merged |= {user, other}
                self._lives_on[self.survivor(other)] = self.survivor(user)
            else:
                message |= {"type": "track", "event": EVENT, "properties": {"mark": mark}}
                tracked[mark] = user
            batch.append(message)
        answer = self._call("POST", "/v1/batch", json={"batch": batch})
        assert answer.status_code == 200, answer.text
        for result in answer.json()["results"]:
            assert result["status"] in ("stored", "duplicate"), result
            assert "refused" not in result, result
        self.tracked |= tracked
        self.changed |= changed
        self.messages += len(batch)


class Forgetter:
    """Makes users known, who are erased once they are stored.

    Attributes:
        secrets: values that only they had.
        erasures: ids, in the order of their requests.
    """

    def __init__(self, send: Caller, erase: Caller, seed: str) -> None:
        self._send = send
        self._erase = erase
        self._chance = random.Random(seed)
        self.secrets: list[str] = []
        self.erasures: list[str] = []

    def step(self) -> None:
        n = len(self.erasures)
        secret = f"secret{self._chance.getrandbits(64):016x}"
        user, other = f"doomed-{n}", f"doomed-{n}-once"
        traits = {"name": f"Ada {secret}", "email": f"{secret}@doomed.example", "plan": "pro"}
        calls: list[dict[str, Any]] = [
            {"type": "identify", "userId": user, "traits": traits},
            {"type": "identify", "userId": other, "traits": {"name": f"Dee {secret}"}},
            {"type": "group", "userId": user, "groupId": f"doomed-account-{n}"},
            {"type": "track", "userId": user, "event": EVENT, "properties": {"said": secret}},
        ]
        if self._chance.random() < 0.5:
            calls.append({"type": "alias", "userId": user, "previousId": other})
        batch = [call | {"messageId": f"{user}-{at}"} for at, call in enumerate(calls)]
        answer = self._send("POST", "/v1/batch", json={"batch": batch})
        assert answer.status_code == 200, answer.text
        self.secrets.append(secret)
        order = {
            "kind": "user",
            "ids": [f"external:{user}", f"external:{other}"],
            "confirm": "confirm",
        }
        headers = {"Idempotency-Key": str(uuid.UUID(int=self._chance.getrandbits(128), version=4))}
        answer = self._erase("POST", "/api/erasures", json=order, headers=headers)
        assert answer.status_code == 200, answer.text
        self.erasures.append(answer.json()["id"])


class Definer:
    """Defines segments and scores, and changes them."""

    def __init__(self, call: Caller, seed: str) -> None:
        self._call = call
        self._chance = random.Random(seed)
        self.made = 0

    def _condition(self) -> dict[str, Any]:
        plan = self._chance.choice(PLANS)
        did = {
            "type": "activity",
            "activity": "event",
            "name": EVENT,
            "count": {"op": "at_least", "times": self._chance.randint(1, 9)},
        }
        has = {"type": "property", "name": "plan", "test": {"op": "is", "value": plan}}
        return {"type": self._chance.choice(("all", "any")), "of": [has, did]}

    def step(self) -> None:
        known = self._call("GET", "/api/segments", params={"kind": "user"}).json()["items"]
        if len(known) >= 4:
            one = self._chance.choice(known)
            body = {"kind": "user", "name": one["name"], "condition": self._condition()}
            if self._chance.random() < 0.3:
                answer = self._call("DELETE", f"/api/segments/{one['id']}")
            else:
                answer = self._call("PUT", f"/api/segments/{one['id']}", json=body)
        else:
            body = {
                "kind": "user",
                "name": f"Segment {self._chance.getrandbits(64):x}",
                "condition": self._condition(),
            }
            answer = self._call("POST", "/api/segments", json=body)
        # What was carried out and not answered is a conflict, or gone, when it is asked for again.
        assert answer.status_code in (200, 404, 409), answer.text
        self.made += 1


def repeat(step: Callable[[], None], pause: float, stop: threading.Event) -> None:
    """Takes steps, with some seconds between them, until told to stop; ends what it has begun."""
    while not stop.is_set():
        step()
        stop.wait(pause)
