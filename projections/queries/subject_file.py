"""Query: the subject file: all that is on file about a user or an account, as a page and as an
archive.

The archive is built while it is sent, a page of events at a time: a subject with a million events
needs no more memory than one with ten. The file of an account holds the part of its users' activity
that the account keeps: name, time, and the user's random id.
"""

from __future__ import annotations

import html
import io
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
import sqlalchemy as sa

from domain.activity import ActivityKind
from domain.erasure.erasure import NamedIn
from domain.identity import SubjectId, SubjectKind, log_partition
from projections.kernel.paging import Page
from projections.kernel.ports import Opener
from projections.queries import contact_view
from projections.queries.contact_view import Contact, MemberItem, PropertyItem
from projections.queries.export import BYTE_ORDER_MARK, cell, csv_lines
from projections.queries.timeline import TimelineLog, Wanted, timeline
from projections.queries.timeline_items import GROUPS, GapItem, TimelineItem

FORMAT = "annals-review-1"
ROWS_AT_A_TIME = 500
LISTED_GAPS = 1_000
"""Gaps that the summary names; it counts the others."""

SEGMENTS = sa.text("""
SELECT m.segment, s.name, m.entered_at
FROM views.segment_members m JOIN views.segments s ON s.segment = m.segment
WHERE m.log_partition = :partition AND m.subject = :subject ORDER BY m.entered_at, m.segment""")

_CHANGES = ("property", "membership", "identity", "by_hand")
TABLES: dict[str, tuple[str, ...]] = {
    "activity": tuple(kind.value for kind in ActivityKind),
    "changes": _CHANGES,
    "decisions": tuple(group for group in GROUPS if group not in _CHANGES),
}
"""The CSV files of the archive, each with the groups of timeline types it holds."""

_encode = msgspec.json.Encoder().encode
_HISTORY_FIELDS = ("at", "recorded_at", "type", "name", "user", "account", "changes", "details",
                   "position", "gap")  # fmt: skip


class SegmentOfContact(msgspec.Struct, frozen=True):
    id: UUID
    name: str
    since: datetime


class File(msgspec.Struct, frozen=True):
    """The file of a subject, without its history.

    Attributes:
        as_of: the time of the reading.
        memberships: all, including ended ones.
    """

    format: str
    as_of: datetime
    contact: Contact
    properties: list[PropertyItem]
    memberships: list[MemberItem]
    segments: list[SegmentOfContact]


class WholeFile(File, frozen=True):
    """`review.json` in the archive.

    Attributes:
        history: everything, oldest first: activity, changes of properties, memberships and
            identities, and decisions, each with its cause. An event that does not open is a gap.
    """

    history: list[TimelineItem]


class ReviewPage(msgspec.Struct, frozen=True):
    """
    Attributes:
        named_in: definitions, with their past versions, and saved views that name the subject by
            value; an erasure takes the names out of them.
    """

    file: File
    history: Page[TimelineItem]
    named_in: list[NamedIn]


