"""What is on file about one user or account, whole: to read, and to hand over (GDPR 15, 20)."""

from __future__ import annotations

from litestar import Controller, get
from litestar.datastructures import State
from litestar.response import Stream

from api.contacts.contacts import READING_PROBLEMS
from api.http.auth import PLACE, opens
from api.http.parameters import ContactId, Cursor, Limit, WaitFor, asked
from domain.access import ApiScope
from domain.identity import SubjectKind
from infra.bootstrap import Annals
from infra.postgres.admission import Demand
from projections.kernel.paging import DEFAULT_LIMIT
from projections.queries.contact_view import streams_of
from projections.queries.subject_file import File, ReviewPage, SubjectFiles


class _Reviews(Controller):
    """What users and accounts have in common."""

    guards = (opens(ApiScope.COMPLY),)
    tags = ("compliance",)
    kind: SubjectKind

    @get(
        "/{id:str}/review",
        sync_to_thread=True,
        opt={PLACE: Demand.REVIEW},
        summary="All that is on file, and a page of all that happened, oldest first",
        responses=READING_PROBLEMS,
    )
    def review(
        self,
        state: State,
        id: ContactId,
        cursor: Cursor = None,
        limit: Limit = DEFAULT_LIMIT,
        waiting: WaitFor = None,
    ) -> ReviewPage:
        with asked(state, self.kind, id, waiting) as (annals, conn, subject):
            streams = streams_of(conn, subject)
        found = annals.reviews(self.kind, streams)
        history_page = found.page(cursor=cursor, limit=limit, total=True)
        file = _file(annals, found)
        [known] = annals.subjects.load({streams[0]: self.kind}).values()
        named_in = annals.mentions.find(known.identities)
        return ReviewPage(file, history_page, named_in)

    @get(
        "/{id:str}/review/archive",
        sync_to_thread=True,
        opt={PLACE: Demand.REVIEW},
        media_type="application/zip",
        summary="The same as a zip: JSON with its schema, CSV by table, a summary to read",
        responses=READING_PROBLEMS,
    )
    def archive(self, state: State, id: ContactId, waiting: WaitFor = None) -> Stream:
        with asked(state, self.kind, id, waiting) as (annals, conn, subject):
            streams = streams_of(conn, subject)
        found = annals.reviews(self.kind, streams)
        file = _file(annals, found)
        return Stream(
            found.archive(file),
            media_type="application/zip",
            headers={
                "Content-Disposition": f'attachment; filename="{self.kind}-{subject}.zip"',
                "Cache-Control": "no-store",
            },
        )


def _file(annals: Annals, found: SubjectFiles) -> File:
    workspace = annals.workspace()
    return found.file(renewal_property=workspace.renewal_property, currency=workspace.currency)


class UserReviewController(_Reviews):
    path = "/api/users"
    kind = SubjectKind.USER


class AccountReviewController(_Reviews):
    path = "/api/accounts"
    kind = SubjectKind.ACCOUNT
