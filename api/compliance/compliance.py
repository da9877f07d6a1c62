"""What compliance officers ask for: forgetting users and accounts, provably; legal holds."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import msgspec
import sqlalchemy as sa
from litestar import Controller, Request, Response, get, post
from litestar.datastructures import State
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import HeaderParameter, JSONBody, PathParameter, QueryParameter

from api.compliance.notified import ToldDestination, told
from api.http.auth import PLACE, opens
from api.http.parameters import Cursor, Limit, named, subject_of
from api.http.problems import answers
from api.http.read_position import wait_for
from api.openapi.bounds import Bounds, Positions, ReasonCode, SubjectText
from domain.access import ApiScope
from domain.erasure.erasure import (
    CONFIRMATION,
    MAX_IDEMPOTENCY_KEY_CHARS,
    MAX_LISTED_FOR_ERASURE,
    Erasure,
    ErasureOrder,
    ErasureScope,
    ErasureTarget,
    LegalHold,
    TargetOutcome,
    check_confirmed,
    checked_idempotency_key,
    checked_reason,
)
from domain.erasure.scan import MAX_CHARS, MAX_VALUES, MIN_CHARS, Scan, checked_values
from domain.errors import InvalidInput, NotFound
from domain.identity import Identity, SubjectId, SubjectKind
from infra.bootstrap import Annals
from infra.postgres.admission import Demand
from projections.conditions.known_names import KnownNames
from projections.kernel.paging import DEFAULT_LIMIT, Page, decoded, encoded
from projections.kernel.tables import segment_members

HttpRequest = Request[Any, Any, Any]

OFFICERS = [opens(ApiScope.COMPLY)]

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
HoldId = Annotated[UUID, PathParameter(description="of a legal hold")]
Outcome = Annotated[
    TargetOutcome | None, QueryParameter(description="only those of whom this became")
]
Released = Annotated[bool, QueryParameter(description="those that were released, too")]

CERTIFICATE = {
    200: ResponseSpec(
        dict[str, Any], generate_examples=False, description="the file, with its signature"
    )
}


class ErasureRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One of `id`, `ids` and `segment` says whom.

    Attributes:
        id: our id, or `external:...`, `email:...`, `domain:...`.
        ids: up to 10,000 of them.
        segment: all who are in it at this moment, by its id.
        confirm: the word `confirm`, to the letter.
        reason: a code, such as `art-17`; nothing personal, it stays on record.
        suppress: whether to refuse their identities from now on.
        wait_for: `position` of an answer: whom that put into the segment is in it.
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
        nobody: indexes of the `ids` that were nobody's.
    """

    nobody: list[int]


class Receipt(Erasure, frozen=True, kw_only=True):
    """
    Attributes:
        destinations: those that could have heard of whom it is about, and whether they were told.
    """

    destinations: list[ToldDestination]


class ScanRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    Attributes:
        values: up to 200 that should be gone, of 6 characters at least; kept for the search only.
    """

    values: Annotated[list[Sought], Bounds(min_items=1, max_items=MAX_VALUES)]


class HoldRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    Attributes:
        id: our id, or `external:...`, `email:...`, `domain:...`.
        reason: a code, which is shown to whoever asks for the erasure.
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


class LiftRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    Attributes:
        id: `external:...`, `email:...` or `domain:...`.
    """

    kind: SubjectKind
    id: SubjectText


class Lifted(msgspec.Struct, frozen=True):
    lifted: bool


