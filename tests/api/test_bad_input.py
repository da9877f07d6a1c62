"""Bad input: a clear answer, nothing half-stored, and the rest of the batch kept."""

from __future__ import annotations

import gzip
import json
import re
import socket
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from api.http.bodies import MAX_BODY_BYTES
from tests.serving import GOOD, Clients, goods, problem

SURROGATE = "\ud83d"
SOME_ID = "2f0e1d5e-61a4-4a6e-8a2e-0f6d5a3b7c10"


def post(client: Clients, body: bytes, **headers: str) -> httpx.Response:
    return client("write").post("/v1/batch", content=body, headers=headers)


def batch(*messages: bytes) -> bytes:
    return b'{"batch":[' + b",".join(messages) + b"]}"


def nothing_is_stored(client: Clients) -> bool:
    heads = client.annals.log.heads(list(range(256)))
    return not any(heads.values())


def refused_alone(client: Clients, *messages: bytes) -> list[dict[str, Any]]:
    """Sends each message in a batch of its own, between two good ones; returns their results."""
    before = goods(client)
    results = []
    for message in messages:
        answer = client.send_bytes(batch(GOOD, message, GOOD))
        assert [answer["results"][n]["status"] for n in (0, 2)] == ["stored", "stored"]
        result: dict[str, Any] = answer["results"][1]
        assert answer["success"] == (result["status"] != "refused")
        results.append(result)
    assert goods(client) == before + 2 * len(messages)
    return results


def encoded(*messages: dict[str, Any]) -> list[bytes]:
    return [json.dumps(message).encode() for message in messages]


def stored_users(client: Clients) -> set[str]:
    return {str(item["external_id"]) for item in client.pages("/api/users")}


class TestBodies:
    """Nothing of them is stored, so that all are sent to one server."""

    def test_a_value_of_another_type_is_refused_and_not_converted(self, standing: Clients) -> None:
        for body, place in (
            ({"backdated_stages": 0}, "/backdated_stages"),
            ({"backdated_stages": "true"}, "/backdated_stages"),
            ({"retention": {"months": "5"}}, "/retention/months"),
            ({"users": {"events": ["a", 1]}}, "/users/events/1"),
        ):
            answer = standing("admin").put("/api/settings", json=body)
            assert problem(answer, 400, "invalid-input")["place"] == place

    def test_what_is_not_json_is_refused_whole(self, standing: Clients) -> None:
        for body in NO_JSON:
            problem(post(standing, body), 400, "invalid-input")
            assert nothing_is_stored(standing)

    def test_json_without_a_list_batch_is_refused_and_says_so(self, standing: Clients) -> None:
        for body in BAD_BATCHES:
            assert problem(post(standing, body), 400)["place"] == "/batch"

    def test_too_many_messages_are_refused_whole(self, standing: Clients) -> None:
        assert problem(post(standing, batch(*[GOOD] * 2_501)), 400)["place"] == "/batch"
        assert nothing_is_stored(standing)
        lenient = batch(*[GOOD] * 2_500, b'{"event":"\\ud83d"}')
        assert problem(post(standing, lenient), 400)["place"] == "/batch"
        assert nothing_is_stored(standing)

    def test_a_body_that_is_too_large_is_refused_whole(self, standing: Clients) -> None:
        filler = b'{"x":"' + b"x" * 10_000 + b'"},'
        body = b'{"batch":[' + filler * 450 + GOOD + b"]}"
        assert len(body) > MAX_BODY_BYTES
        problem(post(standing, body), 413, "too-large")
        problem(
            standing("write").post("/v1/batch", content=(body[:9_000] for _ in range(500))), 413
        )
        assert nothing_is_stored(standing)

    def test_a_body_that_says_it_is_huge_is_refused_before_it_comes(
        self, standing: Clients
    ) -> None:
        address = urlsplit(standing.url)
        with socket.create_connection((address.hostname, address.port), timeout=30) as connection:
            connection.sendall(
                b"POST /v1/batch HTTP/1.1\r\nHost: a\r\nContent-Length: 999999999999\r\n"
                b"Authorization: Bearer " + standing.keys["write"].encode() + b"\r\n\r\n"
            )
            assert connection.recv(100).startswith(b"HTTP/1.1 413 ")

    def test_a_gzip_bomb_is_refused_whole(self, standing: Clients) -> None:
        bomb = gzip.compress(b'{"batch":[' + b" " * (300 * 1024 * 1024) + b"]}", compresslevel=1)
        assert len(bomb) < MAX_BODY_BYTES
        problem(post(standing, bomb, **{"Content-Encoding": "gzip"}), 413, "too-large")

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"{}",
            batch(GOOD),
            gzip.compress(batch(GOOD), mtime=0)[:-9],
            b"\x1f\x8b" + b"\0" * 20,
        ],
    )
    def test_what_is_not_gzip_though_it_says_so_is_refused(
        self, standing: Clients, body: bytes
    ) -> None:
        problem(post(standing, body, **{"Content-Encoding": "gzip"}), 400, "invalid-input")
        assert nothing_is_stored(standing)

    @pytest.mark.parametrize("encoding", ["br", "deflate", "gzip, gzip", "nonsense"])
    def test_another_encoding_is_refused(self, standing: Clients, encoding: str) -> None:
        problem(post(standing, batch(GOOD), **{"Content-Encoding": encoding}), 415)

    @pytest.mark.parametrize("key", [b'"\\ud83d"', b"5", b"null", b'""', b'"nobody"', b'"\xff"'])
    def test_a_body_with_a_wrong_write_key_is_not_let_in(
        self, standing: Clients, key: bytes
    ) -> None:
        body = batch(GOOD)[:-1] + b',"writeKey":' + key + b"}"
        problem(standing(None).post("/v1/batch", content=body), 401)
        assert nothing_is_stored(standing)


