"""Legal holds: compliance officers place and release them."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import Controller, Request, get, post
from litestar.datastructures import State
from litestar.params import JSONBody, PathParameter, QueryParameter

from api.http.auth import opens
from api.http.parameters import subject_of
from api.http.problems import answers
from api.openapi.bounds import ReasonCode, SubjectText
from domain.access import ApiScope
from domain.erasure.legal_hold import LegalHold
from domain.erasure.order import checked_reason
from domain.identity import SubjectKind
from infra.bootstrap.annals import Annals
from projections.kernel.paging import Page

HttpRequest = Request[Any, Any, Any]

HoldId = Annotated[UUID, PathParameter(description="of a legal hold")]
Released = Annotated[bool, QueryParameter(description="those that were released, too")]


class HoldRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    Attributes:
        id: our id, or `external:...`, `email:...`, `domain:...`.
        reason: a code; a refused request for the erasure shows it.
    """

    kind: SubjectKind
    id: SubjectText
    reason: ReasonCode


class ReleaseRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    Attributes:
        reason: a code.
    """

    reason: ReasonCode


class HoldController(Controller):
    path = "/api/holds"
    tags = ("compliance",)
    guards = (opens(ApiScope.COMPLY),)

    @post(
        status_code=200,
        sync_to_thread=True,
        summary="Place a legal hold: nobody can erase the user or account until it is released",
        responses=answers(400, 401, 403, 404, 413, 503),
    )
    def place(self, request: HttpRequest, data: JSONBody[HoldRequest]) -> LegalHold:
        annals: Annals = request.app.state.annals
        reason = checked_reason(data.reason)
        subject = subject_of(annals, data.kind, data.id)
        return annals.holds.place(data.kind, subject, reason=reason, by=str(request.state.key_id))

    @get(
        sync_to_thread=True,
        summary="Legal holds, newest first",
        responses=answers(400, 401, 403, 503),
    )
    def list(self, state: State, released: Released = False) -> Page[LegalHold]:
        annals: Annals = state.annals
        items = annals.holds.all(released=released)
        return Page(items, None, len(items))

    @post(
        "/{id:uuid}/release",
        status_code=200,
        sync_to_thread=True,
        summary="Release a legal hold; it stays on record",
        responses=answers(400, 401, 403, 404, 413, 503),
    )
    def release(
        self, request: HttpRequest, id: HoldId, data: JSONBody[ReleaseRequest]
    ) -> LegalHold:
        annals: Annals = request.app.state.annals
        reason = checked_reason(data.reason)
        return annals.holds.release(id, reason=reason, by=str(request.state.key_id))
