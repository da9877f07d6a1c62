"""Carries out commands: a batch is one look at the identities, one at the aggregates, one append.

Nothing is decided on what another writer may have changed meanwhile: claims of identities are
unique, aggregate versions and message ids are checked by the append itself, and whoever loses such
a race takes the whole decision again.
"""

from __future__ import annotations

import secrets
import time
import uuid
from collections.abc import Iterable, Sequence
from datetime import datetime

from domain.activity import ActivityKind
from domain.commands import (
    Alias,
    Change,
    Command,
    Duplicate,
    Join,
    Leave,
    Outcome,
    Position,
    Refused,
    Request,
    Stored,
    Track,
)
from domain.errors import (
    DuplicateMessage,
    InvalidInput,
    NotFound,
    Refusal,
    SubjectErased,
    Unavailable,
    VersionConflict,
)
from domain.events import Erased, Event, Payload, Tracked
from domain.identity import Identity, Known, Merge, Resolution, SubjectId, SubjectKind, resolve
from domain.properties import (
    PropertyType,
    PropertyWrite,
    RefusedValue,
    checked_write,
    inferred_type,
    is_acceptable,
    name_problem,
)
from domain.subjects import Account, Subject, User, numbered, replay, subject
from infra.catalogue import Catalogue, Scope
from infra.keys import KeyRing, keyed_digest
from infra.log import MESSAGE_KEY_BYTES, EventLog
from infra.lookup import Lookup
from infra.recorder import Aggregates
from infra.sealing import Sealer

ATTEMPTS = 20
FIRST_PAUSE, LONGEST_PAUSE = 0.002, 0.2
"""Seconds, at most, before a decision is taken again; doubled each time."""

BEGUN_CACHE = 500_000
_USER_PROPERTY, _ACCOUNT_PROPERTY = "user.property", "account.property"
_MEMBERSHIP_PROPERTY = "membership.property"
_chance = secrets.SystemRandom()
_CATALOGUED = (ActivityKind.EVENT, ActivityKind.SCREEN)


class _LookAgain(Exception):
    """Another writer changed what this batch was decided on."""


