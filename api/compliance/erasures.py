"""Erasures: compliance officers ask for one, follow it, and fetch its certificate."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import Controller, Response, get, post
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import HeaderParameter, JSONBody, PathParameter, QueryParameter

from api.http.auth import PLACE, Asker, opens
from api.http.dependencies import Part
from api.http.parameters import Cursor, Limit, named
from api.http.problems import answers
from api.http.read_position import wait_until
from api.openapi.bounds import Bounds, Positions, ReasonCode, SubjectText
from domain.access import ApiScope
from domain.erasure.erasure import (
    Erasure,
    ErasureTarget,
    TargetOutcome,
    ToldDestination,
)
from domain.erasure.order import (
    CONFIRMATION,
    MAX_IDEMPOTENCY_KEY_CHARS,
    MAX_LISTED_FOR_ERASURE,
    EraseSubjects,
    MembersOf,
    NamedSubject,
    NamedSubjects,
    Selection,
    check_confirmed,
    check_listed,
    checked_idempotency_key,
    checked_reason,
)
from domain.erasure.scan import MAX_CHARS, MAX_VALUES, MIN_CHARS, Scan, checked_values
from domain.errors import InvalidInput
from domain.identity import Identity, SubjectId, SubjectKind
from infra.erasure.certificates import Certifier
from infra.erasure.notified import notified_destinations
from infra.erasure.process import ErasureProcess
from infra.erasure.requests import ErasureRequests
from infra.erasure.residue_scan import ResidueScan
from infra.log.read_position import ReadPosition
from infra.postgres.admission import Demand
from infra.webhooks.cursors import DeliveryCursors
from infra.write.definition_store import DefinitionStore
from projections.kernel.paging import DEFAULT_LIMIT, Page, decoded, encoded

Ids = Annotated[list[SubjectText], Bounds(min_items=1, max_items=MAX_LISTED_FOR_ERASURE)]
Sought = Annotated[str, Bounds(min_length=MIN_CHARS, max_length=MAX_CHARS)]
IdempotencyKey = Annotated[
    Annotated[str, Bounds(min_length=1, max_length=MAX_IDEMPOTENCY_KEY_CHARS)] | None,
    HeaderParameter(
        name="Idempotency-Key",
        description="of your choice: the same request under the same key is one erasure",
    ),
]
ErasureId = Annotated[UUID, PathParameter(description="of an erasure")]
Outcome = Annotated[
    TargetOutcome | None, QueryParameter(description="only subjects with this outcome")
]
CERTIFICATE = {
    200: ResponseSpec(
        dict[str, Any], generate_examples=False, description="the file, with its signature"
    )
}


class ErasureRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A request to erase subjects, chosen by exactly one of `id`, `ids` and `segment`.

    Attributes:
        id: our id, or `external:...`, `email:...`, `domain:...`.
        ids: up to 10,000 of them.
        segment: a segment's id: all its members at the time of the request.
        confirm: the word `confirm`.
        reason: a code, such as `art-17`; stays on record, so nothing personal.
        suppress: whether to refuse their identities from now on.
        wait_for: `position` of an earlier answer; the segment then includes its changes.
    """

    kind: SubjectKind
    id: SubjectText | None = None
    ids: Ids | None = None
    segment: UUID | None = None
    confirm: Annotated[str, Bounds(const=CONFIRMATION)]
    reason: ReasonCode = "art-17"
    suppress: bool = False
    wait_for: Positions | None = None


class Accepted(Erasure, frozen=True, kw_only=True):
    """
    Attributes:
        nobody: indexes of the `ids` that no subject has.
    """

    nobody: list[int]


class Receipt(Erasure, frozen=True, kw_only=True):
    """
    Attributes:
        destinations: that may have received data of the erased subjects, and whether they were
            told.
    """

    destinations: list[ToldDestination]


class ScanRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    Attributes:
        values: up to 200 values to search for, each of at least 6 characters; kept during the
            search only.
    """

    values: Annotated[list[Sought], Bounds(min_items=1, max_items=MAX_VALUES)]


class ErasureController(Controller):
    path = "/api/erasures"
    tags = ("compliance",)
    guards = (opens(ApiScope.COMPLY),)

    @post(
        status_code=200,
        sync_to_thread=True,
        summary="Erase a subject, a list, or all members of a segment: destroys their keys",
        responses=answers(400, 401, 403, 404, 409, 413, 503),
    )
    def erase(
        self,
        erasure_requests: Part[ErasureRequests],
        read_position: Part[ReadPosition],
        asker: Part[Asker],
        data: JSONBody[ErasureRequest],
        idempotency_key: IdempotencyKey = None,
    ) -> Accepted:
        check_confirmed(data.confirm)
        command = EraseSubjects(
            kind=data.kind,
            selection=_selection(data),
            reason=checked_reason(data.reason),
            suppress=data.suppress,
            idempotency_key=checked_idempotency_key(idempotency_key),
            question=msgspec.json.encode(data).decode(),
        )
        taken_on = erasure_requests.erase(
            command,
            by=str(asker.key_id),
            until_visible=lambda: wait_until(read_position, data.wait_for),
        )
        return Accepted(**msgspec.structs.asdict(taken_on.erasure), nobody=list(taken_on.nobody))

    @get(
        sync_to_thread=True,
        summary="All erasures, newest first",
        responses=answers(400, 401, 403, 503),
    )
    def list(
        self,
        erasures: Part[ErasureProcess],
        cursor: Cursor = None,
        limit: Limit = DEFAULT_LIMIT,
    ) -> Page[Erasure]:
        after = None if cursor is None else decoded("erasures", cursor, datetime, UUID)
        recent, total = erasures.record.recent((after[0], after[1]) if after else None, limit + 1)
        items = recent[:limit]
        following = None
        if len(recent) > limit:
            following = encoded("erasures", items[-1].requested_at, items[-1].id)
        return Page(items, following, total)

    @post(
        "/scan",
        status_code=200,
        opt={PLACE: Demand.SCAN},
        sync_to_thread=True,
        summary="Search every table, and every file of an embedded server, for values",
        responses=answers(400, 401, 403, 413, 503),
    )
    def scan(self, residue_scan: Part[ResidueScan], data: JSONBody[ScanRequest]) -> Scan:
        return residue_scan.scan(checked_values(data.values))

    @get(
        "/public-key",
        sync_to_thread=True,
        media_type="application/x-pem-file",
        summary="The key that certificates verify under, in PEM",
        responses=answers(401, 403, 503),
    )
    def public_key(self, certifier: Part[Certifier]) -> bytes:
        return certifier.public_key()

    @get(
        "/{id:uuid}",
        sync_to_thread=True,
        summary="An erasure: its progress, and the destinations that were told",
        responses=answers(400, 401, 403, 404, 503),
    )
    def view(
        self,
        erasures: Part[ErasureProcess],
        definitions: Part[DefinitionStore],
        cursors: Part[DeliveryCursors],
        id: ErasureId,
    ) -> Receipt:
        erasure = erasures.record.get(id)
        destinations = notified_destinations(definitions, cursors, erasure)
        return Receipt(destinations=destinations, **msgspec.structs.asdict(erasure))

    @get(
        "/{id:uuid}/subjects",
        sync_to_thread=True,
        summary="The subjects of an erasure, by random id, with the outcome of each",
        responses=answers(400, 401, 403, 404, 503),
    )
    def subjects(
        self,
        erasures: Part[ErasureProcess],
        id: ErasureId,
        outcome: Outcome = None,
        cursor: Cursor = None,
        limit: Limit = DEFAULT_LIMIT,
    ) -> Page[ErasureTarget]:
        erasures.record.get(id)
        after = None if cursor is None else decoded("erased", cursor, UUID)[0]
        targets = erasures.record.targets(id, outcome, after, limit + 1)
        items = targets[:limit]
        following = encoded("erased", items[-1].subject) if len(targets) > limit else None
        return Page(items, following, None)

    @get(
        "/{id:uuid}/certificate",
        sync_to_thread=True,
        media_type="application/json",
        summary="The certificate of a completed erasure",
        responses=CERTIFICATE | answers(400, 401, 403, 404, 503),
    )
    def certificate(self, erasures: Part[ErasureProcess], id: ErasureId) -> Response[bytes]:
        return Response(
            erasures.record.certificate(id),
            media_type="application/json",
            headers={"Content-Disposition": f'attachment; filename="erasure-{id}.json"'},
        )


def _selection(data: ErasureRequest) -> Selection:
    """Raises: InvalidInput: none or several of `id`, `ids` and `segment`; or a name of no form."""
    if sum(value is not None for value in (data.id, data.ids, data.segment)) != 1:
        raise InvalidInput("send exactly one of id, ids and segment", pointer="/id")
    if data.id is not None:
        return NamedSubject(named(data.kind, data.id))
    if data.segment is not None:
        return MembersOf(data.segment)
    return NamedSubjects(_names(data.kind, data.ids or []))


def _names(kind: SubjectKind, ids: Sequence[str]) -> Sequence[SubjectId | Identity]:
    check_listed(len(ids))
    names: list[SubjectId | Identity] = []
    for n, id in enumerate(ids):
        try:
            names.append(named(kind, id))
        except InvalidInput as error:
            raise InvalidInput(error.detail, pointer=f"/ids/{n}") from None
    return names