class SubjectFiles:
    """The file of one subject.

    Args:
        connect: opens a connection to the read models; none stays open between two pages.
        streams: the subject and the subjects merged into it.
    """

    def __init__(
        self,
        connect: Callable[[], AbstractContextManager[sa.Connection]],
        log: TimelineLog,
        opener: Opener,
        kind: SubjectKind,
        streams: Sequence[SubjectId],
    ) -> None:
        self._connect = connect
        self._log = log
        self._opener = opener
        self._kind = kind
        self._streams = streams

    def file(self, *, renewal_property: str, currency: str | None) -> File:
        """Raises: NotFound: no such user or account."""
        subject = self._streams[0]
        with self._connect() as conn:
            contact = contact_view.view(
                conn, self._kind, subject, renewal_property=renewal_property, currency=currency
            )
            params = {"partition": log_partition(subject), "subject": subject}
            return File(
                FORMAT,
                datetime.now(UTC),
                contact,
                contact_view.list_properties(conn, self._kind, subject).items,
                list(self._memberships(conn, subject)),
                [SegmentOfContact(*row) for row in conn.execute(SEGMENTS, params)],
            )

    def _memberships(self, conn: sa.Connection, subject: SubjectId) -> Iterator[MemberItem]:
        cursor: str | None = None
        while True:
            page = contact_view.list_members(
                conn, self._kind, subject, cursor=cursor, limit=ROWS_AT_A_TIME
            )
            yield from page.items
            cursor = page.next
            if cursor is None:
                return

    def page(
        self, types: Sequence[str] = (), *, cursor: str | None, limit: int, total: bool = False
    ) -> Page[TimelineItem]:
        """Raises: InvalidInput: an unknown cursor."""
        wanted = Wanted(types=tuple(types), newest_first=False, total=total)
        with self._connect() as conn:
            page = timeline(
                conn,
                self._log,
                self._opener,
                self._kind,
                self._streams,
                wanted,
                cursor=cursor,
                limit=limit,
            )
        if self._kind is SubjectKind.USER:
            return page
        items = [_of_account(item) for item in page.items]
        return Page(items, page.next, page.total)

    def history(self, types: Sequence[str] = ()) -> Iterator[list[TimelineItem]]:
        """The whole history, oldest first, page by page."""
        cursor: str | None = None
        while True:
            page = self.page(types, cursor=cursor, limit=ROWS_AT_A_TIME)
            yield page.items
            cursor = page.next
            if cursor is None:
                return

    def archive(self, file: File) -> Iterator[bytes]:
        """The archive in pieces: a zip with `summary.html`, `review.json`, its JSON schema, and
        a CSV for each table."""
        sink = _Sink()
        with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, pieces in self._entries(file):
                entry = zipfile.ZipInfo(name, file.as_of.timetuple()[:6])
                entry.compress_type = zipfile.ZIP_DEFLATED
                with archive.open(entry, "w", force_zip64=True) as opened:
                    for piece in pieces:
                        opened.write(piece)
                        if written := sink.taken():
                            yield written
        yield sink.taken()

    def _entries(self, file: File) -> Iterator[tuple[str, Iterable[bytes]]]:
        gaps = _Gaps()
        yield "review.json", self._json(file, gaps)
        yield "review.schema.json", [schema()]
        yield "identities.csv", [_table(("scheme", "value"), file.contact.identities)]
        yield "properties.csv", [_table(PropertyItem.__struct_fields__, file.properties)]
        yield "memberships.csv", [_table(MemberItem.__struct_fields__, file.memberships)]
        yield "segments.csv", [_table(SegmentOfContact.__struct_fields__, file.segments)]
        for name, types in TABLES.items():
            yield f"{name}.csv", self._csv(types)
        yield "summary.html", [summary(file, gaps)]

    def _json(self, file: File, gaps: _Gaps) -> Iterator[bytes]:
        yield _encode(file)[:-1] + b',"history":['
        between = b"\n"
        for items in self.history():
            gaps.take(items)
            if items:
                yield between + b",\n".join(map(_encode, items))
                between = b",\n"
        yield b"\n]}\n"

    def _csv(self, types: Sequence[str]) -> Iterator[bytes]:
        yield BYTE_ORDER_MARK + csv_lines([list(_HISTORY_FIELDS)])
        for items in self.history(types):
            yield csv_lines([_cells(item) for item in items])


class _Gaps:
    """The gaps of the history: their number, and the first of them."""

    def __init__(self) -> None:
        self.count = 0
        self.first: list[tuple[TimelineItem, GapItem]] = []

    def take(self, items: Iterable[TimelineItem]) -> None:
        for item in items:
            if item.gap is not None:
                self.count += 1
                if len(self.first) < LISTED_GAPS:
                    self.first.append((item, item.gap))

    def rows(self) -> Iterator[tuple[str, str]]:
        """Each position, with the facts of its envelope."""
        for item, gap in self.first:
            yield item.position, f"{gap.reason}: {gap.topic}, recorded {item.recorded_at:%Y-%m-%d}"
        if self.count > len(self.first):
            yield "more", f"{self.count - len(self.first):,}, in review.json"


