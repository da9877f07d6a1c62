"""Carries out batches of commands: one look-up of identities, one load of aggregates, one append.

Concurrency is optimistic. Claims of identities are unique, and the append checks aggregate versions
and message ids; a writer that loses such a race decides the whole batch again.
"""

from __future__ import annotations

import secrets
import time
import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import islice, takewhile

import msgspec

from domain.commands import (
    Command,
    Duplicate,
    Outcome,
    Position,
    Refused,
    Request,
    Stored,
    Track,
)
from domain.definitions.retention import ALWAYS
from domain.errors import (
    BeyondHead,
    DuplicateMessage,
    PeriodOver,
    Refusal,
    SubjectErased,
    Suppressed,
    Unavailable,
    VersionConflict,
)
from domain.events.event import Event
from domain.identity import (
    Identity,
    Known,
    Merge,
    Resolution,
    SubjectId,
    SubjectKind,
    log_partition,
)
from domain.properties import RefusedValue
from domain.subjects.command_batch import (
    CommandBatch,
    Target,
    identities_of,
    new_names,
    parties_of,
)
from domain.subjects.history import new_subject
from infra.keys.digests import KeyedDigest
from infra.keys.identity_index import IdentityIndex
from infra.keys.key_ring import KeyRing
from infra.keys.sealing import Sealer
from infra.keys.tombstones import KeyTombstones
from infra.log.event_log import MESSAGE_KEY_BYTES, EventLog
from infra.log.group_commit import GroupCommit
from infra.write.aggregates import Aggregates, altered
from infra.write.name_catalogue import NameCatalogue

ATTEMPTS = 20
FIRST_PAUSE, LONGEST_PAUSE = 0.002, 0.2
"""Bounds of the random pause before the next attempt, in seconds; the first doubles each time."""

REQUESTS_A_GROUP = 1_000
"""Most requests that are decided as one batch where several batches wait."""

PATIENCE_SECONDS = 0.005
"""How long a group waits for senders that were just answered: most send again within it."""

BEGUN_CACHE_SIZE = 500_000
_chance = secrets.SystemRandom()


class _LookAgain(Exception):
    """Another writer changed the state that this batch was decided on."""


class _PendingRequest(msgspec.Struct):
    """A request of a batch, within one attempt to carry the batch out.

    Attributes:
        message_key: digest of the message id; None: the sender gave none.
        original: the earlier request of the batch with the same message id.
        target: the subjects that the command is about, or why they cannot be resolved.
        refused_values: the values that are left out of the command.
        event_count: how many events the command causes.
        outcome: None: not known yet, or the message id is stored already.
    """

    command: Command
    message_key: bytes | None
    refused_values: tuple[RefusedValue, ...]
    original: _PendingRequest | None = None
    target: Target | Refusal = ()
    event_count: int = 0
    outcome: Stored | Refused | None = None

    def answer(self) -> Outcome:
        """The outcome; that of a repeated message id is the original's where that is refused."""
        if self.original is not None and isinstance(self.original.outcome, Refused):
            return self.original.outcome
        return Duplicate() if self.outcome is None else self.outcome

    def refuse(self, refusal: Refusal) -> None:
        self.outcome = Refused(refusal.code, refusal.detail, refusal.pointer)


def _new_id() -> SubjectId:
    return SubjectId(uuid.uuid4())


