"""What tests do with segments: define, settle, read back."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from unittest.mock import patch

from domain.conditions.language import Condition
from domain.definitions.types import DefinitionId, Segment
from domain.events.decisions import SegmentEntered, SegmentTransition
from domain.identity import LOG_PARTITIONS, SubjectId, SubjectKind
from domain.workspace import editing
from infra.bootstrap.annals import Annals
from projections.deciding import process_manager
from projections.deciding.process_manager import ProcessManager
from tests.projections.read_models import drain, let_leases_expire

EDITOR = uuid.UUID("0e000000-0000-4000-8000-000000000001")
"""The API key that tests define segments with."""


def define(
    annals: Annals,
    condition: Condition | None,
    kind: SubjectKind = SubjectKind.USER,
    name: str | None = None,
) -> DefinitionId:
    id = DefinitionId(uuid.uuid4())
    segment = Segment(kind, name or str(id), condition)
    annals.definitions.decide(
        lambda state: editing.make(state, id, segment, EDITOR), datetime.now(UTC)
    )
    return id


def settle(annals: Annals, *deciders: ProcessManager, url: str | None = None) -> None:
    """Projects and decides until nothing is left to do; with a `url`, whoever held the partitions
    has died. Each sweep is one step here."""
    if url is not None:
        let_leases_expire(url)
    workers = deciders or (annals.decider(),)
    projector = annals.projector()
    with patch.object(process_manager, "SWEPT_PARTITIONS", LOG_PARTITIONS):
        while True:
            drain(projector)
            done = sum(worker.step() + worker.tick() for worker in workers)
            while swept := sum(worker.sweep() for worker in workers):
                done += swept
            if not done and not _anything_due(annals) and not _behind(annals):
                break
    projector.release()


def _anything_due(annals: Annals) -> bool:
    with annals.views.connection() as conn:
        [(left,)] = conn.execute(
            "SELECT (SELECT count(*) FROM views.changes_due) + (SELECT count(*) FROM views.sweeps)"
        ).fetchall()
    return bool(left)


def _behind(annals: Annals) -> bool:
    heads = annals.log.heads(range(256))
    with annals.views.connection() as conn:
        reached = dict(
            conn.execute("SELECT log_partition, position FROM views.checkpoints").fetchall()
        )
    return any(reached.get(partition, 0) < head for partition, head in heads.items())


def members(annals: Annals, segment: DefinitionId) -> set[SubjectId]:
    with annals.views.connection() as conn:
        rows = conn.execute(
            "SELECT subject FROM views.segment_members WHERE segment = %s", (segment,)
        )
        return {SubjectId(row[0]) for row in rows}


def transitions(annals: Annals) -> dict[tuple[SubjectId, uuid.UUID], list[SegmentTransition]]:
    """All that the log says of entering and leaving, by subject and segment, in order."""
    found: dict[tuple[SubjectId, uuid.UUID], list[SegmentTransition]] = {}
    rows = annals.log.read_after(dict.fromkeys(range(256), 0), 1_000_000)
    for event in annals.sealer.open_rows(rows):
        if isinstance(event.payload, SegmentTransition):
            key = (event.row.stream, event.payload.definition)
            found.setdefault(key, []).append(event.payload)
    return found


def assert_each_once_and_in_turn(annals: Annals) -> None:
    for history in transitions(annals).values():
        assert [transition.ordinal for transition in history] == list(range(1, len(history) + 1))
        assert [isinstance(transition, SegmentEntered) for transition in history] == [
            n % 2 == 0 for n in range(len(history))
        ]