class ErasureController(Controller):
    path = "/api/erasures"
    tags = ("compliance",)
    guards = OFFICERS

    @post(
        status_code=200,
        sync_to_thread=True,
        summary="Forget one, a list, or all in a segment: their keys are destroyed",
        responses=answers(400, 401, 403, 404, 409, 413, 503),
    )
    def erase(
        self,
        request: HttpRequest,
        data: JSONBody[ErasureRequest],
        idempotency_key: IdempotencyKey = None,
    ) -> Accepted:
        annals: Annals = request.app.state.annals
        check_confirmed(data.confirm)
        key = checked_idempotency_key(idempotency_key)
        scope = _scope(data)
        reason = checked_reason(data.reason)
        nobody: list[int] = []
        if key is not None:  # before whom it names is looked for: they may be erased by now
            earlier = annals.erasures.asked(_question(data), key, by=str(request.state.key_id))
            if earlier is not None:
                return _accepted(earlier, nobody)
        match scope:
            case ErasureScope.ONE:
                assert data.id is not None
                subjects: Sequence[SubjectId] = [subject_of(annals, data.kind, data.id)]
            case ErasureScope.LIST:
                subjects, nobody = _listed(annals, data.kind, data.ids or [])
            case ErasureScope.SEGMENT:
                assert data.segment is not None
                wait_for(annals, data.wait_for)
                with annals.queries.connect() as conn:
                    subjects = _members(conn, data.kind, data.segment)
        order = ErasureOrder(
            scope=scope,
            kind=data.kind,
            subjects=subjects,
            segment=data.segment,
            unknown=len(nobody),
            reason=reason,
            suppress=data.suppress,
            idempotency_key=key,
            question=_question(data),
        )
        return _accepted(annals.erasures.request(order, by=str(request.state.key_id)), nobody)

    @get(
        sync_to_thread=True,
        summary="All erasures, newest first",
        responses=answers(400, 401, 403, 503),
    )
    def list(
        self, state: State, cursor: Cursor = None, limit: Limit = DEFAULT_LIMIT
    ) -> Page[Erasure]:
        annals: Annals = state.annals
        after = None if cursor is None else decoded("erasures", cursor, datetime, UUID)
        found, total = annals.erasures.record.recent(
            (after[0], after[1]) if after else None, limit + 1
        )
        items = found[:limit]
        following = None
        if len(found) > limit:
            following = encoded("erasures", items[-1].requested_at, items[-1].id)
        return Page(items, following, total)

    @post(
        "/scan",
        status_code=200,
        opt={PLACE: Demand.SCAN},
        sync_to_thread=True,
        summary="Search every table and, if the server is ours, every file for values",
        responses=answers(400, 401, 403, 413, 503),
    )
    def scan(self, state: State, data: JSONBody[ScanRequest]) -> Scan:
        annals: Annals = state.annals
        return annals.scanner.scan(checked_values(data.values))

    @get(
        "/public-key",
        sync_to_thread=True,
        media_type="application/x-pem-file",
        summary="The key that certificates verify under, in PEM",
        responses=answers(401, 403, 503),
    )
    def public_key(self, state: State) -> bytes:
        annals: Annals = state.annals
        return annals.certifier.public_key()

    @get(
        "/{id:uuid}",
        sync_to_thread=True,
        summary="How far an erasure is, and which destinations were told",
        responses=answers(400, 401, 403, 404, 503),
    )
    def view(self, state: State, id: ErasureId) -> Receipt:
        annals: Annals = state.annals
        erasure = annals.erasures.record.get(id)
        return Receipt(destinations=told(annals, erasure), **msgspec.structs.asdict(erasure))

    @get(
        "/{id:uuid}/subjects",
        sync_to_thread=True,
        summary="Whom an erasure is about, by random id, and what became of each",
        responses=answers(400, 401, 403, 404, 503),
    )
    def subjects(
        self,
        state: State,
        id: ErasureId,
        outcome: Outcome = None,
        cursor: Cursor = None,
        limit: Limit = DEFAULT_LIMIT,
    ) -> Page[ErasureTarget]:
        annals: Annals = state.annals
        annals.erasures.record.get(id)
        after = None if cursor is None else decoded("erased", cursor, UUID)[0]
        found = annals.erasures.record.targets(id, outcome, after, limit + 1)
        items = found[:limit]
        following = encoded("erased", items[-1].subject) if len(found) > limit else None
        return Page(items, following, None)

    @get(
        "/{id:uuid}/certificate",
        sync_to_thread=True,
        media_type="application/json",
        summary="The certificate of a completed erasure",
        responses=CERTIFICATE | answers(400, 401, 403, 404, 503),
    )
    def certificate(self, state: State, id: ErasureId) -> Response[bytes]:
        annals: Annals = state.annals
        return Response(
            annals.erasures.record.certificate(id),
            media_type="application/json",
            headers={"Content-Disposition": f'attachment; filename="erasure-{id}.json"'},
        )


class HoldController(Controller):
    path = "/api/holds"
    tags = ("compliance",)
    guards = OFFICERS

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


class SuppressionController(Controller):
    path = "/api/suppressions"
    tags = ("compliance",)
    guards = OFFICERS

    @post(
        "/lift",
        status_code=200,
        sync_to_thread=True,
        summary="Take an identity in again that was erased and suppressed",
        responses=answers(400, 401, 403, 404, 413, 503),
    )
    def lift(self, request: HttpRequest, data: JSONBody[LiftRequest]) -> Lifted:
        annals: Annals = request.app.state.annals
        name = named(data.kind, data.id)
        if not isinstance(name, Identity):
            raise InvalidInput("name it from outside, like email:...", pointer="/id")
        annals.erasures.lift(name, by=str(request.state.key_id))
        return Lifted(True)


def _scope(data: ErasureRequest) -> ErasureScope:
    given = [
        scope
        for scope, value in (
            (ErasureScope.ONE, data.id),
            (ErasureScope.LIST, data.ids),
            (ErasureScope.SEGMENT, data.segment),
        )
        if value is not None
    ]
    if len(given) != 1:
        raise InvalidInput("say whom by one of id, ids and segment", pointer="/id")
    return given[0]


def _question(data: ErasureRequest) -> str:
    return msgspec.json.encode(data).decode()


def _accepted(erasure: Erasure, nobody: list[int]) -> Accepted:
    return Accepted(**msgspec.structs.asdict(erasure), nobody=nobody)


def _listed(
    annals: Annals, kind: SubjectKind, texts: Sequence[str]
) -> tuple[list[SubjectId], list[int]]:
    """The subjects that some ids mean, and the indexes of those that are nobody's."""
    if not 0 < len(texts) <= MAX_LISTED_FOR_ERASURE:
        raise InvalidInput(f"a list has 1 to {MAX_LISTED_FOR_ERASURE:,} ids", pointer="/ids")
    names: list[SubjectId | Identity] = []
    for n, text in enumerate(texts):
        try:
            names.append(named(kind, text))
        except InvalidInput as error:
            raise InvalidInput(error.detail, pointer=f"/ids/{n}") from None
    known = annals.subject_lookup.find_all(one for one in names if isinstance(one, Identity))
    subjects: list[SubjectId] = []
    nobody: list[int] = []
    for n, name in enumerate(names):
        subject = known.get(name) if isinstance(name, Identity) else name
        if subject is None:
            nobody.append(n)
        else:
            subjects.append(subject)
    return subjects, nobody


def _members(conn: sa.Connection, kind: SubjectKind, segment: UUID) -> list[SubjectId]:
    if KnownNames(conn).segments().get(segment) != kind:
        raise NotFound(f"there is no such segment of {kind}s")
    members = sa.select(segment_members.c.subject).where(segment_members.c.segment == segment)
    return [SubjectId(one) for one in conn.scalars(members)]
