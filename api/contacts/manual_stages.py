"""Setting a stage by hand, and releasing it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import msgspec
from litestar import Controller, delete, post
from litestar.params import JSONBody

from api.http.as_of import Readings
from api.http.auth import Asker, opens
from api.http.dependencies import Part
from api.http.parameters import ContactId, subject_of, unescaped
from api.http.problems import answers
from api.http.read_position import position_text
from api.openapi.bounds import Bounds
from domain.access import ApiScope
from domain.commands import ReleaseStage, SetStage
from domain.definitions.types import DefinitionKind
from domain.errors import InvalidInput, unknown
from domain.identity import SubjectKind
from domain.properties import checked_text
from infra.write.definition_store import DefinitionStore
from infra.write.manual_stages import ManualStages

MAX_REASON_CHARS = 500


class StageByHand(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    Attributes:
        stage: the name of an existing stage; null: no stage.
        reason: why it was set; stays on record.
    """

    stage: str | None
    reason: Annotated[str, Bounds(min_length=1, max_length=MAX_REASON_CHARS)]


class StageMoved(msgspec.Struct, frozen=True):
    """`position`: the read models show the change from here on; empty: nothing changed."""

    position: str


def _checked_reason(sent: str) -> str:
    reason = sent.strip()
    if not reason or len(sent) > MAX_REASON_CHARS:
        raise InvalidInput(f"say why, in 1 to {MAX_REASON_CHARS} characters", pointer="/reason")
    try:
        return checked_text(reason)
    except ValueError as error:
        raise InvalidInput(str(error), pointer="/reason") from None


class _Stages(Controller):
    """Routes that users and accounts share."""

    guards = (opens(ApiScope.ADMIN),)
    kind: SubjectKind

    @post(
        "/{id:str}/stage",
        status_code=200,
        sync_to_thread=True,
        summary="Set the stage by hand; no rule changes it until it is released",
        responses=answers(400, 401, 403, 404, 409, 413, 503),
    )
    def set(
        self,
        manual_stages: Part[ManualStages],
        definitions: Part[DefinitionStore],
        readings: Part[Readings],
        asker: Part[Asker],
        id: ContactId,
        data: JSONBody[StageByHand],
    ) -> StageMoved:
        reason = _checked_reason(data.reason)
        stages = definitions.load().known(DefinitionKind.STAGES, self.kind)
        if not stages:
            raise InvalidInput(
                f"there are no stages of {self.kind}s; define and activate some first",
                pointer="/stage",
            )
        if data.stage is not None and data.stage not in stages:
            what = f"stage of {self.kind}s"
            raise InvalidInput(unknown(what, data.stage, stages), pointer="/stage")
        subject = subject_of(readings.present, self.kind, unescaped(id))
        by, at = asker.key_id, datetime.now(UTC)
        command = SetStage(self.kind, subject, data.stage, reason, by, at)
        return StageMoved(position_text(manual_stages.apply(command)))

    @delete(
        "/{id:str}/stage",
        status_code=200,
        sync_to_thread=True,
        summary="Let rules decide the stage again",
        responses=answers(400, 401, 403, 404, 409, 503),
    )
    def release(
        self,
        manual_stages: Part[ManualStages],
        readings: Part[Readings],
        asker: Part[Asker],
        id: ContactId,
    ) -> StageMoved:
        subject = subject_of(readings.present, self.kind, unescaped(id))
        command = ReleaseStage(self.kind, subject, asker.key_id, datetime.now(UTC))
        return StageMoved(position_text(manual_stages.apply(command)))


class UserStagesController(_Stages):
    path = "/api/users"
    tags = ("users",)
    kind = SubjectKind.USER


class AccountStagesController(_Stages):
    path = "/api/accounts"
    tags = ("accounts",)
    kind = SubjectKind.ACCOUNT
