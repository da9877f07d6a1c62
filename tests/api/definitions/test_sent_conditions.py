"""A condition in a request stays the JSON that was sent, until it is decoded once."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.definitions.definitions import HealthProfileRequest, SignalRequest
from api.definitions.segments import SegmentRequest
from api.openapi.described import json_or_none

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(), values, max_size=3),
    max_leaves=8,
)


@given(condition=st.dictionaries(st.text(), JSON, max_size=3), indent=st.integers(0, 3))
def test_a_condition_is_kept_byte_for_byte(condition: dict[str, Any], indent: int) -> None:
    sent = msgspec.json.format(msgspec.json.encode(condition), indent=indent)
    body = b'{"kind":"user","name":"n","condition":' + sent + b"}"
    assert bytes(msgspec.json.decode(body, type=SegmentRequest).condition) == sent
    signal = msgspec.json.decode(b'{"type":"signal",' + body[1:], type=SignalRequest)
    assert bytes(signal.condition) == sent
    assert json_or_none(signal.goal) is None


@pytest.mark.parametrize("fields", [b"", b',"good": null,"bad":null'])
def test_a_condition_that_is_null_or_left_out_is_none(fields: bytes) -> None:
    body = b'{"type":"health_profile","kind":"user","name":"n","stages":[]' + fields + b"}"
    profile = msgspec.json.decode(body, type=HealthProfileRequest)
    assert json_or_none(profile.good) is json_or_none(profile.bad) is None
