"""Suppressed identities: a compliance officer lifts the suppression of one."""

from __future__ import annotations

import msgspec
from litestar import Controller, post
from litestar.params import JSONBody

from api.http.auth import Asker, opens
from api.http.dependencies import Part
from api.http.parameters import named
from api.http.problems import answers
from api.openapi.bounds import SubjectText
from domain.access import ApiScope
from domain.errors import InvalidInput
from domain.identity import Identity, SubjectKind
from infra.erasure.requests import ErasureRequests


class LiftRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    Attributes:
        id: `external:...`, `email:...` or `domain:...`.
    """

    kind: SubjectKind
    id: SubjectText


class Lifted(msgspec.Struct, frozen=True):
    lifted: bool


class SuppressionController(Controller):
    path = "/api/suppressions"
    tags = ("compliance",)
    guards = (opens(ApiScope.COMPLY),)

    @post(
        "/lift",
        status_code=200,
        sync_to_thread=True,
        summary="Lift the suppression of an erased identity",
        responses=answers(400, 401, 403, 404, 413, 503),
    )
    def lift(
        self,
        erasure_requests: Part[ErasureRequests],
        asker: Part[Asker],
        data: JSONBody[LiftRequest],
    ) -> Lifted:
        name = named(data.kind, data.id)
        if not isinstance(name, Identity):
            raise InvalidInput("name it from outside, like email:...", pointer="/id")
        erasure_requests.lift_suppression(name, by=str(asker.key_id))
        return Lifted(True)
