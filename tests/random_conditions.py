"""Conditions to ask and small worlds to ask them of: for tests that hold answers against an oracle.

Values, days and instants come from the same few pools on both sides, so that answers differ.
"""

from __future__ import annotations

import random
import string
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import cache
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec
from hypothesis import strategies as st

from domain import calendar
from domain.calendar import Moment, end_of, start_of
from domain.conditions import language as ask
from domain.conditions.evaluation import Deed, Facts, Membership, World
from domain.identity import SubjectKind

ZONES = ("UTC", "Europe/Brussels", "America/Sao_Paulo", "America/St_Johns", "Pacific/Apia")

# Days on which clocks are put forward or back, leap days, turns of years, and a day that Apia
# never had.
DAYS = (
    date(2024, 3, 31), date(2024, 10, 27), date(2018, 11, 4), date(2018, 2, 18), date(2007, 3, 11),
    date(2011, 12, 30), date(2024, 2, 29), date(2023, 12, 31), date(2024, 1, 1), date(2024, 5, 13),
)  # fmt: skip

HOSTILE = (
    "'", "' OR true --", "\\", "%", "_", "%(p)s", ":name", "$1", '"', "\"}'::jsonb", "null",
    "; DROP TABLE views.contacts; --", "{}", "{c}", "{texts}", "{list 0}", "%s",
    "a\nb", "\u202e", "?", "$.a ? (@ == 1)", "::uuid",
)  # fmt: skip
TEXTS = ("", "pro", "Pro", "pro plan", "free", "é", "é", "😀", "ß", "0", "5", "true", " ", *HOSTILE)
NUMBERS = (
    0, 1, 5, -1, 5.0, 0.1, 0.30000000000000004, 1e-300, 1e18, 2**63 - 1, -(2**63) + 1, 1e15, 99.99,
)  # fmt: skip
PROPERTIES = ("plan", "seats", "vip", "renewal_date", "tags", "mixed", *HOSTILE[:6])
ACTIVITIES = ("event", "page", "screen", "channel", "campaign")
METADATA = ("sum", "via", HOSTILE[0])
NAMES = ("opened", "Opened", "paid", HOSTILE[1], "never")
ROLES = ("admin", "Admin", "", HOSTILE[0])
STAGES = ("trial", "paying", HOSTILE[1])
SCORES = ("fit", "Fit", HOSTILE[0])
SCORED = (0, 5, 33.33, 50, 66.67, 99.99, 100)
SIGNALS = ("alarm", HOSTILE[1])
SEGMENTS = tuple(UUID(int=2**127 + n) for n in range(3))


def moments() -> st.SearchStrategy[Moment]:
    def at(day: date, zone: str, seconds: int) -> Moment:
        there = ZoneInfo(zone)
        return Moment((start_of(day, there) + timedelta(seconds=seconds)).astimezone(UTC), there)

    seconds = st.sampled_from((0, -1, 1, 43_200, 86_399)) | st.integers(0, 90_000)
    return st.builds(at, st.sampled_from(DAYS), st.sampled_from(ZONES), seconds)


# -- conditions

_days = st.sampled_from((1, 2, 7, 29, 30, 31, 365)) | st.integers(1, calendar.MAX_DAYS)
_day = st.sampled_from(DAYS) | st.dates(calendar.FIRST_DAY, calendar.LAST_DAY)
_instants = _day.map(str) | st.builds(
    lambda day, zone, shift: (
        (start_of(day, ZoneInfo(zone)) + timedelta(microseconds=shift)).astimezone(UTC).isoformat()
    ),
    st.sampled_from(DAYS),
    st.sampled_from(ZONES),
    st.integers(-2, 2),
)


def all_periods() -> st.SearchStrategy[Any]:
    named = (
        calendar.Today, calendar.Yesterday, calendar.ThisWeek, calendar.LastWeek,
        calendar.ThisMonth, calendar.LastMonth, calendar.ThisQuarter, calendar.LastQuarter,
        calendar.ThisYear, calendar.LastYear,
    )  # fmt: skip
    return (
        st.sampled_from([period() for period in named])
        | st.builds(calendar.LastDays, _days)
        | st.builds(calendar.Since, _day)
        | st.builds(lambda first, second: calendar.Between(*sorted((first, second))), _day, _day)
    )


texts = st.sampled_from(TEXTS) | st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8
)
numbers = (
    st.sampled_from(NUMBERS)
    | st.integers(-(2**63) + 1, 2**63 - 1)
    | st.floats(-1e18, 1e18, allow_nan=False)
)
scalars = texts | numbers | st.booleans()
_names = texts.filter(bool)


