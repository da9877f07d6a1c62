"""Erasure as a process. Cases go by their numbers in the list of adversarial cases."""

from __future__ import annotations

import os
import pkgutil
import signal
import threading
import time
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest

from domain.conditions.language import Is, PropertyIs
from domain.erasure.erasure import TargetOutcome
from domain.erasure.order import ErasureScope, MembersOf
from domain.erasure.steps import ErasureStep
from domain.identity import SubjectId, SubjectKind
from infra import bootstrap
from infra.bootstrap.annals import Annals
from infra.erasure import purge, requests, steps
from infra.erasure.certificates import verified
from infra.erasure.key_destruction import KeyDestruction
from infra.erasure.targets import TargetFinder
from infra.postgres.database import transaction_of
from infra.settings import Settings
from tests.commands import alias, group, identify, named, track
from tests.infra import chain
from tests.infra.commands import events_of, stored, subject_of, user_of
from tests.infra.erasures import OFFICER, ask, carried_through, erase, erased, ids_of, said_erased
from tests.processes import Process
from tests.projections.read_models import dump, forget_read_models, owner, project
from tests.projections.segments import define, settle
from tests.serving import until

SUBJECTS = int(os.environ.get("ANNALS_TEST_SUBJECTS", "40"))


def outcomes(annals: Annals, id: uuid.UUID) -> dict[SubjectId, tuple[TargetOutcome, str | None]]:
    return {
        SubjectId(target.subject): (target.outcome, target.detail)
        for target in annals.erasures.record.targets(id, None, None, 100_000)
    }


def test_an_erasure_is_accepted_made_unreadable_recorded_forgotten_cleaned_and_certified(
    annals: Annals, database_url: str
) -> None:
    stored(annals, identify("u1", name="Ada"), group("u1", "a1"), track("u1", "a1"))
    project(annals)
    id = subject_of(annals, "u1")
    accepted = ask(annals, id)
    assert (accepted.step, accepted.subject, accepted.requested_by) == (
        ErasureStep.RECORDED,
        id,
        OFFICER,
    )
    assert accepted.outcomes == {"erased": 1}
    assert events_of(annals, id)[0].topic == "user.erased"
    annals.erasures.step()
    waiting = annals.erasures.record.get(accepted.id)
    assert (waiting.step, waiting.waits_for) == (
        ErasureStep.RECORDED,
        "the read models have not come to it yet",
    )
    done = carried_through(annals, accepted.id)
    times = [
        done.requested_at,
        done.unreadable_at,
        done.recorded_at,
        done.forgotten_at,
        done.cleaned_at,
        done.completed_at,
    ]
    assert None not in times
    assert times == sorted(times, key=lambda at: at or datetime.now(UTC))
    with owner(database_url) as conn:
        rows = conn.execute("SELECT rewritten, wal FROM keys.erasure_requests").fetchone()
    assert rows is not None
    assert {"keys.subject_keys", "keys.identities", "views.contacts"} <= set(rows[0])
    assert rows[1] == "removed"
    assert chain.problems(database_url) == []


STEPS = {
    "unreadable": ("infra.erasure.key_destruction.KeyDestruction", "drop_cached"),
    "snapshots gone": ("infra.write.aggregates.Aggregates", "forget"),
    "said": ("infra.log.event_log.EventLog", "append"),
    "noted": ("infra.keys.erasure_records.ErasureRecords", "complete"),
    "forgotten": ("infra.erasure.process.ErasureProcess", "_clean"),
    "half cleaned": ("infra.erasure.purge", "_remove_wal"),
    "cleaned": ("infra.erasure.certificates.Certifier", "issue"),
}


