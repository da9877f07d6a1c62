"""Sealed parts open where they were put, under their own key, unaltered; and nowhere else."""

from __future__ import annotations

import os
import traceback
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import msgspec
import psycopg
import pytest
from cryptography.exceptions import InvalidTag
from hypothesis import given
from hypothesis import strategies as st

from domain.activity import Activity, ActivityKind
from domain.errors import SubjectErased, UnreadableEvent
from domain.events.event import Event
from domain.events.payloads import AccountPart, Erased, PropertiesChanged, Tracked
from domain.events.recorded import OpenedEvent, RecordedEvent, SealedEvent
from domain.events.schema import NewerSchemaVersion
from domain.events.topics import PAYLOAD_OF_TOPIC
from domain.identity import SubjectId, SubjectKind
from domain.subjects.user import User
from infra.bootstrap.annals import Annals
from infra.keys.opening import SUBJECT_PART, Tampered
from infra.keys.snapshot_sealing import SnapshotSealer
from infra.keys.subject_key import NONCE_BYTES, SubjectKey, random_nonces
from infra.log.record_format import envelope_of
from projections.kernel.gaps import Gap, GapReason
from tests.infra.erasures import destroy_keys

AT = datetime(2026, 5, 13, 12, tzinfo=UTC)
PLANTED = "Ada Lovelace <ada@example.com>"
LOGIN = Tracked(Activity(ActivityKind.EVENT, "login", {"from": PLANTED}))
CHANGE = PropertiesChanged({"name": PLANTED})


def new() -> SubjectId:
    return SubjectId(uuid.uuid4())


def tracked(user: SubjectId, account: SubjectId | None) -> Event:
    return Event(SubjectKind.USER, user, None, AT, LOGIN, account)


def changed(user: SubjectId, version: int) -> Event:
    return Event(SubjectKind.USER, user, version, AT, CHANGE)


def placed(row: SealedEvent, position: int = 7) -> RecordedEvent:
    fields = {name: getattr(row, name) for name in SealedEvent.__struct_fields__}
    return RecordedEvent(
        **fields, log_partition=3, position=position, recorded_at=AT, hash=bytes(32)
    )


def sealed(annals: Annals, *events: Event) -> list[RecordedEvent]:
    return [placed(row, n) for n, row in enumerate(annals.sealer.seal_events(events), 1)]


def opened(annals: Annals, row: RecordedEvent) -> OpenedEvent:
    [one] = annals.sealer.open_rows([row])
    return one


def altered(row: RecordedEvent, **fields: object) -> RecordedEvent:
    return msgspec.structs.replace(row, **fields)


def assert_tampered(annals: Annals, row: RecordedEvent) -> None:
    with pytest.raises(UnreadableEvent) as caught:
        annals.sealer.open_rows([row])
    assert f"partition {row.log_partition}, position {row.position}" in str(caught.value)
    shown = "".join(traceback.format_exception(caught.value))
    for hidden in (PLANTED, "ada@", str(row.stream), row.state.hex(), "login"):
        assert not hidden or hidden not in shown


def test_case_1_what_is_sealed_opens_again(annals: Annals) -> None:
    user, account = new(), new()
    one, other = sealed(annals, tracked(user, account), changed(user, 1))
    assert opened(annals, one) == OpenedEvent(one, LOGIN, AccountPart("login"))
    assert opened(annals, other) == OpenedEvent(other, CHANGE, None)
    assert PLANTED.encode() not in one.state
    assert b"login" not in one.account_state


