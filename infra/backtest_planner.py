"""Plans back-tests: finds the definition to test and the one to compare with, checks both."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from uuid import UUID

import sqlalchemy as sa

from domain.backtest.outcomes import MAX_DAYS
from domain.definitions.types import (
    Definition,
    DefinitionId,
    HealthProfile,
    Score,
    Segment,
    Signal,
    Undeciding,
    family_of,
)
from domain.errors import InvalidInput
from domain.workspace import editing
from domain.workspace.definitions import Definitions
from domain.workspace.workspace import Workspace
from infra.keys.sealing import Sealer
from infra.log.event_log import EventLog
from infra.log.records import Records
from infra.write.condition_checks import ConditionChecks
from infra.write.definition_store import DefinitionStore
from projections.queries import backtest
from projections.queries.backtest import Tested
from projections.queries.backtest_reading import Progress

MAX_SAMPLE = 1_000_000
NOBODY = UUID(int=0)


class BacktestPlanner:
    """Thread-safe; one instance per process."""

    def __init__(
        self,
        *,
        definitions: DefinitionStore,
        checks: ConditionChecks,
        workspace: Callable[[Definitions], Workspace],
        queries: sa.Engine,
        log: EventLog,
        records: Records,
        sealer: Sealer,
    ) -> None:
        self._definitions = definitions
        self._checks = checks
        self._workspace = workspace
        self._queries = queries
        self._log = log
        self._records = records
        self._sealer = sealer

    def plan(
        self,
        tested: Definition | UUID,
        *,
        compare_with: UUID | None,
        days: int,
        sample: int | None,
    ) -> Callable[[Progress], Tested]:
        """
        Args:
            tested: a draft, or the id of a definition that is saved.
            compare_with: the active definition that it would replace; None: the one of its name.
            days: the number of past days, including today.
            sample: how many subjects to test; None: all.

        Returns:
            the back-test, ready to run.

        Raises:
            InvalidInput: a definition that could not be active, a window or a sample out of bounds.
            NotFound: no such definition. Conflict: other definitions use a name that it would no
                longer have.
        """
        if not 1 <= days <= MAX_DAYS:
            raise InvalidInput(f"a window is 1 to {MAX_DAYS} days long", pointer="/days")
        if sample is not None and not 1 <= sample <= MAX_SAMPLE:
            raise InvalidInput(
                f"a sample is 1 to {MAX_SAMPLE:,} subjects; null stands for all", pointer="/sample"
            )
        state = self._definitions.load()
        if isinstance(tested, UUID):
            definition, replaces = _saved(state, tested, compare_with)
        else:
            definition, replaces = tested, self._replaced_by_draft(state, tested, compare_with)
        workspace, now = self._workspace(state), datetime.now(UTC)

        def run(progress: Progress) -> Tested:
            return backtest.run(
                definition,
                state.active,
                replaces,
                days=days,
                sample=sample,
                now=now,
                zone=workspace.zone,
                names=workspace.names,
                queries=self._queries,
                log=self._log,
                records=self._records,
                opener=self._sealer,
                progress=progress,
            )

        return run

    def _replaced_by_draft(
        self, state: Definitions, draft: Definition, compare_with: UUID | None
    ) -> DefinitionId | None:
        try:
            self._checks.draft(draft)
            replaces = _replaced(state, draft, compare_with, None)
            if replaces is None:
                editing.make(state, DefinitionId(uuid.uuid4()), draft, NOBODY)
            else:
                editing.change(state, replaces, draft, NOBODY)
        except InvalidInput as error:
            is_of_draft = error.pointer != "/compare_with"
            pointer = f"/definition{error.pointer}" if is_of_draft else error.pointer
            raise InvalidInput(error.detail, pointer=pointer) from None
        return replaces


def _saved(
    state: Definitions, id: UUID, compare_with: UUID | None
) -> tuple[Definition, DefinitionId | None]:
    saved = state.find(id)
    if isinstance(saved.definition, Undeciding):
        raise InvalidInput("this decides nothing that could be tested", pointer="/id")
    return saved.definition, _replaced(state, saved.definition, compare_with, saved.id)


def _replaced(
    state: Definitions,
    definition: Definition,
    compare_with: UUID | None,
    own: DefinitionId | None,
) -> DefinitionId | None:
    """The active definition that a tested one is compared with: `compare_with`, its own id, or
    that of its name."""
    active = state.active
    if compare_with is not None:
        id = state.find(compare_with).id
        if id not in active or family_of(active[id]) is not family_of(definition):
            raise InvalidInput(
                "a definition is compared with an active one of its own type",
                pointer="/compare_with",
            )
        return id
    if own in active:
        return own
    if not isinstance(definition, Segment | Score | Signal | HealthProfile):
        return None
    for id, other in active.items():
        if isinstance(other, type(definition)) and (other.kind, other.name) == (
            definition.kind,
            definition.name,
        ):
            return id
    return None