class Handler:
    """One for each process; safe for use from many threads."""

    def __init__(
        self,
        *,
        log: EventLog,
        keys: KeyRing,
        lookup: Lookup,
        catalogue: Catalogue,
        aggregates: Aggregates,
        sealer: Sealer,
        message_secret: bytes,
    ) -> None:
        self._log = log
        self._keys = keys
        self._lookup = lookup
        self._catalogue = catalogue
        self._aggregates = aggregates
        self._sealer = sealer
        self._message_secret = message_secret
        self._begun: set[SubjectId] = set()

    def handle(self, requests: Sequence[Request]) -> list[Outcome]:
        """Carries out a batch in its order; each request is stored, a duplicate, or refused.

        Raises:
            Unavailable: other writers were faster time and again.
        """
        for attempt in range(ATTEMPTS):
            try:
                return self._attempt(requests)
            except (_LookAgain, VersionConflict, DuplicateMessage):
                time.sleep(_chance.random() * min(FIRST_PAUSE * 2**attempt, LONGEST_PAUSE))
            except SubjectErased:
                self._let_go(requests)
        raise Unavailable("too many writers change the same subjects; send the batch again")

    def _let_go(self, requests: Sequence[Request]) -> None:
        """Frees the identities that are tied to erased subjects: a writer that was slower than the
        erasure has tied them."""
        identities = _identities(one.command for one in requests)
        self._keys.free_identities(set(self._lookup.find(identities).values()))

    def _attempt(self, requests: Sequence[Request]) -> list[Outcome]:
        self._keys.refresh()
        digests = [
            None
            if one.message_id is None
            else keyed_digest(self._message_secret, one.message_id)[:MESSAGE_KEY_BYTES]
            for one in requests
        ]
        seen = self._log.known_messages([digest for digest in digests if digest is not None])
        outcomes: list[Outcome] = [Duplicate()] * len(requests)
        todo: list[int] = []
        repeated: dict[int, int] = {}
        first: dict[bytes, int] = {}
        for n, digest in enumerate(digests):
            if digest is None:
                todo.append(n)
            elif digest not in seen:
                if first.setdefault(digest, n) == n:
                    todo.append(n)
                else:
                    repeated[n] = first[digest]
        if not todo:
            return outcomes
        commands = [requests[n].command for n in todo]
        self._catalogue.take(_new_names(commands, self._catalogue))
        decision = _Decision(self._catalogue, self._lookup.find(_identities(commands)))
        targets = [decision.resolve(command) for command in commands]
        if not self._lookup.claim(decision.claims):
            raise _LookAgain
        self._load(decision, commands, targets)

        events: list[Event] = []
        owners: list[int] = []
        message_keys: list[bytes] = []
        refusals: dict[int, tuple[RefusedValue, ...]] = {}
        for n, command, target in zip(todo, commands, targets, strict=True):
            if isinstance(target, Refusal):
                outcomes[n] = Refused(target.code, target.detail, target.place)
                continue
            caused, refused = decision.decide(command, target)
            refusals[n] = requests[n].refused + refused
            events += caused
            owners += [n] * len(caused)
            digest = digests[n]
            if digest is not None:
                message_keys.append(digest)
        positions = self._log.append(self._sealer.sealing(events), message_keys)
        reached: dict[int, dict[int, Position]] = {n: {} for n in refusals}
        for n, position in zip(owners, positions, strict=True):
            reached[n][position.log_partition] = position
        for n, refused in refusals.items():
            outcomes[n] = Stored(tuple(reached[n].values()), refused)
        for n, original in repeated.items():
            if isinstance(outcomes[original], Refused):
                outcomes[n] = outcomes[original]
        if decision.merges:
            self._lookup.repoint(decision.merges)
        self._remember_begun(event.stream for event in events)
        return outcomes

    def _load(
        self,
        decision: _Decision,
        commands: Sequence[Command],
        targets: Sequence[_Target | Refusal],
    ) -> None:
        """Loads, in one read, the aggregates that are decided on; and finds out which of those
        that are only tracked have not begun (claimed by a writer that died before its append)."""
        wanted: dict[SubjectId, SubjectKind] = {}
        tracked: dict[SubjectId, SubjectKind] = {}
        for command, target in zip(commands, targets, strict=True):
            if isinstance(target, Refusal):
                continue
            for resolution, kind in target:
                needs_state = (
                    not isinstance(command, Track) or resolution.claims or resolution.merges
                )
                (wanted if needs_state else tracked)[resolution.subject] = kind
                wanted.update((merge.loser, kind) for merge in resolution.merges)
        old = {id: kind for id, kind in wanted.items() if id not in decision.states}
        decision.states |= self._aggregates.load(old)
        stale = [
            Merge(id, survivor)
            for id in old
            if (survivor := decision.states[id].merged_into) is not None
        ]
        if stale:  # a writer died between a merge and the look-ups' repointing
            self._lookup.repoint(stale)
            raise _LookAgain
        unsure = {
            id: kind
            for id, kind in tracked.items()
            if id not in decision.states and id not in self._begun
        }
        begun = self._log.begun(unsure)
        self._remember_begun(begun)
        for id, kind in unsure.items():
            if id not in begun:
                decision.states[id] = subject(kind, id)

    def _remember_begun(self, subjects: Iterable[SubjectId]) -> None:
        if len(self._begun) > BEGUN_CACHE:
            self._begun = set()
        self._begun.update(subjects)

    def find(self, identity: Identity) -> SubjectId | None:
        """The subject that an identity names, if there is one."""
        return self.find_all([identity]).get(identity)

    def find_all(self, identities: Iterable[Identity]) -> dict[Identity, SubjectId]:
        """The subjects of those identities that are known, in one query."""
        asked = list(identities)
        known = self._lookup.find(asked)
        keys = ((one, (one.scheme, one.matching)) for one in asked)
        return {one: known[key] for one, key in keys if key in known}

    def erase(
        self, kind: SubjectKind, id: SubjectId, *, at: datetime, requested_by: str, reason: str
    ) -> tuple[Position, ...]:
        """Destroys the keys of a subject and of all that was merged into it. From here on its
        events are unreadable; the read models follow as they reach the returned positions.

        Raises:
            NotFound: there is no such subject, or it is erased already.
        """
        self._keys.refresh()
        state = self._aggregates.load({id: kind})[id]
        if state.merged_into is not None:
            return self.erase(
                kind, state.merged_into, at=at, requested_by=requested_by, reason=reason
            )
        if not state.version:
            raise NotFound(f"there is no such {kind}")
        everything = (id, *state.absorbed)
        self._keys.destroy(everything, kind=kind, requested_by=requested_by, reason=reason)
        return self._finish_erasure(kind, everything, at)

    def finish_erasures(self, at: datetime) -> int:
        """Goes on with erasures that a crash cut short; says how many subjects they were."""
        unfinished = self._keys.unfinished_erasures()
        for kind in SubjectKind:
            subjects = [id for id, of_kind in unfinished if of_kind == kind]
            if subjects:
                self._finish_erasure(kind, subjects, at)
        return len(unfinished)

    def _finish_erasure(
        self, kind: SubjectKind, subjects: Sequence[SubjectId], at: datetime
    ) -> tuple[Position, ...]:
        self._aggregates.forget(subjects)
        self._begun.difference_update(subjects)
        erased = [Event(kind, id, None, at, Erased()) for id in subjects]
        positions = self._log.append(self._sealer.sealing(erased))
        self._keys.complete_erasures(subjects)
        return tuple(positions)


