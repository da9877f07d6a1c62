"""CommandBatch: the subjects of a batch of commands, and the events that each command causes.

Pure: `infra.write.command_handler` loads the states, and appends the events.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime

from domain.activity import ActivityKind
from domain.commands import Alias, Change, Command, Join, Leave, Track
from domain.errors import InvalidInput, NotFound, Refusal
from domain.events.event import Event
from domain.events.payloads import IdentitiesReleased, Payload, Tracked
from domain.identity import (
    Identity,
    Known,
    Merge,
    Resolution,
    Scheme,
    SubjectId,
    SubjectKind,
    resolve,
)
from domain.name_rules import CatalogueName, NameScope, property_scope
from domain.properties import (
    RETIRED,
    PropertyType,
    PropertyWrite,
    RefusedValue,
    checked_write,
    inferred_type,
    is_acceptable,
    name_problem,
)
from domain.subjects.account import Account
from domain.subjects.history import new_subject, numbered, replay
from domain.subjects.subject import Subject
from domain.subjects.user import User

Types = Callable[[NameScope], Mapping[str, PropertyType]]
"""The names of a scope that are in use, each with its type."""

RetiredNames = Callable[[NameScope], Collection[str]]
"""The names of a scope that are retired."""

_CATALOGUED = {
    ActivityKind.EVENT: NameScope.EVENT,
    ActivityKind.SCREEN: NameScope.SCREEN,
}

Target = tuple[tuple[Resolution, SubjectKind], ...]


class CommandBatch:
    """Decides a batch: first `resolve` for each command, then `decide` for each, in order.

    Attributes:
        states: the subjects that the batch decides on. `resolve` adds new ones; the caller adds
            the others before the first `decide`, which keeps them up to date.
        claims: identities that were unknown, each with its subject.
        merges: the merges of subjects, in order.
        released: identities that their subjects gave up, each with the subject.

    Args:
        known: the subjects of the identities that the batch names; `resolve` updates it.
        new_id: makes the random id of a new subject.
    """

    def __init__(
        self,
        types: Types,
        retired: RetiredNames,
        known: Known,
        new_id: Callable[[], SubjectId],
    ) -> None:
        self._types = types
        self._retired = retired
        self._known = known
        self._new_id = new_id
        self.states: dict[SubjectId, User | Account] = {}
        self.claims: dict[Identity, SubjectId] = {}
        self.merges: list[Merge] = []
        self.released: list[tuple[Identity, SubjectId]] = []

    def resolve(self, command: Command) -> Target | Refusal:
        """The subjects of a command, new ones included, or the refusal of the command."""
        match command:
            case Change():
                return (self._subject(command.kind, command.identities),)
            case Alias():
                return (self._subject(SubjectKind.USER, command.user + command.previous),)
            case Leave():
                for identity in command.user + command.account:
                    if (identity.scheme, identity.matching) not in self._known:
                        return NotFound(f"there is no such {identity.scheme.kind}")
                user = self._subject(SubjectKind.USER, command.user)
                return (user, self._subject(SubjectKind.ACCOUNT, command.account))
            case Track():
                for activity in command.activities:
                    scope = _CATALOGUED.get(activity.kind)
                    if scope is not None and activity.name not in self._types(scope):
                        return self._refused_name(scope, activity.name)
        parties = []
        if command.user:
            parties.append(self._subject(SubjectKind.USER, command.user))
        if command.account:
            parties.append(self._subject(SubjectKind.ACCOUNT, command.account))
        return tuple(parties)

    def independent(self, commands: Sequence[Command]) -> int:
        """How many of the resolved commands can be decided together.

        A command that names an e-mail or a domain which its subject may give up in an earlier
        command cannot: whose it is then, is known once the earlier ones are carried out.
        """
        written: dict[SubjectId, set[tuple[Scheme, str | None]]] = {}
        for n, command in enumerate(commands):
            if written and self._may_be_given_up(command, written):
                return n
            match command:
                case Change(kind, [identity, *_], properties):
                    scheme = Scheme.EMAIL if kind is SubjectKind.USER else Scheme.DOMAIN
                case Join(_, [identity, *_], properties):
                    scheme = Scheme.DOMAIN
                case _:
                    continue
            if scheme.value in properties:
                value = properties[scheme.value]
                matching = Identity(scheme, value).matching if isinstance(value, str) else None
                subject = self._known.get((identity.scheme, identity.matching))
                if subject is not None:
                    written.setdefault(subject, set()).add((scheme, matching))
        return len(commands)

    def _may_be_given_up(
        self, command: Command, written: Mapping[SubjectId, set[tuple[Scheme, str | None]]]
    ) -> bool:
        """Whether a command names an e-mail or a domain whose owner has another one `written`."""
        for party in parties_of(command):
            for identity in party:
                if identity.scheme.is_external_id:
                    continue
                matching = identity.matching
                owner = self._known.get((identity.scheme, matching))
                for scheme, value in written.get(owner, ()) if owner is not None else ():
                    if scheme is identity.scheme and value != matching:
                        return True
        return False

    def _refused_name(self, scope: NameScope, name: str) -> Refusal:
        if name in self._retired(scope):
            return InvalidInput(f"this {scope} is refused: {RETIRED}")
        return InvalidInput(
            f"there are too many {scope} names already; put what varies into the properties, not"
            " into the name"
        )

    def _subject(
        self, kind: SubjectKind, identities: Sequence[Identity]
    ) -> tuple[Resolution, SubjectKind]:
        resolution = resolve(identities, self._known, self._new_id)
        for claim in resolution.claims:
            self.claims[claim] = resolution.subject
        if resolution.is_new:
            self.states[resolution.subject] = new_subject(kind, resolution.subject)
        self.merges += resolution.merges
        return resolution, kind

    def decide(
        self, command: Command, target: Target
    ) -> tuple[list[Event], tuple[RefusedValue, ...]]:
        """The events that a command causes, in order, and the values that it leaves out.

        Args:
            target: of the command, as `resolve` returned it.
        """
        at, ids = command.at, [resolution.subject for resolution, _ in target]
        events: list[Event] = []
        for resolution, _ in target:
            for merge in resolution.merges:
                events += self._merge(merge, at)
        match command:
            case Change():
                write = self._write(property_scope(command.kind), command.properties)
                events += self._register(ids[0], command.identities, at)
                events += self._change(ids[0], write, at)
                return events, write.refused
            case Alias():
                events += self._register(ids[0], command.user + command.previous, at)
                events += self._apply(ids[0], self.states[ids[0]].go_by(command.user[0]), at)
                return events, ()
            case Join():
                user, account = ids
                write = self._write(NameScope.ACCOUNT_PROPERTY, command.account_properties)
                membership = self._write(
                    NameScope.MEMBERSHIP_PROPERTY, command.membership_properties
                )
                events += self._register(account, command.account, at)
                events += self._change(account, write, at)
                events += self._register(user, command.user, at)
                member, joined = self.states[user], self.states[account]
                assert isinstance(member, User)
                assert isinstance(joined, Account)
                # Of several that are one today, the oldest says since when.
                for n, under in enumerate(member.member_as(joined) or [account]):
                    changes = member.join(under, membership, at, begins=n == 0)
                    events += self._apply(user, changes, at, under)
                return events, write.refused + membership.refused
            case Leave():
                member, left = self.states[ids[0]], self.states[ids[1]]
                assert isinstance(member, User)
                assert isinstance(left, Account)
                for joined_as in member.joined_as(left):
                    events += self._apply(ids[0], member.leave(joined_as, at), at, joined_as)
                return events, ()
            case Track():
                for id, identities in zip(ids, parties_of(command), strict=True):
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
        # A loser without events is merged too: its version stops another writer from beginning it.
        events = [] if survivor.version else self._register(merge.survivor, (), at)
        survivor = self.states[merge.survivor]
        events += self._apply(merge.survivor, survivor.absorb(loser), at)
        if isinstance(survivor, User) and isinstance(loser, User):
            for account, since, payload in survivor.memberships_from(loser):
                events += self._apply(merge.survivor, [payload], since, account)
        return events + self._apply(merge.loser, loser.merge_into(merge.survivor), at)

    def _change(self, id: SubjectId, write: PropertyWrite, at: datetime) -> list[Event]:
        """Changes properties, and gives up the identities that were their values."""
        changes = self.states[id].change_properties(write, at)
        events = self._apply(id, changes, at)
        released = self._apply(id, self.states[id].release(changes), at)
        for event in released:
            if isinstance(event.payload, IdentitiesReleased):
                self.released += [(identity, id) for identity in event.payload.identities]
        return events + released

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

    def _write(self, scope: NameScope, sent: dict[str, object]) -> PropertyWrite:
        return checked_write(sent, self._types(scope), self._retired(scope))


def parties_of(command: Command) -> tuple[tuple[Identity, ...], ...]:
    """The identities of each subject that a command is about, in the order of its target."""
    match command:
        case Change():
            return (command.identities,)
        case Alias():
            return (command.user + command.previous,)
        case _:
            return tuple(filter(None, (command.user, command.account)))


def identities_of(commands: Iterable[Command]) -> list[Identity]:
    """The identities that commands name, each once."""
    wanted: dict[Identity, None] = {}
    for command in commands:
        for identities in parties_of(command):
            wanted.update(dict.fromkeys(identities))
    return list(wanted)


def new_names(commands: Iterable[Command], types: Types) -> dict[CatalogueName, PropertyType]:
    """The names in commands that are not in use, each with the type of its first value."""
    names: dict[CatalogueName, PropertyType] = {}

    def properties(scope: NameScope, sent: dict[str, object]) -> None:
        known = types(scope)
        for name, value in sent.items():
            if name not in known and (scope, name) not in names and name_problem(name) is None:
                kind = inferred_type(value)
                if kind is not None and is_acceptable(value):
                    names[CatalogueName(scope, name)] = kind

    for command in commands:
        match command:
            case Change():
                properties(property_scope(command.kind), command.properties)
            case Join():
                properties(NameScope.ACCOUNT_PROPERTY, command.account_properties)
                properties(NameScope.MEMBERSHIP_PROPERTY, command.membership_properties)
            case Track():
                for activity in command.activities:
                    scope = _CATALOGUED.get(activity.kind)
                    if scope is not None:
                        names[CatalogueName(scope, activity.name)] = PropertyType.STRING
            case _:
                pass
    return names
