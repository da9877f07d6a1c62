"""Why: the reason of a decision about a user or an account."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from litestar import Controller, get
from litestar.params import QueryParameter

from api.contacts.contacts import READING_PROBLEMS
from api.http.as_of import AsOf, Readings
from api.http.auth import READERS, opens
from api.http.dependencies import Part
from api.http.parameters import ContactId, WaitFor, reading_of
from api.http.problems import answers
from api.http.read_position import parsed
from api.openapi.bounds import Place
from domain.commands import Position
from domain.errors import InvalidInput
from domain.identity import SubjectKind
from projections.queries import contact_view, explanation
from projections.queries.explanation import VERBS_OF, Why

AtPosition = Annotated[
    Place | None,
    QueryParameter(description="of the decision in the log, `partition:position`"),
]
Of = Annotated[
    str | None,
    QueryParameter(
        description="instead of a position: the last decision about this",
        schema_extra={"enum": list(VERBS_OF)},
    ),
]
ForDefinition = Annotated[
    UUID | None, QueryParameter(description="the score, signal or segment, with `of`")
]


class _Whys(Controller):
    """Routes that users and accounts share."""

    guards = (opens(*READERS),)
    kind: SubjectKind

    @get(
        "/{id:str}/why",
        sync_to_thread=True,
        summary="Explain a decision: its rules, their evidence, its cause",
        responses=READING_PROBLEMS | answers(409),
    )
    def why(
        self,
        readings: Part[Readings],
        id: ContactId,
        position: AtPosition = None,
        of: Of = None,
        definition: ForDefinition = None,
        waiting: WaitFor = None,
        as_of: AsOf = None,
    ) -> Why:
        if (position is None) == (of is None):
            raise InvalidInput(
                f"send the position of a decision, or `of`: {', '.join(VERBS_OF)}", pointer="/of"
            )
        with reading_of(readings, self.kind, id, waiting, as_of) as (annals, conn, subject):
            contact_view.require(conn, self.kind, subject)
            if position is not None:
                streams = contact_view.streams_of(conn, subject)
                at = _position(position)
                return explanation.at(conn, annals.records, annals.sealer, streams, at)
            about = _about(of, definition)
            return explanation.last(
                conn, annals.records, annals.sealer, self.kind, subject, about, definition
            )


def _position(text: str) -> Position:
    try:
        [at] = parsed(text)
    except (InvalidInput, ValueError):
        raise InvalidInput(
            "a position is like 17:42, as in the timeline", pointer="/position"
        ) from None
    return at


def _about(of: str | None, definition: UUID | None) -> str:
    if of not in VERBS_OF:
        raise InvalidInput(
            f"unknown kind of decision; there are {', '.join(VERBS_OF)}", pointer="/of"
        )
    if of in ("stage", "health"):
        if definition is not None:
            raise InvalidInput(
                f"there is one {of}; leave the definition out", pointer="/definition"
            )
    elif definition is None:
        raise InvalidInput(f"name the {of} by its id", pointer="/definition")
    return of


class UserWhyController(_Whys):
    path = "/api/users"
    tags = ("users",)
    kind = SubjectKind.USER


class AccountWhyController(_Whys):
    path = "/api/accounts"
    tags = ("accounts",)
    kind = SubjectKind.ACCOUNT