def test_a_parameter_with_the_character_nul_is_refused_at_its_place(standing: Clients) -> None:
    document = standing(None).get("/schema/openapi.json").json()
    asked = 0
    for path, operations in document["paths"].items():
        for parameter in operations.get("get", {}).get("parameters", ()):
            if parameter["in"] == "query":
                query = {parameter["name"]: ["fine", "a\0b"]}
                answer = standing("read").get(re.sub(r"{\w+}", SOME_ID, path), params=query)
                assert problem(answer, 400)["place"] == f"/{parameter['name']}"
                asked += 1
    assert asked > 100
    answer = standing("read").get("/console/sign-in", params={"next": "\0"})
    assert answer.status_code == 400


BAD_IDS: list[Any] = [
    "",
    " ",
    "x" * 10_240,
    "a\0b",
    "a\nb",
    "a\x7fb",
    SURROGATE,
    "a\u202eb",
    "a\u2028b",
    1.5,
    True,
    [],
    {},
    1e300,
    float("nan"),
]
BAD_MESSAGE_IDS: list[Any] = ["", "x" * 10_240, "a\0b", "a\nb", SURROGATE, 1.5, True, [], {}]
BAD_TIMES: list[Any] = [
    "now",
    "2026-03-04T05:06:07",
    "2026-03-04",
    "2026-02-29T00:00:00Z",
    "2026-02-30T00:00:00Z",
    "2026-13-01T00:00:00Z",
    "2026-00-01T00:00:00Z",
    "2026-03-04T24:00:00Z",
    "2026-03-04T25:00:00Z",
    "2016-12-31T23:59:60Z",
    "0000-01-01T00:00:00Z",
    "0001-01-01T00:00:00Z",
    "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59Z",
    "9999-12-31T23:59:59-12:00",
    "10000-01-01T00:00:00Z",
    "-2026-01-01T00:00:00Z",
    "2026-03-04T05:06:07+99:00",
    "2026-03-04T05:06:07\0Z",
    f"2026-03-04T05:06:07{SURROGATE}Z",
    "２026-03-04T05:06:07Z",
    1_772_600_767,
    1.5,
    True,
    [],
    {},
]
BAD_NAMES: list[Any] = ["", "x" * 129, "a\0b", SURROGATE, 1.5, None, [], {}, "a@b.example"]
BAD_URLS: list[Any] = [
    "",
    "/cart",
    "shop",
    "https://",
    "https://[",
    "a\0b",
    SURROGATE,
    5,
    None,
    [],
    "https://x/" + "y" * 3_000,
]
NO_OBJECTS: list[Any] = [5, "text", [1], True]
BAD_TYPES: list[Any] = [
    b"null",
    b'"shout"',
    b'"Track"',
    b'""',
    b"5",
    b"{}",
    b'"\\ud83d"',
    b'"tr\\u0000"',
]
BAD_PROPERTY_NAMES: list[Any] = ["", " ", "a\0b", "x" * 200, SURROGATE, "\x7f", f"a{SURROGATE}b"]
BAD_MESSAGES: list[Any] = [b"null", b"5", b'"track"', b"[]", b"true", b"[" + GOOD + b"]"]
BAD_BATCHES: list[Any] = [
    b"null",
    b"[]",
    b'"batch"',
    b"5",
    b"{}",
    b'{"batch":null}',
    b'{"batch":{"0":1}}',
]
NO_JSON: list[Any] = [
    b"",
    b" ",
    b"{",
    b"nonsense",
    b'{"batch":[',
    batch(GOOD)[:-1],
    batch(GOOD)[:-10],
    batch(GOOD) + b"x",
    b'{"batch":[{"type":"track",}]}',
    b'{"batch":[{"type":"track"},]}',
    b"{'batch': []}",
    b'{"batch":[{"event":"a\x00b"}]}',
    b'{"batch":[{"event":"a\nb"}]}',
    b"\xff\xfe{\x00",
    b"<batch/>",
]
DEEP = b"[" * 10_000 + b"]" * 10_000
WHO = b'"userId":"bad","timestamp":"2026-03-04T05:06:07Z"'


