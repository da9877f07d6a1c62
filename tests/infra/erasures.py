"""What tests do with erasures: ask for one, carry it through, kill it in the middle."""

from __future__ import annotations

import time
import uuid
from collections import Counter
from collections.abc import Sequence

from domain.erasure.erasure import Erasure
from domain.erasure.order import ErasureOrder, ErasureScope
from domain.identity import SubjectId, SubjectKind
from infra.bootstrap.annals import Annals
from infra.keys.key_ring import KeyRing
from infra.keys.tombstones import KeyTombstones
from tests.projections.read_models import project

OFFICER = "00000000-0000-4000-8000-00000000000f"


def order(
    *subjects: SubjectId | None,
    kind: SubjectKind = SubjectKind.USER,
    scope: ErasureScope | None = None,
    **rest: object,
) -> ErasureOrder:
    ids = [subject for subject in subjects if subject is not None]
    assert len(ids) == len(subjects)
    if scope is None:
        scope = ErasureScope.ONE if len(ids) == 1 else ErasureScope.LIST
    fields = {"reason": "art-17", "question": str(sorted(map(str, ids))), **rest}
    return ErasureOrder(scope=scope, kind=kind, subjects=ids, **fields)


def ask(annals: Annals, *subjects: SubjectId | None, by: str = OFFICER, **rest: object) -> Erasure:
    return annals.erasure_requests.take_on(order(*subjects, **rest), by=by)


def erase(
    annals: Annals, subject: SubjectId | None, kind: SubjectKind = SubjectKind.USER
) -> Erasure:
    """Erases one: it is unreadable from here on, and the read models can follow."""
    return ask(annals, subject, kind=kind)


def destroy_keys(keys: KeyRing, subjects: Sequence[SubjectId]) -> None:
    """The first step of an erasure by itself."""
    tombstones = KeyTombstones(keys._pool, keys._wrapping, keys)
    with keys._pool.connection() as conn, conn.transaction():
        tombstones.destroy_within(
            conn, subjects, kind="user", requested_by="a test", reason="asked"
        )
    keys.refresh()


def carried_through(annals: Annals, id: uuid.UUID) -> Erasure:
    """The erasure once it is completed: read models are brought up to date, steps are taken."""
    deadline = time.monotonic() + 120
    while True:
        project(annals)
        annals.erasures.step()
        erasure = annals.erasures.record.get(id)
        if erasure.completed_at is not None:
            return erasure
        assert time.monotonic() < deadline, (erasure.step, erasure.waits_for)


def erased(annals: Annals, *subjects: SubjectId | None, **rest: object) -> Erasure:
    return carried_through(annals, ask(annals, *subjects, **rest).id)


def ids_of(annals: Annals, names: Sequence[str]) -> list[SubjectId]:
    from tests.commands import named

    subjects = annals.subject_lookup.find_all(named(name) for name in names)
    return [subjects[named(name)] for name in names]


def said_erased(annals: Annals) -> Counter[SubjectId]:
    """How many events of the log record the erasure of each subject."""
    rows = annals.log.read_after(dict.fromkeys(range(256), 0), 1_000_000)
    return Counter(row.stream for row in rows if row.topic.endswith(".erased"))