def erase_until_killed(url: str, data: Path, step: str, when: str, who: Sequence[str]) -> None:
    """Erases in this process, which is killed before or after a step."""
    owner, name = STEPS[step]
    place = pkgutil.resolve_name(owner)
    real, real_plan = getattr(place, name), KeyDestruction.plan

    def plan(*given: object) -> object:
        outdated = real_plan(*given)
        KeyDestruction.plan = real_plan
        stored(annals, alias("u1", "u4"))
        setattr(place, name, die)
        return outdated

    def die(*given: object, **named: object) -> None:
        setattr(place, name, real)
        stored(annals, alias("u5", "u2"))
        if when == "after":
            real(*given, **named)
        os.kill(os.getpid(), signal.SIGKILL)

    with bootstrap.opened(Settings(data=data), url, connections=4) as annals:
        ids = ids_of(annals, who)
        KeyDestruction.plan = plan
        erased(annals, *ids)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", STEPS)
def test_case_14_an_erasure_that_is_killed_at_any_step_is_resumed_and_certified_once(
    annals: Annals, database_url: str, tmp_path: Path, step: str, when: str
) -> None:
    """One is merged with a target after it was looked at, and at the step another would be."""
    stored(annals, identify("u1", name="Ada"), identify("u2"), identify("u3"), alias("u1", "u3"))
    stored(annals, identify("u4", name="Countess"), identify("u5", name="Bob"))
    ids = ids_of(annals, ["u1", "u2"])
    merged = next(iter(user_of(annals, "u1").absorbed))
    late, other = ids_of(annals, ["u4", "u5"])
    project(annals)
    given = database_url, tmp_path, step, when, ["u1", "u2"]
    with Process(erase_until_killed, *given) as killed:
        assert killed.wait() == -signal.SIGKILL, killed.errors()
    [request], _ = annals.erasures.record.recent(None, 10)
    done = carried_through(annals, request.id)
    assert done.outcomes == {"erased": 2}
    assert said_erased(annals) == {ids[0]: 1, ids[1]: 1, merged: 1, late: 1}
    statement = verified(
        annals.erasures.record.certificate(request.id), annals.certifier.public_key()
    )
    assert {erased.subject for erased in statement.subjects} == {*ids, merged, late}
    with owner(database_url) as conn:
        alive = conn.execute("SELECT subject FROM keys.subject_keys WHERE state = 'active'")
        assert alive.fetchall() == [(other,)]
    assert subject_of(annals, "u1") is subject_of(annals, "u3") is subject_of(annals, "u4") is None
    assert subject_of(annals, "u2") == subject_of(annals, "u5") == other
    assert user_of(annals, "u5").properties == {"name": "Bob"}
    certificate = annals.erasures.record.certificate(request.id)
    annals.erasures.step()
    assert annals.erasures.record.certificate(request.id) == certificate
    assert chain.problems(database_url) == []


def test_case_18_of_many_each_is_erased_but_those_that_may_not_or_are_already(
    annals: Annals, monkeypatch: pytest.MonkeyPatch, database_url: str
) -> None:
    monkeypatch.setattr(requests, "SUBJECTS_AT_A_TIME", 16)
    monkeypatch.setattr(steps, "SUBJECTS_AT_A_TIME", 16)
    names = [f"u{n}" for n in range(60)]
    stored(annals, *(identify(name, n=1) for name in names), alias("u50", "u51"))
    ids = ids_of(annals, names)
    annals.holds.place(SubjectKind.USER, ids[7], reason="lawsuit-7", by=OFFICER)
    ask(annals, ids[9])
    stranger = SubjectId(uuid.uuid4())
    request = ask(annals, *ids, stranger, scope=ErasureScope.SEGMENT, unknown=2)
    stored(annals, identify("u99"))  # came after the request
    assert request.step is ErasureStep.ACCEPTED
    assert request.position == ""
    done = carried_through(annals, request.id)
    outcome_of = outcomes(annals, request.id)
    assert done.outcomes == {"erased": 57, "held": 1, "erased_before": 1, "unknown": 1}
    assert done.unknown == 2
    assert outcome_of[ids[7]] == (TargetOutcome.HELD, "lawsuit-7")
    assert outcome_of[ids[9]] == (TargetOutcome.ERASED_BEFORE, "erased by another request")
    assert outcome_of[stranger] == (TargetOutcome.UNKNOWN, "there is no such user")
    assert user_of(annals, "u7").properties == {"n": 1}
    assert user_of(annals, "u99").version == 1
    assert {name for name in names if subject_of(annals, name) is not None} == {"u7"}
    statement = verified(
        annals.erasures.record.certificate(request.id), annals.certifier.public_key()
    )
    assert len(statement.subjects) == 58  # with the one that was merged
    assert {target.outcome for target in statement.not_erased} == {
        "held",
        "erased_before",
        "unknown",
    }


