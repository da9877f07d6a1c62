"""All definitions of the workspace as one aggregate: what may be made, activated and taken away.

A value, like users and accounts: a method named for a deed returns the events it causes, `evolve`
applies one. What is deleted stays on record, so that what refers to it later can be told apart
from what never was.

Only what is active decides, and what is active refers to what is active alone: a draft may name
nothing that is not, and what others name can neither go nor change its name.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import datetime, tzinfo
from typing import TypeVar, cast
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec

from domain.calendar import Zones
from domain.conditions.validation import unknown
from domain.definitions.destinations import Destination
from domain.definitions.links import Link
from domain.definitions.retention import Retention
from domain.definitions.types import (
    Defined,
    Definition,
    DefinitionId,
    DefinitionKind,
    HealthProfile,
    Preferred,
    Segment,
    Settings,
    Stages,
    Status,
    Undeciding,
    family_of,
)
from domain.errors import Conflict, InvalidInput, NotFound
from domain.events.definitions import (
    DefinitionActivated,
    DefinitionArchived,
    DefinitionChanged,
    DefinitionCleaned,
    DefinitionDeleted,
    DefinitionMade,
    MembersListed,
    MembersUnlisted,
    NamesRestored,
    NamesRetired,
    PropertyTypeChanged,
)
from domain.events.event import Event
from domain.events.payloads import Payload
from domain.identity import SubjectId, SubjectKind
from domain.name_rules import NameRules
from domain.workspace import consistency
from domain.workspace.name_uses import retired_use, unfit_use
from domain.workspace.references import Named, path_back, provides, references_of, who_asks

MAX_DEFINITIONS = 1_000
"""Of a family, without those that are archived or deleted."""

MAX_LISTED = 10_000
"""Subjects in one change of a static segment's list."""

NAMES = {
    DefinitionKind.SEGMENT: "segment",
    DefinitionKind.STAGES: "list of stages",
    DefinitionKind.HEALTH: "health profile",
    DefinitionKind.SCORE: "score",
    DefinitionKind.SIGNAL: "signal",
    DefinitionKind.SETTINGS: "settings",
    DefinitionKind.DESTINATION: "destination",
}
"""What people call a definition of each family."""

D = TypeVar("D", bound=Definition)


class Workspace(msgspec.Struct, frozen=True):
    """What holds in the workspace: as it was chosen, else as the server is set.

    Attributes:
        mrr_property, renewal_property: that supply MRR and renewal date.
        currency: ISO 4217, of an MRR that comes without one of its own; None: it is not known.
        users, accounts: what the Overview shows first.
        names: what admins decided about names of the catalogue.
    """

    zones: Zones = Zones()
    mrr_property: str = "mrr"
    renewal_property: str = "renewal_date"
    currency: str | None = None
    users: Preferred = Preferred()
    accounts: Preferred = Preferred()
    backdated_stages: bool = False
    links: tuple[Link, ...] = ()
    retention: Retention | None = None
    names: NameRules = NameRules()

    @property
    def zone(self) -> tzinfo:
        """In which calendar days are counted now."""
        return self.zones.now


