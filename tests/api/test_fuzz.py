"""Whatever is sent to intake has an answer, and takes nothing good with it: calls of all sorts in
one batch, and bytes. Bodies by their schema are sent in tests/api/openapi/test_schema.py."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.examples import examples
from tests.serving import GOOD, Clients, goods, problem

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(codec=None), max_size=20)
    | st.sampled_from(["2026-01-01", "2026-01-01T00:00:00Z", "ada", "a@b.example", "https://x/y"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["email", "domain", "campaign", "page", "traits", "groupId", "url"])
            | st.text(st.characters(codec=None), max_size=8),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)
calls = st.fixed_dictionaries(
    {"type": st.sampled_from(["identify", "group", "track", "page", "screen", "alias"])},
    optional={
        "userId": st.sampled_from(["ada", "bob"]) | json_values,
        "groupId": st.sampled_from(["acme"]) | json_values,
        "previousId": st.sampled_from(["bob", "eve"]) | json_values,
        "messageId": st.sampled_from(["1", "2"]) | json_values,
        "event": st.sampled_from(["opened"]) | json_values,
        "name": json_values,
        "timestamp": st.sampled_from(["2026-01-01T00:00:00Z"]) | json_values,
        "traits": json_values,
        "properties": json_values,
        "context": json_values,
    },
)


class TestAnything:
    @given(messages=st.lists(calls | json_values, min_size=1, max_size=4))
    @settings(max_examples=examples(80))
    def test_no_message_breaks_the_intake_or_takes_a_good_one_with_it(
        self, client: Clients, messages: list[Any]
    ) -> None:
        before = goods(client)
        body = json.dumps({"batch": [json.loads(GOOD), *messages, json.loads(GOOD)]})
        answer = client.send_bytes(body.encode())
        assert len(answer["results"]) == len(messages) + 2
        assert {answer["results"][0]["status"], answer["results"][-1]["status"]} == {"stored"}
        for n, result in enumerate(answer["results"]):
            if result["status"] == "refused":
                assert result["place"].startswith(f"/batch/{n}")
                assert result["detail"]
        assert goods(client) == before + 2
        assert client.see("/api/status")["parked"] == 0

    @given(body=st.binary(max_size=200))
    @settings(max_examples=examples(50))
    def test_any_bytes_as_a_body_have_an_answer(self, client: Clients, body: bytes) -> None:
        for headers in ({}, {"Content-Encoding": "gzip"}):
            problem(_post(client, body, **headers), 400)


def _post(client: Clients, body: bytes, **headers: str) -> Any:
    return client("write").post("/v1/batch", content=body, headers=headers)