class TestMessages:
    def test_a_message_that_is_no_object_spoils_itself_only(self, client: Clients) -> None:
        for result in refused_alone(client, *BAD_MESSAGES):
            assert result["place"] == "/batch/1"

    def test_an_unknown_type_of_call_is_refused(self, client: Clients) -> None:
        messages = [b'{"type":' + kind + b"," + WHO + b"}" for kind in BAD_TYPES]
        for result in refused_alone(client, *messages):
            assert (result["code"], result["place"]) == ("invalid-input", "/batch/1/type")
        assert stored_users(client) == {"good"}

    def test_a_message_that_is_too_large_is_refused(self, client: Clients) -> None:
        text = b"x" * (32 * 1024)
        plain = b'{"type":"identify","userId":"bad","x":"' + text + b'"}'
        surrogate = b'{"type":"identify","userId":"bad","y":"\\ud83d","x":"' + text + b'"}'
        for result in refused_alone(client, plain, surrogate):
            assert result["status"] == "refused"
        assert stored_users(client) == {"good"}

    @pytest.mark.parametrize(
        ("call", "place"),
        [
            ({"type": "identify", "userId": ...}, "/userId"),
            ({"type": "identify", "traits": {"email": ...}}, "/traits/email"),
            ({"type": "group", "groupId": ..., "userId": "bad"}, "/groupId"),
            ({"type": "track", "event": "x", "userId": ...}, "/userId"),
            ({"type": "alias", "userId": "bad", "previousId": ...}, "/previousId"),
            ({"type": "alias", "userId": ..., "previousId": "bad"}, "/userId"),
        ],
    )
    def test_an_id_that_cannot_be_is_refused_at_its_place(
        self, client: Clients, call: dict[str, Any], place: str
    ) -> None:
        # An empty object among the traits is no value, and so no email.
        bad = [id for id in BAD_IDS if (place, id) != ("/traits/email", {})]
        for result in refused_alone(client, *encoded(*(filled(call, id) for id in bad))):
            assert (result["status"], result["place"]) == ("refused", f"/batch/1{place}")
        assert stored_users(client) == {"good"}
        assert client.see("/api/accounts")["total"] == 0

    def test_a_message_id_that_cannot_be_is_refused(self, client: Clients) -> None:
        call = {"type": "identify", "userId": "bad"}
        messages = encoded(*({**call, "messageId": id} for id in BAD_MESSAGE_IDS))
        for result in refused_alone(client, *messages):
            assert (result["status"], result["place"]) == ("refused", "/batch/1/messageId")
        assert stored_users(client) == {"good"}

    def test_a_timestamp_that_is_no_moment_is_refused(self, client: Clients) -> None:
        call = {"type": "identify", "userId": "bad"}
        messages = encoded(*({**call, "timestamp": time} for time in BAD_TIMES))
        for result in refused_alone(client, *messages):
            assert (result["status"], result["place"]) == ("refused", "/batch/1/timestamp")
        assert stored_users(client) == {"good"}

    @pytest.mark.parametrize("call", ["track", "screen"])
    def test_an_event_or_screen_without_a_proper_name_is_refused(
        self, client: Clients, call: str
    ) -> None:
        key = "event" if call == "track" else "name"
        messages = encoded(*({"type": call, "userId": "bad", key: name} for name in BAD_NAMES))
        for result in refused_alone(client, *messages):
            assert (result["status"], result["place"]) == ("refused", f"/batch/1/{key}")

    def test_a_page_without_a_proper_url_is_refused(self, client: Clients) -> None:
        call = {"type": "page", "userId": "bad"}
        messages = encoded(*({**call, "properties": {"url": url}} for url in BAD_URLS))
        for result in refused_alone(client, *messages):
            assert (result["status"], result["place"]) == ("refused", "/batch/1/properties/url")

    @pytest.mark.parametrize("place", ["traits", "context"])
    def test_a_part_that_is_no_object_is_left_out_by_name(
        self, client: Clients, place: str
    ) -> None:
        call = {"type": "identify", "userId": "bad"}
        messages = encoded(*({**call, place: value} for value in NO_OBJECTS))
        for result in refused_alone(client, *messages):
            assert result["status"] == "stored"
            assert [one["name"] for one in result["refused"]] == [place]

    @pytest.mark.parametrize(
        ("call", "name"),
        [
            ({"type": "group", "groupId": "g", "userId": ...}, "userId"),
            ({"type": "group", "groupId": "g", "traits": {"domain": ...}}, "domain"),
            (
                {"type": "track", "event": "x", "userId": "u", "context": {"groupId": ...}},
                "context.groupId",
            ),
        ],
    )
    def test_an_id_that_cannot_be_is_left_out_where_the_message_has_another(
        self, client: Clients, call: dict[str, Any], name: str
    ) -> None:
        bad = [id for id in BAD_IDS if (name, id) != ("domain", {})]
        for result in refused_alone(client, *encoded(*(filled(call, id) for id in bad))):
            assert result["status"] == "stored"
            assert [one["name"] for one in result["refused"]] == [name]


