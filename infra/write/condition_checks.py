"""Checks conditions and definitions before they are saved or asked.

The names in a condition are those of the read models, which may be a moment behind. A check that
fails is made again once the read models have all that the log has: a name may have just been sent.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from uuid import UUID

import sqlalchemy as sa

from domain.conditions import decoding, validation
from domain.conditions.language import AllOf, Condition
from domain.definitions.types import Definition
from domain.errors import InvalidInput
from domain.identity import SubjectKind
from domain.workspace import consistency
from domain.workspace.references import parts
from infra.log.read_position import ReadPosition
from infra.write.definition_store import DefinitionStore
from projections.conditions.known_names import NamesNow
from projections.counters.requests import require


class ConditionChecks:
    """Thread-safe; one instance per process."""

    def __init__(
        self, *, definitions: DefinitionStore, queries: sa.Engine, read_position: ReadPosition
    ) -> None:
        self._definitions = definitions
        self._queries = queries
        self._read_position = read_position

    def condition(
        self, sent: bytes, kind: SubjectKind, pointer: str, *, by: UUID | None
    ) -> Condition:
        """Decodes and checks a condition, and asks for the counters that it needs.

        Args:
            sent: JSON.
            pointer: JSON pointer to the condition in the request.
            by: the API key of a question; None: a segment asks.

        Raises:
            InvalidInput: it is no condition, or cannot be asked; says where.
            NotReady: its counters are being filled. TooManyAtOnce: there are too many counters.
        """
        condition = decoding.decode(sent, pointer)
        self.names(lambda names: validation.check(condition, kind, names, pointer))
        self._require_counters(condition, by=by)
        return condition

    def definition(self, definition: Definition) -> None:
        """Checks a definition, and asks for the counters that it needs.

        Raises:
            InvalidInput: it contradicts itself, or cannot be asked; says where.
            NotReady: its counters are being filled. TooManyAtOnce: there are too many counters.
        """
        self.draft(definition)
        self.require_counters(definition)

    def draft(self, definition: Definition) -> None:
        """Checks a definition. Raises: InvalidInput: as `definition`."""
        consistency.check(definition)
        self.names(partial(consistency.check_names, definition), definition)

    def require_counters(self, definition: Definition) -> None:
        """Raises: NotReady: counters are being filled. TooManyAtOnce: there are too many."""
        self._require_counters(AllOf([part.condition for part in parts(definition)]), by=None)

    def _require_counters(self, condition: Condition, *, by: UUID | None) -> None:
        with self._queries.connect() as conn:
            require(conn, condition, by=by, at=datetime.now(UTC))

    def names(
        self, check: Callable[[NamesNow], None], definition: Definition | None = None
    ) -> None:
        """Makes a check by the names that conditions can ask about, twice if it fails.

        Args:
            definition: adds its own names to these.

        Raises:
            InvalidInput: the check's own.
        """
        try:
            self._check(check, definition)
        except InvalidInput:
            self._read_position.catch_up()
            self._check(check, definition)

    def _check(self, check: Callable[[NamesNow], None], definition: Definition | None) -> None:
        with self._queries.connect() as conn:
            check(NamesNow(conn, self._definitions.load(), definition))
