"""Legal holds: compliance officers place and release them."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import msgspec
from litestar import Controller, get, post
from litestar.params import JSONBody, PathParameter, QueryParameter

from api.http.as_of import Readings
from api.http.auth import Asker, opens
from api.http.dependencies import Part
from api.http.parameters import subject_of
from api.http.problems import answers
from api.openapi.bounds import ReasonCode, SubjectText
from domain.access import ApiScope
from domain.erasure.legal_hold import LegalHold
from domain.erasure.order import checked_reason
from domain.identity import SubjectKind
from infra.erasure.legal_holds import LegalHolds
from projections.kernel.paging import Page

HoldId = Annotated[UUID, PathParameter(description="of a legal hold")]
Released = Annotated[bool, QueryParameter(description="`true`: also released holds")]


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
    def place(
        self,
        holds: Part[LegalHolds],
        readings: Part[Readings],
        asker: Part[Asker],
        data: JSONBody[HoldRequest],
    ) -> LegalHold:
        reason = checked_reason(data.reason)
        subject = subject_of(readings.present, data.kind, data.id)
        return holds.place(data.kind, subject, reason=reason, by=str(asker.key_id))

    @get(
        sync_to_thread=True,
        summary="Legal holds, newest first",
        responses=answers(400, 401, 403, 503),
    )
    def list(self, holds: Part[LegalHolds], released: Released = False) -> Page[LegalHold]:
        items = holds.all(released=released)
        return Page(items, None, len(items))

    @post(
        "/{id:uuid}/release",
        status_code=200,
        sync_to_thread=True,
        summary="Release a legal hold; it stays on record",
        responses=answers(400, 401, 403, 404, 413, 503),
    )
    def release(
        self,
        holds: Part[LegalHolds],
        asker: Part[Asker],
        id: HoldId,
        data: JSONBody[ReleaseRequest],
    ) -> LegalHold:
        reason = checked_reason(data.reason)
        return holds.release(id, reason=reason, by=str(asker.key_id))