def filled(value: Any, id: object) -> Any:
    """A call with an id where it has an ellipsis."""
    if value is ...:
        return id
    return {k: filled(v, id) for k, v in value.items()} if isinstance(value, dict) else value


BAD_VALUES = [
    b'"a\\u0000b"',
    b'"\\ud83d"',
    b'"\\udca9\\ud83d"',
    b'"\xff"',
    b'"\xed\xa0\xbd"',
    b"NaN",
    b"Infinity",
    b"-Infinity",
    b"1e999",
    b"9" * 30,
    b"9" * 5_000,
    b"-" + b"9" * 30,
    b'"' + b"x" * 9_000 + b'"',
]
DEEP_VALUES = [b"[[1]]", DEEP, b'{"a":' * 5_000 + b"1" + b"}" * 5_000]
TRAITS = [
    b'{"type":"identify",%s,"traits":{"bad":%s,"fine":1}}',
    b'{"type":"track","event":"x",%s,"properties":{"bad":%s,"fine":1}}',
    b'{"type":"group","groupId":"g",%s,"traits":{"bad":%s,"fine":1}}',
    b'{"type":"group","groupId":"g",%s,"context":{"relationship":{"bad":%s,"fine":1}}}',
]


class TestValues:
    @pytest.mark.parametrize("call", TRAITS, ids=["identify", "track", "group", "relationship"])
    def test_a_value_that_cannot_be_kept_is_refused_alone_by_name(
        self, client: Clients, call: bytes
    ) -> None:
        for result in refused_alone(client, *(call % (WHO, value) for value in BAD_VALUES)):
            assert result["status"] == "stored"
            assert [one["name"] for one in result["refused"]] == ["bad"]
        assert "bad" in stored_users(client)

    @pytest.mark.parametrize("call", TRAITS, ids=["identify", "track", "group", "relationship"])
    def test_a_value_that_is_nested_without_end_is_kept_or_left_out_by_name(
        self, client: Clients, call: bytes
    ) -> None:
        for result in refused_alone(client, *(call % (WHO, value) for value in DEEP_VALUES)):
            assert result["status"] == "stored"
            assert all(one["name"].startswith("bad") for one in result.get("refused", ()))

    @pytest.mark.parametrize("call", ["identify", "track"])
    def test_a_value_under_an_impossible_name_is_refused_alone(
        self, client: Clients, call: str
    ) -> None:
        message = {"type": call, "userId": "bad", "event": "x"}
        named = [{name: 1, "fine": 1} for name in BAD_PROPERTY_NAMES]
        messages = encoded(*({**message, "traits": one, "properties": one} for one in named))
        results = refused_alone(client, *messages)
        for result in results:
            assert result["status"] == "stored"
            assert len(result["refused"]) == 1

    @pytest.mark.parametrize("place", [b"context", b"unknown", b"integrations"])
    def test_what_is_not_read_does_not_matter(self, client: Clients, place: bytes) -> None:
        message = b'{"type":"identify",%s,"%s":{"a":%s}}'
        messages = [message % (WHO, place, value) for value in (*BAD_VALUES, *DEEP_VALUES)]
        assert refused_alone(client, *messages) == [{"status": "stored"}] * len(messages)

    @pytest.mark.parametrize("value", [b"[" * 10_000, b'{"a":' * 10_000, b'"' + b"\\" * 9_999])
    def test_depth_that_is_cut_short_is_refused_whole(
        self, standing: Clients, value: bytes
    ) -> None:
        problem(post(standing, batch(GOOD)[:-2] + b"," + value), 400, "invalid-input")
        assert nothing_is_stored(standing)