class Definitions(msgspec.Struct, frozen=True):
    """
    Attributes:
        version: number of events so far.
        current: what there is, by id; what is archived included.
        deleted: what there was once, as it stood then.
        zones: since when which time zone holds, by name, in order; None: as the server is set.
        names: what admins decided about names of the catalogue.
    """

    version: int = 0
    current: dict[DefinitionId, Defined[Definition]] = msgspec.field(default_factory=dict)
    deleted: dict[DefinitionId, Defined[Definition]] = msgspec.field(default_factory=dict)
    zones: tuple[tuple[datetime, str | None], ...] = ()
    names: NameRules = NameRules()

    def of(self, family: type[D]) -> dict[DefinitionId, Defined[D]]:
        """The definitions of a family."""
        return {
            id: cast(Defined[D], one)
            for id, one in self.current.items()
            if isinstance(one.definition, family)
        }

    @property
    def segments(self) -> dict[DefinitionId, Defined[Segment]]:
        return self.of(Segment)

    @property
    def destinations(self) -> dict[DefinitionId, Defined[Destination]]:
        return self.of(Destination)

    def destination(self, id: UUID) -> Defined[Destination]:
        """Raises: NotFound: there is none, or none any more."""
        found = self.destinations.get(DefinitionId(id))
        if found is None:
            raise NotFound("there is no such destination")
        return found

    @property
    def active(self) -> dict[DefinitionId, Definition]:
        """What decides."""
        return {
            id: one.definition for id, one in self.current.items() if one.status is Status.ACTIVE
        }

    @property
    def settings(self) -> Defined[Settings] | None:
        """What was chosen for the workspace; None: nothing yet."""
        return next(iter(self.of(Settings).values()), None)

    def workspace(self, defaults: Workspace) -> Workspace:
        """What holds.

        Args:
            defaults: for what was not chosen.
        """
        if self.settings is None:
            return msgspec.structs.replace(defaults, names=self.names)
        chosen, first = self.settings.definition, defaults.zones.first
        return Workspace(
            zones=Zones(
                first,
                tuple(
                    (since, first if name is None else ZoneInfo(name)) for since, name in self.zones
                ),
            ),
            mrr_property=chosen.mrr_property or defaults.mrr_property,
            renewal_property=chosen.renewal_property or defaults.renewal_property,
            currency=chosen.currency or defaults.currency,
            users=chosen.users,
            accounts=chosen.accounts,
            backdated_stages=chosen.backdated_stages,
            links=tuple(chosen.links),
            retention=chosen.retention,
            names=self.names,
        )

    def find(self, id: UUID) -> Defined[Definition]:
        """Raises: NotFound: there is no such definition, or none any more."""
        found = self.current.get(DefinitionId(id))
        if found is None:
            raise NotFound("there is no such definition")
        return found

    def segment(self, id: UUID) -> Defined[Segment]:
        """Raises: NotFound: there is none, or none any more."""
        found = self.segments.get(DefinitionId(id))
        if found is None:
            raise NotFound("there is no such segment")
        return found

    def make(self, id: DefinitionId, definition: Definition, by: UUID) -> list[Payload]:
        """Defines something: segments and settings hold at once, others begin as a draft.

        Raises:
            InvalidInput: it disagrees with itself, names what there is not, would rest on itself,
                or has a name that is taken.
            Conflict: there are too many.
        """
        consistency.check(definition)
        family = family_of(definition)
        if isinstance(definition, Settings) and self.settings is not None:
            raise Conflict("the workspace has settings already; change those")
        there = [
            one for one in self.of(type(definition)).values() if one.status is not Status.ARCHIVED
        ]
        if len(there) >= MAX_DEFINITIONS:
            raise Conflict(
                f"there are {MAX_DEFINITIONS:,} of this family ({family}) already; delete or"
                " archive one first"
            )
        self._check(id, definition, activates=_status_at_first(definition) is Status.ACTIVE)
        return [DefinitionMade(id, definition, by)]

    def change(self, id: UUID, definition: Definition, by: UUID) -> list[Payload]:
        """Replaces what a definition says; nothing comes of what changes nothing.

        Raises:
            NotFound: there is no such definition.
            InvalidInput: as `make`; and where its family, its kind, or whether a segment is static
                would change.
            Conflict: it is archived; or others use a name that it would no longer have.
        """
        before = self.find(id)
        _same_in_kind(before.definition, definition)
        if definition == before.definition:
            return []
        if before.status is Status.ARCHIVED:
            raise Conflict("what is archived stays as it is; make a new one like it")
        consistency.check(definition)
        is_active = before.status is Status.ACTIVE
        self._check(before.id, definition, activates=is_active)
        if is_active:
            gone = provides(before.id, before.definition) - provides(before.id, definition)
            self._refuse_missing(gone, {before.id})
        return [DefinitionChanged(before.id, definition, by)]

    def choose(self, id: DefinitionId, settings: Settings, by: UUID) -> list[Payload]:
        """Makes settings the workspace's, in place of those that it has.

        Args:
            id: for the first ones.

        Raises:
            InvalidInput: no such currency or time zone, or a name twice.
        """
        there = self.settings
        return self.make(id, settings, by) if there is None else self.change(there.id, settings, by)

    def activate(self, id: UUID, by: UUID) -> list[Payload]:
        """Has a draft decide from now on; of what is active already, nothing comes. A list of
        stages takes the place of the one that users, or accounts, have.

        Raises:
            NotFound: there is no such definition.
            InvalidInput: as `make`, as definitions are by now; and where it has the name, or is
                for a stage, of another one that is active.
            Conflict: it is archived; or others use stages that there would no longer be.
        """
        draft = self.find(id)
        if draft.status is Status.ACTIVE:
            return []
        if draft.status is Status.ARCHIVED:
            raise Conflict("what is archived stays so; make a new one like it")
        self._check(draft.id, draft.definition, activates=True)
        replaced = self._replaced(draft.id, draft.definition)
        gone = {
            named for one in replaced for named in provides(one, self.current[one].definition)
        } - provides(draft.id, draft.definition)
        self._refuse_missing(gone, {draft.id, *replaced})
        return [
            *(DefinitionArchived(one, by) for one in replaced),
            DefinitionActivated(draft.id, by),
        ]

    def archive(self, id: UUID, by: UUID) -> list[Payload]:
        """Has a definition decide no more; it stays on record. Nothing comes of doing it twice.

        Raises:
            NotFound: there is no such definition.
            Conflict: others use it, which it names; or it is no such as can be archived.
        """
        there = self.find(id)
        if isinstance(there.definition, Segment):
            raise Conflict("a segment is not archived; delete it")
        if isinstance(there.definition, Settings):
            raise Conflict("settings are not archived; change them")
        if there.status is Status.ARCHIVED:
            return []
        if there.status is Status.DRAFT:
            raise Conflict("a draft decides nothing; delete it")
        self._refuse_missing(provides(there.id, there.definition), {there.id})
        return [DefinitionArchived(there.id, by)]

    def delete(self, id: UUID, by: UUID) -> list[Payload]:
        """Takes a segment or a draft away.

        Raises:
            NotFound: there is no such definition.
            Conflict: it is used inside others, which it names; or it decides, or did once.
        """
        gone = self.find(id)
        if not isinstance(gone.definition, Segment):
            if gone.status is not Status.DRAFT:
                remedy = "archive it" if gone.status is Status.ACTIVE else "it stays on record"
                raise Conflict(f"only drafts and segments are deleted; {remedy}")
            return [DefinitionDeleted(gone.id, by)]
        self._refuse_missing(provides(gone.id, gone.definition), {gone.id})
        return [DefinitionDeleted(gone.id, by)]

    def static_segment(self, id: UUID) -> Defined[Segment]:
        """Raises: NotFound: no such segment. InvalidInput: a condition decides who is in it."""
        found = self.segment(id)
        if found.definition.condition is not None:
            raise InvalidInput(
                "a condition decides who is in this segment; only a static one is kept by hand"
            )
        return found

    @staticmethod
    def listing(subjects: list[SubjectId], by: UUID, *, on: bool) -> list[Payload]:
        """Puts subjects on the list of a static segment, or takes them off."""
        if not subjects:
            return []
        return [MembersListed(subjects, by) if on else MembersUnlisted(subjects, by)]

    def known(self, family: DefinitionKind, kind: SubjectKind) -> set[str]:
        """The names that conditions about users or about accounts can ask for."""
        return {
            named.name
            for id, one in self.active.items()
            for named in provides(id, one)
            if (named.family, named.kind) == (family, kind)
        }

    def family_of(self, payload: Payload) -> DefinitionKind:
        """Of what an event that was decided here is about."""
        match payload:
            case (
                DefinitionMade(_, definition)
                | DefinitionChanged(_, definition)
                | DefinitionCleaned(_, _, definition)
            ):
                return family_of(definition)
            case DefinitionActivated(id) | DefinitionArchived(id) | DefinitionDeleted(id):
                return family_of(self.current[id].definition)
            case NamesRetired() | NamesRestored() | PropertyTypeChanged():
                return DefinitionKind.SETTINGS
            case _:
                raise TypeError("this is decided elsewhere")

    def _replaced(self, id: DefinitionId, definition: Definition) -> list[DefinitionId]:
        """The list of stages whose place another one would take."""
        if not isinstance(definition, Stages):
            return []
        return [
            other
            for other, one in self.of(Stages).items()
            if one.status is Status.ACTIVE
            and one.definition.kind is definition.kind
            and other != id
        ]

    def _check(self, id: DefinitionId, definition: Definition, *, activates: bool) -> None:
        """What has to hold among the definitions that would be active with this one."""
        retired = retired_use(definition, self.names.retired)
        if retired is not None:
            scope, name = retired.to
            raise InvalidInput(
                f"the {scope.in_words} {name!r} is retired; restore it, or ask for another",
                pointer=retired.pointer,
            )
        unfit = unfit_use(definition, self.names.types)
        if unfit is not None:
            type = self.names.types[unfit.to]
            raise InvalidInput(
                f"the property {unfit.to.name!r} is {type.with_article} by now",
                pointer=unfit.pointer,
            )
        if isinstance(definition, Settings):
            return
        replaced = self._replaced(id, definition)
        active = {key: one for key, one in self.active.items() if key not in replaced}
        if activates:
            _refuse_taken(id, definition, active)
        active[id] = definition
        there: set[Named] = set()
        for key, one in active.items():
            there |= provides(key, one)
        for to, pointer in references_of(definition):
            if to.name and to not in there:
                raise _none(to, there, pointer)
        if isinstance(definition, Destination):
            return
        found = path_back(id, active)
        if found is not None:
            path, pointer = found
            what = NAMES[family_of(definition)]
            raise InvalidInput(
                f"the {what} would rest on itself: {' → '.join(path)}", pointer=pointer
            )

    def _refuse_missing(self, gone: Collection[Named], without: Collection[DefinitionId]) -> None:
        """Raises: Conflict: active definitions other than some ask for what would be gone."""
        if not gone:
            return
        active = {id: one for id, one in self.active.items() if id not in without}
        for named in sorted(gone):
            users = who_asks([named], active)
            if users:
                names = ", ".join(f"“{name}”" for name in users)
                raise Conflict(
                    f"{self._called(named)} is used inside {names}: change or delete that first"
                )

    def _called(self, named: Named) -> str:
        if named.family is DefinitionKind.SEGMENT:
            segment = self.segments[DefinitionId(UUID(named.name))]
            return f"“{segment.definition.name}”"
        return f"“{named.name}”"

    def evolve(self, event: Event) -> Definitions:
        """The state after `event`, which must be the next one."""
        payload, at, version = event.payload, event.occurred_at, event.version or self.version
        match payload:
            case (
                DefinitionChanged(id)
                | DefinitionActivated(id)
                | DefinitionArchived(id)
                | DefinitionDeleted(id)
            ) if id not in self.current:  # what it said is destroyed, and nothing stands there
                return msgspec.structs.replace(self, version=version)
            case DefinitionMade(id, definition, by):
                status = _status_at_first(definition)
                made = Defined(id, 1, definition, status, at, by, at, by)
                return msgspec.structs.replace(
                    self,
                    version=version,
                    current=self.current | {id: made},
                    zones=self._zones(definition, at),
                )
            case DefinitionChanged(id, definition, by):
                changed = msgspec.structs.replace(self.current[id], definition=definition)
                stepped = self._stepped(changed, event, by)
                return msgspec.structs.replace(stepped, zones=self._zones(definition, at))
            case DefinitionActivated(id, by):
                active = msgspec.structs.replace(self.current[id], status=Status.ACTIVE)
                return self._stepped(active, event, by)
            case DefinitionArchived(id, by):
                archived = msgspec.structs.replace(self.current[id], status=Status.ARCHIVED)
                return self._stepped(archived, event, by)
            case DefinitionDeleted(id):
                left = {key: one for key, one in self.current.items() if key != id}
                return msgspec.structs.replace(
                    self,
                    version=version,
                    current=left,
                    deleted=self.deleted | {id: self.current[id]},
                )
            case DefinitionCleaned():
                return msgspec.structs.replace(
                    self,
                    version=version,
                    current=_cleaned(self.current, payload),
                    deleted=_cleaned(self.deleted, payload),
                )
            case NamesRetired(scope, names, by):
                rules = self.names.retire(scope, names, at, by)
                return msgspec.structs.replace(self, version=version, names=rules)
            case NamesRestored(scope, names):
                rules = self.names.restore(scope, names)
                return msgspec.structs.replace(self, version=version, names=rules)
            case PropertyTypeChanged(scope, name, to):
                rules = self.names.change_type(scope, name, to)
                return msgspec.structs.replace(self, version=version, names=rules)
            case _:
                return msgspec.structs.replace(self, version=version)

    def _stepped(self, one: Defined[Definition], event: Event, by: UUID) -> Definitions:
        following = msgspec.structs.replace(
            one, version=one.version + 1, changed_at=event.occurred_at, by=by
        )
        return msgspec.structs.replace(
            self,
            version=event.version or self.version,
            current=self.current | {one.id: following},
        )

    def _zones(
        self, definition: Definition, at: datetime
    ) -> tuple[tuple[datetime, str | None], ...]:
        """With the time zone that settings choose, where it is another one."""
        if not isinstance(definition, Settings):
            return self.zones
        since, before = self.zones[-1] if self.zones else (at, None)
        if definition.time_zone == before:
            return self.zones
        return (*self.zones, (max(since, at), definition.time_zone))


