"""The parts of Annals that handlers take as parameters: `definitions: Part[DefinitionStore]`.

Every dependency is a part of the Annals that the application serves now (`api.app.put_over`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar

from litestar.datastructures import State
from litestar.di import NamedDependency, Provide
from litestar.params import SkipValidation

from api.http.as_of import Readings
from api.http.auth import Asker, asking
from infra.bootstrap.annals import Annals

T = TypeVar("T")

Part: TypeAlias = NamedDependency[SkipValidation[T]]
"""A parameter that is a dependency: neither converted nor shown in OpenAPI."""


def _part(of: Callable[[Annals], Any]) -> Provide:
    def provided(state: State) -> Any:
        return of(state.annals)

    return Provide(provided, sync_to_thread=False)


def _asker() -> Asker:
    """The API key that the guard let through."""
    return asking.get()


DEPENDENCIES = {
    "api_keys": _part(lambda annals: annals.api_keys),
    "asker": Provide(_asker, sync_to_thread=False),
    "backtest_planner": _part(lambda annals: annals.backtest_planner),
    "backtests": _part(lambda annals: annals.backtests),
    "catalogue": _part(lambda annals: annals.names),
    "certifier": _part(lambda annals: annals.certifier),
    "change_feed": _part(lambda annals: annals.change_feed),
    "checks": _part(lambda annals: annals.checks),
    "counter_owners": _part(lambda annals: annals.counter_owners),
    "cursors": _part(lambda annals: annals.delivery_cursors),
    "definitions": _part(lambda annals: annals.definitions),
    "delivery": _part(lambda annals: annals.delivery),
    "erasure_requests": _part(lambda annals: annals.erasure_requests),
    "erasures": _part(lambda annals: annals.erasures),
    "handler": _part(lambda annals: annals.handler),
    "holds": _part(lambda annals: annals.holds),
    "lag": _part(lambda annals: annals.status),
    "log": _part(lambda annals: annals.log),
    "long_queries": _part(lambda annals: annals.long_queries),
    "manual_stages": _part(lambda annals: annals.manual_stages),
    "member_lists": _part(lambda annals: annals.member_lists),
    "parked_events": _part(lambda annals: annals.parked()),
    "pasts": _part(lambda annals: annals.pasts),
    "queries": _part(lambda annals: annals.queries),
    "read_position": _part(lambda annals: annals.read_position),
    "readiness": _part(lambda annals: annals.readiness),
    "readings": _part(Readings),
    "redaction": _part(lambda annals: annals.redaction),
    "refused_attempts": _part(lambda annals: annals.refused_attempts),
    "residue_scan": _part(lambda annals: annals.residue_scan),
    "retention": _part(lambda annals: annals.retention),
    "saved_views": _part(lambda annals: annals.saved_views),
    "server_settings": _part(lambda annals: annals.settings),
    "subjects": _part(lambda annals: annals.subjects),
    "wakeups": _part(lambda annals: annals.wakeups),
    "webhook_secrets": _part(lambda annals: annals.webhook_secrets),
    "workspace": _part(lambda annals: annals.workspace),
}
