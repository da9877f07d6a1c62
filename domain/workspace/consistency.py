"""Checks that a definition is consistent in itself, and uses only names that the workspace
knows."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from domain.conditions import validation
from domain.conditions.validation import Vocabulary
from domain.currencies import CURRENCIES
from domain.definitions import destinations, links
from domain.definitions.destinations import Destination
from domain.definitions.links import Link
from domain.definitions.retention import MAX_MONTHS
from domain.definitions.types import (
    Definition,
    HealthProfile,
    Preferred,
    Score,
    Segment,
    Settings,
    Signal,
    Stages,
    checked_name,
)
from domain.errors import InvalidInput, unknown
from domain.identity import SubjectKind
from domain.properties import PropertyType
from domain.workspace.references import parts

MAX_STAGES = 50
MAX_RULES = 50
MAX_WEIGHT = 1_000_000
MAX_HOURS = 24 * 366 * 5
"""Of a re-entry or a goal: five years."""

MAX_PREFERRED = 20
MAX_LINKS = 50


def check(definition: Definition) -> None:
    """Raises: InvalidInput: the definition is not consistent, with a pointer to what is wrong."""
    match definition:
        case Segment():
            checked_name(definition.name)
        case Stages():
            _stages(definition)
        case HealthProfile():
            _health(definition)
        case Score():
            _score(definition)
        case Signal():
            _signal(definition)
        case Settings():
            _settings(definition)
        case Destination():
            checked_name(definition.name)
            destinations.check(definition)


def check_names(definition: Definition, vocabulary: Vocabulary) -> None:
    """Raises: InvalidInput: a condition cannot be asked, or a name is unknown, with a pointer."""
    if isinstance(definition, Settings):
        _supplies(
            definition.mrr_property, AMOUNTS, "an MRR is a number", vocabulary, "/mrr_property"
        )
        _supplies(
            definition.renewal_property,
            DATES,
            "a renewal is a date",
            vocabulary,
            "/renewal_property",
        )
        for kind, preferred, pointer in (
            (SubjectKind.USER, definition.users, "/users"),
            (SubjectKind.ACCOUNT, definition.accounts, "/accounts"),
        ):
            properties = vocabulary.properties(kind)
            _known(
                preferred.properties, properties, f"property of {kind}s", f"{pointer}/properties"
            )
            events = vocabulary.activities("event")
            _known(preferred.events, events, "event", f"{pointer}/events")
        for n, link in enumerate(definition.links):
            links.check_properties(link, vocabulary.properties(link.kind), f"/links/{n}/url")
        return
    if isinstance(definition, Destination):
        destinations.check_names(definition, vocabulary)
        return
    for part in parts(definition):
        validation.check(part.condition, definition.kind, vocabulary, part.pointer)


AMOUNTS = (PropertyType.NUMBER, PropertyType.STRING)
DATES = (PropertyType.DATE, PropertyType.STRING)
"""Types of the properties that may supply MRR, and renewal dates."""


def _supplies(
    name: str | None,
    types: tuple[PropertyType, ...],
    what: str,
    vocabulary: Vocabulary,
    pointer: str,
) -> None:
    """Checks that a property of users or of accounts has one of some types."""
    if name is None:
        return
    known = [vocabulary.properties(kind) for kind in SubjectKind]
    actual = [properties[name] for properties in known if name in properties]
    if not actual:
        names = {name for properties in known for name in properties}
        raise InvalidInput(unknown("property", name, names), pointer=pointer)
    if not any(type in types for type in actual):
        raise InvalidInput(
            f"{what}, or a text that holds one; this property is {actual[0].with_article}",
            pointer=pointer,
        )


def _known(names: list[str], known: Collection[str], what: str, pointer: str) -> None:
    for n, name in enumerate(names):
        if name not in known:
            raise InvalidInput(unknown(what, name, known), pointer=f"{pointer}/{n}")


def _stages(definition: Stages) -> None:
    checked_name(definition.name)
    _few(definition.stages, MAX_STAGES, "stages", "/stages")
    if not definition.stages:
        raise InvalidInput("there is no stage; a list has at least one", pointer="/stages")
    names = [stage.name for stage in definition.stages]
    for n, name in enumerate(names):
        checked_name(name, pointer=f"/stages/{n}/name")
    _once(names, "stage", "/stages", "/name")


def _health(definition: HealthProfile) -> None:
    checked_name(definition.name)
    _few(definition.stages, MAX_STAGES + 1, "stages", "/stages")
    if not definition.stages:
        raise InvalidInput(
            "the profile is for no stage; name some, or null for no stage", pointer="/stages"
        )
    _once(definition.stages, "stage", "/stages")
    if definition.good is None and definition.bad is None:
        raise InvalidInput(
            "the profile has neither a good nor a bad condition; without one all are normal, and"
            " no profile is needed",
            pointer="/good",
        )


def _score(definition: Score) -> None:
    checked_name(definition.name)
    _few(definition.rules, MAX_RULES, "rules", "/rules")
    if not definition.rules:
        raise InvalidInput("there is no rule; a score has at least one", pointer="/rules")
    for n, rule in enumerate(definition.rules):
        checked_name(rule.name, pointer=f"/rules/{n}/name")
        if rule.weight == 0:
            raise InvalidInput(
                "a weight of 0 counts for nothing; leave the rule out", pointer=f"/rules/{n}/weight"
            )
        if abs(rule.weight) > MAX_WEIGHT:
            raise InvalidInput(
                f"a weight is from -{MAX_WEIGHT:,} to {MAX_WEIGHT:,}", pointer=f"/rules/{n}/weight"
            )
    _once([rule.name for rule in definition.rules], "rule", "/rules", "/name")
    total = sum(rule.weight for rule in definition.rules)
    if total <= 0:
        raise InvalidInput(
            f"the weights sum to {total}; as a score is the weight of the rules that hold, divided"
            " by the weight of all, they must sum to more than 0",
            pointer="/rules",
        )


def _signal(definition: Signal) -> None:
    checked_name(definition.name)
    _hours(definition.reentry_hours, "re-entry", "/reentry_hours")
    _hours(definition.goal_hours, "a goal", "/goal_hours")
    if definition.goal is not None and definition.goal_hours is None:
        raise InvalidInput("say in how many hours the goal must be reached", pointer="/goal_hours")
    if definition.goal is None and definition.goal_hours is not None:
        raise InvalidInput(
            "there is no goal for goal_hours; leave it out, or add a goal", pointer="/goal"
        )


def _hours(hours: int | None, what: str, pointer: str) -> None:
    if hours is not None and not 1 <= hours <= MAX_HOURS:
        raise InvalidInput(f"{what} is after 1 to {MAX_HOURS:,} hours", pointer=pointer)


def _settings(definition: Settings) -> None:
    code = definition.currency
    if code is not None and code not in CURRENCIES:
        raise InvalidInput(
            f"{code[:16]!r} is no currency of ISO 4217; a code is three capitals, like EUR",
            pointer="/currency",
        )
    if definition.time_zone is not None:
        zone(definition.time_zone, "/time_zone")
    _preferred(definition.users, "/users")
    _preferred(definition.accounts, "/accounts")
    _links(definition.links)
    retention = definition.retention
    if retention is not None and not 1 <= retention.months <= MAX_MONTHS:
        raise InvalidInput(
            f"activity is kept for 1 to {MAX_MONTHS:,} months, or for ever",
            pointer="/retention/months",
        )


def _links(some: list[Link]) -> None:
    _few(some, MAX_LINKS, "links", "/links")
    seen: set[tuple[SubjectKind, str]] = set()
    for n, link in enumerate(some):
        checked_name(link.name, pointer=f"/links/{n}/name")
        links.check(link, f"/links/{n}/url")
        if (link.kind, link.name) in seen:
            raise InvalidInput(
                f"there is a link of {link.kind}s with this name", pointer=f"/links/{n}/name"
            )
        seen.add((link.kind, link.name))


def zone(name: str, pointer: str = "") -> ZoneInfo:
    """Raises: InvalidInput: no time zone of the IANA database."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise InvalidInput(
            f"{name[:64]!r} is no time zone; a name is like Europe/Brussels", pointer=pointer
        ) from None


def _preferred(preferred: Preferred, pointer: str) -> None:
    for what, names in (("properties", preferred.properties), ("events", preferred.events)):
        _few(names, MAX_PREFERRED, f"preferred {what}", f"{pointer}/{what}")
        _once(names, what, f"{pointer}/{what}")


def _few(
    some: list[object] | list[str] | Iterable[object], most: int, what: str, pointer: str
) -> None:
    if len(list(some)) > most:
        raise InvalidInput(f"at most {most} {what}", pointer=pointer)


def _once(names: Iterable[str | None], what: str, pointer: str, within: str = "") -> None:
    seen: set[str | None] = set()
    for n, name in enumerate(names):
        if name in seen:
            shown = "no stage" if name is None else f"{name[:128]!r}"
            raise InvalidInput(
                f"{shown} is listed twice; name each {what} once", pointer=f"{pointer}/{n}{within}"
            )
        seen.add(name)
