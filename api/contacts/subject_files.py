"""The whole file of a user or an account, to read and to hand over (GDPR 15, 20)."""

from __future__ import annotations

from litestar import Controller, get
from litestar.response import Stream

from api.contacts.contacts import READING_PROBLEMS
from api.http.as_of import Readings
from api.http.auth import PLACE, opens
from api.http.dependencies import Part
from api.http.parameters import ContactId, Cursor, Limit, WaitFor, reading_of
from domain.access import ApiScope
from domain.identity import SubjectKind
from domain.workspace.workspace import Workspace
from infra.erasure.redaction import Redaction
from infra.postgres.admission import Demand
from infra.write.subjects import Subjects
from projections.kernel.paging import DEFAULT_LIMIT
from projections.queries.contact_view import streams_of
from projections.queries.subject_file import File, ReviewPage, SubjectFiles


class _Reviews(Controller):
    """Routes that users and accounts share."""

    guards = (opens(ApiScope.COMPLY),)
    tags = ("compliance",)
    kind: SubjectKind

    @get(
        "/{id:str}/review",
        sync_to_thread=True,
        opt={PLACE: Demand.REVIEW},
        summary="The file of the subject, and a page of its history, oldest first",
        responses=READING_PROBLEMS,
    )
    def review(
        self,
        readings: Part[Readings],
        subjects: Part[Subjects],
        redaction: Part[Redaction],
        id: ContactId,
        cursor: Cursor = None,
        limit: Limit = DEFAULT_LIMIT,
        waiting: WaitFor = None,
    ) -> ReviewPage:
        with reading_of(readings, self.kind, id, waiting) as (annals, conn, subject):
            streams = streams_of(conn, subject)
        files = annals.reviews(self.kind, streams)
        history_page = files.page(cursor=cursor, limit=limit, total=True)
        file = _file(annals.workspace(), files)
        [state] = subjects.load({streams[0]: self.kind}).values()
        return ReviewPage(file, history_page, redaction.find(state.identities))

    @get(
        "/{id:str}/review/archive",
        sync_to_thread=True,
        opt={PLACE: Demand.REVIEW},
        media_type="application/zip",
        summary="The same as a zip: JSON with its schema, CSV by table, a summary to read",
        responses=READING_PROBLEMS,
    )
    def archive(self, readings: Part[Readings], id: ContactId, waiting: WaitFor = None) -> Stream:
        with reading_of(readings, self.kind, id, waiting) as (annals, conn, subject):
            streams = streams_of(conn, subject)
        files = annals.reviews(self.kind, streams)
        return Stream(
            files.archive(_file(annals.workspace(), files)),
            media_type="application/zip",
            headers={
                "Content-Disposition": f'attachment; filename="{self.kind}-{subject}.zip"',
                "Cache-Control": "no-store",
            },
        )


def _file(workspace: Workspace, files: SubjectFiles) -> File:
    return files.file(renewal_property=workspace.renewal_property, currency=workspace.currency)


class UserReviewController(_Reviews):
    path = "/api/users"
    kind = SubjectKind.USER


class AccountReviewController(_Reviews):
    path = "/api/accounts"
    kind = SubjectKind.ACCOUNT