_Target = tuple[tuple[Resolution, SubjectKind], ...]


class _Decision:
    """What one batch makes of the state it found. Pure but for what it is given."""

    def __init__(self, catalogue: Catalogue, known: Known) -> None:
        self._catalogue = catalogue
        self._known = known
        self.states: dict[SubjectId, User | Account] = {}
        self.claims: dict[Identity, SubjectId] = {}
        self.merges: list[Merge] = []

    def resolve(self, command: Command) -> _Target | Refusal:
        """The subjects that a command is about, new ones included, or why it is refused."""
        match command:
            case Change():
                return (self._subject(command.kind, command.identities),)
            case Alias():
                return (self._subject(SubjectKind.USER, command.user + command.previous),)
            case Leave():
                for one in command.user + command.account:
                    if (one.scheme, one.matching) not in self._known:
                        return NotFound(f"there is no such {one.scheme.kind}")
                user = self._subject(SubjectKind.USER, command.user)
                return (user, self._subject(SubjectKind.ACCOUNT, command.account))
            case Track():
                for activity in command.activities:
                    if activity.kind in _CATALOGUED and activity.name not in self._catalogue.types(
                        activity.kind
                    ):
                        return InvalidInput(
                            f"there are too many {activity.kind} names already; put what varies"
                            " into the properties, not into the name"
                        )
        parties = []
        if command.user:
            parties.append(self._subject(SubjectKind.USER, command.user))
        if command.account:
            parties.append(self._subject(SubjectKind.ACCOUNT, command.account))
        return tuple(parties)

    def _subject(
        self, kind: SubjectKind, identities: Sequence[Identity]
    ) -> tuple[Resolution, SubjectKind]:
        resolution = resolve(identities, self._known, _new_id)
        for claim in resolution.claims:
            self.claims[claim] = resolution.subject
        if resolution.is_new:
            self.states[resolution.subject] = subject(kind, resolution.subject)
        self.merges += resolution.merges
        return resolution, kind

    def decide(
        self, command: Command, target: _Target
    ) -> tuple[list[Event], tuple[RefusedValue, ...]]:
        """The events that a command causes, in their order, and the values it left out."""
        at, ids = command.at, [resolution.subject for resolution, _ in target]
        events: list[Event] = []
        for resolution, _ in target:
            for merge in resolution.merges:
                events += self._merge(merge, at)
        match command:
            case Change():
                scope = _USER_PROPERTY if command.kind is SubjectKind.USER else _ACCOUNT_PROPERTY
                write = self._write(scope, command.properties)
                events += self._register(ids[0], command.identities, at)
                events += self._apply(ids[0], self.states[ids[0]].change_properties(write), at)
                return events, write.refused
            case Alias():
                return events + self._register(ids[0], command.user + command.previous, at), ()
            case Join():
                user, account = ids
                write = self._write(_ACCOUNT_PROPERTY, command.account_properties)
                ties = self._write(_MEMBERSHIP_PROPERTY, command.membership_properties)
                events += self._register(account, command.account, at)
                events += self._apply(account, self.states[account].change_properties(write), at)
                events += self._register(user, command.user, at)
                member, joined = self.states[user], self.states[account]
                assert isinstance(member, User)
                assert isinstance(joined, Account)
                for under in member.member_as(joined) or [account]:
                    events += self._apply(user, member.join(under, ties), at, under)
                return events, write.refused + ties.refused
            case Leave():
                member, left = self.states[ids[0]], self.states[ids[1]]
                assert isinstance(member, User)
                assert isinstance(left, Account)
                for under in member.member_as(left):
                    events += self._apply(ids[0], member.leave(under), at, under)
                return events, ()
            case Track():
                for id, identities in zip(
                    ids, [one for one in (command.user, command.account) if one], strict=True
                ):
                    if id in self.states:
                        events += self._register(id, identities, at)
                account_of_user = ids[1] if len(ids) > 1 else None
                kind = target[0][1]
                events += [
                    Event(kind, ids[0], None, at, Tracked(activity), account_of_user)
                    for activity in command.activities
                ]
                return events, ()

    def _merge(self, merge: Merge, at: datetime) -> list[Event]:
        survivor, loser = self.states[merge.survivor], self.states[merge.loser]
        # A loser that is only claimed is merged too: its version keeps others from beginning it.
        events = [] if survivor.version else self._register(merge.survivor, (), at)
        survivor = self.states[merge.survivor]
        events += self._apply(merge.survivor, survivor.absorb(loser), at)
        if isinstance(survivor, User) and isinstance(loser, User):
            for account, then, payload in survivor.memberships_from(loser):
                events += self._apply(merge.survivor, [payload], then, account)
        return events + self._apply(merge.loser, loser.merge_into(merge.survivor), at)

    def _register(self, id: SubjectId, identities: Iterable[Identity], at: datetime) -> list[Event]:
        return self._apply(id, self.states[id].register(identities), at)

    def _apply(
        self,
        id: SubjectId,
        payloads: Sequence[Payload],
        at: datetime,
        account: SubjectId | None = None,
    ) -> list[Event]:
        if not payloads:
            return []
        state: Subject = self.states[id]
        events = numbered(state, payloads, at, account)
        self.states[id] = replay(self.states[id], events)
        return events

    def _write(self, scope: Scope, sent: dict[str, object]) -> PropertyWrite:
        return checked_write(sent, self._catalogue.types(scope))


