"""The owners of counters of metadata: the active definitions and the saved views."""

from __future__ import annotations

from domain.conditions.counters import Counter, counters_of
from domain.definitions.types import Undeciding, family_of
from domain.workspace.references import counters_of_definition
from infra.write.definition_store import DefinitionStore
from infra.write.saved_views import SavedViews
from projections.queries.counter_list import NeededBy

SAVED_VIEW = "saved_view"


class CounterOwners:
    """Thread-safe; one instance per process."""

    def __init__(self, definitions: DefinitionStore, saved_views: SavedViews) -> None:
        self._definitions = definitions
        self._saved_views = saved_views

    def needed(self) -> dict[Counter, list[NeededBy]]:
        """The counters that are needed now, each with its owners."""
        owners: dict[Counter, list[NeededBy]] = {}
        for id, definition in self._definitions.load().active.items():
            if isinstance(definition, Undeciding):
                continue
            owner = NeededBy(family_of(definition).value, id, definition.name)
            for counter in counters_of_definition(definition):
                owners.setdefault(counter, []).append(owner)
        for item in self._saved_views.all():
            if item.view.filter is not None:
                for counter in counters_of(item.view.filter):
                    owner = NeededBy(SAVED_VIEW, item.id, item.view.name)
                    owners.setdefault(counter, []).append(owner)
        return owners