def _members(annals: Annals, segment: uuid.UUID) -> Sequence[SubjectId]:
    finder = TargetFinder(annals.erasure_requests._lookup, annals.queries)
    return finder.find(SubjectKind.USER, MembersOf(segment), lambda: None).subjects


def test_case_18_all_in_a_segment_are_erased_but_who_is_on_hold_is_gone_or_came_later(
    annals: Annals,
) -> None:
    """`make test-slow` has it with ten thousand."""
    names = [f"u{n}" for n in range(SUBJECTS)]
    for start in range(0, SUBJECTS, 1_000):
        stored(annals, *(identify(name, leaves=True) for name in names[start : start + 1_000]))
    segment = define(annals, PropertyIs("leaves", Is(True)), name="leaving")
    settle(annals)
    ids = ids_of(annals, names)
    held, before = ids[7], ids[9]
    annals.holds.place(SubjectKind.USER, held, reason="lawsuit-7", by=OFFICER)
    members = _members(annals, segment)
    assert set(members) == set(ids)
    erase(annals, before)
    begun = time.monotonic()
    request = ask(annals, *members, scope=ErasureScope.SEGMENT, segment=segment)
    stored(annals, identify("u-later", leaves=True))
    done = carried_through(annals, request.id)
    print(f"{SUBJECTS:,} subjects in {time.monotonic() - begun:.1f} s")
    assert done.outcomes == {"erased": SUBJECTS - 2, "held": 1, "erased_before": 1}
    outcome_of = outcomes(annals, request.id)
    assert outcome_of[held] == (TargetOutcome.HELD, "lawsuit-7")
    assert outcome_of[before] == (TargetOutcome.ERASED_BEFORE, "erased by another request")
    left = annals.subject_lookup.find_all(named(name) for name in [*names, "u-later"])
    assert left.keys() == {named("u7"), named("u-later")}
    settle(annals)
    assert set(_members(annals, segment)) == set(left.values())
    statement = verified(
        annals.erasures.record.certificate(request.id), annals.certifier.public_key()
    )
    assert len(statement.subjects) == SUBJECTS - 2
    assert {(target.subject, target.outcome) for target in statement.not_erased} == {
        (held, "held"),
        (before, "erased_before"),
    }


def test_case_20_read_models_made_anew_after_an_erasure_are_those_that_were_there(
    annals: Annals, database_url: str
) -> None:
    stored(
        annals,
        identify("u1 ada@example.com", name="zqAda"),
        group("u1", "a1", role="zqowner"),
        track("u1", "a1", "zqlogin"),
        identify("u2", name="Bob"),
        group("u2", "a1"),
    )
    erased(annals, subject_of(annals, "u1"))
    live = dump(database_url)
    forget_read_models(database_url)
    project(annals)
    again = dump(database_url)
    assert again | {"catalogue": [], "names": []} == live | {"catalogue": [], "names": []}
    assert "zqAda" not in str(again)
    assert "zqowner" not in str(again)