def _cleaned(
    known: dict[DefinitionId, Defined[Definition]], said: DefinitionCleaned
) -> dict[DefinitionId, Defined[Definition]]:
    one = known.get(said.id)
    if one is None or one.version not in said.versions:
        return known
    return known | {said.id: msgspec.structs.replace(one, definition=said.definition)}


def _status_at_first(definition: Definition) -> Status:
    return Status.ACTIVE if isinstance(definition, Segment | Settings) else Status.DRAFT


def _same_in_kind(before: Definition, after: Definition) -> None:
    """Raises: InvalidInput: what a definition is once, it stays."""
    family = family_of(before)
    if family_of(after) is not family:
        raise InvalidInput(f"this is a {NAMES[family]} and stays so; define another")
    if isinstance(before, Undeciding) or isinstance(after, Undeciding):
        return
    if after.kind != before.kind:
        raise InvalidInput(
            f"this is a {NAMES[family]} of {before.kind}s; define another for {after.kind}s",
            pointer="/kind",
        )
    if isinstance(before, Segment) and isinstance(after, Segment):
        was_static = before.condition is None
        if (after.condition is None) != was_static:
            was = "static" if was_static else "dynamic"
            raise InvalidInput(
                f"this segment is {was} and stays so; define another", pointer="/condition"
            )


