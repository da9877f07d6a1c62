"""Random commands against a plain model: who there is, what is known of whom, what was recorded.

Two handlers share the database; batches are mixed, sent again, and names overlap at will.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)

from domain.commands import (
    Alias,
    Change,
    Command,
    Duplicate,
    Join,
    Leave,
    Refused,
    Request,
    Stored,
    Track,
)
from domain.events.payloads import Tracked
from domain.identity import Identity, SubjectId, SubjectKind
from domain.subjects.user import User
from infra.bootstrap.annals import Annals
from tests.commands import AT, alias, group, identify, leave, named, track
from tests.examples import examples
from tests.infra import chain
from tests.infra.commands import events_of
from tests.latest_values import LatestValues

USERS = ["u1", "u2", "u3", "u1@example.com", "u2@EXAMPLE.com", "U2@example.com"]
ACCOUNTS = ["a1", "a2", "a1.example", "A1.example"]

who = st.lists(st.sampled_from(USERS), min_size=1, max_size=2, unique=True).map(" ".join)
where = st.lists(st.sampled_from(ACCOUNTS), min_size=1, max_size=2, unique=True).map(" ".join)
moments = st.integers(0, 30).map(lambda n: AT + timedelta(days=n))
properties = st.dictionaries(
    st.sampled_from(["p", "q", "r"]), st.integers(0, 3) | st.none() | st.text("ab", max_size=1)
)
ties = st.dictionaries(st.just("role"), st.sampled_from(["owner", "guest", None]))
commands = st.one_of(
    st.builds(lambda w, at, p: identify(w, at, **p), who | where, moments, properties),
    st.builds(lambda w, a, at, p: group(w, a, at, **p), who, where, moments, ties),
    st.builds(leave, who, where, moments),
    st.builds(alias, who, who, moments),
    st.builds(
        lambda w, a, names, at: track(w, a, *names, at=at),
        who,
        where | st.just(""),
        st.lists(st.sampled_from(["login", "click"]), min_size=1, max_size=3),
        moments,
    ),
    st.builds(lambda a, at: track("", a, at=at), where, moments),
)


@dataclass
class Membership:
    started: datetime
    ended: datetime | None
    properties: LatestValues


@dataclass(eq=False)
class Known:
    """A subject as the model has it."""

    kind: SubjectKind
    names: list[str] = field(default_factory=list)
    properties: LatestValues = field(default_factory=LatestValues)
    memberships: dict[int, Membership] = field(default_factory=dict)
    activities: int = 0
    merged: list[Known] = field(default_factory=list)

    @property
    def all_activities(self) -> int:
        return self.activities + sum(one.all_activities for one in self.merged)

    @property
    def every(self) -> list[Known]:
        return [self, *(deeper for one in self.merged for deeper in one.every)]


class Model:
    """What the commands should come to, written as simply as can be."""

    def __init__(self) -> None:
        self.of: dict[str, Known] = {}
        self.types: dict[tuple[str, str], type] = {}
        self.messages: set[str] = set()

    def meet(self, kind: SubjectKind, identities: tuple[Identity, ...]) -> Known:
        names = [f"{one.scheme} {one.matching}" for one in identities]
        found = list(dict.fromkeys(self.of[name] for name in names if name in self.of))
        subject = found[0] if found else Known(kind)
        for loser in found[1:]:
            self.merge(subject, loser)
        for name in names:
            if name not in subject.names:
                subject.names.append(name)
            self.of[name] = subject
        return subject

    def merge(self, subject: Known, loser: Known) -> None:
        subject.merged.append(loser)
        subject.names += loser.names
        subject.properties.absorb(loser.properties)
        for account, theirs in loser.memberships.items():
            mine = subject.memberships.get(account)
            if mine is None or (mine.ended and not theirs.ended):
                subject.memberships[account] = Membership(
                    theirs.started, theirs.ended, deepcopy(theirs.properties)
                )
        for name in loser.names:
            self.of[name] = subject

    def write(self, scope: str, onto: LatestValues, sent: dict[str, object], at: datetime) -> int:
        """Returns how many values were refused."""
        refused = 0
        for name, value in sent.items():
            if value is None or self.types.setdefault((scope, name), type(value)) is type(value):
                onto.write(name, value, at)
            else:
                refused += 1
        return refused

    def learn(self, command: Command) -> None:
        """First values fix types, also those of commands that are then refused."""
        if isinstance(command, Change):
            sent, scope = command.properties, command.kind.value
        elif isinstance(command, Join):
            sent, scope = command.membership_properties, "membership"
        else:
            return
        for name, value in sent.items():
            if value is not None:
                self.types.setdefault((scope, name), type(value))

    def carry_out(self, command: Command) -> int | None:
        """Returns how many values were refused; None if the whole command was."""
        match command:
            case Change():
                subject = self.meet(command.kind, command.identities)
                return self.write(
                    command.kind.value, subject.properties, command.properties, command.at
                )
            case Alias():
                self.meet(SubjectKind.USER, command.user + command.previous)
            case Join():
                user = self.meet(SubjectKind.USER, command.user)
                account = self.meet(SubjectKind.ACCOUNT, command.account)
                current = self.current(user, account)
                last = user.memberships.get(id(account))
                if not current and last is not None and last.ended and command.at < last.ended:
                    current = [last]
                if not current:
                    current = [Membership(command.at, None, LatestValues())]
                    user.memberships[id(account)] = current[0]
                refused = 0
                oldest = min(current, key=lambda one: one.started)
                oldest.started = min(oldest.started, command.at)
                for one in current:
                    refused = self.write(
                        "membership", one.properties, command.membership_properties, command.at
                    )
                return refused
            case Leave():
                names = command.user + command.account
                if any(f"{one.scheme} {one.matching}" not in self.of for one in names):
                    return None
                user = self.meet(SubjectKind.USER, command.user)
                account = self.meet(SubjectKind.ACCOUNT, command.account)
                for one in account.every:
                    membership = user.memberships.get(id(one))
                    if membership is not None and membership.started <= command.at:
                        ended = membership.ended
                        membership.ended = command.at if ended is None else min(ended, command.at)
            case Track():
                subjects = []
                if command.user:
                    subjects.append(self.meet(SubjectKind.USER, command.user))
                if command.account:
                    subjects.append(self.meet(SubjectKind.ACCOUNT, command.account))
                subjects[0].activities += len(command.activities)
        return 0

    def current(self, user: Known, account: Known) -> list[Membership]:
        return [
            user.memberships[id(one)]
            for one in account.every
            if id(one) in user.memberships and user.memberships[id(one)].ended is None
        ]


def salted(command: Command, run: int) -> Command:
    """The same command about other people: each run of the machine has its own, in one database."""

    def names(identities: tuple[Identity, ...]) -> tuple[Identity, ...]:
        return tuple(Identity(one.scheme, f"{run}-{one.value}") for one in identities)

    changes: dict[str, object] = {
        field: names(getattr(command, field))
        for field in ("identities", "user", "account", "previous")
        if hasattr(command, field)
    }
    if isinstance(command, Change):
        changes["properties"] = {f"{k}{run}": v for k, v in command.properties.items()}
    return msgspec.structs.replace(command, **changes)


class HandlerMachine(RuleBasedStateMachine):
    def __init__(self, servers: list[Annals], run: int) -> None:
        super().__init__()
        self.servers = servers
        self.run_number = run
        self.absorbed: dict[int, tuple[SubjectId, ...]] = {}
        self.model = Model()
        self.sent = 0
        self.ids: dict[int, SubjectId] = {}
        self.keep: list[Known] = []

    batches = Bundle("batches")

    @rule(target=batches, batch=st.lists(commands, min_size=1, max_size=6), on=st.integers(0, 1))
    def send(self, batch: list[Command], on: int) -> list[Request]:
        requests = []
        for command in batch:
            self.sent += 1
            name = f"{self.run_number}-{self.sent}"
            requests.append(Request(salted(command, self.run_number), name))
        self.check(requests, on)
        return requests

    @rule(one=batches, other=batches, on=st.integers(0, 1))
    def send_again(self, one: list[Request], other: list[Request], on: int) -> None:
        self.check(one + other, on)

    def check(self, requests: list[Request], on: int) -> None:
        outcomes = self.servers[on].handler.handle(requests)
        new = {one.message_id for one in requests} - self.model.messages
        for request in requests:
            if request.message_id in new:
                self.model.learn(request.command)
        done: dict[str | None, object] = {}
        for request, outcome in zip(requests, outcomes, strict=True):
            name = request.message_id
            if name not in new or name in done:
                refused_before = done.get(name)
                assert outcome == (
                    refused_before if isinstance(refused_before, Refused) else Duplicate()
                )
                continue
            done[name] = outcome
            refused = self.model.carry_out(request.command)
            if refused is None:
                assert isinstance(outcome, Refused)
                assert outcome.code == "not-found"
            else:
                assert isinstance(outcome, Stored)
                assert len(outcome.refused) == refused
                self.model.messages.add(name)

    @invariant()
    def subjects_are_as_the_model_has_them(self) -> None:
        server = self.servers[self.sent % 2]
        known = {id(one): one for one in self.model.of.values()}
        everyone = [named(one) for one in USERS + ACCOUNTS]
        looked_up = server.handler._identities.find(
            [Identity(one.scheme, f"{self.run_number}-{one.value}") for one in everyone]
        )
        assert {f"{scheme} {matching}" for scheme, matching in looked_up} == set(self.model.of)
        for (scheme, matching), found in looked_up.items():
            subject = self.model.of[f"{scheme} {matching}"]
            assert self.ids.setdefault(id(subject), found) == found
        self.keep += known.values()  # ids of objects are only theirs while they live
        states = server.aggregates.load(
            {self.ids[one]: subject.kind for one, subject in known.items()}
        )
        for one, subject in known.items():
            state = states[self.ids[one]]
            names = sorted(f"{name.scheme} {name.matching}" for name in state.identities)
            assert names == sorted(subject.names)
            assert state.properties == subject.properties
            # One that came and was merged within a batch never had an id that could be seen.
            seen = {self.ids[id(lost)] for lost in subject.every[1:] if id(lost) in self.ids}
            assert seen <= set(state.absorbed)
            assert len(state.absorbed) == len(set(state.absorbed)) == len(subject.every) - 1
            self.absorbed[one] = state.absorbed
            assert state.merged_into is None
            if isinstance(state, User):
                found = {
                    account: (record.started_at, record.ended_at, record.properties)
                    for account, record in state.memberships.items()
                }
                expected = {
                    account: (one.started, one.ended, one.properties)
                    for account, one in subject.memberships.items()
                }
                for account, record in expected.items():
                    if account in self.ids:
                        assert found[self.ids[account]] == record
                assert sorted(map(repr, found.values())) == sorted(map(repr, expected.values()))

    def teardown(self) -> None:
        self.subjects_are_as_the_model_has_them()
        everyone = {id(one): one for one in self.model.of.values()}
        streams = {one: {self.ids[one], *self.absorbed[one]} for one in everyone}
        counts = Counter(
            event.stream
            for event in events_of(self.servers[0], *set().union(*streams.values()))
            if isinstance(event.payload, Tracked)
        )
        for one, subject in everyone.items():
            assert sum(counts[stream] for stream in streams[one]) == subject.all_activities


def test_random_commands_come_to_what_a_plain_model_says(
    open_annals: Callable[[], Annals], database_url: str
) -> None:
    servers, runs = [open_annals(), open_annals()], itertools.count()
    run_state_machine_as_test(
        lambda: HandlerMachine(servers, next(runs)),
        settings=settings(max_examples=examples(40), stateful_step_count=12),
    )
    assert chain.problems(database_url) == []