def _new_id() -> SubjectId:
    return SubjectId(uuid.uuid4())


def _identities(commands: Iterable[Command]) -> list[Identity]:
    wanted: dict[Identity, None] = {}
    for command in commands:
        match command:
            case Change():
                wanted.update(dict.fromkeys(command.identities))
            case Alias():
                wanted.update(dict.fromkeys(command.user + command.previous))
            case _:
                wanted.update(dict.fromkeys(command.user + command.account))
    return list(wanted)


def _new_names(
    commands: Iterable[Command], catalogue: Catalogue
) -> dict[tuple[Scope, str], PropertyType]:
    """The names that no one used before, with the type that each first value suggests."""
    names: dict[tuple[Scope, str], PropertyType] = {}

    def properties(scope: Scope, sent: dict[str, object]) -> None:
        known = catalogue.types(scope)
        for name, value in sent.items():
            if name not in known and (scope, name) not in names and name_problem(name) is None:
                kind = inferred_type(value)
                if kind is not None and is_acceptable(value):
                    names[scope, name] = kind

    for command in commands:
        match command:
            case Change():
                user = command.kind is SubjectKind.USER
                properties(_USER_PROPERTY if user else _ACCOUNT_PROPERTY, command.properties)
            case Join():
                properties(_ACCOUNT_PROPERTY, command.account_properties)
                properties(_MEMBERSHIP_PROPERTY, command.membership_properties)
            case Track():
                for activity in command.activities:
                    if activity.kind in _CATALOGUED:
                        names[activity.kind.value, activity.name] = PropertyType.STRING
            case _:
                pass
    return names
