"""Carries out the commands of admins on names of the catalogue; decides on the definitions, appends
to the log."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from uuid import UUID

from domain.commands import Position
from domain.events.payloads import Payload
from domain.name_rules import NAMES_PER_SCOPE, NameScope
from domain.properties import PropertyType
from domain.workspace import catalogue as decide
from domain.workspace.definitions import Definitions
from domain.workspace.workspace import Workspace
from infra.write.definition_store import DefinitionStore
from infra.write.name_catalogue import NameCatalogue
from infra.write.saved_views import SavedViews


class NameAdministration:
    """Thread-safe; one instance per process.

    Args:
        workspace: the settings that hold in the workspace, by its definitions.
    """

    def __init__(
        self,
        definitions: DefinitionStore,
        catalogue: NameCatalogue,
        saved_views: SavedViews,
        workspace: Callable[[Definitions], Workspace],
        *,
        limit: int = NAMES_PER_SCOPE,
    ) -> None:
        self._definitions = definitions
        self._catalogue = catalogue
        self._saved_views = saved_views
        self._workspace = workspace
        self._limit = limit

    def retire(
        self, scope: NameScope, names: Sequence[str], by: UUID, at: datetime
    ) -> list[Position]:
        """Raises: see `domain.workspace.catalogue.retire`."""
        claimed = self._catalogue.claimed(scope)
        views = [item.view for item in self._saved_views.all()]
        return self._definitions.decide(
            lambda state: decide.retire(
                state,
                scope,
                names,
                by,
                claimed=claimed,
                used=decide.uses(state, self._workspace(state), views),
            ),
            at,
        )

    def change_type(
        self, scope: NameScope, name: str, type: PropertyType, by: UUID, at: datetime
    ) -> list[Position]:
        """Raises: see `domain.workspace.catalogue.change_type`."""
        return self._definitions.decide(self._type_changed(scope, name, type, by), at)

    def check_type(self, scope: NameScope, name: str, type: PropertyType, by: UUID) -> None:
        """Checks a change of type without recording it. Raises: as `change_type`."""
        self._type_changed(scope, name, type, by)(self._definitions.load())

    def _type_changed(
        self, scope: NameScope, name: str, type: PropertyType, by: UUID
    ) -> Callable[[Definitions], list[Payload]]:
        claimed = self._catalogue.claimed(scope)
        views = [item.view for item in self._saved_views.all()]

        def decided(state: Definitions) -> list[Payload]:
            workspace = self._workspace(state)
            return decide.change_type(
                state,
                scope,
                name,
                type,
                by,
                claimed=claimed,
                used=decide.uses(state, workspace, views),
                workspace=workspace,
            )

        return decided

    def restore(
        self, scope: NameScope, names: Sequence[str], by: UUID, at: datetime
    ) -> list[Position]:
        """Raises: see `domain.workspace.catalogue.restore`."""
        claimed = self._catalogue.claimed(scope)
        return self._definitions.decide(
            lambda state: decide.restore(
                state, scope, names, by, claimed=claimed, limit=self._limit
            ),
            at,
        )