def tests_of_values() -> st.SearchStrategy[Any]:
    values = st.lists(scalars, min_size=1, max_size=12)
    return st.one_of(
        st.builds(ask.Is, scalars),
        st.builds(ask.IsNot, scalars),
        st.builds(ask.In, values),
        st.builds(ask.NotIn, values),
        st.just(ask.IsSet()),
        st.just(ask.IsNotSet()),
        tests_of_texts(),
        tests_of_numbers(),
        tests_of_dates(),
    )


def tests_of_texts() -> st.SearchStrategy[Any]:
    return st.builds(ask.Contains, _names) | st.builds(ask.StartsWith, _names)


def tests_of_numbers() -> st.SearchStrategy[Any]:
    single = st.sampled_from((ask.Greater, ask.AtLeast, ask.Less, ask.AtMost))
    return st.builds(lambda test, number: test(number), single, numbers) | st.builds(
        lambda first, second: ask.Between(*sorted((first, second))), numbers, numbers
    )


def tests_of_scores() -> st.SearchStrategy[Any]:
    scored = st.sampled_from(SCORED)
    return st.one_of(
        st.builds(ask.Is, scored | scalars),
        st.builds(ask.IsNot, scored | scalars),
        st.builds(ask.In, st.lists(scored | scalars, min_size=1, max_size=5)),
        st.builds(ask.NotIn, st.lists(scored | scalars, min_size=1, max_size=5)),
        st.builds(lambda first, second: ask.Between(*sorted((first, second))), scored, scored),
        st.builds(lambda test, than: test(than), st.sampled_from((ask.Greater, ask.Less)), scored),
        st.builds(ask.AtLeast, scored),
        st.builds(ask.AtMost, scored),
        tests_of_values(),
    )


def tests_of_dates() -> st.SearchStrategy[Any]:
    return st.one_of(
        st.builds(ask.Before, _instants),
        st.builds(ask.After, _instants),
        st.builds(ask.InPeriod, all_periods()),
        st.builds(ask.InNextDays, _days),
        st.builds(ask.MoreThanDaysAgo, _days),
    )


def _attributes(kind: SubjectKind) -> st.SearchStrategy[Any]:
    text_values = st.lists(texts, min_size=1, max_size=5)
    of_texts = st.one_of(
        st.builds(ask.Is, texts),
        st.builds(ask.IsNot, texts),
        st.builds(ask.In, text_values),
        st.builds(ask.NotIn, text_values),
        tests_of_texts(),
    )
    presence = st.sampled_from((ask.IsSet(), ask.IsNotSet()))
    own = ask.Attribute.EMAIL if kind is SubjectKind.USER else ask.Attribute.DOMAIN
    of_text = (ask.Attribute.NAME, ask.Attribute.EXTERNAL_ID, own)
    of_time = (ask.Attribute.FIRST_SEEN, ask.Attribute.LAST_SEEN, ask.Attribute.REGISTERED_AT)
    return st.builds(ask.AttributeIs, st.sampled_from(of_text), of_texts | presence) | st.builds(
        ask.AttributeIs, st.sampled_from(of_time), tests_of_dates() | presence
    )


def counts() -> st.SearchStrategy[Any]:
    times = st.integers(0, 4) | st.integers(0, 10**9)
    return (
        st.sampled_from((ask.Occurred(), ask.DidNotOccur()))
        | st.builds(ask.AtLeastTimes, times)
        | st.builds(ask.AtMostTimes, times)
        | st.builds(ask.ExactlyTimes, times)
    )


_ANY = [UUID(int=2**126 + n) for n in range(500)]
"""Each stands for one of the subjects that there are."""


@cache
def _simple_conditions(kind: SubjectKind) -> st.SearchStrategy[ask.Condition]:
    """Conditions without other conditions inside."""
    return st.one_of(
        st.builds(ask.PropertyIs, st.sampled_from(PROPERTIES) | _names, tests_of_values()),
        _attributes(kind),
        st.builds(
            ask.Did,
            st.sampled_from(ACTIVITIES),
            st.sampled_from(NAMES) | _names,
            counts(),
            st.none() | all_periods(),
            st.just([]) | st.lists(tests_of_metadata(), max_size=2),
        ),
        st.builds(ask.StageIs, st.lists(st.none() | st.sampled_from(STAGES), min_size=1)),
        st.builds(ask.HealthIs, st.lists(st.sampled_from(ask.Health), min_size=1, max_size=3)),
        st.builds(ask.ScoreIs, st.sampled_from((*SCORES, "none")), tests_of_scores()),
        st.builds(ask.SignalIs, st.sampled_from((*SIGNALS, "none")), st.booleans()),
        st.builds(ask.InSegment, st.sampled_from(SEGMENTS)),
        st.builds(
            ask.BelongsTo,
            st.none() | st.sampled_from(_ANY) | st.uuids(),
            st.none() | st.sampled_from(ROLES) | texts,
            st.booleans(),
        ),
    )


