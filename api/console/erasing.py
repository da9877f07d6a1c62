"""Delete: the pop-up that asks for the word, the progress of the erasure, its receipt."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any
from uuid import UUID

import msgspec
from litestar import Controller, Response, asgi, get, post
from litestar.params import FromPath
from litestar.types import Receive, Scope, Send

from api.console.address import Address
from api.console.calls import Calls, Refused, forward, segment_of_path
from api.console.contacts import calls_of, types_of
from api.console.pages import PRIVATE, SECURITY_HEADERS, page
from api.console.sessions import AnyRequest, Session
from domain.erasure.order import MAX_LISTED_FOR_ERASURE
from domain.erasure.steps import ErasureStep
from domain.identity import SubjectKind
from projections.kernel.paging import MAX_LIMIT

Json = Any

STEPS = (
    (ErasureStep.ACCEPTED, "On record", "requested_at"),
    (ErasureStep.UNREADABLE, "Keys destroyed: nothing opens any more", "unreadable_at"),
    (ErasureStep.RECORDED, "The log says so", "recorded_at"),
    (ErasureStep.FORGOTTEN, "Gone from lists and views", "forgotten_at"),
    (ErasureStep.CLEANED, "Gone from the database's files", "cleaned_at"),
    (ErasureStep.COMPLETED, "Certified", "completed_at"),
)
NAMES_SHOWN = 5
NOT_ERASED_SHOWN = 100


class Whom(msgspec.Struct, frozen=True):
    """The subjects to delete.

    Attributes:
        ids: of each subject; empty with `segment`.
        segment: a segment whose members are all deleted.
        names: of the first few subjects.
    """

    kind: SubjectKind
    ids: list[str]
    segment: str | None
    count: int
    names: list[str]


class TooMany(Exception):
    """More than can be asked for at once."""


async def whom(calls: Calls, kind: SubjectKind, form: list[tuple[str, str]]) -> Whom:
    """Returns the subjects that the check boxes of a list choose, or all that match the list.

    Raises:
        TooMany.
    """
    chosen = list(dict.fromkeys(value for name, value in form if name == "id" and value))
    if ("all", "yes") not in form:
        return Whom(kind, chosen, None, len(chosen), [])
    address = Address.parsed(kind, form)
    question = address.question(await types_of(calls, kind)) | {"columns": [], "limit": MAX_LIMIT}
    if question.get("segment") and not question.keys() & {"search", "filter"}:
        found = await calls.get(f"/api/segments/{address.segment}")
        return Whom(kind, [], found["id"], found["members"], [])
    ids: list[str] = []
    cursor = None
    while True:
        found = await calls.post(f"/api/{kind}s", question | {"cursor": cursor})
        ids += [one["id"] for one in found["items"]]
        cursor = found["next"]
        if len(ids) > MAX_LISTED_FOR_ERASURE:
            raise TooMany
        if cursor is None:
            return Whom(kind, ids, None, len(ids), [])


class _Deleting(Controller):
    """Routes that users and accounts share."""

    kind: SubjectKind

    @post(status_code=200)
    async def ask(self, request: AnyRequest) -> Response[str]:
        """The pop-up."""
        calls, form = calls_of(request), await _pairs(request)
        try:
            found = await whom(calls, self.kind, form)
        except TooMany:
            return self._dialog(
                request,
                None,
                f"At most {MAX_LISTED_FOR_ERASURE:,} are deleted at once, but any number that is"
                " in a segment: save this list as one, and delete all that are in it.",
            )
        known = await asyncio.gather(
            *(calls.get(f"/api/{self.kind}s/{id}") for id in found.ids[:NAMES_SHOWN]),
            return_exceptions=True,
        )
        names = [
            one["name"] or one["email"] or one["domain"] or one["external_id"] or one["id"]
            for one in known
            if isinstance(one, dict)
        ]
        return self._dialog(request, msgspec.structs.replace(found, names=names), None)

    @post("/confirmed", status_code=200)
    async def confirmed(self, request: AnyRequest) -> Response[Any]:
        """Asks for the erasure, once however often the button is pressed."""
        calls, form = calls_of(request), await _pairs(request)
        sent = dict(form)
        ids = sent.get("ids", "").split()
        segment = sent.get("segment") or None
        body: dict[str, Json] = {
            "kind": self.kind,
            "confirm": sent.get("confirm", ""),
            "suppress": sent.get("suppress") == "yes",
            "reason": sent.get("reason") or "art-17",
        }
        if segment:
            body["segment"] = segment
        else:
            body |= {"id": ids[0]} if len(ids) == 1 else {"ids": ids}
        try:
            erasure = await calls.post("/api/erasures", body, Idempotency_Key=sent.get("key", ""))
        except Refused as refused:
            if refused.status not in (400, 404, 409):
                raise
            count = int(sent["count"]) if sent.get("count", "").isdecimal() else len(ids)
            again = Whom(self.kind, ids, segment, count, [])
            return self._dialog(request, again, refused.detail)
        place = f"/console/erasures/{erasure['id']}"
        return Response("", status_code=204, headers={"HX-Redirect": place} | PRIVATE)

    def _dialog(
        self, request: AnyRequest, found: Whom | None, refused: str | None
    ) -> Response[str]:
        return page(
            request,
            "erasing/dialog.html",
            kind=self.kind,
            whom=found,
            refused=refused,
            key=str(uuid.uuid4()),
        )


class DeletingUsers(_Deleting):
    path = "/users/delete"
    kind = SubjectKind.USER


class DeletingAccounts(_Deleting):
    path = "/accounts/delete"
    kind = SubjectKind.ACCOUNT


class Erasures(Controller):
    """Erasures, their progress and their receipts."""

    path = "/erasures"

    @get()
    async def list(self, request: AnyRequest) -> Response[str]:
        cursor = request.query_params.get("cursor")
        found = await calls_of(request).get("/api/erasures", cursor=cursor)
        return page(request, "erasing/list.html", erasures=found)

    @get("/{id:uuid}")
    async def view(self, request: AnyRequest, id: FromPath[UUID]) -> Response[str]:
        calls = calls_of(request)
        erasure = await calls.get(f"/api/erasures/{id}")
        rest = []
        for outcome in ("held", "erased_before", "unknown", "altered"):
            if erasure["outcomes"].get(outcome):
                found = await calls.get(
                    f"/api/erasures/{id}/subjects", outcome=outcome, limit=NOT_ERASED_SHOWN
                )
                rest += found["items"]
        part = request.headers.get("hx-request") == "true"
        return page(
            request,
            "erasing/progress.html" if part else "erasing/erasure.html",
            erasure=erasure,
            steps=STEPS,
            order=[step for step, _, _ in STEPS],
            rest=rest,
        )

    @get("/{id:uuid}/certificate")
    async def certificate(self, request: AnyRequest, id: FromPath[UUID]) -> Response[bytes]:
        """To the byte as it was signed."""
        found = await calls_of(request).file(f"/api/erasures/{id}/certificate")
        disposition = f'attachment; filename="erasure-{id}.json"'
        return Response(
            found.content,
            media_type="application/json",
            headers=SECURITY_HEADERS | PRIVATE | {"Content-Disposition": disposition},
        )


async def _archive(kind: SubjectKind, scope: Scope, receive: Receive, send: Send) -> None:
    request: AnyRequest = AnyRequest(scope, receive, send)
    session: Session = request.state.session
    id = segment_of_path(request.query_params.get("id", ""))
    path = f"/api/{kind}s/{id}/review/archive"
    await forward(request.app, scope, receive, send, path, query=b"", key=session.key)


@asgi("/archive/users", copy_scope=True)
async def archive_of_user(scope: Scope, receive: Receive, send: Send) -> None:
    """All that is on file about a user, as a zip."""
    await _archive(SubjectKind.USER, scope, receive, send)


@asgi("/archive/accounts", copy_scope=True)
async def archive_of_account(scope: Scope, receive: Receive, send: Send) -> None:
    """All that is on file about an account, as a zip."""
    await _archive(SubjectKind.ACCOUNT, scope, receive, send)


async def _pairs(request: AnyRequest) -> list[tuple[str, str]]:
    return [(name, str(value)) for name, value in (await request.form()).multi_items()]