def _refuse_taken(
    id: DefinitionId, definition: Definition, active: dict[DefinitionId, Definition]
) -> None:
    """Raises: InvalidInput: another one that is active has this name, or a profile this stage."""
    if isinstance(definition, Settings):
        return
    for other, one in _like(definition, active):
        if other == id:
            continue
        if not isinstance(one, Settings | Stages) and one.name == definition.name:
            of = "" if isinstance(definition, Destination) else f" of {definition.kind}s"
            raise InvalidInput(
                f"there is a {NAMES[family_of(one)]}{of} with this name", pointer="/name"
            )
        if isinstance(definition, HealthProfile) and isinstance(one, HealthProfile):
            for n, stage in enumerate(definition.stages):
                if stage in one.stages:
                    raise InvalidInput(
                        f"{'no stage' if stage is None else repr(stage)} has the health profile"
                        f" “{one.name}” already; take it out there first",
                        pointer=f"/stages/{n}",
                    )


def _like(
    definition: Definition, active: dict[DefinitionId, Definition]
) -> Iterator[tuple[DefinitionId, Definition]]:
    """Those of the same family and kind; of destinations all."""
    for id, one in active.items():
        if type(one) is type(definition) and (
            isinstance(one, Destination)
            or getattr(one, "kind", None) == getattr(definition, "kind", None)
        ):
            yield id, one


def _none(to: Named, there: Collection[Named], pointer: str) -> InvalidInput:
    if to.family is DefinitionKind.SEGMENT:
        others = {one.name: one.kind for one in there if one.family is DefinitionKind.SEGMENT}
        if to.name in others:
            return InvalidInput(
                f"this is a segment of {others[to.name]}s, not of {to.kind}s", pointer=pointer
            )
        return InvalidInput("there is no such segment; it may have been deleted", pointer=pointer)
    what = "stage" if to.family is DefinitionKind.STAGES else to.family.value
    known = {one.name for one in there if (one.family, one.kind) == (to.family, to.kind)}
    return InvalidInput(unknown(f"{what} of {to.kind}s", to.name, known), pointer=pointer)