def tests_of_metadata() -> st.SearchStrategy[ask.MetadataIs]:
    tests = st.one_of(
        st.builds(ask.Is, scalars),
        st.builds(ask.IsNot, scalars),
        st.just(ask.IsSet()),
        tests_of_texts(),
        tests_of_numbers(),
        st.builds(ask.Before, _instants),
        st.builds(ask.After, _instants),
    )
    return st.builds(ask.MetadataIs, st.sampled_from(METADATA), tests)


def quantifiers() -> st.SearchStrategy[Any]:
    return st.sampled_from((ask.AnyOf(), ask.EveryOf())) | st.builds(
        ask.AtLeastOf, st.integers(1, 3) | st.integers(1, 10**6)
    )


def conditions(
    kind: SubjectKind,
    others: Sequence[UUID] = (),
    own: Sequence[UUID] = (),
    levels: int = 3,
) -> st.SearchStrategy[ask.Condition]:
    """Any condition about a kind, nested a few levels, to the other kind and back.

    Args:
        others, own: subjects of the other kind and of this one, to ask for memberships of.
    """
    return _conditions(kind, levels).map(
        lambda condition: _with_subjects(condition, others or SEGMENTS, own or SEGMENTS)
    )


def _with_subjects(
    condition: ask.Condition, others: Sequence[UUID], own: Sequence[UUID]
) -> ask.Condition:
    """With subjects in the places of those that stand for any."""
    match condition:
        case ask.AllOf(of) | ask.OneOf(of):
            return type(condition)([_with_subjects(part, others, own) for part in of])
        case ask.Not(of):
            return ask.Not(_with_subjects(of, others, own))
        case ask.OfAccounts(quantifier, where) | ask.OfUsers(quantifier, where):
            return type(condition)(quantifier, _with_subjects(where, own, others))
        case ask.BelongsTo(other, role, ended) if other in _ANY:
            return ask.BelongsTo(others[_ANY.index(other) % len(others)], role, ended)
        case _:
            return condition


# Made once: to make and validate them anew for each draw took nearly all the time of a test.
@cache
def _conditions(kind: SubjectKind, levels: int) -> st.SearchStrategy[ask.Condition]:
    simple = _simple_conditions(kind)
    if not levels:
        return simple
    deeper = st.deferred(lambda: _conditions(kind, levels - 1))
    is_user = kind is SubjectKind.USER
    other = SubjectKind.ACCOUNT if is_user else SubjectKind.USER
    across = st.builds(
        ask.OfAccounts if is_user else ask.OfUsers,
        quantifiers(),
        st.deferred(lambda: _conditions(other, levels - 1)),
    )
    return st.one_of(
        simple,
        simple,
        st.builds(ask.AllOf, st.lists(deeper, max_size=3)),
        st.builds(ask.OneOf, st.lists(deeper, max_size=3)),
        st.builds(ask.Not, deeper),
        across,
    )


# -- worlds


def whole(
    subjects: Mapping[UUID, Facts],
    memberships: Sequence[Membership],
    merged: Mapping[UUID, UUID],
) -> World:
    """A world that has its memberships by user and by account as well."""
    records: dict[UUID, dict[int, Membership]] = {}
    for n, record in enumerate(memberships):
        for party in (record.user, merged.get(record.account, record.account)):
            records.setdefault(party, {})[n] = record
    return World(subjects, memberships, merged, records)


