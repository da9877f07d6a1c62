"""Carries out commands: a batch is one look at the identities, one at the aggregates, one append.

Nothing is decided on what another writer may have changed meanwhile: claims of identities are
unique, aggregate versions and message ids are checked by the append itself, and whoever loses such
a race takes the whole decision again.
"""

from __future__ import annotations

import secrets
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from datetime import datetime
from itertools import islice

from domain.commands import (
    Command,
    Duplicate,
    Outcome,
    Position,
    Refused,
    ReleaseStage,
    Request,
    SetStage,
    Stored,
    Track,
)
from domain.definitions.retention import ALWAYS
from domain.errors import (
    BeyondHead,
    DuplicateMessage,
    NotFound,
    PeriodOver,
    Refusal,
    SubjectErased,
    Suppressed,
    Unavailable,
    VersionConflict,
)
from domain.events.event import Event
from domain.events.payloads import Erased
from domain.identity import (
    Identity,
    Known,
    Merge,
    Resolution,
    SubjectId,
    SubjectKind,
    log_partition,
)
from domain.properties import (
    RefusedValue,
)
from domain.subjects.command_batch import CommandBatch, Target, identities_of, new_names
from domain.subjects.history import new_subject, numbered
from infra.keys.digests import KeyedDigest
from infra.keys.identity_index import IdentityIndex
from infra.keys.key_ring import KeyRing
from infra.keys.sealing import Sealer
from infra.log.event_log import MESSAGE_KEY_BYTES, EventLog
from infra.log.group_commit import GroupCommit
from infra.write.aggregates import Aggregates, altered
from infra.write.name_catalogue import NameCatalogue

ATTEMPTS = 20
FIRST_PAUSE, LONGEST_PAUSE = 0.002, 0.2
"""Seconds, at most, before a decision is taken again; doubled each time."""

REQUESTS_TOGETHER = 1_000
"""At most, where several batches are decided as one."""

PATIENCE_SECONDS = 0.005
"""For senders who have just been answered: what it takes most of them to send again."""

BEGUN_CACHE = 500_000
ERASED_AT_A_TIME = 1_000
_chance = secrets.SystemRandom()


class _LookAgain(Exception):
    """Another writer changed what this batch was decided on."""


def _new_id() -> SubjectId:
    return SubjectId(uuid.uuid4())


