"""Requests to erase: taken on once, refused where they may not be. Cases go by their numbers in the
list of adversarial cases."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from domain.commands import Refused
from domain.errors import Conflict, NotFound
from domain.identity import SubjectId, SubjectKind
from infra.bootstrap.annals import Annals
from infra.erasure.certificates import verified
from tests.commands import alias, group, identify, named, track
from tests.infra.commands import send, stored, subject_of, user_of
from tests.infra.erasures import OFFICER, ask, carried_through, erased, said_erased
from tests.projections.read_models import owner


def test_an_erasure_that_is_asked_for_again_under_its_idempotency_key_is_the_same_one(
    annals: Annals,
) -> None:
    stored(annals, identify("u1"), identify("u2"))
    id, other = subject_of(annals, "u1"), subject_of(annals, "u2")
    first = ask(annals, id, idempotency_key="k")
    again = ask(annals, id, idempotency_key="k")
    assert (again.id, again.requested_at) == (first.id, first.requested_at)
    assert said_erased(annals) == {id: 1}
    elsewhere = ask(annals, other, idempotency_key="k", by="another officer")
    assert elsewhere.id != first.id


def test_case_26_an_idempotency_key_used_for_another_erasure_is_refused(annals: Annals) -> None:
    stored(annals, identify("u1"), identify("u2"))
    ask(annals, subject_of(annals, "u1"), idempotency_key="k")
    with pytest.raises(Conflict, match="used for another erasure"):
        ask(annals, subject_of(annals, "u2"), idempotency_key="k")
    assert user_of(annals, "u2").version == 1


def test_idempotency_keys_are_forgotten_after_thirty_days(
    annals: Annals, database_url: str
) -> None:
    stored(annals, identify("u1"))
    ask(annals, subject_of(annals, "u1"), idempotency_key="k")
    with owner(database_url) as conn:
        annals.erasure_requests.forget_idempotency_keys(datetime.now(UTC) + timedelta(days=29))
        assert conn.execute("SELECT count(*) FROM keys.erasure_tokens").fetchone() == (1,)
        annals.erasure_requests.forget_idempotency_keys(datetime.now(UTC) + timedelta(days=31))
        assert conn.execute("SELECT count(*) FROM keys.erasure_tokens").fetchone() == (0,)


def test_one_that_is_nobody_is_refused_and_nothing_of_the_request_is_kept(
    annals: Annals, database_url: str
) -> None:
    with pytest.raises(NotFound):
        ask(annals, SubjectId(uuid.uuid4()), idempotency_key="k")
    with owner(database_url) as conn:
        for table in ("erasure_requests", "erasure_targets", "erasure_tokens", "subject_keys"):
            assert conn.execute(f"SELECT count(*) FROM keys.{table}").fetchone() == (0,)


def test_case_15_two_officers_who_erase_the_same_one_at_once_get_the_id_of_one_erasure(
    annals: Annals, open_annals: Callable[[], Annals]
) -> None:
    other = open_annals()
    for n in range(5):
        stored(annals, identify(f"u{n}"))
        id = subject_of(annals, f"u{n}")
        start = threading.Barrier(2)

        def erase(
            process: Annals,
            by: str,
            id: SubjectId | None = id,
            start: threading.Barrier = start,
        ) -> uuid.UUID:
            start.wait()
            return ask(process, id, by=by).id

        with ThreadPoolExecutor(2) as threads:
            both = [
                threads.submit(erase, *each)
                for each in ((annals, "officer 1"), (other, "officer 2"))
            ]
            first, second = (subject.result() for subject in both)
        assert first == second
        assert annals.erasures.record.recent(None, 1)[1] == n + 1
    assert set(said_erased(annals).values()) == {1}


def test_case_17_with_suppression_the_identity_is_refused_with_a_clear_answer_until_it_is_lifted(
    annals: Annals, open_annals: Callable[[], Annals]
) -> None:
    stored(annals, identify("u1 ada@example.com", name="Ada"), identify("u2"), alias("u1", "u2"))
    ask(annals, subject_of(annals, "u1"), suppress=True)
    for process in (annals, open_annals()):
        for command in (
            track("u1"),
            identify("ada@example.com", name="Ada"),
            identify("ADA@example.com"),
            identify("u2"),
            identify("u9 ada@example.com"),
            group("u1", "a1"),
            alias("u8", "u1"),
        ):
            [refused] = send(process, command)
            assert isinstance(refused, Refused), command
            assert refused.code == "suppressed"
            assert "erased" in refused.detail
        [taken, _] = send(process, track("u3"), track("u1"))
        assert not isinstance(taken, Refused)
    assert [subject_of(annals, name) for name in ("u1", "u2", "u8", "u9", "a1")] == [None] * 5
    annals.erasure_requests.lift_suppression(named("ADA@example.com"), by=OFFICER)
    stored(annals, identify("ada@example.com"))
    assert isinstance(send(annals, track("u1"))[0], Refused)
    with pytest.raises(NotFound):
        annals.erasure_requests.lift_suppression(named("ada@example.com"), by=OFFICER)


def test_case_17_without_suppression_the_identity_is_somebody_new(annals: Annals) -> None:
    stored(annals, identify("u1", name="Ada"))
    gone = subject_of(annals, "u1")
    erased(annals, gone)
    stored(annals, track("u1"))
    again = user_of(annals, "u1")
    assert again.id != gone
    assert (again.version, again.properties) == (1, {})


def test_case_19_a_legal_hold_forbids_the_erasure_until_it_is_released(annals: Annals) -> None:
    stored(annals, identify("u1", name="Ada"), identify("u2"))
    id = subject_of(annals, "u1")
    hold = annals.holds.place(SubjectKind.USER, id, reason="lawsuit-7", by="one officer")
    stored(annals, alias("u2", "u1"))  # the one that it is on lives on in another
    for target in (id, subject_of(annals, "u2")):
        with pytest.raises(Conflict, match="legal hold forbids it, for lawsuit-7"):
            ask(annals, target, idempotency_key="k")
    assert user_of(annals, "u1").properties == {"name": "Ada"}
    released = annals.holds.release(hold.id, reason="settled", by="another officer")
    assert (released.placed_by, released.released_by) == ("one officer", "another officer")
    assert (released.reason, released.release_reason) == ("lawsuit-7", "settled")
    again = annals.holds.release(hold.id, reason="again", by="a third")
    assert again == released
    assert annals.holds.all(released=False) == []
    assert annals.holds.all(released=True) == [released]
    assert ask(annals, id, idempotency_key="k").outcomes == {"erased": 1}
    with pytest.raises(NotFound):
        annals.holds.place(SubjectKind.USER, id, reason="late", by=OFFICER)


def test_a_hold_and_an_erasure_at_once_come_one_after_the_other(
    annals: Annals, open_annals: Callable[[], Annals]
) -> None:
    other = open_annals()
    for n in range(6):
        stored(annals, identify(f"u{n}"))
        id = subject_of(annals, f"u{n}")
        start = threading.Barrier(2)

        def place(id: SubjectId | None = id, start: threading.Barrier = start) -> bool:
            start.wait()
            try:
                other.holds.place(SubjectKind.USER, id, reason="lawsuit", by=OFFICER)
            except NotFound:
                return False
            return True

        def erase(id: SubjectId | None = id, start: threading.Barrier = start) -> bool:
            start.wait()
            try:
                ask(annals, id)
            except Conflict:
                return False
            return True

        with ThreadPoolExecutor(2) as threads:
            held, gone = threads.submit(place), threads.submit(erase)
            assert held.result() != gone.result()


def test_case_22_erasing_one_of_two_that_were_merged_erases_both_identities(
    annals: Annals,
) -> None:
    for n, asked_by in enumerate(("loser", "survivor")):
        a, b = f"u{n}a", f"u{n}b"
        stored(annals, identify(a, name="A"), identify(b, name="B"))
        loser = subject_of(annals, a)
        stored(annals, alias(b, a))
        survivor = subject_of(annals, b)
        request = ask(annals, loser if asked_by == "loser" else survivor)
        assert subject_of(annals, a) is subject_of(annals, b) is None
        done = carried_through(annals, request.id)
        statement = verified(
            annals.erasures.record.certificate(done.id), annals.certifier.public_key()
        )
        assert {erased.subject for erased in statement.subjects} == {loser, survivor}


def test_case_30_a_crafted_identity_erases_exactly_the_one_it_names(annals: Annals) -> None:
    stored(annals, identify("u*"), identify("uadmin"), identify("uаdmin"), identify("u%"))
    for name in ("u*", "uаdmin"):  # the second with a Cyrillic letter
        ask(annals, subject_of(annals, name))
    assert subject_of(annals, "u*") is subject_of(annals, "uаdmin") is None
    assert user_of(annals, "uadmin").version == user_of(annals, "u%").version == 1