class WorldMaker:
    """Makes worlds by chance: drawing each value of hundreds of subjects would take for ever."""

    def __init__(self, seed: int, moment: Moment) -> None:
        self._random = random.Random(seed)
        self._moment = moment
        self._near = [
            moment.today + timedelta(shift)
            for shift in (-400, -366, -92, -31, -30, -29, -8, -7, -6, -1, 0, 0, 0, 0, 0, 1, 30, 400)
        ]

    def world(self, users: int, accounts: int) -> World:
        chance = self._random
        user_ids = [UUID(int=chance.getrandbits(128)) for _ in range(users)]
        account_ids = [UUID(int=chance.getrandbits(128)) for _ in range(accounts)]
        merged_ids = [UUID(int=chance.getrandbits(128)) for _ in range(max(accounts // 4, 1))]
        gone = [UUID(int=chance.getrandbits(128)) for _ in range(2)]
        subjects = {id: self._facts(SubjectKind.USER) for id in user_ids}
        subjects |= {id: self._facts(SubjectKind.ACCOUNT) for id in account_ids}
        memberships = {}
        for user in [*user_ids, gone[0]]:
            # What a merged account's events name stays: a user can have several records in one.
            for account in chance.sample(
                [*account_ids[: max(accounts // 2, 1)], *merged_ids, gone[1]],
                k=min(chance.choice((0, 0, 1, 1, 2, 4)), accounts),
            ):
                memberships[user, account] = Membership(
                    user,
                    account,
                    joined_at=self._instant(),
                    left_at=chance.choice((None, None, self._instant())),
                    role=chance.choice((None, *ROLES)),
                )
        merged = {id: chance.choice(account_ids) for id in merged_ids}
        return whole(subjects, list(memberships.values()), merged)

    def _facts(self, kind: SubjectKind) -> Facts:
        chance = self._random
        names = chance.sample(PROPERTIES, k=chance.randrange(len(PROPERTIES)))
        own = ask.Attribute.EMAIL if kind is SubjectKind.USER else ask.Attribute.DOMAIN
        attributes: dict[ask.Attribute, str | datetime] = {}
        for attribute in (ask.Attribute.NAME, ask.Attribute.EXTERNAL_ID, own):
            if chance.random() < 0.7:
                attributes[attribute] = self._text()
        for attribute in (
            ask.Attribute.FIRST_SEEN, ask.Attribute.LAST_SEEN, ask.Attribute.REGISTERED_AT
        ):  # fmt: skip
            if chance.random() < 0.8:
                attributes[attribute] = self._instant()
        first = attributes.get(ask.Attribute.FIRST_SEEN)
        if first is not None:  # nobody is seen before being on record
            registered = attributes.get(ask.Attribute.REGISTERED_AT, first)
            attributes[ask.Attribute.REGISTERED_AT] = min(registered, first, key=str)
        properties = {name: self._value() for name in names}
        if ask.Attribute.NAME in attributes:  # the property of that name is where it is from
            properties["name"] = attributes[ask.Attribute.NAME]
        return Facts(
            kind=kind,
            properties=properties,
            attributes=attributes,
            deeds=self._deeds(),
            stage=chance.choice((None, *STAGES)),
            health=chance.choice(list(ask.Health)),
            scores={score: chance.choice(SCORED) for score in SCORES if chance.random() < 0.7},
            signals={signal for signal in SIGNALS if chance.random() < 0.4},
            segments={segment for segment in SEGMENTS if chance.random() < 0.3},
        )

    def _deeds(self) -> list[Deed]:
        chance = self._random
        keys = {
            (
                chance.choice(ACTIVITIES),
                chance.choice(NAMES[:-1]),
                chance.choice(self._near),
                chance.random() < 0.4,
            )
            for _ in range(chance.randrange(8))
        }
        return [
            Deed(
                activity,
                name,
                day,
                in_account,
                chance.choice((1, 1, 1, 2, 5, 2**40)),
                {key: self._value() for key in METADATA if chance.random() < 0.6},
            )
            for activity, name, day, in_account in sorted(keys)
        ]

    def _text(self) -> str:
        chance = self._random
        if chance.random() < 0.9:
            return chance.choice(TEXTS)
        return "".join(chance.choices(string.printable[:95] + "éß😀", k=chance.randrange(12)))

    def _value(self) -> Any:
        """A value as it stands in JSON, of any type whatever the property."""
        chance = self._random
        return chance.choice(
            (
                self._text,
                lambda: chance.choice(NUMBERS),
                lambda: chance.choice((True, False)),
                lambda: [self._text() for _ in range(chance.randrange(4))],
                self._stored_instant,
                self._stored_day,
                lambda: chance.choice(
                    (
                        "2024-02-30T00:00:00Z", "2023-02-29T00:00:00Z", "2024-02-29T24:00:00Z",
                        "2024-05-13", "2024-05-13T00:00:00", "0000-01-01T00:00:00Z",
                        "1900-02-29T00:00:00Z", "2000-02-29T23:59:59Z", "2024-05-13T00:00:00+00:00",
                        "2024-05-13T00:00:00.5Z", "x2024-05-13T00:00:00Z", "2024-05-13T00:00:00ZZ",
                        "２024-05-13T00:00:00Z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z",
                        "2024-04-31T00:00:00Z", "2024-05-13T00:00:60Z", "2024-05-13T00:00:00Z\n",
                        "2024-02-30", "2023-02-29", "0000-01-01", "0001-01-01", "9999-12-31",
                        "2024-05-1x", "2024-5-013", "２024-05-13", "2024-05-13\n", "20240513",
                    )
                ),
            )
        )()  # fmt: skip

    def _stored_day(self) -> str:
        return self._random.choice((*DAYS, *self._near)).isoformat()

    def _stored_instant(self) -> str:
        return str(msgspec.to_builtins(self._instant()))

    def _instant(self) -> datetime:
        chance = self._random
        day = chance.choice((*DAYS, *self._near))
        zone: tzinfo = chance.choice((UTC, self._moment.zone))
        edge = chance.choice((start_of, end_of))(day, zone)
        shift = chance.choice((-1, 0, 0, 0, 1, 500_000, chance.randrange(86_400_000_000)))
        return (edge + timedelta(microseconds=shift)).astimezone(UTC)
