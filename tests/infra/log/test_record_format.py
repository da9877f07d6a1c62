"""docs/log-format.md says what is stored: its example is held against the code, byte by byte."""

from __future__ import annotations

import re
import uuid
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import psycopg
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from domain.activity import Activity, ActivityKind
from domain.definitions.retention import RetentionBounds
from domain.events.payloads import AccountPart, Tracked
from domain.events.recorded import RecordedEvent, SealedEvent
from domain.identity import SubjectId, log_partition
from infra.bootstrap.annals import Annals
from infra.keys.opening import Secrets, Tampered, opened
from infra.keys.subject_key import SubjectKey
from infra.log.record_format import GENESIS, chained, stored_bytes
from tests.infra import chain
from tests.infra.rows import rows

PAGE = (Path(__file__).parents[3] / "docs" / "log-format.md").read_text()
BLOCKS = {
    name: bytes.fromhex(digits)
    for name, digits in re.findall(r"^```(\w+)\n([0-9a-f\n]+)```$", PAGE, re.MULTILINE)
}
VALUES = dict(re.findall(r"^    (\w+) {2,}(\S+)$", PAGE, re.MULTILINE))
USER_KEY, ACCOUNT_KEY = bytes(range(32)), bytes(range(32, 64))
PAYLOAD = Tracked(Activity(ActivityKind.EVENT, "login", {"plan": "pro"}))
RECORDED_AT = datetime.fromisoformat(VALUES["recorded_at"])


def example() -> SealedEvent:
    return SealedEvent(
        stream=SubjectId(uuid.UUID(VALUES["stream"])),
        version=None,
        event_id=uuid.UUID(VALUES["event_id"]),
        account=SubjectId(uuid.UUID(VALUES["account"])),
        topic=VALUES["topic"],
        schema_version=int(VALUES["schema_version"]),
        occurred_at=datetime.fromisoformat(VALUES["occurred_at"]),
        state=BLOCKS["state"],
        account_state=BLOCKS["account_state"],
    )


def columns(row: SealedEvent, position: int, recorded_at: datetime) -> list[object]:
    return [
        log_partition(row.stream),
        position,
        row.stream,
        row.version,
        row.event_id,
        row.account,
        row.topic,
        row.schema_version,
        row.occurred_at,
        recorded_at,
        row.state,
        row.account_state,
    ]


def test_the_example_is_chained_as_the_page_says() -> None:
    assert log_partition(example().stream) == int(VALUES["log_partition"])
    stored = stored_bytes(example(), int(VALUES["log_partition"]), 1, RECORDED_AT)
    assert stored == BLOCKS["stored"]
    assert chained(GENESIS, stored) == BLOCKS["hash"]
    assert chain.stored(columns(example(), 1, RECORDED_AT)) == stored


def test_keys_of_months_are_derived_as_the_page_says() -> None:
    key, nonce = SubjectKey(1, USER_KEY), bytes(12)
    derived = SubjectKey(1, BLOCKS["derived"])
    of_month = key.of_month(bytes(range(0x40, 0x60)))
    assert of_month.seal(b"x", b"", nonce) == derived.seal(b"x", b"", nonce)


def test_the_example_opens_under_its_keys() -> None:
    keys = {
        example().stream.int: SubjectKey(1, USER_KEY),
        example().account.int: SubjectKey(1, ACCOUNT_KEY),
    }
    fields = {name: getattr(example(), name) for name in SealedEvent.__struct_fields__}
    row = RecordedEvent(
        **fields, log_partition=75, position=1, recorded_at=RECORDED_AT, hash=BLOCKS["hash"]
    )
    secrets = Secrets(keys, {}, RetentionBounds(), {})
    event = opened(row, secrets)
    assert event.payload == PAYLOAD
    assert event.account_part == AccountPart("login")
    with pytest.raises(Tampered):
        opened(msgspec.structs.replace(row, occurred_at=RECORDED_AT), secrets)


def test_the_example_is_sealed_as_the_page_says() -> None:
    assert msgspec.msgpack.encode(PAYLOAD) == BLOCKS["payload"]
    sealed = BLOCKS["state"]
    assert sealed[:2] == b"\0\1"
    assert AESGCM(USER_KEY).decrypt(sealed[2:14], sealed[14:], BLOCKS["bound"]) == BLOCKS["payload"]


@given(row=rows(), position=st.integers(1, 2**63 - 1), recorded_at=st.datetimes())
def test_any_row_has_the_bytes_that_the_format_says(
    row: SealedEvent, position: int, recorded_at: datetime
) -> None:
    recorded_at = recorded_at.replace(tzinfo=UTC)
    assert stored_bytes(row, log_partition(row.stream), position, recorded_at) == chain.stored(
        columns(row, position, recorded_at)
    )


def test_the_verifier_finds_each_kind_of_alteration(annals: Annals, database_url: str) -> None:
    stream = SubjectId(uuid.uuid4())
    annals.log.append([msgspec.structs.replace(example(), stream=stream)] * 3)
    assert chain.problems(database_url) == []
    partition = log_partition(stream)
    alterations = {
        "UPDATE log.events SET state = 'x' WHERE position = 2": f"{partition}:2: the hash",
        "UPDATE log.events SET recorded_at = now() - interval '1 day' WHERE position = 1": "hash",
        "UPDATE log.events SET account = NULL WHERE position = 3": f"{partition}:3: the hash",
        "DELETE FROM log.events WHERE position = 2": "after 1 comes 3",
        "DELETE FROM log.events WHERE position = 3": "heads",
        "UPDATE log.heads SET hash = sha256('x')": "heads",
        "UPDATE log.events SET stream = gen_random_uuid() WHERE position = 1": "the hash",
    }
    for statement, expected in alterations.items():
        with psycopg.connect(database_url) as conn:
            conn.execute(statement)
            conn.commit()
        assert any(expected in problem for problem in chain.problems(database_url)), statement
        with psycopg.connect(database_url) as conn:
            conn.execute("DELETE FROM log.events")
            conn.execute("UPDATE log.heads SET head = 0, hash = %s", (GENESIS,))
            conn.commit()
        annals.log.append([msgspec.structs.replace(example(), stream=stream)] * 3)
