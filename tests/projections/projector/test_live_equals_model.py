"""Whatever is written, and however it is projected: read models show what a naive model shows,
and what they would show if they were built again."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.activity import Activity, ActivityKind
from domain.calendar import Zones
from domain.commands import Alias, Change, Command, Join, Leave, Request, Stored, Track
from domain.identity import Identity, SubjectKind
from domain.workspace.workspace import Workspace
from infra.bootstrap.annals import Annals
from projections.projector import leases
from projections.projector.projector import Projector
from projections.queries.contact_view import MemberItem, list_members
from tests.infra.erasures import erase
from tests.projections.read_model_oracle import Membership, Model, Subject
from tests.projections.read_models import (
    account,
    drain,
    dump,
    empty,
    forget_read_models,
    found,
    let_leases_expire,
    owner,
    parked,
    user,
)

ZONE = ZoneInfo("Europe/Brussels")
BEGINNING = datetime(2024, 3, 30, 20, tzinfo=UTC)  # the night in which the clocks go forward
SCOPE_OF_KIND = {SubjectKind.USER: user, SubjectKind.ACCOUNT: account}


class Write(NamedTuple):
    commands: list[Command]


class Erase(NamedTuple):
    kind: SubjectKind
    name: str


class Project(NamedTuple):
    """One batch by one of two workers, at most so many events of it."""

    worker: int
    batch_events: int


class Stop(NamedTuple):
    """A worker ends: in order, or by dying with its leases."""

    worker: int
    in_order: bool


user_names = st.sampled_from(["u0", "u1", "u2"])
emails = st.sampled_from(["e0@x.be", "e1@x.be"])
account_names = st.sampled_from(["a0", "a1"])
domains = st.sampled_from(["d0.be"])

users = st.one_of(
    user_names.map(user),
    emails.map(user),
    st.builds(lambda name, email: user(name) + user(email), user_names, emails),
)
accounts = st.one_of(
    account_names.map(account),
    account_names.map(account),
    domains.map(account),
    st.builds(lambda name, domain: account(name) + account(domain), account_names, domains),
    st.builds(lambda first, second: account(first) + account(second), account_names, account_names),
)
nobody = st.just(())
instants = st.integers(0, 60 * 24 * 3).map(lambda minutes: BEGINNING + timedelta(minutes=minutes))
properties = st.fixed_dictionaries(
    {},
    optional={
        "plan": st.sampled_from(["free", "pro", "", None]),
        "seats": st.sampled_from([0, 1, 2.5, None]),
        "tags": st.sampled_from([[], ["a"], ["a", "é\U0001f600"], None]),
        "name": st.sampled_from(["Ada", "", None]),
        "last_name": st.sampled_from(["Lovelace", None]),
    },
)
ties = st.fixed_dictionaries({}, optional={"role": st.sampled_from(["owner", "guest", None])})
activities = st.lists(
    st.builds(
        Activity,
        st.sampled_from(ActivityKind),
        st.sampled_from(["one", "two"]),
    ),
    min_size=1,
    max_size=2,
).map(tuple)
commands = st.one_of(
    st.builds(Change, st.just(SubjectKind.USER), users, properties, instants),
    st.builds(Change, st.just(SubjectKind.ACCOUNT), accounts, properties, instants),
    st.builds(Join, users, accounts, properties, ties, instants),
    st.builds(Join, users, accounts, properties, ties, instants),
    st.builds(Leave, user_names.map(user), account_names.map(account), instants),
    st.builds(Track, users, st.one_of(nobody, accounts), activities, instants),
    st.builds(Track, nobody, accounts, activities, instants),
    st.builds(Alias, user_names.map(user), user_names.map(user), instants),
)
steps = st.one_of(
    st.lists(commands, min_size=4, max_size=12).map(Write),
    st.lists(commands, min_size=4, max_size=12).map(Write),
    st.builds(Project, st.integers(0, 1), st.sampled_from([1, 3, 100])),
    st.builds(Project, st.integers(0, 1), st.sampled_from([1, 3, 100])),
    st.builds(Stop, st.integers(0, 1), st.booleans()),
    st.one_of(
        st.builds(Erase, st.just(SubjectKind.USER), user_names),
        st.builds(Erase, st.just(SubjectKind.ACCOUNT), account_names),
    ),
)


class World:
    """The system and its model, side by side."""

    def __init__(self, annals: Annals, url: str) -> None:
        self.annals, self.url = annals, url
        self.model = Model(ZONE)
        self.workers: list[Projector | None] = [None, None]
        self._ticks = 0
        empty(url)

    def take(self, step: Write | Erase | Project | Stop) -> None:
        match step:
            case Write(commands):
                commands = [self._at_a_time_of_its_own(command) for command in commands]
                outcomes = self.annals.handler.handle([Request(command) for command in commands])
                for command, outcome in zip(commands, outcomes, strict=True):
                    assert isinstance(outcome, Stored) or isinstance(command, Leave), outcome
                    self.model.carry_out(command)
            case Erase(kind, name):
                [identity] = SCOPE_OF_KIND[kind](name)
                if identity in self.model.names:
                    self._erase(kind, identity)
            case Project(worker, batch_events):
                projector = self.workers[worker] or self._projector(batch_events)
                self.workers[worker] = projector
                projector.step()
            case Stop(worker, in_order):
                projector, self.workers[worker] = self.workers[worker], None
                if projector is not None and in_order:
                    projector.release()

    def _at_a_time_of_its_own(self, command: Command) -> Command:
        """Simultaneous events have no order to speak of."""
        self._ticks += 1
        at = command.at + timedelta(microseconds=self._ticks)
        return type(command)(
            **{name: getattr(command, name) for name in command.__struct_fields__} | {"at": at}
        )

    def _erase(self, kind: SubjectKind, identity: Identity) -> None:
        subject = found(self.annals, [identity])
        erase(self.annals, subject, kind=kind)
        self.model.erase(self.model.names[identity])

    def _projector(self, batch_events: int) -> Projector:
        annals = self.annals
        return Projector(
            log=annals.log,
            opener=annals.sealer,
            pool=annals.views,
            workspace=lambda: Workspace(Zones(ZONE)),
            batch_events=batch_events,
        )

    def catch_up(self) -> None:
        let_leases_expire(self.url)
        worker = self._projector(100)
        drain(worker)
        worker.release()
        self.workers = [None, None]
        assert parked(self.url) == []

    def compare(self) -> None:
        self._compare_contacts()
        self._compare_what_contacts_are_called()
        self._compare_memberships()
        self._compare_days()
        if not self.model.erased:
            self._compare_catalogue()

    def _compare_what_contacts_are_called(self) -> None:
        """It follows from the rest of the row, however that came about."""
        with owner(self.url) as conn:
            rows = conn.execute(
                "SELECT (name, external_id, email, domain) IS NOT DISTINCT FROM"
                " (views.name_of(properties), views.external_id_of(identities),"
                " views.email_of(identities), views.domain_of(identities)),"
                " name, properties FROM views.contacts"
            ).fetchall()
        for follows, name, values in rows:
            assert follows
            assert name == values.get("name", values.get("last_name"))

    def _compare_contacts(self) -> None:
        with owner(self.url) as conn:
            rows = conn.execute(
                "SELECT subject, identities, properties, first_seen, last_seen"
                " FROM views.whole_contacts"
            ).fetchall()
            alone = conn.execute(
                "SELECT count(*) FROM views.contacts c FULL JOIN views.seen s USING (subject)"
                " WHERE c.kind IS DISTINCT FROM s.kind"
            ).fetchone()
        assert alone == (0,), "each contact has a row of when it was seen, and the other way round"
        shown = {
            id: (
                [(identity["scheme"], identity["value"]) for identity in identities],
                values,
                first,
                last,
            )
            for id, identities, values, first, last in rows
        }
        assert shown == {
            found(self.annals, subject.identities): (
                [(name.scheme.value, name.value) for name in subject.identities],
                subject.properties,
                min(subject.seen, default=None),
                max(subject.seen, default=None),
            )
            for subject in self.model.subjects
        }

    def _compare_memberships(self) -> None:
        people = [subject for subject in self.model.subjects if subject.kind is SubjectKind.USER]
        gone = [subject for subject in self.model.erased if subject.kind is SubjectKind.USER]
        belongings: dict[Subject, list[tuple[object, ...]]] = {}
        for person in people + gone:
            accounts = self.model.accounts_of(person)
            for party, membership in accounts.items():
                belongings.setdefault(party, []).append(
                    self._line(None if person in gone else person, membership)
                )
            if person not in gone:
                assert self._members(person) == _sorted(
                    self._line(
                        None if account in self.model.erased or account.merged_into else account,
                        membership,
                    )
                    for account, membership in accounts.items()
                )
        for subject in self.model.subjects:
            if subject.kind is SubjectKind.ACCOUNT:
                assert self._members(subject) == _sorted(belongings.get(subject, []))

    def _members(self, account: Subject) -> list[tuple[object, ...]]:
        subject = found(self.annals, account.identities)
        items: list[MemberItem] = []
        cursor: str | None = None
        with self.annals.queries.connect() as conn:
            while True:
                page = list_members(conn, account.kind, subject, cursor=cursor, limit=2)
                items += page.items
                cursor = page.next
                if cursor is None:
                    break
            assert page.total == len(items)
        return _sorted(
            (
                None if item.erased else item.id,
                item.properties,
                item.role,
                item.joined_at,
                item.left_at,
            )
            for item in items
        )

    def _line(self, other: Subject | None, membership: Membership) -> tuple[object, ...]:
        return (
            None if other is None else found(self.annals, other.identities),
            membership.properties,
            membership.properties.get("role"),
            membership.joined_at,
            membership.left_at,
        )

    def _compare_days(self) -> None:
        with owner(self.url) as conn:
            rows = conn.execute(
                "SELECT d.subject, n.kind, n.name, d.day, d.in_account, d.count"
                " FROM views.activity_days d JOIN views.names n ON n.id = d.name_id"
            ).fetchall()
        assert sorted(rows) == sorted(
            (found(self.annals, subject.identities), *key, count)
            for subject in self.model.subjects
            for key, count in subject.days.items()
        )

    def _compare_catalogue(self) -> None:
        with owner(self.url) as conn:
            rows = conn.execute(
                "SELECT scope, name, uses, first_at, last_at FROM views.catalogue"
            ).fetchall()
        assert sorted(rows) == sorted(
            (*key, use.count, use.first_at, use.last_at)
            for key, use in self.model.catalogue.items()
        )


def _sorted(lines: Iterable[tuple[Any, ...]]) -> list[tuple[object, ...]]:
    return sorted(lines, key=lambda line: (line[3], repr(line)))


@pytest.mark.parametrize("lease_seconds", [10, 0])
def test_read_models_show_what_was_written_however_it_was_projected(
    annals: Annals, database_url: str, monkeypatch: pytest.MonkeyPatch, lease_seconds: int
) -> None:
    monkeypatch.setattr(leases, "LEASE_SECONDS", lease_seconds)

    @given(st.lists(steps, min_size=2, max_size=25))
    def whatever_happens(history: list[Write | Erase | Project | Stop]) -> None:
        world = World(annals, database_url)
        for step in history:
            world.take(step)
        world.catch_up()
        world.compare()
        live = dump(database_url)
        forget_read_models(database_url)
        world.catch_up()
        rebuilt = dump(database_url)
        if world.model.erased:
            live.pop("catalogue"), rebuilt.pop("catalogue")
        assert rebuilt == live

    whatever_happens()
