"""Bodies: nothing is read or unpacked for a stranger, and all at once have a bounded room."""

from __future__ import annotations

import asyncio
import gzip
import json
import random
import socket
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.http import bodies
from api.http.bodies import MAX_UNKEYED_BODY_BYTES, Room, unpacked
from api.intake import routes, segment
from domain.errors import InvalidInput, TooManyAtOnce
from tests.serving import GOOD, Clients, problem

BATCH = b'{"batch":[' + GOOD + b"]}"


@pytest.mark.parametrize("key", [None, "nobody", "read"])
def test_a_stranger_is_answered_before_its_body_comes(standing: Clients, key: str | None) -> None:
    key = standing.keys.get(key or "", key)
    header = b"" if key is None else b"Authorization: Bearer %s\r\n" % key.encode()
    address = urlsplit(standing.url)
    with socket.create_connection((address.hostname, address.port), timeout=30) as connection:
        connection.sendall(
            b"POST /v1/batch HTTP/1.1\r\nHost: a\r\nContent-Length: 4000000\r\n"
            b"Content-Encoding: gzip\r\n" + header + b"\r\n"
        )
        assert connection.recv(100).split()[1] in (b"401", b"403")


def test_nothing_is_unpacked_or_decoded_before_the_key_is_known(
    standing: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any) -> Any:
        raise AssertionError

    monkeypatch.setattr(routes, "unpacked", never)
    monkeypatch.setattr(segment, "decoded", never)
    packed = {"Content-Encoding": "gzip"}
    body = json.dumps({"batch": [], "writeKey": standing.keys["write"]}).encode()
    answer = standing(None).post("/v1/batch", content=gzip.compress(body), headers=packed)
    assert "Authorization: Bearer" in problem(answer, 401, "missing-key")["detail"]
    long = body[:-1] + b" " * MAX_UNKEYED_BODY_BYTES + b"}"
    problem(standing(None).post("/v1/batch", content=long), 401, "missing-key")
    problem(standing(None).post("/v1/batch", content=iter([long])), 401, "missing-key")
    for scope in ("read", "admin"):
        answer = standing(scope).post("/v1/batch", content=gzip.compress(body), headers=packed)
        problem(answer, 403, "wrong-scope")
    for junk in (b"[" * 100_000, b"1" * 100_000, b'{"writeKey":"nobody","batch":[NaN]}'):
        problem(standing(None).post("/v1/batch", content=junk), 401)


def test_a_write_key_in_a_body_that_is_no_strict_json_is_found(standing: Clients) -> None:
    key = standing.keys["write"].encode()
    odd = b'{"batch":[' + GOOD + b',{"type":"track","event":"\\ud83d"}],"writeKey":"%s"}' % key
    answer = standing.taken(standing(None).post("/v1/batch", content=odd))
    assert [one["status"] for one in answer["results"]] == ["stored", "refused"]
    inner = b'{"batch":[{"type":"track","event":NaN,"writeKey":"%s"}]}' % key
    problem(standing(None).post("/v1/batch", content=inner), 401, "unknown-key")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(st.dictionaries(st.text(), json_values), st.none() | json_values)
def test_the_key_that_a_body_is_read_for_is_the_one_that_its_batch_has(
    beside: dict[str, Any], key: Any
) -> None:
    body = json.dumps(beside | {"batch": [], "writeKey": key}).encode()
    assert segment.write_key_of(body) == segment.decoded(body).write_key


@given(st.binary(max_size=300_000), st.integers(0, 200_000))
def test_a_body_unpacks_to_what_was_packed_or_is_too_large(content: bytes, limit: int) -> None:
    packed = bytearray(gzip.compress(content, 1))
    if len(content) <= limit:
        assert unpacked(packed, limit) == content
    else:
        with pytest.raises(bodies.RequestEntityTooLarge):
            unpacked(packed, limit)
    assert not packed


@given(st.binary(max_size=2_000))
def test_what_is_cut_short_or_no_gzip_is_refused(content: bytes) -> None:
    whole = gzip.compress(content)
    for wrong in (whole[:-1], whole[:9], content[:1] + whole):
        if wrong[:2] != whole[:2] or len(wrong) < len(whole):
            with pytest.raises(InvalidInput):
                unpacked(bytearray(wrong))


@given(st.integers(), st.lists(st.integers(0, 40), max_size=30))
def test_bodies_never_take_more_than_the_room_and_each_has_its_turn(
    seed: int, sizes: list[int]
) -> None:
    order, inside, done = random.Random(seed), [0], []

    async def one(room: Room, n: int, size: int) -> None:
        await room.take(size)
        inside[0] += size
        assert inside[0] <= 40
        for _ in range(order.randrange(3)):
            await asyncio.sleep(0)
        inside[0] -= size
        room.give_back(size)
        done.append(n)

    async def all_of_them() -> None:
        room = Room(40)
        tasks = [asyncio.create_task(one(room, n, size)) for n, size in enumerate(sizes)]
        await asyncio.gather(*tasks)
        await asyncio.wait_for(room.take(40), 1)

    asyncio.run(all_of_them())
    assert sorted(done) == list(range(len(sizes)))


def test_who_finds_no_room_is_told_so_and_takes_none() -> None:
    async def story() -> None:
        room = Room(10, patience=0.01)
        await room.take(8)
        for _ in range(2):
            with pytest.raises(TooManyAtOnce):
                await room.take(5)
        await room.take(2)
        room.give_back(10)
        waiting = asyncio.create_task(room.take(10))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        room.give_back(10)
        await room.take(10)

    asyncio.run(story())


def test_strangers_have_a_room_of_their_own(
    client: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests import serving

    [server] = [one for one in serving.running if one.url == client.url]
    monkeypatch.setattr(server.app.state.limits.rooms, "unknown", Room(0, patience=0.01))
    refused = client(None).post("/v1/batch", content=BATCH)
    problem(refused, 429, "too-many")
    assert refused.headers["retry-after"] == "1"
    assert client("write").post("/v1/batch", content=BATCH).status_code == 200
