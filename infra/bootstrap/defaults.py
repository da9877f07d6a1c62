"""Values that a workspace or a caller has not set: workspace defaults and the system clock."""

from __future__ import annotations

from datetime import UTC, datetime

from domain.calendar import Zones
from domain.workspace.workspace import Workspace
from infra.settings import Settings


def utc_now() -> datetime:
    return datetime.now(UTC)


def workspace_defaults(settings: Settings) -> Workspace:
    """Returns: the settings of a workspace that has chosen none."""
    return Workspace(
        zones=Zones(settings.time_zone),
        mrr_property=settings.mrr_property,
        renewal_property=settings.renewal_property,
    )