class CommandHandler:
    """Thread-safe; one instance per process."""

    def __init__(
        self,
        *,
        log: EventLog,
        keys: KeyRing,
        tombstones: KeyTombstones,
        identities: IdentityIndex,
        catalogue: NameCatalogue,
        aggregates: Aggregates,
        sealer: Sealer,
        message_secret: bytes,
    ) -> None:
        """
        Args:
            message_secret: message ids are stored as digests under it.
        """
        self._log = log
        self._keys = keys
        self._tombstones = tombstones
        self._identities = identities
        self._catalogue = catalogue
        self._aggregates = aggregates
        self._sealer = sealer
        self._message_digest = KeyedDigest(message_secret)
        self._begun: set[SubjectId] = set()
        self._group_commit: GroupCommit[Sequence[Request], list[Outcome]] = GroupCommit(
            self._handle_group, size=len, limit=REQUESTS_A_GROUP, patience=PATIENCE_SECONDS
        )

    def handle(self, requests: Sequence[Request]) -> list[Outcome]:
        """Carries out a batch in its order; each request is stored, a duplicate, or refused.

        Batches that arrive at the same time are decided as one: apart, those about the same
        subjects would lose races against one another.

        Raises:
            Unavailable: other writers won the race in every attempt.
        """
        return self._group_commit(requests)

    def _handle_group(self, batches: list[Sequence[Request]]) -> list[list[Outcome]]:
        outcomes = iter(self._handle([request for batch in batches for request in batch]))
        return [list(islice(outcomes, len(batch))) for batch in batches]

    def _handle(self, requests: Sequence[Request]) -> list[Outcome]:
        outcomes: list[Outcome] = []
        while len(outcomes) < len(requests):
            outcomes += self._handle_first(requests[len(outcomes) :])
        return outcomes

    def _handle_first(self, requests: Sequence[Request]) -> list[Outcome]:
        """Carries out the first requests that can be decided together; mostly all."""
        stopped: frozenset[int] = frozenset()
        for attempt in range(ATTEMPTS):
            try:
                return self._attempt(requests, stopped)
            except BeyondHead as error:
                stopped |= error.partitions
            except (_LookAgain, VersionConflict, DuplicateMessage, PeriodOver):
                time.sleep(_chance.random() * min(FIRST_PAUSE * 2**attempt, LONGEST_PAUSE))
            except SubjectErased:
                self._free_identities(requests)
        raise Unavailable("too many writers change the same subjects; send the batch again")

    def _free_identities(self, requests: Sequence[Request]) -> None:
        """Deletes the identities that lead to erased subjects. A writer that was slower than the
        erasure claimed them."""
        identities = identities_of(request.command for request in requests)
        self._identities.free_erased(set(self._identities.find(identities).values()))

    def _attempt(self, requests: Sequence[Request], stopped: frozenset[int]) -> list[Outcome]:
        """
        Args:
            stopped: partitions to which nothing can be appended.
        """
        all_requests = [
            _PendingRequest(request.command, self._message_key(request), request.refused)
            for request in requests
        ]
        message_keys = [each.message_key for each in all_requests if each.message_key is not None]
        with self._log.looking_up(message_keys) as stored:
            self._keys.refresh()
            known, suppressed = self._identities.find_and_suppressed(
                identities_of(request.command for request in requests)
            )
        pending = _without_repeats(all_requests, stored)
        _refuse_suppressed(pending, suppressed)
        self._refuse_too_old(pending)
        pending = [each for each in pending if each.outcome is None]
        if pending:
            done = self._carry_out(pending, known, stopped)
            if done < len(pending):
                all_requests = list(takewhile(lambda each: each is not pending[done], all_requests))
        return [each.answer() for each in all_requests]

    def _message_key(self, request: Request) -> bytes | None:
        if request.message_id is None:
            return None
        return self._message_digest(request.message_id)[:MESSAGE_KEY_BYTES]

    def _carry_out(
        self, pending: Sequence[_PendingRequest], known: Known, stopped: frozenset[int]
    ) -> int:
        """Decides on the first requests that can be decided together, appends their events and
        sets their outcomes; returns their number."""
        commands = [each.command for each in pending]
        self._catalogue.take(new_names(commands, self._catalogue.types))
        batch, count = self._resolved(pending, known, stopped)
        pending = pending[:count]
        events: list[Event] = []
        decided: list[_PendingRequest] = []
        for each in pending:
            if isinstance(each.target, Refusal):
                each.refuse(each.target)
                continue
            caused, refused_values = batch.decide(each.command, each.target)
            each.refused_values += refused_values
            each.event_count = len(caused)
            events += caused
            decided.append(each)
        message_keys = [each.message_key for each in decided if each.message_key is not None]
        sealing = self._sealer.sealing(events)
        with self._lock_keys_of(batch.merges):
            positions = iter(self._log.append(sealing, message_keys))
        for each in decided:
            newest = {
                position.log_partition: position for position in islice(positions, each.event_count)
            }
            each.outcome = Stored(tuple(newest.values()), each.refused_values)
        if batch.merges:
            self._identities.repoint(batch.merges)
        if batch.released:
            self._identities.release(batch.released)
        self._remember_begun(id for id, state in batch.states.items() if state.version)
        return count

    def _lock_keys_of(self, merges: Sequence[Merge]) -> AbstractContextManager[None]:
        """Orders each merge wholly before an erasure of either side, which then reaches both, or
        after it, where the merge is refused (`SubjectErased`): no key is destroyed because of a
        merge, so that no legal hold is passed over."""
        if not merges:
            return nullcontext()
        return self._tombstones.locked(
            id for merge in merges for id in (merge.survivor, merge.loser)
        )

    def _refuse_too_old(self, pending: Sequence[_PendingRequest]) -> None:
        """Refuses activity of a period that retention has ended."""
        since = self._sealer.kept().taken_since
        if since == ALWAYS:
            return
        refusal = Refused(
            PeriodOver.code,
            f"older than the activity that is kept, which begins on {since:%Y-%m-%d} (UTC)",
            "/timestamp",
        )
        for each in pending:
            if isinstance(each.command, Track) and each.command.at < since:
                each.outcome = refusal

    def _resolved(
        self, pending: Sequence[_PendingRequest], known: Known, stopped: frozenset[int]
    ) -> tuple[CommandBatch, int]:
        """Resolves and loads the subjects of each command; sets `target` of each request.

        Returns:
            The batch, and how many of the requests it is about: the first ones that can be decided
            together.

        A command that needs a state which is not whole, or a partition that is stopped, is refused,
        and the others are resolved again as if it were not in the batch.
        """
        refused: dict[int, Refusal] = {}
        while True:
            batch = CommandBatch(
                self._catalogue.types, self._catalogue.retired, dict(known), _new_id
            )
            for n, each in enumerate(pending):
                each.target = refused[n] if n in refused else batch.resolve(each.command)
            count = batch.independent([each.command for each in pending])
            if count < len(pending):
                pending = pending[:count]
                continue
            if not self._identities.claim(batch.claims, batch.states):
                raise _LookAgain
            gaps = self._load(batch, pending)
            if not gaps and not stopped:
                return batch, count
            newly_refused = {
                n: refusal
                for n, each in enumerate(pending)
                if (refusal := _impossible(each, gaps, stopped)) is not None
            }
            if not newly_refused:
                return batch, count
            refused |= newly_refused

    def _load(
        self, batch: CommandBatch, pending: Sequence[_PendingRequest]
    ) -> dict[SubjectId, Position]:
        """Loads the aggregates that the batch decides on, in one read. Begins those subjects that
        are only tracked and have no event yet: a writer that died before its append claimed them.

        Returns:
            The first gap of each subject whose state is not whole.
        """
        wanted: dict[SubjectId, SubjectKind] = {}
        tracked: dict[SubjectId, SubjectKind] = {}
        for each in pending:
            if isinstance(each.target, Refusal):
                continue
            for resolution, kind in each.target:
                needs_state = _needs_state(each.command, resolution)
                (wanted if needs_state else tracked)[resolution.subject] = kind
                wanted.update((merge.loser, kind) for merge in resolution.merges)
        old = {id: kind for id, kind in wanted.items() if id not in batch.states}
        loaded = self._aggregates.load_each(old)
        batch.states |= loaded.states
        stale = [
            Merge(id, survivor)
            for id, state in loaded.states.items()
            if id not in loaded.gaps and (survivor := state.merged_into) is not None
        ]
        if stale:  # a writer died between the append of a merge and the update of identities
            self._identities.repoint(stale)
            raise _LookAgain
        stale_identities = [
            (identity, resolution.subject)
            for each in pending
            if not isinstance(each.target, Refusal)
            for (resolution, _), identities in zip(
                each.target, parties_of(each.command), strict=True
            )
            if resolution.subject in loaded.states
            for identity in identities
            if identity not in batch.claims
            and loaded.states[resolution.subject].has_released(identity)
        ]
        if stale_identities:  # likewise, between an append and the release of identities
            self._identities.release(stale_identities)
            raise _LookAgain
        uncertain = {
            id: kind
            for id, kind in tracked.items()
            if id not in batch.states and id not in self._begun
        }
        begun = self._log.begun(uncertain)
        self._remember_begun(begun)
        for id, kind in uncertain.items():
            if id not in begun:
                batch.states[id] = new_subject(kind, id)
        return loaded.gaps

    def _remember_begun(self, subjects: Iterable[SubjectId]) -> None:
        if len(self._begun) > BEGUN_CACHE_SIZE:
            self._begun = set()
        self._begun.update(subjects)