def test_case_34_a_long_reader_has_the_cleaning_wait_and_say_so_and_then_it_finishes(
    annals: Annals, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(purge, "LOCK_TIMEOUT", "20ms")
    monkeypatch.setattr(purge, "PATIENCE_SECONDS", 0)
    stored(annals, identify("u1", name="Ada"))
    project(annals)
    with psycopg.connect(database_url) as early, psycopg.connect(database_url) as late:
        early.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        early.execute("SELECT count(*) FROM keys.api_keys")  # its snapshot sees Ada
        request = ask(annals, subject_of(annals, "u1"))
        project(annals)
        annals.erasures.step()
        waiting = annals.erasures.record.get(request.id)
        assert waiting.step is ErasureStep.FORGOTTEN
        assert "still see deleted rows" in (waiting.waits_for or "")
        early.rollback()
        late.execute("SELECT count(*) FROM views.contacts")
        until(lambda: _waits_for(annals, request.id) == "readers of views.contacts")
        stop = threading.Event()
        by_itself = threading.Thread(target=annals.erasures.run, args=(stop,))
        by_itself.start()
        late.rollback()
        last_reader = datetime.now(UTC)
    until(lambda: annals.erasures.record.get(request.id).step is ErasureStep.COMPLETED)
    stop.set()
    annals.erasures.wake()
    by_itself.join()
    done = annals.erasures.record.get(request.id)
    assert done.waits_for is None
    statement = verified(annals.erasures.record.certificate(done.id), annals.certifier.public_key())
    assert statement.unreadable_at < last_reader < statement.cleaned_at == done.cleaned_at
    assert {"keys.subject_keys", "views.contacts"} < set(statement.rewritten)


def _waits_for(annals: Annals, id: uuid.UUID) -> str | None:
    annals.erasures.step()
    return annals.erasures.record.get(id).waits_for


def test_a_large_table_is_written_anew_in_the_night(annals: Annals, database_url: str) -> None:
    at = datetime(2026, 5, 13, 12, tzinfo=UTC)
    cleaner = purge.Purge(database_url, zone=UTC, hour=3, clock=lambda: at, at_once_bytes=20_000)
    stored(annals, identify("u1", name="Ada"))
    project(annals)
    with owner(database_url) as conn:
        upto = transaction_of(conn)
    by_day = cleaner.clean(datetime.now(UTC), [], upto)
    assert by_day.waits_for is not None
    assert by_day.waits_for.startswith("03:00, when ")
    assert "views.segment_sweeps" not in by_day.waits_for
    at = datetime(2026, 5, 14, 4, 59, tzinfo=UTC)
    by_night = cleaner.clean(datetime.now(UTC), by_day.rewritten, upto)
    assert by_night.waits_for is None
    assert set(by_night.rewritten) > set(by_day.rewritten)


def test_an_erasure_is_not_called_forgotten_while_its_event_is_parked(
    annals: Annals, database_url: str
) -> None:
    stored(annals, identify("u1"))
    request = ask(annals, subject_of(annals, "u1"))
    partition, _, position = request.position.partition(":")
    project(annals)
    with owner(database_url) as conn:
        conn.execute(
            "INSERT INTO views.parked VALUES ('main', %s, %s, 'KeyError')", (partition, position)
        )
        annals.erasures.step()
        waiting = annals.erasures.record.get(request.id)
        assert waiting.step is ErasureStep.RECORDED
        assert "parked" in (waiting.waits_for or "")
        conn.execute("DELETE FROM views.parked")
    assert carried_through(annals, request.id).step is ErasureStep.COMPLETED


def test_whoever_is_merged_with_a_target_while_it_is_erased_goes_with_it(
    annals: Annals, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored(annals, identify("u1"), identify("u2", name="B"))
    target, other = subject_of(annals, "u1"), subject_of(annals, "u2")
    real_plan = annals.erasure_requests._destruction.plan

    def plan(*given: object) -> object:
        outdated = real_plan(*given)
        monkeypatch.undo()
        stored(annals, alias("u1", "u2"))
        return outdated

    monkeypatch.setattr(annals.erasure_requests._destruction, "plan", plan)
    request = ask(annals, target)
    assert subject_of(annals, "u1") is subject_of(annals, "u2") is None
    assert {event.topic for event in events_of(annals, target, other)} == {"user.erased"}
    done = carried_through(annals, request.id)
    statement = verified(annals.erasures.record.certificate(done.id), annals.certifier.public_key())
    assert {erased.subject for erased in statement.subjects} == {target, other}