class CommandHandler:
    """One for each process; safe for use from many threads."""

    def __init__(
        self,
        *,
        log: EventLog,
        keys: KeyRing,
        lookup: IdentityIndex,
        catalogue: NameCatalogue,
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
        self._message_digest = KeyedDigest(message_secret)
        # Of its own: no sender's message id can come out the same.
        self._erasure_digest = KeyedDigest(self._message_digest("erasures"))
        self._begun: set[SubjectId] = set()
        self._handle_together: GroupCommit[Sequence[Request], list[Outcome]] = GroupCommit(
            self._handle_all, size=len, limit=REQUESTS_TOGETHER, patience=PATIENCE_SECONDS
        )

    def handle(self, requests: Sequence[Request]) -> list[Outcome]:
        """Carries out a batch in its order; each request is stored, a duplicate, or refused.

        Batches that wait for one another are decided as one: apart, those about the same subjects
        would have to be decided again and again.

        Raises:
            Unavailable: other writers were faster time and again.
        """
        return self._handle_together(requests)

    def _handle_all(self, batches: list[Sequence[Request]]) -> list[list[Outcome]]:
        outcomes = iter(self._handle([one for batch in batches for one in batch]))
        return [list(islice(outcomes, len(batch))) for batch in batches]

    def _handle(self, requests: Sequence[Request]) -> list[Outcome]:
        stopped: frozenset[int] = frozenset()
        for attempt in range(ATTEMPTS):
            try:
                return self._attempt(requests, stopped)
            except BeyondHead as past:
                stopped |= past.partitions
            except (_LookAgain, VersionConflict, DuplicateMessage, PeriodOver):
                time.sleep(_chance.random() * min(FIRST_PAUSE * 2**attempt, LONGEST_PAUSE))
            except SubjectErased:
                self._let_go(requests)
        raise Unavailable("too many writers change the same subjects; send the batch again")

    def _let_go(self, requests: Sequence[Request]) -> None:
        """Frees the identities that are tied to erased subjects: a writer that was slower than the
        erasure has tied them."""
        identities = identities_of(one.command for one in requests)
        self._keys.free_identities(set(self._lookup.find(identities).values()))

    def _attempt(self, requests: Sequence[Request], stopped: frozenset[int]) -> list[Outcome]:
        """
        Args:
            stopped: partitions to which nothing can be appended.
        """
        digests = [
            None
            if one.message_id is None
            else self._message_digest(one.message_id)[:MESSAGE_KEY_BYTES]
            for one in requests
        ]
        with self._log.looking_up([digest for digest in digests if digest is not None]) as seen:
            self._keys.refresh()
            known, suppressed = self._lookup.find_and_suppressed(
                identities_of(one.command for one in requests)
            )
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
        unwanted = _naming(suppressed, commands) | self._too_old(commands)
        for place, refusal in unwanted.items():
            outcomes[todo[place]] = refusal
        todo = [n for place, n in enumerate(todo) if place not in unwanted]
        commands = [one for place, one in enumerate(commands) if place not in unwanted]
        self._catalogue.take(new_names(commands, self._catalogue.types))
        decision, targets = self._resolved(commands, known, stopped)

        events: list[Event] = []
        owners: list[int] = []
        message_keys: list[bytes] = []
        refusals: dict[int, tuple[RefusedValue, ...]] = {}
        for n, command, target in zip(todo, commands, targets, strict=True):
            if isinstance(target, Refusal):
                outcomes[n] = Refused(target.code, target.detail, target.pointer)
                continue
            caused, refused = decision.decide(command, target)
            refusals[n] = requests[n].refused + refused
            events += caused
            owners += [n] * len(caused)
            digest = digests[n]
            if digest is not None:
                message_keys.append(digest)
        sealing = self._sealer.sealing(events)
        with self._kept_apart_from_erasures(decision.merges):
            positions = self._log.append(sealing, message_keys)
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
        self._remember_begun(id for id, state in decision.states.items() if state.version)
        return outcomes

    def _kept_apart_from_erasures(self, merges: Sequence[Merge]) -> AbstractContextManager[None]:
        """Has a merge come wholly before an erasure of either side, which then reaches both, or be
        refused (`SubjectErased`): nobody's key is destroyed for a merge, whatever holds are on it.
        """
        if not merges:
            return nullcontext()
        return self._keys.kept(id for one in merges for id in (one.survivor, one.loser))

    def _too_old(self, commands: Sequence[Command]) -> dict[int, Refused]:
        """The commands, by index, that track what is no longer kept when it occurred then."""
        since = self._sealer.kept().taken_since
        if since == ALWAYS:
            return {}
        refusal = Refused(
            PeriodOver.code,
            f"older than the activity that is kept, which begins on {since:%Y-%m-%d} (UTC)",
            "/timestamp",
        )
        return {
            n: refusal
            for n, command in enumerate(commands)
            if isinstance(command, Track) and command.at < since
        }

    def _resolved(
        self, commands: Sequence[Command], known: Known, stopped: frozenset[int]
    ) -> tuple[CommandBatch, list[Target | Refusal]]:
        """Whom each command is about, with their states. Those that would be decided on a state
        that is not whole, or appended to a partition that is stopped, are refused, and the others
        resolved as if these were not there."""
        refused: dict[int, Refusal] = {}
        while True:
            decision = CommandBatch(
                self._catalogue.types, self._catalogue.retired, dict(known), _new_id
            )
            targets = [
                refused[n] if n in refused else decision.resolve(command)
                for n, command in enumerate(commands)
            ]
            if not self._lookup.claim(decision.claims, decision.states):
                raise _LookAgain
            gaps = self._load(decision, commands, targets)
            more = _resting_on(gaps, commands, targets) if gaps else {}
            if stopped:
                more |= _in(stopped, targets)
            if not more:
                return decision, targets
            refused |= more

    def _load(
        self,
        decision: CommandBatch,
        commands: Sequence[Command],
        targets: Sequence[Target | Refusal],
    ) -> dict[SubjectId, Position]:
        """Loads, in one read, the aggregates that are decided on; and finds out which of those
        that are only tracked have not begun (claimed by a writer that died before its append).
        Returns the gaps of those whose states are not whole."""
        wanted: dict[SubjectId, SubjectKind] = {}
        tracked: dict[SubjectId, SubjectKind] = {}
        for command, target in zip(commands, targets, strict=True):
            if isinstance(target, Refusal):
                continue
            for resolution, kind in target:
                needs_state = _is_decided_on(command, resolution)
                (wanted if needs_state else tracked)[resolution.subject] = kind
                wanted.update((merge.loser, kind) for merge in resolution.merges)
        old = {id: kind for id, kind in wanted.items() if id not in decision.states}
        loaded = self._aggregates.load_each(old)
        decision.states |= loaded.states
        stale = [
            Merge(id, survivor)
            for id, state in loaded.states.items()
            if id not in loaded.gaps and (survivor := state.merged_into) is not None
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
                decision.states[id] = new_subject(kind, id)
        return loaded.gaps

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

    def by_hand(self, command: SetStage | ReleaseStage) -> tuple[Position, ...]:
        """Sets a stage by hand or releases it; nothing is stored where nothing changes.

        Raises:
            NotFound: there is no such subject (any more).
            Altered: what is known of it is not whole.
            Unavailable: others changed it at the same time, time and again.
        """
        kind, id = command.kind, command.subject
        for _ in range(ATTEMPTS):
            self._keys.refresh()
            # First the key: whoever is erased is told apart by nothing from who never was.
            kinds = self._aggregates.kinds([id]) if self._keys.fetch([id.int]) else {}
            if id not in kinds or kinds[id] not in (kind, None):
                raise NotFound(f"there is no such {kind}")
            state = self._aggregates.load({id: kind})[id]
            if state.merged_into is not None:
                id = state.merged_into
                continue
            if not state.version:  # it is erased
                raise NotFound(f"there is no such {kind}")
            match command:
                case SetStage():
                    payloads = state.set_stage(command.stage, command.reason, command.by)
                case ReleaseStage():
                    payloads = state.release_stage(command.by)
            try:
                events = numbered(state, payloads, command.at)
                return tuple(self._log.append(self._sealer.sealing(events)))
            except (VersionConflict, SubjectErased):
                continue
        raise Unavailable(f"others change the same {kind} all the time; send the request again")

    def finish_erasures(self, at: datetime) -> int:
        """Goes on with erasures that a crash cut short; says how many subjects they were."""
        unfinished = self._keys.unfinished_erasures()
        for kind in SubjectKind:
            subjects = [id for id, of_kind in unfinished if of_kind == kind]
            for start in range(0, len(subjects), ERASED_AT_A_TIME):
                with suppress(BeyondHead):  # which is an alarm, and goes on by itself
                    self.finish_erasure(kind, subjects[start : start + ERASED_AT_A_TIME], at)
        return len(unfinished)

    def finish_erasure(
        self, kind: SubjectKind, subjects: Sequence[SubjectId], at: datetime
    ) -> tuple[Position, ...]:
        """What is left to do once keys are destroyed: snapshots go, and the log says so, once for
        each subject, however often and by however many this is done. Returns where it says so.

        Raises:
            PastHead: once the others are finished: of some nothing can be appended.
        """
        self._aggregates.forget(subjects)
        self._begun.difference_update(subjects)
        keys = {one: self._erasure_key(one) for one in subjects}
        said: dict[SubjectId, Position] = {}
        stopped: frozenset[int] = frozenset()
        for _ in range(ATTEMPTS):
            known = self._log.known_messages(list(keys.values()))
            todo = [
                one
                for one in subjects
                if one not in said and keys[one] not in known and log_partition(one) not in stopped
            ]
            before = [one for one in subjects if one not in said and keys[one] in known]
            said |= self._log.said(before, Event(kind, subjects[0], None, at, Erased()).topic)
            erased = [Event(kind, id, None, at, Erased()) for id in todo]
            try:
                places = self._log.append(self._sealer.sealing(erased), [keys[one] for one in todo])
            except DuplicateMessage:
                continue
            except BeyondHead as past:
                stopped |= past.partitions
                continue
            said |= dict(zip(todo, places, strict=True))
            self._keys.complete_erasures({id: one.position for id, one in said.items()})
            if len(said) < len(subjects):
                raise BeyondHead(stopped)
            return tuple(said[one] for one in subjects)
        raise Unavailable("others finish the same erasure; it goes on by itself")

    def _erasure_key(self, new_subject: SubjectId) -> bytes:
        """Under which the log remembers that it has said that a subject is erased."""
        return self._erasure_digest(str(new_subject))[:MESSAGE_KEY_BYTES]


def _is_decided_on(command: Command, resolution: Resolution) -> bool:
    """Whether the state of the subject matters to a command; tracked activity is appended to
    whatever there is."""
    return not isinstance(command, Track) or bool(resolution.claims or resolution.merges)


def _resting_on(
    gaps: Mapping[SubjectId, Position],
    commands: Sequence[Command],
    targets: Sequence[Target | Refusal],
) -> dict[int, Refusal]:
    """Why commands, by index, are refused: they would be decided on what is left of a state."""
    refusals: dict[int, Refusal] = {}
    for n, (command, target) in enumerate(zip(commands, targets, strict=True)):
        if isinstance(target, Refusal):
            continue
        for resolution, kind in target:
            if _is_decided_on(command, resolution):
                for id in (resolution.subject, *(merge.loser for merge in resolution.merges)):
                    if id in gaps:
                        refusals[n] = altered(kind, gaps[id])
    return refusals


def _in(partitions: frozenset[int], targets: Sequence[Target | Refusal]) -> dict[int, Refusal]:
    """Why those commands, by index, are refused that are about somebody in some partitions."""
    return {
        n: BeyondHead(partitions)
        for n, target in enumerate(targets)
        if not isinstance(target, Refusal)
        and any(
            log_partition(id) in partitions
            for resolution, _ in target
            for id in (resolution.subject, *(merge.loser for merge in resolution.merges))
        )
    }


def _naming(suppressed: set[Identity], commands: Sequence[Command]) -> dict[int, Refused]:
    """The commands, by index, that name an identity which was erased for good."""
    if not suppressed:
        return {}
    refusal = Refused(
        Suppressed.code,
        "this identity was erased, and on request nothing is taken in about it any more:"
        " stop sending it",
    )
    return {
        n: refusal
        for n, command in enumerate(commands)
        if not suppressed.isdisjoint(identities_of([command]))
    }