def _without_repeats(
    requests: Sequence[_PendingRequest], stored: Collection[bytes]
) -> list[_PendingRequest]:
    """The requests whose message id is new; sets `original` of those that repeat one of them."""
    pending: list[_PendingRequest] = []
    originals: dict[bytes, _PendingRequest] = {}
    for each in requests:
        key = each.message_key
        if key is None:
            pending.append(each)
        elif key not in stored:
            original = originals.setdefault(key, each)
            if original is each:
                pending.append(each)
            else:
                each.original = original
    return pending


def _refuse_suppressed(pending: Sequence[_PendingRequest], suppressed: set[Identity]) -> None:
    """Refuses the commands that name an identity which was erased for good."""
    if not suppressed:
        return
    refusal = Refused(
        Suppressed.code,
        "this identity was erased, and on request nothing is taken in about it any more:"
        " stop sending it",
    )
    for each in pending:
        if not suppressed.isdisjoint(identities_of([each.command])):
            each.outcome = refusal


def _needs_state(command: Command, resolution: Resolution) -> bool:
    """Whether a command is decided on the state of the subject; tracked activity is appended
    without it."""
    return not isinstance(command, Track) or bool(resolution.claims or resolution.merges)


def _impossible(
    request: _PendingRequest, gaps: Mapping[SubjectId, Position], stopped: frozenset[int]
) -> Refusal | None:
    """Why a command cannot be carried out: it needs a state with a gap, or a partition that is
    stopped. None: it can."""
    if isinstance(request.target, Refusal):
        return None
    refusal: Refusal | None = None
    for resolution, kind in request.target:
        for id in (resolution.subject, *(merge.loser for merge in resolution.merges)):
            if log_partition(id) in stopped:
                return BeyondHead(stopped)
            if id in gaps and _needs_state(request.command, resolution):
                refusal = altered(kind, gaps[id])
    return refusal
