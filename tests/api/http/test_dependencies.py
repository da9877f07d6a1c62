"""Handlers get parts of Annals by the names of their parameters."""

from __future__ import annotations

from api.app import create_app
from api.http.dependencies import DEPENDENCIES
from infra.bootstrap.annals import Annals


def test_every_dependency_is_asked_for_and_none_is_a_parameter_of_the_document(
    annals: Annals,
) -> None:
    app = create_app(annals)
    handlers = [handler for route in app.routes for handler in getattr(route, "route_handlers", ())]
    asked_for = {
        name for handler in handlers for name in handler.parsed_fn_signature.parameters
    } & DEPENDENCIES.keys()
    assert asked_for == DEPENDENCIES.keys()
    document = app.openapi_schema.to_schema()
    described = {
        parameter["name"]
        for operations in document["paths"].values()
        for operation in operations.values()
        for parameter in operation.get("parameters", ())
    }
    assert described & DEPENDENCIES.keys() == set()