@given(data=st.data())
def test_case_1_no_single_flipped_bit_of_a_part_goes_unseen(
    annals: Annals, data: st.DataObject
) -> None:
    [row] = sealed(annals, tracked(new(), new()))
    part = data.draw(st.sampled_from(["state", "account_state"]))
    whole = getattr(row, part)
    bit = data.draw(st.integers(0, 8 * len(whole) - 1))
    flipped = bytearray(whole)
    flipped[bit // 8] ^= 1 << bit % 8
    assert_tampered(annals, altered(row, **{part: bytes(flipped)}))


@given(data=st.data())
def test_case_1_a_part_that_was_cut_or_lengthened_does_not_open(
    annals: Annals, data: st.DataObject
) -> None:
    [row] = sealed(annals, tracked(new(), new()))
    part = data.draw(st.sampled_from(["state", "account_state"]))
    whole = getattr(row, part)
    kept = data.draw(st.integers(0, len(whole) - 1))
    assert_tampered(annals, altered(row, **{part: whole[:kept]}))
    assert_tampered(annals, altered(row, **{part: whole + b"\0"}))


def test_a_part_that_was_taken_away_is_missed(annals: Annals) -> None:
    [row] = sealed(annals, tracked(new(), new()))
    assert_tampered(annals, altered(row, account_state=None))
    assert_tampered(annals, altered(row, state=b""))
    assert_tampered(annals, altered(row, state=b"", account_state=None))


@pytest.mark.parametrize(
    "change",
    [
        {"stream": new()},
        {"account": new()},
        {"event_id": uuid.uuid4()},
        {"version": 1},
        {"topic": "user.page_viewed"},
        {"topic": "user.registered"},
        {"topic": "user.unheard_of"},
        {"topic": "account.event_tracked"},
        {"schema_version": 1},
        {"schema_version": 3},
        {"occurred_at": AT + timedelta(microseconds=1)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_case_1_an_envelope_that_was_altered_does_not_open(
    annals: Annals, change: dict[str, object]
) -> None:
    user, account = new(), new()
    [row] = sealed(annals, tracked(user, account))
    other = change.get("stream") or change.get("account")
    if other is not None:
        sealed(annals, changed(other, 1))  # the other subject has a key of its own
    assert_tampered(annals, altered(row, **change))


def test_a_row_that_a_newer_version_stored_says_so_though_its_payload_decodes(
    annals: Annals,
) -> None:
    user = new()
    [row] = sealed(annals, changed(user, 1))
    newer = altered(row, schema_version=7)
    key = annals.keys.fetch({user.int})[user.int]
    state = key.seal(
        msgspec.msgpack.encode(CHANGE), SUBJECT_PART + envelope_of(newer), os.urandom(NONCE_BYTES)
    )
    newer = altered(newer, state=state)
    with pytest.raises(NewerSchemaVersion) as caught:
        annals.sealer.open_rows([newer])
    for said in ("user.properties_changed", "version 7", "partition 3, position 1", "upgrade"):
        assert said in str(caught.value)
    [gap] = annals.sealer.open_each([newer])
    assert isinstance(gap, Gap)
    assert (gap.reason, gap.error) == (GapReason.UNREADABLE, "NewerSchemaVersion")
    destroy_keys(annals.keys, [user])
    assert opened(annals, newer) == OpenedEvent(newer, None)


def test_an_account_that_was_taken_away_does_not_open(annals: Annals) -> None:
    [row] = sealed(annals, tracked(new(), new()))
    assert_tampered(annals, altered(row, account=None))


def test_parts_that_changed_places_do_not_open(annals: Annals) -> None:
    user, account = new(), new()
    one, other = sealed(annals, tracked(user, account), tracked(user, account))
    assert_tampered(annals, altered(one, state=other.state))
    assert_tampered(annals, altered(one, account_state=other.account_state))
    assert_tampered(annals, altered(one, state=other.state, account_state=other.account_state))
    first, second = sealed(annals, changed(user, 1), changed(user, 2))
    assert_tampered(annals, altered(first, state=second.state))
    assert_tampered(annals, altered(first, version=2))
    [foreign] = sealed(annals, changed(new(), 1))
    assert_tampered(annals, altered(first, state=foreign.state))


def test_case_3_the_users_part_cannot_stand_as_the_accounts_part(annals: Annals) -> None:
    same = new()
    [row] = sealed(annals, tracked(same, same))
    assert opened(annals, row).payload == LOGIN
    assert_tampered(annals, altered(row, account_state=row.state))
    assert_tampered(annals, altered(row, state=row.account_state))


def test_case_2_rows_that_changed_places_in_the_table_are_refused_and_located(
    annals: Annals, database_url: str
) -> None:
    user = new()
    annals.log.append(annals.sealer.seal_events([changed(user, 1), changed(user, 2)]))
    with psycopg.connect(database_url) as conn:
        conn.execute(
            "UPDATE log.events e SET state = o.state FROM log.events o"
            " WHERE o.stream = e.stream AND o.position <> e.position"
        )
    rows = annals.log.read_streams({user: 0})[user]
    with pytest.raises(Tampered, match=f"partition {rows[0].log_partition}, position 1 "):
        annals.sealer.open_rows(rows)


def test_an_erasure_opens_without_any_key_and_nothing_else_passes_for_one(annals: Annals) -> None:
    user = new()
    [row] = sealed(annals, Event(SubjectKind.USER, user, None, AT, Erased()))
    assert (row.state, row.account_state) == (b"", None)
    assert opened(annals, row).payload == Erased()
    for topic in PAYLOAD_OF_TOPIC:
        if not topic.endswith(".erased"):
            assert_tampered(annals, altered(row, topic=topic))


def test_of_an_erased_user_the_account_keeps_its_part_and_the_reverse(annals: Annals) -> None:
    user, account, other = new(), new(), new()
    one, two = sealed(annals, tracked(user, account), tracked(other, account))
    destroy_keys(annals.keys, [user])
    assert opened(annals, one) == OpenedEvent(one, None, AccountPart("login"))
    assert annals.sealer.open_events([one]) == []
    destroy_keys(annals.keys, [account])
    assert opened(annals, one) == OpenedEvent(one, None, None)
    assert opened(annals, two) == OpenedEvent(two, LOGIN, None)
    with pytest.raises(SubjectErased):
        annals.sealer.seal_events([tracked(other, account)])


def test_case_4_nonces_and_event_ids_do_not_repeat(annals: Annals) -> None:
    user, account = new(), new()
    rows = annals.sealer.seal_events([tracked(user, account)] * 100_000)
    states = SnapshotSealer(annals.keys).seal([User(user)] * 1_000)
    parts = [row.state for row in rows] + [row.account_state for row in rows] + states
    assert len({part[2 : 2 + NONCE_BYTES] for part in parts}) == len(parts)
    assert len({row.event_id for row in rows}) == len(rows)
    assert {row.event_id.version for row in rows[:100]} == {4}
    assert len(set(random_nonces(1_000_000))) == 1_000_000


def test_snapshots_open_at_their_own_subject_and_version_only(annals: Annals) -> None:
    user, other = new(), new()
    state = User(user, version=3, properties={"name": PLANTED})
    one, two = SnapshotSealer(annals.keys).seal([state, User(other, version=3)])
    assert SnapshotSealer(annals.keys).open(SubjectKind.USER, [(user, 3, one)]) == {user: state}
    for moved in [(user, 4, one), (other, 3, one), (user, 3, two), (user, 3, one[:-1])]:
        with pytest.raises(Tampered) as caught:
            SnapshotSealer(annals.keys).open(SubjectKind.USER, [moved])
        assert PLANTED not in "".join(traceback.format_exception(caught.value))


def test_a_part_under_another_deployments_key_does_not_open(
    annals: Annals, open_annals: Callable[[], Annals], database_url: str
) -> None:
    user = new()
    [row] = sealed(annals, changed(user, 1))
    with psycopg.connect(database_url) as conn:
        conn.execute("DELETE FROM keys.subject_keys")
    other = open_annals()
    sealed(other, changed(user, 1))  # makes another key for the same subject
    assert_tampered(other, row)


def test_a_key_turns_from_period_to_period_and_each_opens_its_own() -> None:
    key, periods = SubjectKey(1, os.urandom(32)), [os.urandom(32) for _ in range(3)]
    for secret in (None, *periods, None, *reversed(periods)):
        sealed = key.seal(b"plain", b"bound", os.urandom(12), secret)
        for other in (None, *periods):
            opener = key if other is None else key.of_month(other)
            if other is secret:
                assert opener.unseal(sealed, b"bound") == b"plain"
            else:
                with pytest.raises(InvalidTag):
                    opener.unseal(sealed, b"bound")
