"""What compliance officers ask for: forgetting a user or an account."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
from litestar import Controller, Request, post
from litestar.params import JSONBody

from api.auth import opens
from api.contacts import subject_of
from api.positions import position_text
from api.problems import answers
from domain.access import ApiScope
from domain.errors import InvalidInput
from domain.identity import SubjectKind
from infra.wiring import Annals

CONFIRMATION = "confirm"
MAX_REASON_CHARS = 64


class ErasureRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    Attributes:
        id: our id, or `external:...`, `email:...`, `domain:...`.
        confirm: the word `confirm`, to the letter.
        reason: a code, such as `art-17`; nothing personal, it stays on record.
    """

    kind: SubjectKind
    id: str
    confirm: str
    reason: str = "art-17"


class Erasure(msgspec.Struct, frozen=True):
    """
    Attributes:
        subject: the random id that was erased.
        position: where the read models have to be to hold nothing of it any more.
    """

    subject: UUID
    position: str


class ErasureController(Controller):
    path = "/api/erasures"
    tags = ("compliance",)
    guards = (opens(ApiScope.COMPLY),)

    @post(
        status_code=200,
        sync_to_thread=True,
        summary="Destroy a subject's key: it is forgotten",
        responses=answers(400, 401, 403, 404, 413, 503),
    )
    def erase(self, request: Request[Any, Any, Any], data: JSONBody[ErasureRequest]) -> Erasure:
        annals: Annals = request.app.state.annals
        if data.confirm != CONFIRMATION:
            raise InvalidInput(
                "to erase, send the word confirm, in small letters and alone", place="/confirm"
            )
        if not 0 < len(data.reason) <= MAX_REASON_CHARS or not all(
            char.isalnum() or char in "-_." for char in data.reason
        ):
            raise InvalidInput(
                "the reason is a code of letters, digits, dots and dashes", place="/reason"
            )
        subject = subject_of(annals, data.kind, data.id)
        positions = annals.handler.erase(
            data.kind,
            subject,
            at=datetime.now(UTC),
            requested_by=str(request.state.key_id),
            reason=data.reason,
        )
        return Erasure(subject, position_text(positions))