def schema() -> bytes:
    """The JSON schema of `review.json`."""
    return msgspec.json.format(_encode(msgspec.json.schema(WholeFile)), indent=2) + b"\n"


def summary(file: File, gaps: _Gaps) -> bytes:
    """The summary as a page: identities, what is on file, counts, gaps."""
    contact = file.contact
    sections = [
        ("Identities", [(identity.scheme, identity.value) for identity in contact.identities]),
        ("Properties", [(property.name, property.value) for property in file.properties]),
        (
            "Accounts" if contact.kind is SubjectKind.USER else "Users",
            [(member.name or member.external_id or "erased", _spell(member))
             for member in file.memberships],
        ),
        (
            "Segments",
            [(segment.name, f"since {segment.since:%Y-%m-%d}") for segment in file.segments],
        ),
        ("Activity", list(msgspec.structs.asdict(contact.counts).items())),
        (
            "Seen",
            [("registered", contact.registered_at), ("first", contact.first_seen),
             ("last", contact.last_seen)],
        ),
        ("Stage and health", [("stage", contact.stage), ("health", contact.health)]),
    ]  # fmt: skip
    if gaps.count:
        sections.append(("Events that do not open", list(gaps.rows())))
    title = html.escape(contact.name or contact.external_id or str(contact.id))
    body = "".join(_section(name, rows) for name, rows in sections)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        "<style>body{font:16px/1.5 sans-serif;max-width:50em;margin:2em auto}"
        "td,th{padding:.2em 1em .2em 0;text-align:left;vertical-align:top}</style>"
        f"<h1>{title}</h1><p>All that is on file, as of {file.as_of:%Y-%m-%d %H:%M} UTC. What"
        " happened, event by event, stands in the files beside this one.</p>"
        f"{body}</html>\n"
    ).encode()


def _spell(member: MemberItem) -> str:
    end = "" if member.left_at is None else f" to {member.left_at:%Y-%m-%d}"
    role = f"{member.role}, " if member.role else ""
    return f"{role}from {member.joined_at:%Y-%m-%d}{end}"


def _section(name: str, rows: Sequence[tuple[object, object]]) -> str:
    lines = "".join(
        f"<tr><th>{html.escape(str(label))}</th><td>{html.escape(_text(value))}</td></tr>"
        for label, value in rows
    )
    return f"<h2>{html.escape(name)}</h2><table>{lines or '<tr><td>none</td></tr>'}</table>"


def _text(value: object) -> str:
    if value is None:
        return "none"
    return value if isinstance(value, str) else _encode(value).decode().strip('"')


def _table(fields: Sequence[str], rows: Sequence[Any]) -> bytes:
    cells = [[cell(getattr(row, field)) for field in fields] for row in rows]
    return BYTE_ORDER_MARK + csv_lines([list(fields), *cells])


def _cells(item: TimelineItem) -> list[str]:
    values: list[Any] = [getattr(item, field) for field in _HISTORY_FIELDS]
    return [
        cell(_encode(value).decode() if isinstance(value, list | dict | GapItem) else _party(value))
        for value in values
    ]


def _party(value: Any) -> Any:
    return str(value.id) if hasattr(value, "external_id") else value


def _of_account(item: TimelineItem) -> TimelineItem:
    """Returns the part of an item that an account keeps of its user's activity."""
    if item.user is None:
        return item
    nameless = msgspec.structs.replace(item.user, external_id=None, name=None)
    return msgspec.structs.replace(item, user=nameless, changes=None, details=None)


class _Sink(io.RawIOBase):
    """A write-only, unseekable file for the zip writer."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, piece: Any) -> int:
        self._pieces.append(bytes(piece))
        return len(piece)

    def taken(self) -> bytes:
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)
